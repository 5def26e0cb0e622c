"""The status of a region: every host as it is now, also those that are broken, and nothing is changed by looking."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from builders import R25, R26, Machines, ScriptedRemote, names

from pipeline.edges.ssh import Result
from pipeline.environment import Role
from pipeline.errors import ConfigurationInvalid, HostKeyRefused, HostUnreachable
from pipeline.fleet import HostState
from pipeline.inventory import Host
from pipeline.rollout import Batch, vhost_of
from pipeline.site import Site
from pipeline.status import HostStatus, region_status

States = tuple[HostState, ...]
ASK = r"^\[ -L /opt/heat/current"


@pytest.fixture(autouse=True)
def region(machines: Machines) -> Machines:
    """Return the hosts of a region that runs release 25."""
    return machines


def _look(here: Site, batches: Callable[[States], tuple[Batch, ...]] = lambda _: ()) -> dict[str, HostStatus]:
    return {one.host: one for one in region_status(here, batches)}


def test_every_host_is_told_those_of_one_role_together(here: Site) -> None:
    assert [(one.role, one.host) for one in _look(here).values()] == [
        (host.role.value, host.name) for host in here.region.inventory.hosts
    ]


def test_a_host_that_runs_heat_is_told_with_its_releases_and_its_vhost(here: Site, region: Machines) -> None:
    region.installed["engine-0"].append(R26.id)
    assert _look(here)["engine-0"] == HostStatus(
        host="engine-0",
        role="engine",
        current=R25.id,
        running=R25.id,
        on_disk=(R25.id, R26.id),
        vhost=vhost_of(R25),
        health="2/2 workers",
        batch="",
        machine="engine-0",
    )


def test_a_host_between_two_releases_is_told_as_it_is(here: Site, remote: ScriptedRemote) -> None:
    remote.on(ASK, f"current {R26.id}\nvhost {vhost_of(R26)}\nrunning {R25.id}\n", host="engine-0")
    found = _look(here)["engine-0"]
    assert (found.current, found.running, found.vhost) == (R26.id, R25.id, vhost_of(R26))


@pytest.mark.parametrize("name", ["database-0", "messaging-0", "loadbalancer-0"])
def test_a_service_is_up_or_down_and_has_no_release(here: Site, remote: ScriptedRemote, name: str) -> None:
    found = _look(here)[name]
    assert (found.current, found.running, found.on_disk, found.vhost, found.health) == ("", "", (), "", "up")
    remote.on(ASK, "running \n", host=name)
    assert _look(here)[name].health == "down"


# --- health


def test_an_engine_is_as_healthy_as_it_has_workers(here: Site, region: Machines) -> None:
    region.rows["engine-0"].pop()
    region.rows["engine-1"].clear()
    found = _look(here)
    assert (found["engine-0"].health, found["engine-1"].health) == ("1/2 workers", "0/2 workers")


def test_an_api_is_as_healthy_as_the_load_balancer_sees_it(here: Site, region: Machines) -> None:
    region.rotation["api-1"] = "drain"
    found = _look(here)
    assert (found["api-0"].health, found["api-1"].health) == ("UP", "DRAIN")


def test_an_api_that_the_load_balancer_sees_in_two_ways_is_told_in_both(here: Site, remote: ScriptedRemote) -> None:
    rows = ["# pxname,svname,scur,status", "heat-api,api-0,0,UP", "heat-api-cfn,api-0,0,DOWN 1/2"]
    remote.on("show stat", "\n".join(rows) + "\n")
    found = _look(here)
    assert (found["api-0"].health, found["api-1"].health) == ("DOWN/UP", "not in rotation")


@pytest.mark.parametrize("name", ["engine-0", "api-0"])
def test_a_host_that_drains_and_one_that_is_down_are_told_apart(here: Site, region: Machines, name: str) -> None:
    region.drain(name)
    assert (_look(here)[name].health, _look(here)[name].running) == ("draining", "")
    region.draining.clear()
    region.kill(name)
    assert (_look(here)[name].health, _look(here)[name].running) == ("down", "")


# --- what does not answer


@pytest.mark.parametrize("error", [HostUnreachable("engine-1 is gone"), HostKeyRefused("another key")], ids=str)
def test_a_host_that_does_not_answer_is_told_as_such_and_the_others_as_ever(
    here: Site, remote: ScriptedRemote, error: Exception
) -> None:
    remote.on(ASK, error, host="engine-1")
    found = _look(here)
    assert found["engine-1"] == HostStatus(
        "engine-1", "engine", "", "", (), "", f"unreachable: {error}", "", "engine-1"
    )
    assert (found["engine-0"].health, len(found)) == ("2/2 workers", 7)


def test_a_host_that_lets_nobody_look_hides_no_other(here: Site, remote: ScriptedRemote) -> None:
    remote.on(ASK, ConfigurationInvalid("engine-1 lets pipeline run nothing as root"), host="engine-1")
    found = _look(here)
    assert found["engine-1"].health == "unknown: engine-1 lets pipeline run nothing as root"
    assert (found["engine-0"].health, len(found)) == ("2/2 workers", 7)


def test_without_the_database_nobody_knows_of_workers(here: Site, remote: ScriptedRemote) -> None:
    remote.on(r"FROM heat\.service", Result(1, "", "server has gone away"))
    found = _look(here)
    assert found["engine-0"].health.startswith("unknown: database-0: ")
    assert (found["engine-0"].running, found["api-0"].health) == (R25.id, "UP")


def test_without_the_load_balancer_nobody_knows_of_rotation(here: Site, remote: ScriptedRemote) -> None:
    remote.on("show stat", HostUnreachable("loadbalancer-0 is gone"))
    found = _look(here)
    assert found["api-0"].health == "unknown: loadbalancer-0 is gone"
    assert found["engine-0"].health == "2/2 workers"


# --- the batches that are left


def test_a_host_that_waits_to_move_is_told_with_its_batch(here: Site) -> None:
    def batches(states: States) -> tuple[Batch, ...]:
        engines = tuple(state for state in states if state.host.role is Role.ENGINE)
        apis = tuple(state for state in states if state.host.role is Role.API)
        return Batch(Role.ENGINE, engines[1:], 1), Batch(Role.API, apis, 2)

    numbers = {name: one.batch for name, one in _look(here, batches).items()}
    assert {name: number for name, number in numbers.items() if number} == {"engine-1": "1", "api-0": "2", "api-1": "2"}


def test_what_is_left_is_asked_of_the_hosts_of_heat_that_answered(here: Site, remote: ScriptedRemote) -> None:
    asked: list[str] = []

    def batches(states: States) -> tuple[Batch, ...]:
        asked.extend(names(states))
        return ()

    remote.on(ASK, HostUnreachable("api-0 is gone"), host="api-0")
    _look(here, batches)
    assert asked == ["api-1", "engine-0", "engine-1"]


def test_a_plan_that_cannot_be_made_spoils_no_look(here: Site) -> None:
    def batches(_: States) -> tuple[Batch, ...]:
        raise ConfigurationInvalid("a cutover to another vhost needs two engine hosts")

    assert _look(here, batches)["engine-0"].health == "2/2 workers"


def test_looking_changes_nothing(here: Site, remote: ScriptedRemote) -> None:
    _look(here)
    seen = remote.scripts(rf"{ASK}|FROM heat\.service|show stat")
    assert len(seen) == len(remote.ran) == 7 + 2


def test_a_host_that_did_not_come_up_is_told_after_the_others(here: Site) -> None:
    absent = (Host("engine-2", Role.ENGINE, "", ()),)
    region_ = replace(here.region, inventory=replace(here.region.inventory, absent=absent))
    last = region_status(replace(here, region=region_), lambda _: ())[-1]
    assert (last.host, last.role, last.current) == ("engine-2", "engine", "")
    assert last.health.startswith("has not signalled")
