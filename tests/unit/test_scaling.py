"""Scaling: who comes and who goes."""

from __future__ import annotations

import builders
import pytest
from builders import LOCAL, R25, R26, Machines, fleet_on

from pipeline.environment import Role
from pipeline.errors import ConfigurationInvalid
from pipeline.fleet import Fleet
from pipeline.scaling import plan_scaling


def test_more_hosts_come_and_none_goes() -> None:
    scaling = plan_scaling(fleet_on(R26), Role.ENGINE, 5)
    assert (scaling.coming, scaling.leaving) == (3, ())


def test_the_last_hosts_of_a_role_go() -> None:
    scaling = plan_scaling(fleet_on(R26), Role.API, 1)
    assert (scaling.coming, [state.host.name for state in scaling.leaving]) == (0, ["api-1"])


def test_the_stack_loses_hosts_by_their_number_whichever_are_there() -> None:
    of = builders.environment(engine=3)
    fleet = Fleet(tuple(state for state in fleet_on(R26, of).states if state.host.name != "engine-1"))
    scaling = plan_scaling(fleet, Role.ENGINE, 2)
    assert (scaling.coming, [state.host.name for state in scaling.leaving]) == (1, ["engine-2"])


def test_as_many_as_there_are_changes_nothing() -> None:
    scaling = plan_scaling(fleet_on(R26), Role.ENGINE, 2)
    assert (scaling.coming, scaling.leaving) == (0, ())


def test_a_role_that_keeps_data_does_not_scale() -> None:
    with pytest.raises(ConfigurationInvalid, match="role database does not scale"):
        plan_scaling(fleet_on(R26), Role.DATABASE, 3)


def test_the_last_host_that_runs_may_not_go(machines: Machines) -> None:
    machines.kill("engine-0")
    with pytest.raises(ConfigurationInvalid, match="with 1 hosts of role engine, none that runs would be left"):
        plan_scaling(machines.fleet(R25), Role.ENGINE, 1)
    plan_scaling(machines.fleet(R25), Role.API, 1)


def test_the_environment_with_so_many_hosts_differs_in_nothing_else() -> None:
    scaled = plan_scaling(fleet_on(R26), Role.ENGINE, 5).of(LOCAL)
    assert scaled.topology.engine.count == 5
    assert plan_scaling(fleet_on(R26), Role.ENGINE, LOCAL.topology.engine.count).of(scaled) == LOCAL
