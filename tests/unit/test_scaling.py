"""Scaling: who comes and who goes, that nobody goes with work in hand, and that the environment's file says so."""

from __future__ import annotations

import pytest
from builders import LOCAL, R25, R26, Machines, ScriptedRemote, fleet_on, journal, region

from pipeline.edges.lock import LockLost
from pipeline.environment import Role
from pipeline.errors import ConfigurationInvalid, FleetMixed
from pipeline.fleet import Fleet
from pipeline.rollout import vhost_of
from pipeline.scaling import plan_scaling, refuse_loss, retire
from pipeline.site import Site


def test_more_hosts_come_and_none_goes() -> None:
    scaling = plan_scaling(fleet_on(R26), Role.ENGINE, 5)
    assert (scaling.coming, scaling.leaving) == (3, ())


def test_the_last_hosts_of_a_role_go() -> None:
    scaling = plan_scaling(fleet_on(R26), Role.API, 1)
    assert (scaling.coming, [state.host.name for state in scaling.leaving]) == (0, ["api-1"])


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


def _retire(here: Site, fleet: Fleet, role: Role, gate: object = lambda: None) -> None:
    scaling = plan_scaling(fleet, role, 1)
    retire(here, scaling, R25, vhost_of(R25), journal(here.clock), gate=gate)  # type: ignore[arg-type]


def test_an_engine_that_goes_is_drained_with_proof(machines: Machines, remote: ScriptedRemote, here: Site) -> None:
    _retire(here, machines.fleet(R25), Role.ENGINE)
    assert remote.steps(stop="^systemctl stop --no-block heat-", start="^systemctl start heat-") == ["stop engine-1"]
    assert machines.rows["engine-1"] == []
    assert len(machines.rows["engine-0"]) == LOCAL.heat.engine_workers


def test_an_engine_whose_drain_is_not_proved_does_not_go(machines: Machines, here: Site) -> None:
    machines.stuck.add("engine-1")
    with pytest.raises(FleetMixed, match="engine-1 did not drain"):
        _retire(here, machines.fleet(R25), Role.ENGINE)


def test_an_engine_that_was_drained_by_a_killed_run_goes_all_the_same(machines: Machines, here: Site) -> None:
    machines.running["engine-1"] = False
    machines.rows["engine-1"] = []
    _retire(here, machines.fleet(R25), Role.ENGINE)


def test_an_api_that_goes_leaves_the_load_balancer_before_it_stops(
    machines: Machines, remote: ScriptedRemote, here: Site
) -> None:
    _retire(here, machines.fleet(R25), Role.API)
    assert machines.rotation == {"api-0": "ready", "api-1": "drain"}
    assert remote.steps(drain="state drain", stop="^systemctl stop --no-block heat-") == [
        "drain loadbalancer-0",
        "stop api-1",
    ]


def test_a_run_that_lost_its_lock_drains_nobody(machines: Machines, remote: ScriptedRemote, here: Site) -> None:
    def gate() -> None:
        raise LockLost("local: the lock of run r is lost", hint="inv lock.status local")

    with pytest.raises(LockLost):
        _retire(here, machines.fleet(R25), Role.ENGINE, gate)
    assert not remote.scripts("systemctl stop")


def test_a_deploy_with_fewer_hosts_than_there_are_is_refused_with_what_drains_them() -> None:
    inventory = region().inventory
    refuse_loss(inventory, lambda role: 2)
    refuse_loss(inventory, lambda role: 3)
    with pytest.raises(ConfigurationInvalid, match="engine-1 would be deleted with what they have in hand") as caught:
        refuse_loss(inventory, lambda role: 1 if role is Role.ENGINE else 2)
    assert "inv scale local --role engine --count 1" in caught.value.hint
