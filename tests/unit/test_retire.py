"""Retiring hosts before their servers go: nobody goes with work in hand, and the dead are told."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from builders import ASKS, LOCAL, R25, Kept, Machines, ScriptedRemote, journal, said

from pipeline.edges.lock import LockLost
from pipeline.errors import CommandFailed, ConfigurationInvalid, FleetMixed, HostUnreachable, PipelineError
from pipeline.retire import retire
from pipeline.site import Site


def _retire(
    here: Site,
    *names: str,
    lines: Kept | None = None,
    gate: Callable[[], None] = lambda: None,
    owned: Callable[[], None] = lambda: None,
) -> tuple[str, ...]:
    return retire(here, names, R25, journal(here.clock, lines or Kept()), gate=gate, owned=owned)


def test_an_engine_that_goes_is_drained_with_proof(machines: Machines, remote: ScriptedRemote, here: Site) -> None:
    _retire(here, "engine-1")
    assert remote.steps(stop="^systemctl stop --no-block heat-", start="^systemctl start heat-") == ["stop engine-1"]
    assert machines.rows["engine-1"] == []
    assert len(machines.rows["engine-0"]) == LOCAL.heat.engine_workers


def test_an_engine_whose_drain_is_not_proved_does_not_go(machines: Machines, here: Site) -> None:
    machines.stuck.add("engine-1")
    with pytest.raises(FleetMixed, match="engine-1 did not drain"):
        _retire(here, "engine-1")


def test_an_engine_that_was_drained_by_a_killed_run_goes_all_the_same(machines: Machines, here: Site) -> None:
    machines.running["engine-1"] = False
    machines.rows["engine-1"] = []
    _retire(here, "engine-1")


def test_an_api_that_goes_leaves_the_load_balancer_before_it_stops(
    machines: Machines, remote: ScriptedRemote, here: Site
) -> None:
    _retire(here, "api-1")
    assert machines.rotation == {"api-0": "ready", "api-1": "drain"}
    assert remote.steps(drain="state drain", stop="^systemctl stop --no-block heat-") == [
        "drain loadbalancer-0",
        "stop api-1",
    ]


def test_a_run_that_lost_its_lock_drains_nobody(machines: Machines, remote: ScriptedRemote, here: Site) -> None:
    def gate() -> None:
        raise LockLost("local: the lock of run r is lost", hint="inv lock.status local")

    with pytest.raises(LockLost):
        _retire(here, "engine-1", gate=gate)
    assert not remote.scripts("systemctl stop")


def test_an_api_is_not_stopped_where_the_lock_was_lost_while_it_left_the_load_balancer(
    machines: Machines, remote: ScriptedRemote, here: Site
) -> None:
    def owned() -> None:
        raise LockLost("local: the lock of run r is lost", hint="inv lock.status local")

    with pytest.raises(LockLost):
        _retire(here, "api-1", owned=owned)
    assert remote.steps(drain="state drain", stop="^systemctl stop --no-block heat-") == ["drain loadbalancer-0"]


def test_what_was_drained_is_in_the_journal(machines: Machines, here: Site) -> None:
    lines = Kept()
    assert _retire(here, "engine-1", lines=lines) == ("engine-1",)
    assert lines.steps() == ["drain engine-1"]


def test_a_host_that_does_not_answer_is_told_and_left(machines: Machines, remote: ScriptedRemote, here: Site) -> None:
    remote.on("", HostUnreachable("engine-1: timed out"), host="engine-1")
    assert _retire(here, "engine-1", "engine-0") == ("engine-0",)
    assert "engine-1: does not answer, so it is not drained" in said(here.progress)


def test_a_host_that_never_had_a_release_needs_no_drain(machines: Machines, remote: ScriptedRemote, here: Site) -> None:
    remote.on("", "", host="engine-1")
    assert _retire(here, "engine-1") == ()
    assert not remote.scripts("systemctl stop")


@pytest.mark.parametrize("error", [ConfigurationInvalid("no sudo"), CommandFailed("no end within 30 s", status=-1)])
def test_a_host_that_answers_and_lets_nobody_look_is_not_taken_for_a_dead_one(
    machines: Machines, remote: ScriptedRemote, here: Site, error: PipelineError
) -> None:
    remote.on(ASKS[0], error, host="engine-1")
    with pytest.raises(type(error), match=error.message):
        _retire(here, "engine-1", "engine-0")
    assert not remote.scripts("systemctl stop")
