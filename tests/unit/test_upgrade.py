"""A rolling upgrade step by step: the order on the hosts, what is refused, what is put back, and what may be idle."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from builders import (
    LOCAL,
    R25,
    R26,
    TOKEN,
    Kept,
    Machines,
    ScriptedRemote,
    engines_last,
    fleet_on,
    journal,
    said,
    site,
    with_policy,
)

from pipeline import commands
from pipeline.edges.lock import LockLost
from pipeline.edges.ssh import Result
from pipeline.errors import CommandFailed, FleetMixed, HostUnreachable, Inconclusive, PipelineError
from pipeline.fleet import Fleet, HostState
from pipeline.health import Unhealthy
from pipeline.inventory import Host
from pipeline.release import HeatVersion
from pipeline.rollout import RolloutPlan, plan_rollout, restart_plan, running_release, vhost_of
from pipeline.site import Site
from pipeline.upgrade import Rollout, Stranded, purge_steps

POLICY = LOCAL.policies
GATE = "7/3\tweb\tgate\tCREATE_IN_PROGRESS\t90\n"  # as the database tells what an engine holds
TAKEN = GATE.replace("7/3", "7/4")  # the same resource, after an engine took or wrote it once more
LOCK = "lock/2026-11-26 22:40:01\tapp\t\tCHECK_IN_PROGRESS\t4\n"
DRAIN = POLICY.drain
NEXT_25 = replace(R25, heat=HeatVersion(25, 0, 3))
STEPS = {
    "out": r"state drain",
    "stop": r"^systemctl stop --no-block heat-",
    "switch": r"^ln -sfn",
    "start": r"^systemctl start heat-",
    "ask": r"/build_info",
    "in": r"state ready",
}


def _plan(fleet: Fleet) -> RolloutPlan:
    running = running_release(fleet, R26.id)
    return plan_rollout(fleet, {R25.id: R25, R26.id: R26}[running], R26, POLICY)


@pytest.fixture
def kept() -> Kept:
    return Kept()


@pytest.fixture
def rollout(machines: Machines, here: Site, kept: Kept) -> Rollout:
    return Rollout(here, _plan(fleet_on(R25)), journal(here.clock, kept))


def _state(rollout: Rollout, name: str) -> HostState:
    return next(state for state in rollout.plan.moves if state.host.name == name)


def _now(machines: Machines, name: str) -> HostState:
    """Return a host as it looks now."""
    return next(state for state in machines.fleet(R25, R26).states if state.host.name == name)


def _move(rollout: Rollout, state: HostState) -> None:
    """Move one host as the story does, the last engine only from an idle vhost."""
    if state.host.name in engines_last(rollout.plan):
        rollout.await_idle()
    rollout.move(state)


# --- one host


def test_an_engine_is_drained_before_it_is_switched_and_started(rollout: Rollout, remote: ScriptedRemote) -> None:
    rollout.move(_state(rollout, "engine-0"))
    assert remote.steps(**STEPS) == ["stop engine-0", "switch engine-0", "start engine-0"]
    assert "engine-0: 2 workers drained" in said(rollout.site.progress)
    assert "engine-0: healthy on 26" in said(rollout.site.progress)


def test_an_engine_that_is_down_is_told_to_stop_all_the_same_for_systemd_may_start_it_again(
    machines: Machines, rollout: Rollout, remote: ScriptedRemote
) -> None:
    machines.kill("engine-0")
    rollout.move(_now(machines, "engine-0"))
    assert remote.steps(**STEPS) == ["stop engine-0", "switch engine-0", "start engine-0"]
    assert "workers drained" not in said(rollout.site.progress)


def test_what_was_done_to_a_host_is_in_the_journal_in_that_order(rollout: Rollout, kept: Kept) -> None:
    for name in ("engine-0", "api-0"):
        rollout.move(_state(rollout, name))
    steps = ["drain engine-0", "start engine-0", "healthy engine-0"]
    steps += ["drain api-0", "stop api-0", "start api-0", "healthy api-0", "admit api-0"]
    assert kept.steps("intent") == kept.steps("done") == steps
    proof = next(line for line in kept.lines if line["step"] == "drained")
    assert (proof["host"], len(proof["engines"]), proof["held"]) == ("engine-0", 2, 0)


def test_an_api_leaves_the_load_balancer_before_it_stops_and_comes_back_after_it_answers(
    machines: Machines, rollout: Rollout, remote: ScriptedRemote
) -> None:
    rollout.move(_state(rollout, "api-0"))
    steps = list(dict.fromkeys(remote.steps(**STEPS)))
    assert steps == [
        "out loadbalancer-0",
        "stop api-0",
        "switch api-0",
        "start api-0",
        "ask api-0",
        "in loadbalancer-0",
    ]
    assert machines.rotation == {"api-0": "ready", "api-1": "ready"}


def test_an_api_host_with_one_of_its_apis_down_is_stopped_whole(
    machines: Machines, rollout: Rollout, remote: ScriptedRemote
) -> None:
    rollout.move(replace(_state(rollout, "api-0"), running=""))
    steps = [step for step in remote.steps(**STEPS) if step.endswith(" api-0")]
    assert steps[:3] == ["stop api-0", "switch api-0", "start api-0"]


def test_an_api_is_stopped_only_when_its_last_request_is_answered(
    machines: Machines, rollout: Rollout, remote: ScriptedRemote
) -> None:
    busy, free = (f"# pxname,svname,scur,status\nheat-api,api-0,{sessions},UP\n" for sessions in (3, 0))
    remote.on(r"show stat", busy, busy, busy, free)
    rollout.move(_state(rollout, "api-0"))
    first_stop = next(at for at, (_, script) in enumerate(remote.ran) if "systemctl stop" in script)
    assert len([script for _, script in remote.ran[:first_stop] if "show stat" in script]) == 4


def test_an_api_that_stays_busy_is_not_stopped(rollout: Rollout, remote: ScriptedRemote) -> None:
    remote.on(r"show stat", "# pxname,svname,scur,status\nheat-api,api-0,3,DRAIN\n")
    with pytest.raises(Inconclusive, match="requests of api-0 to end"):
        rollout.move(_state(rollout, "api-0"))
    assert not remote.scripts(STEPS["stop"])


def _lost_after(remote: ScriptedRemote, pattern: str) -> Callable[[], None]:
    """Return a question whether the environment is still this run's, which is so until a host runs `pattern`."""

    def owned() -> None:
        if remote.scripts(pattern):
            raise LockLost("local: the lock of run r is lost", hint="inv lock.status local")

    return owned


@pytest.mark.parametrize(
    ("name", "wait", "changes"),
    [("engine-0", "stop", "switch|start"), ("api-0", "out", "stop|switch|start"), ("api-0", "stop", "switch|start")],
)
def test_a_host_is_left_as_it_is_where_the_lock_was_lost_in_a_wait(
    rollout: Rollout, remote: ScriptedRemote, kept: Kept, name: str, wait: str, changes: str
) -> None:
    with pytest.raises(LockLost):
        replace(rollout, owned=_lost_after(remote, STEPS[wait])).move(_state(rollout, name))
    assert not [step for step in remote.steps(**STEPS) if re.match(f"({changes}) ", step)]
    assert kept.steps("failed") == []


def test_a_host_does_not_go_back_where_the_lock_was_lost_in_its_drain(
    machines: Machines, rollout: Rollout, remote: ScriptedRemote
) -> None:
    state = _state(rollout, "engine-0")
    rollout.move(state)
    remote.ran.clear()
    with pytest.raises(LockLost):
        replace(rollout, owned=_lost_after(remote, STEPS["stop"])).revert(state, failed=True)
    assert remote.steps(**STEPS) == ["stop engine-0"]


def test_a_moved_host_is_asked_about_the_release_it_moved_to(
    machines: Machines, rollout: Rollout, remote: ScriptedRemote
) -> None:
    for name in ("engine-0", "api-0"):
        state = _state(rollout, name)
        rollout.move(state)
        assert rollout.is_healthy(state)()
        machines.kill(name)
        assert not rollout.is_healthy(state)()
    assert all(TOKEN in script for script in remote.scripts("/build_info"))


@pytest.mark.parametrize("name", ["engine-0", "api-0"])
def test_a_host_that_never_gets_healthy_is_told_at_the_deadline_and_left_as_it_is(
    machines: Machines, rollout: Rollout, kept: Kept, name: str
) -> None:
    machines.broken.add(R26.id)
    with pytest.raises(Unhealthy, match=f"{name} was not healthy for 3 s on end within 120 s"):
        rollout.move(_state(rollout, name))
    assert machines.current[name] == R26.id
    assert kept.steps("failed") == [f"healthy {name}"]


@pytest.mark.parametrize("name", ["engine-0", "api-0"])
def test_a_failed_start_is_told_at_once_and_says_why(
    machines: Machines, rollout: Rollout, remote: ScriptedRemote, name: str
) -> None:
    machines.refused.add(R26.id)
    with pytest.raises(CommandFailed, match="Job for heat failed"):
        rollout.move(_state(rollout, name))
    assert rollout.site.clock.monotonic() == 0
    assert not remote.scripts("is-active --quiet|/build_info")


# --- the drain


def test_a_stop_is_asked_about_until_it_has_ended(machines: Machines, rollout: Rollout, remote: ScriptedRemote) -> None:
    machines.looks["engine-0"] = 5
    rollout.move(_state(rollout, "engine-0"))
    assert remote.steps(**STEPS) == [*["stop engine-0"] * 6, "switch engine-0", "start engine-0"]


def test_an_engine_that_still_drains_at_the_deadline_is_left_to_drain_and_told_with_what_it_holds(
    machines: Machines, rollout: Rollout, remote: ScriptedRemote, kept: Kept
) -> None:
    machines.looks["engine-0"] = 10**6
    remote.on("TIMESTAMPDIFF", GATE)
    with pytest.raises(Inconclusive, match="engine-0 still drains after 180 s: gate of stack web") as caught:
        rollout.move(_state(rollout, "engine-0"))
    assert caught.value.exit_code == 11
    assert "run the same command again to go on waiting" in caught.value.hint
    assert "openstack stack cancel" in caught.value.hint
    assert not remote.scripts(STEPS["switch"])
    assert kept.steps("failed") == ["drain engine-0"]
    assert rollout.site.clock.monotonic() == pytest.approx(DRAIN.timeout, abs=1)


def test_a_drain_that_a_killed_run_began_is_waited_for_and_proved(
    machines: Machines, rollout: Rollout, remote: ScriptedRemote
) -> None:
    machines.drain("engine-0")
    machines.looks["engine-0"] = 3
    state = _now(machines, "engine-0")
    assert (state.draining, state.running) == (True, "")
    rollout.move(state)
    assert remote.steps(**STEPS) == [*["stop engine-0"] * 4, "switch engine-0", "start engine-0"]
    assert "engine-0: 2 workers drained" in said(rollout.site.progress)


def test_what_a_drain_waits_for_is_told_now_and_then(
    machines: Machines, rollout: Rollout, remote: ScriptedRemote
) -> None:
    rollout.site.clock.sleep(1000)
    machines.looks["engine-0"] = int(35 / 0.2)
    remote.on("TIMESTAMPDIFF", GATE)
    rollout.move(_state(rollout, "engine-0"))
    told = "engine-0: still finishes gate of stack web (CREATE_IN_PROGRESS for 90 s)"
    assert said(rollout.site.progress).count(told) in (3, 4)


def test_a_drain_that_waits_for_nothing_it_holds_says_nothing_of_it(machines: Machines, rollout: Rollout) -> None:
    machines.looks["engine-0"] = 100
    rollout.move(_state(rollout, "engine-0"))
    assert "still finishes" not in said(rollout.site.progress)


def test_workers_that_were_killed_are_told_with_what_nobody_finishes(
    machines: Machines, rollout: Rollout, remote: ScriptedRemote, kept: Kept
) -> None:
    machines.kill("engine-0")
    remote.on("TIMESTAMPDIFF", GATE)
    rollout.move(_now(machines, "engine-0"))
    told = said(rollout.site.progress)
    assert "engine-0: 2 workers were killed before, and nobody finishes gate of stack web" in told
    assert "openstack stack update --existing STACK" in told
    lost = next(line for line in kept.lines if line["step"] == "lost")
    assert (lost["engines"], lost["held"]) == (
        machines.rows["engine-0"][:2],
        ["gate of stack web (CREATE_IN_PROGRESS for 90 s)"],
    )


def test_workers_that_were_killed_before_the_ones_that_run_do_not_spoil_the_proof(
    machines: Machines, rollout: Rollout, remote: ScriptedRemote
) -> None:
    machines.stuck.add("engine-0")  # the rows that a kill left go with no stop
    dead, alive = (
        machines.rows["engine-0"],
        ["00000000-0000-0000-0000-0000000000aa", "00000000-0000-0000-0000-0000000000bb"],
    )
    both = "".join(f"{row}\tengine-0\t1\n" for row in (*dead, *alive))
    left = "".join(f"{row}\tengine-0\t1\n" for row in dead)
    new = "".join(f"00000000-0000-0000-0000-0000000000c{n}\tengine-0\t1\n" for n in (1, 2))
    remote.on(r"FROM heat\.service", both, left, left, left + new)
    rollout.move(_state(rollout, "engine-0"))
    assert f"engine-0: healthy on {R26.id}" in said(rollout.site.progress)


@pytest.mark.parametrize("draining", [False, True])
def test_a_drain_is_refused_when_rows_of_the_workers_are_left(
    machines: Machines, rollout: Rollout, remote: ScriptedRemote, draining: bool
) -> None:
    machines.stuck.add("engine-0")
    if draining:
        machines.drain("engine-0")
    with pytest.raises(FleetMixed, match="engine-0 did not drain: systemd says success, 2 of its workers") as caught:
        rollout.move(_now(machines, "engine-0"))
    assert caught.value.exit_code == 7
    assert not remote.scripts(STEPS["switch"])


@pytest.mark.parametrize(
    ("before", "after"),
    [("", GATE), (GATE, TAKEN), (LOCK, GATE + LOCK), ("", LOCK)],
    ids=["nothing before", "taken again", "beside what it held", "a stack's lock"],
)
def test_a_drain_is_refused_when_the_stopped_engine_holds_what_it_did_not_hold_before(
    rollout: Rollout, remote: ScriptedRemote, before: str, after: str
) -> None:
    remote.on("TIMESTAMPDIFF", before, after)
    held = after.count("\n")
    with pytest.raises(FleetMixed, match=f"engine-0 did not drain: .* it holds {held} resources: .*(web|app) "):
        rollout.move(_state(rollout, "engine-0"))
    assert not remote.scripts(STEPS["switch"])


@pytest.mark.parametrize("held", [GATE, LOCK, GATE + LOCK])
def test_what_an_engine_that_drained_could_not_write_down_once_is_told_and_stops_nobody(
    machines: Machines, rollout: Rollout, remote: ScriptedRemote, kept: Kept, held: str
) -> None:
    remote.on("TIMESTAMPDIFF", held, held.replace("\t90", "\t99"))
    rollout.move(_state(rollout, "engine-0"))
    assert machines.current["engine-0"] == R26.id
    told = said(rollout.site.progress)
    assert "engine-0: 2 workers ended, each of their threads done, and nobody finishes" in told
    assert "openstack stack update --existing STACK" in told
    lost = next(line for line in kept.lines if line["step"] == "lost")
    proof = next(line for line in kept.lines if line["step"] == "drained")
    assert len(lost["held"]) == proof["held"] == held.count("\n")
    assert lost["engines"] == proof["engines"]


def test_what_an_engine_held_before_is_refused_where_its_rows_are_left(
    machines: Machines, rollout: Rollout, remote: ScriptedRemote
) -> None:
    machines.stuck.add("engine-0")
    remote.on("TIMESTAMPDIFF", GATE)
    with pytest.raises(FleetMixed, match="2 of its workers' rows are still there, and it holds 1 resources: gate of"):
        rollout.move(_state(rollout, "engine-0"))


def test_of_much_that_an_engine_holds_the_oldest_are_named(rollout: Rollout, remote: ScriptedRemote) -> None:
    rows = "".join(f"{n}/1\tweb\tr{n}\tCREATE_IN_PROGRESS\t{90 - n}\n" for n in range(8))
    remote.on("TIMESTAMPDIFF", "", rows)
    with pytest.raises(FleetMixed, match=r"holds 8 resources: r0 .*; r4 of stack web \([^;]*\); and 3 more"):
        rollout.move(_state(rollout, "engine-0"))


def test_what_an_engine_holds_before_its_stop_may_be_finished_by_it(rollout: Rollout, remote: ScriptedRemote) -> None:
    remote.on("TIMESTAMPDIFF", GATE + LOCK, "")
    rollout.move(_state(rollout, "engine-0"))
    assert "draining, 2 resources in its hands" in said(rollout.site.progress)
    assert "nobody finishes" not in said(rollout.site.progress)


# --- messages that a draining engine took


def test_a_message_that_a_draining_engine_took_goes_back_when_it_was_seen_twice(
    machines: Machines, rollout: Rollout, remote: ScriptedRemote, kept: Kept
) -> None:
    machines.looks["engine-0"] = 4
    remote.on("list_channels", "<a>\n<b>\n", "<b>\n<c>\n", "<c>\n", "")
    rollout.move(_state(rollout, "engine-0"))
    closed = [script.split(" ")[3] for script in remote.scripts("close_connection")]
    assert closed == ["'<b>'", "'<c>'"]
    assert [line["connections"] for line in kept.lines if line["step"] == "given back"] == [1, 1]
    assert "engine-0: 1 messages it had taken went back for others" in said(rollout.site.progress)


def test_a_message_that_was_seen_once_may_be_under_way(
    machines: Machines, rollout: Rollout, remote: ScriptedRemote
) -> None:
    machines.looks["engine-0"] = 4
    remote.on("list_channels", "<a>\n", "<b>\n", "", "<a>\n")
    rollout.move(_state(rollout, "engine-0"))
    assert not remote.scripts("close_connection")


def test_only_connections_from_the_draining_engine_are_asked_about(
    machines: Machines, rollout: Rollout, remote: ScriptedRemote
) -> None:
    machines.looks["engine-0"] = 1
    state = _state(rollout, "engine-0")
    rollout.move(state)
    (script,) = remote.scripts("list_channels")
    assert f"address={state.host.address} " in script


def test_an_engine_that_ends_at_once_and_an_api_gave_no_message_away(
    machines: Machines, rollout: Rollout, remote: ScriptedRemote
) -> None:
    machines.looks["api-0"] = 3
    rollout.move(_state(rollout, "engine-0"))
    rollout.move(_state(rollout, "api-0"))
    assert not remote.scripts("list_channels")


@pytest.fixture
def stranded(rollout: Rollout) -> Stranded:
    return Stranded(rollout.site, _state(rollout, "engine-0").host)


NO_BROKER = Result(69, "", "Error: unable to perform an operation on node 'rabbit@messaging-0'")
AWAY = [NO_BROKER, HostUnreachable("messaging-0 is gone")]


@pytest.mark.parametrize("away", AWAY, ids=["the broker", "its host"])
def test_a_look_at_a_broker_that_is_away_gives_nothing_back_and_forgets_what_was_seen(
    stranded: Stranded, remote: ScriptedRemote, away: Result | Exception
) -> None:
    remote.on("list_channels", "<a>\n", away, "<a>\n", "<a>\n")
    assert [stranded.give_back() for _ in range(3)] == [0, 0, 0]
    assert not remote.scripts("close_connection")
    assert stranded.give_back() == 1


@pytest.mark.parametrize("away", AWAY, ids=["the broker", "its host"])
def test_connections_that_could_not_be_closed_are_not_told_as_closed(
    stranded: Stranded, rollout: Rollout, remote: ScriptedRemote, away: Result | Exception
) -> None:
    remote.on("list_channels", "<a>\n")
    remote.on("close_connection", away, "")
    assert [stranded.give_back() for _ in range(4)] == [0, 0, 0, 1]
    assert said(rollout.site.progress).count("went back for others") == 1


def test_an_error_of_our_own_is_not_taken_for_a_broker_that_is_away(stranded: Stranded, remote: ScriptedRemote) -> None:
    remote.on("list_channels", PipelineError("messaging-0 shows another key"))
    with pytest.raises(PipelineError, match="another key"):
        stranded.give_back()


def test_a_broker_that_is_away_holds_up_no_drain(machines: Machines, rollout: Rollout, remote: ScriptedRemote) -> None:
    machines.looks["engine-0"] = 5
    remote.on("list_channels", NO_BROKER)
    rollout.move(_state(rollout, "engine-0"))
    assert machines.current["engine-0"] == R26.id
    assert len(remote.scripts("list_channels")) == 5


# --- a host that is lost for a while


@pytest.mark.parametrize("name", ["engine-0", "api-0"])
def test_a_host_that_is_lost_for_a_while_is_asked_again(machines: Machines, rollout: Rollout, name: str) -> None:
    machines.lost[name] = 3
    rollout.move(_state(rollout, name))
    assert machines.current[name] == R26.id
    assert said(rollout.site.progress).count(f"{name} is gone: trying again") == 1, "said once a loss"


def test_a_host_that_is_lost_between_its_stop_and_its_start_is_asked_again(
    machines: Machines, rollout: Rollout, remote: ScriptedRemote
) -> None:
    def lose(*_: object) -> str:
        machines.lost["engine-0"] = 1
        return ""

    machines.looks["engine-0"] = 1
    remote.on("list_channels", lose)
    rollout.move(_state(rollout, "engine-0"))
    assert remote.steps(**STEPS) == [*["stop engine-0"] * 3, "switch engine-0", "start engine-0"]


def test_a_host_that_stays_lost_is_told_at_the_deadline(machines: Machines, rollout: Rollout) -> None:
    machines.lost["engine-0"] = 10**6
    with pytest.raises(HostUnreachable, match="engine-0 is gone"):
        rollout.move(_state(rollout, "engine-0"))
    assert rollout.site.clock.monotonic() == pytest.approx(POLICY.health.healthy_deadline, abs=3)


# --- a service that is away for a while

NO_DATABASE = Result(1, "", "ERROR 2002 (HY000): Can't connect to local server through socket")
NO_BALANCER = Result(1, "", "Connection refused")
TRYING = "did not answer: .*: trying again"


@pytest.mark.parametrize("looks", [0, 1, 2], ids=["its workers", "the proof", "before its start"])
def test_a_database_that_is_away_while_rows_are_read_is_waited_for(
    machines: Machines, rollout: Rollout, remote: ScriptedRemote, looks: int
) -> None:
    remote.on(r"FROM heat\.service", *[machines._engines] * looks, *[NO_DATABASE] * 3, machines._engines)
    rollout.move(_state(rollout, "engine-0"))
    assert remote.steps(**STEPS) == ["stop engine-0", "switch engine-0", "start engine-0"]
    assert machines.current["engine-0"] == R26.id
    assert len(re.findall(TRYING, said(rollout.site.progress))) == 1


@pytest.mark.parametrize("looks", [0, 1], ids=["before the stop", "the proof"])
def test_a_database_that_is_away_while_work_is_counted_is_waited_for(
    machines: Machines, rollout: Rollout, remote: ScriptedRemote, kept: Kept, looks: int
) -> None:
    remote.on("TIMESTAMPDIFF", *[""] * looks, *[NO_DATABASE] * 3, "")
    rollout.move(_state(rollout, "engine-0"))
    assert remote.steps(**STEPS) == ["stop engine-0", "switch engine-0", "start engine-0"]
    assert machines.current["engine-0"] == R26.id
    assert len(re.findall(TRYING, said(rollout.site.progress))) == 1
    assert [line["host"] for line in kept.lines if line["step"] == "drained"] == ["engine-0"]


def test_a_proof_that_waited_for_the_database_is_a_proof(rollout: Rollout, remote: ScriptedRemote) -> None:
    remote.on("TIMESTAMPDIFF", GATE, NO_DATABASE, TAKEN)
    with pytest.raises(FleetMixed, match=r"engine-0 did not drain: .* it holds 1 resources"):
        rollout.move(_state(rollout, "engine-0"))
    assert not remote.scripts(STEPS["switch"])


def test_a_database_that_is_away_when_a_drain_is_told_about_is_waited_for(
    machines: Machines, rollout: Rollout, remote: ScriptedRemote
) -> None:
    rollout.site.clock.sleep(1000)
    machines.looks["engine-0"] = 1
    remote.on("TIMESTAMPDIFF", GATE, NO_DATABASE, GATE)
    rollout.move(_state(rollout, "engine-0"))
    assert "engine-0: still finishes gate of stack web" in said(rollout.site.progress)


@pytest.mark.parametrize("looks", range(4), ids=["to leave", "while it leaves", "to come back", "while it comes back"])
def test_a_load_balancer_that_is_away_for_a_while_is_waited_for(
    machines: Machines, rollout: Rollout, remote: ScriptedRemote, looks: int
) -> None:
    remote.on("show stat", *[machines._stat] * looks, *[NO_BALANCER] * 3, machines._stat)
    rollout.move(_state(rollout, "api-0"))
    assert machines.current["api-0"] == R26.id
    assert machines.rotation == {"api-0": "ready", "api-1": "ready"}
    assert len(re.findall(TRYING, said(rollout.site.progress))) == 1


@pytest.mark.parametrize("service", ["messages", "work"])
def test_a_service_that_is_away_while_the_old_vhost_gets_idle_is_waited_for(
    rollout: Rollout, remote: ScriptedRemote, service: str
) -> None:
    if service == "messages":
        remote.on("list_queues", "[]", NO_BROKER, "Starting node", "[]")
    else:
        remote.on("SELECT COUNT", "0\t0\t0\n", NO_DATABASE, NO_DATABASE, "0\t0\t0\n")
    rollout.await_idle()
    assert len(re.findall(TRYING, said(rollout.site.progress))) == {"messages": 2, "work": 1}[service]
    assert said(rollout.site.progress).count("old vhost:") == 1


@pytest.mark.parametrize("pattern", ["add_vhost", "list_policies"])
def test_a_broker_that_is_away_while_the_new_vhost_is_opened_is_waited_for(
    rollout: Rollout, remote: ScriptedRemote, pattern: str
) -> None:
    remote.on("add_vhost|list_policies", "[]")
    remote.on(pattern, NO_BROKER, "[]")
    rollout.open_vhost()
    assert len(remote.scripts(pattern)) == 2


@pytest.mark.parametrize("pattern", ["list_vhosts name$", "delete_vhost"])
def test_a_broker_that_is_away_while_a_region_is_tidied_is_waited_for(
    rollout: Rollout, remote: ScriptedRemote, pattern: str
) -> None:
    vhosts = f'[{{"name": "{vhost_of(R25)}"}}]'
    remote.on("service clean|delete_vhost")
    remote.on("list_vhosts name$", vhosts)
    remote.on(pattern, NO_BROKER, vhosts)
    rollout.tidy(fleet_on(R25), keep=R25.id)
    assert len(remote.scripts(pattern)) == 2
    assert said(rollout.site.progress).count(f"vhost {vhost_of(R25)} removed") == 1


@pytest.mark.parametrize("looks", [0, 1], ids=["before the stop", "the proof"])
def test_a_database_that_stays_away_ends_the_move_with_no_answer_either_way(
    machines: Machines, rollout: Rollout, remote: ScriptedRemote, looks: int
) -> None:
    remote.on("TIMESTAMPDIFF", *[""] * looks, NO_DATABASE)
    with pytest.raises(Inconclusive, match=r"^the database did not answer: database-0: .*2002") as caught:
        rollout.move(_state(rollout, "engine-0"))
    assert (caught.value.exit_code, caught.value.hint) == (11, "systemctl status mariadb on database-0")
    assert not remote.scripts(STEPS["switch"])
    assert rollout.site.clock.monotonic() == pytest.approx(POLICY.health.healthy_deadline, abs=3)


def test_a_broker_that_stays_away_ends_the_wait_for_the_old_vhost_with_no_answer_either_way(
    rollout: Rollout, remote: ScriptedRemote
) -> None:
    remote.on("list_queues", NO_BROKER)
    with pytest.raises(Inconclusive, match=r"^the broker did not answer: messaging-0: .*unable to perform") as caught:
        rollout.await_idle()
    assert (caught.value.exit_code, caught.value.hint) == (11, "systemctl status rabbitmq-server on messaging-0")


def test_a_load_balancer_that_stays_away_ends_the_move_before_the_api_stops(
    rollout: Rollout, remote: ScriptedRemote
) -> None:
    remote.on("show stat", NO_BALANCER)
    with pytest.raises(Inconclusive, match=r"^the load balancer did not answer: loadbalancer-0: ") as caught:
        rollout.move(_state(rollout, "api-0"))
    assert caught.value.exit_code == 11
    assert not remote.scripts(STEPS["stop"])


# --- back


@pytest.mark.parametrize("name", ["engine-0", "api-0"])
def test_a_host_goes_back_to_the_release_it_came_from_by_the_same_road(
    machines: Machines, rollout: Rollout, remote: ScriptedRemote, name: str
) -> None:
    state = _state(rollout, name)
    rollout.move(state)
    there = list(dict.fromkeys(remote.steps(**STEPS)))
    remote.ran.clear()
    assert rollout.revert(state, failed=False) == R25.id
    assert list(dict.fromkeys(remote.steps(**STEPS))) == there
    assert (machines.current[name], machines.running[name]) == (R25.id, True)
    assert set(machines.rotation.values()) == {"ready"}
    assert f"{name}: back on {R25.id}" in said(rollout.site.progress)


def test_a_host_that_moved_before_goes_back_to_where_the_rollout_comes_from(
    machines: Machines, rollout: Rollout
) -> None:
    rollout.move(_state(rollout, "engine-0"))
    assert rollout.revert(_now(machines, "engine-0"), failed=False) == R25.id
    assert machines.current["engine-0"] == R25.id


def test_a_host_that_failed_has_no_drain_to_prove(machines: Machines, rollout: Rollout) -> None:
    machines.stuck.add("engine-0")
    state = _state(rollout, "engine-0")
    with pytest.raises(FleetMixed, match="did not drain"):
        rollout.revert(state, failed=False)
    assert rollout.revert(state, failed=True) == R25.id


def test_a_host_without_the_release_it_would_go_back_to_stays(machines: Machines, rollout: Rollout) -> None:
    new = replace(_state(rollout, "engine-0"), current="", running="", installed=(R26.id,))
    with pytest.raises(FleetMixed, match="engine-0 has no other release to go back to"):
        rollout.revert(new, failed=True)


def test_a_host_that_was_restarted_has_no_other_release_to_go_back_to(machines: Machines, here: Site) -> None:
    plan = restart_plan(machines.fleet(R25), R25, vhost_of(R25))
    with pytest.raises(FleetMixed, match="has no other release"):
        Rollout(here, plan, journal(here.clock)).revert(plan.moves[0], failed=True)


# --- APIs that were left out


def test_an_api_that_a_killed_run_left_out_of_rotation_is_let_back_in(machines: Machines, here: Site) -> None:
    machines.current = dict.fromkeys(machines.current, R26.id)
    machines.rotation["api-1"] = "drain"
    fleet = machines.fleet(R25, R26)
    Rollout(here, _plan(fleet), journal(here.clock)).admit_stranded(fleet)
    assert machines.rotation == {"api-0": "ready", "api-1": "ready"}
    assert "api-1: was left out of rotation, and is in it again" in said(here.progress)


def test_an_api_that_is_still_to_move_serves_until_then_and_one_that_does_not_run_stays_out(
    machines: Machines, here: Site, remote: ScriptedRemote
) -> None:
    machines.rotation = dict.fromkeys(machines.rotation, "drain")
    machines.current = dict.fromkeys(machines.current, R26.id) | {"api-0": R25.id}
    machines.kill("api-1")
    fleet = machines.fleet(R25, R26)
    assert Rollout(here, _plan(fleet), journal(here.clock)).admit_stranded(fleet)
    assert machines.rotation == {"api-0": "ready", "api-1": "drain"}


# --- the old vhost


def _looks(remote: ScriptedRemote) -> int:
    return len(remote.scripts("SELECT COUNT"))


def test_the_old_vhost_is_idle_only_after_several_quiet_looks_in_a_row(
    rollout: Rollout, remote: ScriptedRemote
) -> None:
    rollout.await_idle()
    assert _looks(remote) == DRAIN.idle_polls
    assert "old vhost: 0 messages, 0 resources and 0 stacks held" in said(rollout.site.progress)


@pytest.mark.parametrize("held", ["1\t0\t1\n", "0\t1\t1\n"], ids=["resource", "lock"])
def test_something_held_starts_the_quiet_looks_again(rollout: Rollout, remote: ScriptedRemote, held: str) -> None:
    quiet = "0\t0\t0\n"
    remote.on("SELECT COUNT", quiet, quiet, held, quiet)
    rollout.await_idle()
    assert _looks(remote) == 3 + DRAIN.idle_polls


def test_messages_that_wait_for_an_engine_start_the_quiet_looks_again(rollout: Rollout, remote: ScriptedRemote) -> None:
    one = '[{"name": "engine_worker.engine-1", "messages_ready": 1, "consumers": 1}]'
    remote.on(f"list_queues -p {vhost_of(R25)} ", "[]", one, "[]")
    rollout.await_idle()
    assert _looks(remote) == 2 + DRAIN.idle_polls
    assert "old vhost: 1 messages" in said(rollout.site.progress)


def test_messages_of_others_than_engines_do_not_count(rollout: Rollout, remote: ScriptedRemote) -> None:
    remote.on("list_queues", '[{"name": "reply_5f", "messages_ready": 7, "consumers": 0}]')
    rollout.await_idle()
    assert _looks(remote) == DRAIN.idle_polls


def test_messages_that_only_an_ended_engine_would_take_do_not_count(rollout: Rollout, remote: ScriptedRemote) -> None:
    remote.on("list_queues", '[{"name": "engine_worker.5f0c", "messages_ready": 7, "consumers": 0}]')
    rollout.await_idle()
    assert _looks(remote) == DRAIN.idle_polls


def test_workers_that_were_killed_hold_nothing_that_the_old_vhost_waits_for(
    machines: Machines, rollout: Rollout, remote: ScriptedRemote
) -> None:
    dead = ["00000000-0000-0000-0000-0000000000d1", "00000000-0000-0000-0000-0000000000d2"]
    machines.rows["engine-1"] = [*dead, *machines.rows["engine-1"]]
    rollout.await_idle()
    (script,) = set(remote.scripts("SELECT COUNT"))
    assert not any(row in script for row in dead)


def test_a_last_engine_that_was_killed_holds_nothing_that_the_old_vhost_waits_for(
    machines: Machines, here: Site, remote: ScriptedRemote
) -> None:
    machines.current |= {"engine-0": R26.id, "api-0": R26.id, "api-1": R26.id}
    machines.kill("engine-1")
    dead = machines.rows["engine-1"]
    remote.on("SELECT COUNT", lambda _, script: "1\t1\t1\n" if dead[0] in script else "0\t0\t1\n")
    plan = _plan(machines.fleet(R25, R26))
    assert engines_last(plan) == ["engine-1"]
    Rollout(here, plan, journal(here.clock)).await_idle()


def test_only_the_last_old_engines_are_asked_about(
    machines: Machines, rollout: Rollout, remote: ScriptedRemote
) -> None:
    rollout.await_idle()
    (script,) = set(remote.scripts("SELECT COUNT"))
    assert all(row in script for row in machines.rows["engine-1"])
    assert not any(row in script for row in machines.rows["engine-0"])


def test_a_vhost_that_is_never_idle_is_told_at_the_deadline_with_what_is_held(
    rollout: Rollout, remote: ScriptedRemote
) -> None:
    remote.on("SELECT COUNT", "3\t2\t2\n")
    with pytest.raises(Inconclusive, match="0 messages, 3 resources and 2 stacks held after 180 s") as caught:
        rollout.await_idle()
    assert caught.value.exit_code == 11
    assert "run the same command again to go on waiting" in caught.value.hint
    assert rollout.site.clock.monotonic() == pytest.approx(DRAIN.timeout, abs=2 * DRAIN.poll)
    assert said(rollout.site.progress).count("old vhost:") == 1


def test_what_is_still_held_is_named_at_the_deadline(rollout: Rollout, remote: ScriptedRemote) -> None:
    remote.on("SELECT COUNT", "1\t0\t1\n")
    remote.on("TIMESTAMPDIFF", GATE)
    with pytest.raises(Inconclusive, match="after 180 s: gate of stack web"):
        rollout.await_idle()


def test_an_idle_vhost_is_in_the_journal(rollout: Rollout, kept: Kept) -> None:
    rollout.await_idle()
    (line,) = kept.lines
    assert (line["step"], line["vhosts"], line["polls"]) == ("idle", [vhost_of(R25)], DRAIN.idle_polls)


def test_an_idle_seen_at_the_last_moment_counts(rollout: Rollout, remote: ScriptedRemote) -> None:
    busy = int(DRAIN.timeout / DRAIN.poll) - DRAIN.idle_polls + 2
    remote.on("SELECT COUNT", *["1\t0\t1\n"] * busy, "0\t0\t0\n")
    rollout.await_idle()
    assert rollout.site.clock.monotonic() > DRAIN.timeout


# --- the database and the broker


def _database(remote: ScriptedRemote, *, oldest: int, head: str) -> None:
    def migrated(host: Host, script: str) -> str:
        remote.on("version_num", f"{R26.alembic_head}\n")
        return ""

    remote.on("upgrade check|purge_deleted|mariadb-dump")
    remote.on("db_sync", migrated)
    remote.on("DATEDIFF", f"{oldest}\n")
    remote.on("information_schema", "1\n")
    remote.on("version_num", f"{head}\n")


def test_the_database_is_checked_purged_and_backed_up_before_it_is_migrated_once(
    rollout: Rollout, remote: ScriptedRemote
) -> None:
    _database(remote, oldest=300, head=R25.alembic_head)
    path = rollout.prepare_database("25-to-26", fleet_on(R25))
    assert remote.steps(check="upgrade check", purge="purge_deleted", backup="mariadb-dump", sync="db_sync") == [
        "check engine-0",
        *["purge engine-0"] * 4,
        "backup database-0",
        "sync engine-0",
    ]
    assert path == "/var/backups/heat/25-to-26.sql.gz"
    assert all(f"releases/{R26.id}/venv" in script for script in remote.scripts("upgrade check|purge_deleted|db_sync"))
    assert f"schema is at {R26.alembic_head}" in said(rollout.site.progress)


def test_a_policy_may_do_without_a_backup(machines: Machines, remote: ScriptedRemote) -> None:
    here = site(remote, with_policy(database={"backup": "skip"}))
    _database(remote, oldest=0, head=R25.alembic_head)
    assert Rollout(here, _plan(fleet_on(R25)), journal(here.clock)).prepare_database("25-to-26", fleet_on(R25)) == ""
    assert remote.steps(backup="mariadb-dump", sync="db_sync") == ["sync engine-0"]


def test_a_schema_that_is_there_is_not_migrated_again(rollout: Rollout, remote: ScriptedRemote) -> None:
    _database(remote, oldest=0, head=R26.alembic_head)
    rollout.prepare_database("again", fleet_on(R25))
    assert remote.steps(purge="purge_deleted", backup="mariadb-dump", sync="db_sync") == ["backup database-0"]


def test_a_schema_that_a_newer_release_left_behind_is_not_migrated_by_an_older_one(
    machines: Machines, remote: ScriptedRemote, here: Site
) -> None:
    _database(remote, oldest=0, head=R26.alembic_head)
    fleet = Fleet(tuple(replace(state, installed=(R25.id, R26.id)) for state in fleet_on(R25).states))
    rollout = Rollout(here, plan_rollout(fleet, R25, NEXT_25, POLICY), journal(here.clock))
    rollout.prepare_database("25-to-25", fleet)
    assert remote.steps(backup="mariadb-dump", sync="db_sync") == ["backup database-0"]
    assert f"schema is at {R26.alembic_head}" in said(here.progress)


def test_nothing_is_migrated_where_the_backup_fails(rollout: Rollout, remote: ScriptedRemote) -> None:
    _database(remote, oldest=0, head=R25.alembic_head)
    remote.on("mariadb-dump", Result(1, "", "No space left on device"))
    with pytest.raises(PipelineError, match="No space left on device") as caught:
        rollout.prepare_database("25-to-26", fleet_on(R25))
    assert caught.value.exit_code == 8
    assert not remote.scripts("db_sync")


def test_a_run_that_lost_its_lock_while_the_database_was_backed_up_does_not_migrate_it(
    rollout: Rollout, remote: ScriptedRemote
) -> None:
    _database(remote, oldest=0, head=R25.alembic_head)
    with pytest.raises(LockLost):
        replace(rollout, owned=_lost_after(remote, "mariadb-dump")).prepare_database("25-to-26", fleet_on(R25))
    assert not remote.scripts("db_sync")


def test_a_run_that_lost_its_lock_opens_no_vhost(rollout: Rollout, remote: ScriptedRemote) -> None:
    _database(remote, oldest=0, head=R25.alembic_head)
    rollout.prepare_database("25-to-26", fleet_on(R25))
    with pytest.raises(LockLost):
        replace(rollout, owned=_lost_after(remote, "db_sync")).open_vhost()
    assert not remote.scripts("add_vhost")


def test_a_migration_that_fails_says_so_and_how_to_restore_what_was_before(
    rollout: Rollout, remote: ScriptedRemote
) -> None:
    _database(remote, oldest=0, head=R25.alembic_head)
    remote.on("db_sync", Result(1, "half of it", "Duplicate column name 'x'"))
    with pytest.raises(CommandFailed) as caught:
        rollout.prepare_database("25-to-26", fleet_on(R25))
    error = caught.value
    assert error.message == "the schema could not be migrated: engine-0: status 1: Duplicate column name 'x'"
    assert (error.status, error.stdout, error.stderr) == (1, "half of it", "Duplicate column name 'x'")
    assert "run the same command again, which goes on from there" in error.hint
    assert error.hint.endswith("gzip -dc /var/backups/heat/25-to-26.sql.gz | mariadb, as root on database-0")


def test_a_migration_that_fails_without_a_backup_promises_none(machines: Machines, remote: ScriptedRemote) -> None:
    here = site(remote, with_policy(database={"backup": "skip"}))
    _database(remote, oldest=0, head=R25.alembic_head)
    remote.on("db_sync", Result(1, "", "Duplicate column name 'x'"))
    with pytest.raises(CommandFailed, match="the schema could not be migrated") as caught:
        Rollout(here, _plan(fleet_on(R25)), journal(here.clock)).prepare_database("25-to-26", fleet_on(R25))
    assert caught.value.hint == "mend the cause and run the same command again, which goes on from there"


@pytest.mark.parametrize("pattern", ["DATEDIFF", "version_num"])
def test_a_database_that_is_away_before_it_is_migrated_is_waited_for(
    rollout: Rollout, remote: ScriptedRemote, pattern: str
) -> None:
    _database(remote, oldest=0, head=R25.alembic_head)
    remote.on(pattern, NO_DATABASE, {"DATEDIFF": "0\n", "version_num": f"{R25.alembic_head}\n"}[pattern])
    rollout.prepare_database("25-to-26", fleet_on(R25))
    assert remote.steps(backup="mariadb-dump", sync="db_sync") == ["backup database-0", "sync engine-0"]


@pytest.mark.parametrize(
    ("oldest", "steps"),
    [(0, ()), (90, ()), (91, (90,)), (200, (180, 120, 90)), (2000, (365, 270, 180, 120, 90))],
)
def test_a_purge_walks_the_age_down_from_a_year(oldest: int, steps: tuple[int, ...]) -> None:
    assert purge_steps(oldest) == steps


def test_the_new_vhost_is_opened_before_anything_needs_it(rollout: Rollout, remote: ScriptedRemote) -> None:
    remote.on("add_vhost")
    remote.on("list_policies", "[]")
    rollout.open_vhost()
    assert f"add_vhost {vhost_of(R26)}" in remote.scripts("add_vhost")[0]


def test_a_vhost_whose_messages_expire_is_refused(rollout: Rollout, remote: ScriptedRemote) -> None:
    remote.on("add_vhost")
    remote.on("list_policies", '[{"name": "ttl", "definition": {"message-ttl": 1000}}]')
    with pytest.raises(PipelineError, match="policies ttl let messages"):
        rollout.open_vhost()


def test_tidying_removes_ended_engines_and_the_vhosts_of_other_releases_only(
    rollout: Rollout, remote: ScriptedRemote
) -> None:
    vhosts = ["/", "mine", vhost_of(R25), vhost_of(R26)]
    remote.on("service clean")
    remote.on("list_vhosts", "[" + ",".join(f'{{"name": "{name}"}}' for name in vhosts) + "]")
    remote.on("delete_vhost")
    rollout.tidy(fleet_on(R25), keep=R25.id)
    (script,) = remote.scripts("delete_vhost")
    assert script.endswith(f"rabbitmqctl -q delete_vhost {vhost_of(R25)}")
    assert remote.steps(clean="service clean", delete="delete_vhost") == ["clean engine-0", "delete messaging-0"]


def _with_an_older_release(remote: ScriptedRemote) -> Fleet:
    """Return a fleet whose first host has an older release on disk, and let old releases be removed."""
    remote.on("service clean")
    remote.on("list_vhosts", "[]")
    remote.on("^ *rm -rf")
    first, *others = fleet_on(R25).states
    return Fleet((replace(first, installed=("24.0.0-old", R25.id, R26.id)), *others))


def test_tidying_keeps_the_release_to_go_back_to_and_removes_older_ones(
    rollout: Rollout, remote: ScriptedRemote
) -> None:
    fleet = _with_an_older_release(remote)
    rollout.tidy(fleet, keep=R25.id)
    ((name, script),) = [ran for ran in remote.ran if "rm -rf" in ran[1]]
    assert name == fleet.states[0].host.name
    assert script == commands.remove_release("24.0.0-old")


def test_tidying_keeps_the_newer_release_whose_schema_the_region_has(
    machines: Machines, remote: ScriptedRemote, here: Site
) -> None:
    remote.on("service clean")
    remote.on("list_vhosts", "[]")
    fleet = Fleet(tuple(replace(state, installed=(R25.id, R26.id)) for state in fleet_on(R25).states))
    plan = plan_rollout(fleet, R25, NEXT_25, POLICY)
    assert plan.moves
    Rollout(here, plan, journal(here.clock)).tidy(fleet, keep=R25.id)
    assert not remote.scripts("rm -rf")


@pytest.mark.parametrize("change", [{"rollback": True}, {"batches": ()}], ids=["a rollback", "nothing moved"])
def test_tidying_removes_no_release_after(rollout: Rollout, remote: ScriptedRemote, change: dict[str, object]) -> None:
    fleet = _with_an_older_release(remote)
    replace(rollout, plan=replace(rollout.plan, **change)).tidy(fleet, keep=R25.id)  # type: ignore[arg-type]
    assert not remote.scripts("rm -rf")


def test_tidying_after_the_last_host_alone_keeps_the_release_to_go_back_to(
    machines: Machines, here: Site, remote: ScriptedRemote
) -> None:
    machines.current = dict.fromkeys(machines.current, R26.id)
    machines.kill("engine-1")
    remote.on("service clean")
    remote.on("list_vhosts", "[]")
    fleet = machines.fleet(R25, R26)
    plan = _plan(fleet)
    assert plan.moves
    Rollout(here, plan, journal(here.clock)).tidy(fleet, keep=running_release(fleet, R26.id))
    assert not remote.scripts("rm -rf")


# --- all of it


def test_killed_after_any_move_planning_again_finishes_the_work(machines: Machines, here: Site) -> None:
    order = []
    while moves := _plan(machines.fleet(R25, R26)).moves:
        again = Rollout(here, _plan(machines.fleet(R25, R26)), journal(here.clock))
        _move(again, moves[0])
        order.append(moves[0].host.name)
    assert order == ["engine-0", "api-0", "api-1", "engine-1"]
    assert set(machines.current.values()) == {R26.id}
    assert all(machines.running.values())
    assert set(machines.rotation.values()) == {"ready"}


def test_new_settings_of_the_same_release_travel_by_the_same_careful_road(
    machines: Machines, remote: ScriptedRemote, here: Site
) -> None:
    plan = restart_plan(machines.fleet(R25), R25, vhost_of(R25))
    rollout = Rollout(here, plan, journal(here.clock))
    for state in plan.moves:
        _move(rollout, state)
    stops = remote.steps(stop=STEPS["stop"])
    assert stops == ["stop engine-0", "stop engine-1", "stop api-0", "stop api-1"]
