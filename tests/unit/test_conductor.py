"""The conductor: batch after batch by the policy, and what one host that does not get there means for the others."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from builders import (
    R25,
    R26,
    R27,
    Kept,
    Machines,
    ScriptedRemote,
    environment,
    fleet_on,
    journal,
    said,
    settled,
    site,
    with_policy,
)

from pipeline.conductor import Conductor
from pipeline.edges.clock import SystemClock, wait_until
from pipeline.edges.lock import LockLost
from pipeline.edges.ssh import Result
from pipeline.environment import Environment, Role
from pipeline.errors import (
    CommandFailed,
    FailedAndReverted,
    FleetMixed,
    HostUnreachable,
    Inconclusive,
    PipelineError,
    Unanswered,
)
from pipeline.fleet import Fleet, HostState
from pipeline.health import Unhealthy
from pipeline.release import Release
from pipeline.rollout import RolloutPlan, plan_rollout, running_release
from pipeline.site import Site
from pipeline.upgrade import Rollout

FIVE = environment(engine=5, api=2)
Fails = Callable[[], BaseException]


def sick() -> PipelineError:
    return Unhealthy("it was not healthy", hint="h")


def gone() -> PipelineError:
    return HostUnreachable("it is gone", hint="see to it")


def unsure() -> PipelineError:
    return Inconclusive("it comes and goes", hint="wait")


def unanswered() -> PipelineError:
    return Unanswered("the database did not answer", hint="see to it")


def refused() -> PipelineError:
    return CommandFailed("status 1", status=1)


@dataclass
class Moves:
    """A rollout in memory, whose hosts take a second each: `fails` says which do not get there, and why.

    `sick` are not healthy when they are asked later; `stays` cannot go back; `together` is waited for in each move, and
    in the move of a host what `until` says of it.
    """

    site: Site
    plan: RolloutPlan
    fails: dict[str, Fails] = field(default_factory=dict)
    sick: set[str] = field(default_factory=set)
    stays: set[str] = field(default_factory=set)
    takes: dict[str, float] = field(default_factory=dict)
    until: dict[str, Callable[[], object]] = field(default_factory=dict)
    idle: Callable[[], None] = lambda: None
    together: threading.Barrier | None = None
    did: list[str] = field(default_factory=list)
    most: int = 0
    most_down: int = 0
    _now: int = 0
    _lock: Any = field(default_factory=threading.Lock)

    def move(self, state: HostState) -> None:
        name = state.host.name
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
            self.most_down = max(self.most_down, self._now + sum(text.startswith("fail ") for text in self.did))
            self.did.append(f"begin {name}")
        if self.together:
            self.together.wait(5)
        if name in self.until:
            wait_until(lambda: bool(self.until[name]()), SystemClock(), timeout=5, what=name, interval=0.01)
        with self._lock:
            self.site.clock.sleep(self.takes.get(name, 1))
            self._now -= 1
            self.did.append(f"{'fail' if name in self.fails else 'end'} {name}")
        if name in self.fails:
            raise self.fails[name]()

    def revert(self, state: HostState, *, failed: bool) -> str:
        if state.host.name in self.stays:
            raise FleetMixed(f"{state.host.name} has no other release to go back to")
        self.did.append(f"{'failed' if failed else 'moved'} {state.host.name} goes back")
        return self.plan.source

    def await_idle(self) -> None:
        self.did.append("idle")
        self.idle()

    def is_healthy(self, state: HostState) -> Callable[[], bool]:
        self.did.append(f"soak {state.host.name}")
        return lambda: state.host.name not in self.sick

    @property
    def moved(self) -> list[str]:
        """The hosts that got there, in order."""
        return [text.removeprefix("end ") for text in self.did if text.startswith("end ")]

    @property
    def begun(self) -> list[str]:
        return [text.removeprefix("begin ") for text in self.did if text.startswith("begin ")]

    @property
    def back(self) -> list[str]:
        return [text for text in self.did if text.endswith(" goes back")]


@pytest.fixture(autouse=True)
def database(remote: ScriptedRemote) -> None:
    remote.on("SELECT COUNT", "0\t0\t3\n")


def _moves(
    remote: ScriptedRemote,
    of: Environment = FIVE,
    old: Release = R26,
    new: Release = R27,
    moved: tuple[str, ...] = (),
    **policy: Any,
) -> Moves:
    """Return a rollout of a region, on one vhost where not said otherwise, some of whose hosts have `moved` before."""
    here = site(remote, with_policy(of, **policy))
    whole = fleet_on(old, of)
    vhost = whole.states[0].vhost if old is R26 else ""
    fleet = Fleet(tuple(settled(s.host, new, vhost) if s.host.name in moved else s for s in whole.states))
    return Moves(here, plan_rollout(fleet, old, new, here.environment.policies))


def _conductor(moves: Moves, **options: Any) -> Conductor:
    return Conductor(moves, **options)  # type: ignore[arg-type]


def _ends(conductor: Conductor, kind: type[PipelineError], match: str | None = None) -> PipelineError:
    """Run, and return the error it ends in, which must be just of `kind`."""
    with pytest.raises(kind, match=match) as caught:
        conductor.run()
    assert type(caught.value) is kind
    return caught.value


def _told(error: PipelineError) -> dict[str, str]:
    """Return what an error says of hosts: {"done": "engine-0", ...}, each without why it failed."""
    assert "\n" not in error.message
    parts = dict(re.findall(r"; (done|failed|remaining): ([^;]*)", error.message))
    return {kind: re.sub(r" \([^)]*\)", "", names) for kind, names in parts.items()}


# --- batches


def test_batches_move_one_after_the_other_engines_before_apis(remote: ScriptedRemote) -> None:
    moves = _moves(remote, serial=[1, 2])
    _conductor(moves).run()
    assert moves.moved == [*(f"engine-{n}" for n in range(5)), "api-0", "api-1"]
    assert moves.most == 1


def test_as_many_hosts_of_a_batch_move_at_once_as_may_be_down(remote: ScriptedRemote) -> None:
    moves = _moves(remote, environment(engine=4, api=2), serial=["100%"], max_unavailable=2)
    moves.together = threading.Barrier(2)  # a move alone would wait for ever
    _conductor(moves).run()
    assert moves.most == 2
    assert sorted(moves.moved) == sorted(state.host.name for state in moves.plan.moves)


def test_a_batch_begins_when_every_host_of_the_one_before_has_ended(remote: ScriptedRemote) -> None:
    moves = _moves(remote, environment(engine=4, api=2), serial=[2], max_unavailable=4)
    moves.together = threading.Barrier(2)
    _conductor(moves).run()
    for at in range(0, len(moves.did), 4):
        batch = {text.split()[1] for text in moves.did[at : at + 4]}
        assert len(batch) == 2, moves.did


def test_a_region_that_is_there_is_left_alone(remote: ScriptedRemote) -> None:
    moves = _moves(remote)
    _conductor(replace(moves, plan=replace(moves.plan, batches=()))).run()
    assert moves.did == []


def test_each_move_is_a_stage_that_is_told(remote: ScriptedRemote) -> None:
    moves = _moves(remote, environment(engine=1, api=1))
    _conductor(moves).run()
    assert moves.site.progress.stages == [("move engine-0", 1.0), ("move api-0", 1.0)]


def test_batches_wait_for_each_other_and_nobody_waits_after_the_last(remote: ScriptedRemote) -> None:
    moves = _moves(remote, environment(engine=2, api=1), batch_wait=30)
    _conductor(moves).run()
    assert moves.site.clock.monotonic() == 3 * 1 + 2 * 30
    assert said(moves.site.progress).count("waiting 30 s before the next batch") == 2


# --- a cutover


def test_the_last_engine_of_a_cutover_waits_for_the_old_vhost_to_be_idle(remote: ScriptedRemote) -> None:
    moves = _moves(remote, environment(engine=2, api=2), R25, R26)
    _conductor(moves).run()
    ends = [text for text in moves.did if not text.startswith("begin")]
    assert ends == ["end engine-0", "end api-0", "end api-1", "idle", "end engine-1"]


def test_what_is_in_flight_is_told_once_when_the_apis_begin_to_move(remote: ScriptedRemote) -> None:
    moves = _moves(remote, environment(engine=2, api=2), R25, R26)
    _conductor(moves).run()
    told = f"APIs move to vhost {moves.plan.vhost}: 3 stacks are in progress, engines finish them"
    assert said(moves.site.progress).count(told) == 1
    same = _moves(remote, environment(engine=2, api=2))
    _conductor(same).run()
    assert "APIs move to vhost" not in said(same.site.progress)


def test_an_old_vhost_that_is_never_idle_ends_the_run_and_nothing_goes_back(remote: ScriptedRemote) -> None:
    def held() -> None:
        raise Inconclusive("old vhost: 1 resources held", hint="wait")

    moves = replace(_moves(remote, environment(engine=2, api=2), R25, R26), idle=held)
    error = _ends(_conductor(moves), Inconclusive, "1 resources held")
    assert (moves.begun, moves.back, error.hint) == (["engine-0", "api-0", "api-1"], [], "wait")


def test_an_old_vhost_that_is_never_idle_is_told_with_what_is_done_and_what_remains(remote: ScriptedRemote) -> None:
    def held() -> None:
        raise Inconclusive("old vhost: 1 resources held", hint="wait")

    moves = replace(_moves(remote, environment(engine=2, api=2), R25, R26), idle=held)
    error = _ends(_conductor(moves), Inconclusive)
    assert _told(error) == {"done": "engine-0, api-0, api-1", "failed": "none", "remaining": "engine-1"}


# --- hosts that fail


def test_after_a_failed_host_no_other_begins_and_every_host_is_named(remote: ScriptedRemote) -> None:
    moves = _moves(remote, serial=[3], auto_revert="none")
    moves.fails["engine-1"] = sick
    error = _ends(_conductor(moves), FleetMixed)
    assert moves.begun == ["engine-0", "engine-1"]
    assert _told(error) == {
        "done": "engine-0",
        "failed": "engine-1",
        "remaining": "engine-2, engine-3, engine-4, api-0, api-1",
    }
    assert "failed: engine-1 (it was not healthy)" in error.message
    assert "engine-1: it was not healthy" in said(moves.site.progress)


def test_hosts_in_flight_are_finished_and_no_other_begins(remote: ScriptedRemote) -> None:
    moves = _moves(remote, serial=["100%"], max_unavailable=2, auto_revert="none")
    moves.fails["engine-0"] = sick
    conductor = _conductor(moves)
    moves.until = {"engine-0": lambda: len(moves.begun) == 2, "engine-1": lambda: conductor._failed}
    error = _ends(conductor, FleetMixed, "halted")
    assert moves.did == ["begin engine-0", "begin engine-1", "fail engine-0", "end engine-1"]
    assert _told(error) == {
        "done": "engine-1",
        "failed": "engine-0",
        "remaining": "engine-2, engine-3, engine-4, api-0, api-1",
    }


def test_one_unreachable_host_halts_the_run_and_nothing_goes_back(remote: ScriptedRemote) -> None:
    moves = _moves(remote)
    moves.fails["engine-1"] = gone
    error = _ends(_conductor(moves), HostUnreachable, "halted")
    assert (error.exit_code, error.hint, moves.back) == (7, "see to it", [])
    assert _told(error) == {
        "done": "engine-0",
        "failed": "engine-1",
        "remaining": "engine-2, engine-3, engine-4, api-0, api-1",
    }


def test_a_host_of_which_nobody_can_tell_halts_the_run_and_nothing_goes_back(remote: ScriptedRemote) -> None:
    moves = _moves(remote, auto_revert="all")
    moves.fails["engine-0"] = unsure
    error = _ends(_conductor(moves, go_back=lambda: pytest.fail("it went back")), Inconclusive, "halted")
    assert (error.exit_code, error.hint, moves.back) == (11, "wait", [])
    assert "failed: engine-0 (it comes and goes)" in error.message


def test_a_service_that_stays_away_halts_the_run_and_nothing_goes_back(remote: ScriptedRemote) -> None:
    moves = _moves(remote, auto_revert="all")
    moves.fails["engine-1"] = unanswered
    conductor = _conductor(moves, go_back=lambda: pytest.fail("it went back"))
    error = _ends(conductor, Unanswered, "^halted; done: engine-0; ")
    assert (error.exit_code, error.hint, moves.back) == (11, "see to it", [])
    assert "failed: engine-1 (the database did not answer)" in error.message


@pytest.mark.parametrize("why", [sick, gone, unsure, unanswered, refused])
def test_as_many_hosts_may_fail_as_the_policy_says(remote: ScriptedRemote, why: Fails) -> None:
    moves = _moves(remote, max_fail=2, serial=[1, 2], max_unavailable=3)
    moves.fails = {"engine-2": why, "engine-4": why}
    ended = _ends(_conductor(moves), FleetMixed, "the rollout ended")
    assert moves.begun == [*(f"engine-{n}" for n in range(5)), "api-0", "api-1"]
    assert moves.back == []
    assert (ended.exit_code, _told(ended)["failed"], _told(ended)["remaining"]) == (7, "engine-2, engine-4", "none")


def test_failed_hosts_are_counted_over_the_whole_run_and_not_per_batch(remote: ScriptedRemote) -> None:
    moves = _moves(remote, max_fail=1, serial=[1], max_unavailable=3, auto_revert="none")
    moves.fails = {"engine-1": sick, "engine-3": sick}
    error = _ends(_conductor(moves), FleetMixed, "halted")
    assert _told(error) == {
        "done": "engine-0, engine-2",
        "failed": "engine-1, engine-3",
        "remaining": "engine-4, api-0, api-1",
    }


def test_the_next_thing_to_type_is_to_look_at_the_host_that_failed_last(remote: ScriptedRemote) -> None:
    moves = _moves(remote)
    moves.fails["engine-1"] = sick
    assert _ends(_conductor(moves), FleetMixed).hint.endswith("inv local.ssh engine-1")


# --- what goes back


def test_a_first_host_that_fails_goes_back_and_the_run_ends_reverted(remote: ScriptedRemote) -> None:
    moves = _moves(remote)
    moves.fails["engine-0"] = sick
    error = _ends(_conductor(moves), FailedAndReverted, f"^engine-0 is back on {R26.id}; done: none; failed: engine-0")
    assert error.exit_code == 8
    assert moves.back == ["failed engine-0 goes back"]


def test_with_auto_revert_none_nothing_goes_back(remote: ScriptedRemote) -> None:
    moves = _moves(remote, auto_revert="none")
    moves.fails["engine-0"] = sick
    assert _ends(_conductor(moves), FleetMixed, "^halted; done: none; failed: engine-0").exit_code == 7
    assert moves.back == []


def test_with_auto_revert_batch_the_failed_hosts_batch_goes_back_the_last_first(remote: ScriptedRemote) -> None:
    moves = _moves(remote, serial=[1, 3])
    moves.fails["engine-3"] = sick
    error = _ends(_conductor(moves), FleetMixed, f"^engine-3, engine-2, engine-1 are back on {R26.id}; ")
    assert moves.back == ["failed engine-3 goes back", "moved engine-2 goes back", "moved engine-1 goes back"]
    assert _told(error) == {
        "done": "engine-0",
        "failed": "engine-3",
        "remaining": "engine-1, engine-2, engine-4, api-0, api-1",
    }


def test_a_first_batch_that_fails_in_part_ends_reverted_as_a_whole(remote: ScriptedRemote) -> None:
    moves = _moves(remote, serial=[3])
    moves.fails["engine-2"] = sick
    _ends(_conductor(moves), FailedAndReverted, "engine-2, engine-1, engine-0 are back")


def test_hosts_that_failed_in_earlier_batches_go_back_when_the_run_halts(remote: ScriptedRemote) -> None:
    moves = _moves(remote, max_fail=1, serial=[1], max_unavailable=3)
    moves.fails = {"engine-1": sick, "engine-3": sick}
    _ends(_conductor(moves), FleetMixed, "engine-1, engine-3 are back")
    assert moves.back == ["failed engine-1 goes back", "failed engine-3 goes back"]


def test_a_host_that_fails_after_others_moved_in_an_earlier_run_leaves_the_fleet_mixed(remote: ScriptedRemote) -> None:
    moves = _moves(remote, moved=("engine-0", "engine-1"))
    moves.fails["engine-2"] = sick
    error = _ends(_conductor(moves, moved=2), FleetMixed, f"^engine-2 is back on {R26.id}; done: none; ")
    assert error.exit_code == 7


def test_with_auto_revert_all_the_whole_region_goes_back(remote: ScriptedRemote) -> None:
    moves = _moves(remote, auto_revert="all")
    moves.fails["engine-3"] = sick
    back = lambda: moves.did.append("the region goes back")  # noqa: E731 (a name for it says more)
    error = _ends(_conductor(moves, moved=2, go_back=back), FailedAndReverted, f"^every host is back on {R26.id}; ")
    assert moves.did[-2:] == ["failed engine-3 goes back", "the region goes back"]
    assert _told(error)["done"] == "none"


def test_with_auto_revert_all_a_first_host_goes_back_alone(remote: ScriptedRemote) -> None:
    moves = _moves(remote, auto_revert="all")
    moves.fails["engine-0"] = sick
    _ends(_conductor(moves, go_back=lambda: pytest.fail("nothing else moved")), FailedAndReverted, "engine-0 is back")


@pytest.mark.parametrize("revert", ["batch", "all"])
def test_a_host_that_cannot_go_back_leaves_the_fleet_mixed_and_says_why(remote: ScriptedRemote, revert: str) -> None:
    moves = _moves(remote, auto_revert=revert)
    moves.fails["engine-0"], moves.stays = sick, {"engine-0"}
    _ends(_conductor(moves, go_back=lambda: None), FleetMixed, "^halted; done: none; failed: engine-0")
    told = said(moves.site.progress)
    assert "could not be put back: engine-0 has no other release to go back to" in told


def test_a_region_that_cannot_go_back_is_left_mixed(remote: ScriptedRemote) -> None:
    def back() -> None:
        raise FleetMixed("engine-1 did not drain")

    moves = _moves(remote, auto_revert="all")
    moves.fails["engine-3"] = sick
    error = _ends(_conductor(moves, go_back=back), FleetMixed, "^halted; ")
    assert _told(error)["done"] == "engine-0, engine-1, engine-2"
    assert "could not be put back: engine-1 did not drain" in said(moves.site.progress)


def test_a_host_that_cannot_go_back_keeps_no_other_from_it(remote: ScriptedRemote) -> None:
    moves = _moves(remote, serial=[1], max_fail=1, max_unavailable=3)
    moves.fails, moves.stays = {"engine-1": sick, "engine-3": sick}, {"engine-1"}
    _ends(_conductor(moves), FleetMixed)
    assert moves.back == ["failed engine-3 goes back"]


# --- an environment that is another run's by now


def _lost(after: int = 0) -> Callable[[], None]:
    """Return a question whether the environment is still this run's, which is so as many times as `after` says."""
    asked: list[None] = []

    def owned() -> None:
        asked.append(None)
        if len(asked) > after:
            raise LockLost("local: the lock of run r is lost", hint="inv lock.status local")

    return owned


@pytest.mark.parametrize("revert", ["batch", "all"])
def test_a_run_that_lost_its_lock_puts_no_host_back(remote: ScriptedRemote, revert: str) -> None:
    moves = _moves(remote, auto_revert=revert)
    moves.fails["engine-1"] = sick
    conductor = _conductor(moves, owned=_lost(), go_back=lambda: pytest.fail("it went back"))
    error = _ends(conductor, FleetMixed, "^halted; done: engine-0; failed: engine-1")
    assert (error.exit_code, moves.back) == (7, [])
    assert "could not be put back: local: the lock of run r is lost" in said(moves.site.progress)


def test_a_first_host_that_is_not_put_back_is_not_told_as_reverted(remote: ScriptedRemote) -> None:
    moves = _moves(remote)
    moves.fails["engine-0"] = sick
    _ends(_conductor(moves, owned=_lost()), FleetMixed, "^halted; done: none; failed: engine-0")


def test_a_lock_that_is_lost_half_way_back_keeps_the_other_hosts_where_they_are(remote: ScriptedRemote) -> None:
    moves = _moves(remote, serial=[1, 3])
    moves.fails["engine-3"] = sick
    error = _ends(_conductor(moves, owned=_lost(after=2)), FleetMixed, f"^engine-3, engine-2 are back on {R26.id}; ")
    assert moves.back == ["failed engine-3 goes back", "moved engine-2 goes back"]
    assert _told(error)["done"] == "engine-0, engine-1"


def test_whose_the_environment_is_is_asked_before_each_host_that_goes_back_and_no_other(remote: ScriptedRemote) -> None:
    moves = _moves(remote, serial=[1, 3])
    moves.fails["engine-3"] = sick
    asked: list[int] = []
    with suppress(FleetMixed):
        _conductor(moves, owned=lambda: asked.append(len(moves.back))).run()
    assert asked == [0, 1, 2]


def lost() -> PipelineError:
    return LockLost("local: the lock of run r is lost", hint="inv lock.status local")


def test_a_lock_that_is_lost_in_a_move_ends_the_run_whatever_may_fail_and_names_the_host_that_was_left(
    remote: ScriptedRemote,
) -> None:
    moves = _moves(remote, max_fail=2, max_unavailable=3, serial=[1], auto_revert="all")
    moves.fails["engine-1"] = lost
    conductor = _conductor(moves, go_back=lambda: pytest.fail("it went back"))
    error = _ends(conductor, LockLost, "^local: the lock of run r is lost; done: engine-0; failed: engine-1 ")
    assert (error.exit_code, moves.begun, moves.back) == (5, ["engine-0", "engine-1"], [])


def test_a_run_that_a_person_paused_may_still_put_its_hosts_back(remote: ScriptedRemote) -> None:
    moves = _moves(remote)
    moves.fails["engine-0"] = sick
    gate = _gate(moves, Inconclusive("paused by ada"), 1)
    _ends(_conductor(moves, gate=gate, owned=lambda: None), FailedAndReverted, "engine-0 is back")
    assert moves.back == ["failed engine-0 goes back"]


# --- how many may be down


def test_a_failed_host_counts_among_those_that_may_be_down(remote: ScriptedRemote) -> None:
    moves = _moves(remote, environment(engine=2, api=2), max_fail=1, max_unavailable=1)
    moves.fails["api-0"] = sick
    _ends(_conductor(moves), FleetMixed)
    assert "api-1" not in moves.begun, "no API would be left"


def test_no_api_moves_to_a_vhost_that_no_engine_serves(remote: ScriptedRemote) -> None:
    moves = _moves(remote, environment(engine=2, api=2), R25, R26, max_fail=1)
    moves.fails["engine-0"] = sick
    _ends(_conductor(moves), FailedAndReverted)
    assert moves.begun == ["engine-0"]


def test_a_failed_host_leaves_less_room_for_others_of_its_batch(remote: ScriptedRemote) -> None:
    moves = _moves(remote, serial=[1, "100%"], max_fail=2, max_unavailable=2, auto_revert="none")
    moves.fails["engine-1"] = sick
    conductor = _conductor(moves)

    def failed_a_while_ago() -> bool:
        failed = bool(conductor._failed)
        time.sleep(0.1)  # for another host to begin, which would be one too many
        return failed

    moves.until = {"engine-1": lambda: "begin engine-2" in moves.did, "engine-2": failed_a_while_ago}
    with suppress(PipelineError):
        conductor.run()
    assert moves.most_down == 2


def test_the_last_engine_of_a_cutover_may_follow_engines_that_failed(remote: ScriptedRemote) -> None:
    moves = _moves(remote, environment(engine=5, api=1), R25, R26, max_fail=2, max_unavailable=3, auto_revert="none")
    moves.fails = {"engine-1": sick, "engine-2": sick}
    error = _ends(_conductor(moves), FleetMixed)
    assert _told(error)["failed"] == "engine-1, engine-2"


@pytest.mark.parametrize("why", [unsure, gone, unanswered])
@pytest.mark.parametrize("name", ["engine-1", "api-0"])
def test_the_last_engine_of_a_cutover_stays_for_a_host_that_may_still_work_on_the_old_vhost(
    remote: ScriptedRemote, name: str, why: Fails
) -> None:
    moves = _moves(remote, environment(engine=4, api=2), R25, R26, max_fail=1, max_unavailable=2, auto_revert="all")
    moves.fails[name] = why
    error = _ends(_conductor(moves, go_back=lambda: pytest.fail("it went back")), type(why()), "^halted; ")
    assert (_told(error)["failed"], _told(error)["remaining"]) == (name, "engine-3")
    assert "api-1" in moves.moved
    assert "idle" not in moves.did


# --- the canary


def test_a_canary_soaks_and_the_rollout_goes_on_by_itself_where_it_may(remote: ScriptedRemote) -> None:
    moves = _moves(remote, environment(engine=2, api=1), canary={"soak": 600, "auto_promote": True})
    _conductor(moves).run()
    assert [text for text in moves.did if not text.startswith("begin")] == [
        "end engine-0",
        "soak engine-0",
        "end engine-1",
        "end api-0",
    ]
    assert moves.site.clock.monotonic() == 600 + 3
    assert ("soak engine-0", 600.0) in moves.site.progress.stages


def test_every_host_of_a_larger_canary_soaks(remote: ScriptedRemote) -> None:
    moves = _moves(remote, serial=[2], canary={"soak": 60, "auto_promote": True})
    _conductor(moves).run()
    assert [text for text in moves.did if text.startswith("soak")] == ["soak engine-0", "soak engine-1"]


@pytest.mark.parametrize("soak", [0, 600])
def test_without_auto_promote_the_run_pauses_after_the_canary_for_a_persons_word(
    remote: ScriptedRemote, soak: float
) -> None:
    moves = _moves(remote, canary={"soak": soak, "auto_promote": False})
    error = _ends(_conductor(moves), Inconclusive, f"paused: the canary engine-0 is healthy on {R27.id}")
    assert (error.exit_code, error.hint) == (11, "inv canary.promote local, or inv rollback local")
    assert moves.begun == ["engine-0"]
    assert moves.site.clock.monotonic() == 1 + soak


def test_a_person_who_vouches_for_the_canary_neither_soaks_nor_pauses_it(remote: ScriptedRemote) -> None:
    moves = _moves(remote, canary={"soak": 600, "auto_promote": False})
    _conductor(moves, promoted=True).run()
    assert len(moves.moved) == 7
    assert moves.site.clock.monotonic() == 7


@pytest.mark.parametrize("auto_promote", [True, False])
def test_a_canary_of_an_earlier_run_proves_itself_before_anything_else_moves(
    remote: ScriptedRemote, auto_promote: bool
) -> None:
    canary = {"soak": 600, "auto_promote": auto_promote}
    moves = _moves(remote, moved=("engine-0",), canary=canary)
    if auto_promote:
        _conductor(moves, moved=1).run()
        assert moves.did[:2] == ["soak engine-0", "begin engine-1"]
    else:
        _ends(_conductor(moves, moved=1), Inconclusive, "paused: the canary engine-0")
        assert moves.did == ["soak engine-0"]


def test_a_canary_is_proved_once_and_not_again_when_others_have_moved(remote: ScriptedRemote) -> None:
    moves = _moves(remote, moved=("engine-0", "engine-1"), canary={"soak": 600, "auto_promote": False})
    _conductor(moves, moved=2).run()
    assert moves.site.clock.monotonic() == 5


def test_nobody_asks_about_a_canary_when_there_is_nothing_left_to_move(remote: ScriptedRemote) -> None:
    moves = _moves(remote, environment(engine=1, api=1), canary={"soak": 600, "auto_promote": False})
    first = replace(moves.plan, batches=moves.plan.batches[:1])
    _conductor(replace(moves, plan=first)).run()


def test_a_canary_that_is_sick_while_it_soaks_ends_the_run_before_another_host_moves(remote: ScriptedRemote) -> None:
    moves = _moves(remote, canary={"soak": 600, "auto_promote": True}, auto_revert="none")
    moves.sick.add("engine-0")
    error = _ends(_conductor(moves), FleetMixed, "failed: engine-0 .engine-0 was not healthy for 600 s on end")
    assert error.exit_code == 7
    assert moves.begun == ["engine-0"]


def test_a_canary_that_is_sick_while_it_soaks_goes_back_once(remote: ScriptedRemote) -> None:
    moves = _moves(remote, canary={"soak": 600, "auto_promote": True})
    moves.sick.add("engine-0")
    error = _ends(_conductor(moves), FailedAndReverted, f"^engine-0 is back on {R26.id}; ")
    assert moves.back == ["failed engine-0 goes back"]
    assert (_told(error)["done"], _told(error)["failed"]) == ("none", "engine-0")


def test_a_canary_of_an_earlier_run_that_goes_back_leaves_the_fleet_as_it_was(remote: ScriptedRemote) -> None:
    moves = _moves(remote, moved=("engine-0",), canary={"soak": 600, "auto_promote": True})
    moves.sick.add("engine-0")
    _ends(_conductor(moves, moved=1), FailedAndReverted, f"^engine-0 is back on {R26.id}; ")
    assert moves.back == ["failed engine-0 goes back"]


@pytest.mark.parametrize("auto_promote", [True, False])
def test_a_canary_that_fails_ends_the_run_however_many_may_fail(remote: ScriptedRemote, auto_promote: bool) -> None:
    moves = _moves(remote, max_fail=1, canary={"soak": 0, "auto_promote": auto_promote})
    moves.fails["engine-0"] = sick
    _ends(_conductor(moves), FailedAndReverted)
    assert moves.begun == ["engine-0"]


# --- the gate


def _gate(moves: Moves, error: PipelineError, after: int) -> Callable[[], None]:
    """Return a gate that lets as many hosts pass, and refuses the next."""
    passed: list[None] = []

    def gate() -> None:
        if len(passed) == after:
            raise error
        passed.append(None)

    return gate


def test_the_gate_is_asked_before_each_host(remote: ScriptedRemote) -> None:
    moves = _moves(remote)
    asked: list[int] = []
    _conductor(moves, gate=lambda: asked.append(len(moves.moved))).run()
    assert asked == list(range(7))


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Inconclusive("paused by ada", hint="go on"), 11),
        (FleetMixed("aborted by ada", hint="go on"), 7),
        (LockLost("local: the lock of run r is lost", hint="go on"), 5),
    ],
    ids=["pause", "abort", "lock lost"],
)
@pytest.mark.parametrize("after", [0, 2])
def test_a_gate_that_refuses_ends_the_run_with_its_own_code_and_every_host_named(
    remote: ScriptedRemote, error: PipelineError, code: int, after: int
) -> None:
    moves = _moves(remote, serial=[1, 2], auto_revert="all")
    told = error.message
    again = type(error)(told, hint=error.hint)
    ended = _ends(_conductor(moves, gate=_gate(moves, again, after), go_back=lambda: pytest.fail("no")), type(error))
    assert ended.message.startswith(
        f"{told}; done: {', '.join(moves.moved) or 'none'}; failed: none; remaining: engine-"
    )
    assert (ended.exit_code, ended.hint) == (code, "go on")
    assert (moves.begun, moves.back) == (["engine-0", "engine-1"][:after], [])


def _paused_in_flight(remote: ScriptedRemote) -> tuple[Moves, PipelineError]:
    """Let the gate refuse the third host while the first of two is still in flight; return how that ended."""
    moves = _moves(remote, serial=["100%"], max_unavailable=2)
    conductor = _conductor(moves, gate=_gate(moves, Inconclusive("paused by ada"), 2))
    moves.until = {"engine-0": lambda: conductor._stopped, "engine-1": lambda: len(moves.begun) == 2}
    return moves, _ends(conductor, Inconclusive)


def test_hosts_in_flight_are_finished_when_a_run_is_paused(remote: ScriptedRemote) -> None:
    moves, _ = _paused_in_flight(remote)
    assert moves.did == ["begin engine-0", "begin engine-1", "end engine-1", "end engine-0"]


def test_a_host_that_was_in_flight_when_a_run_was_paused_is_told_as_done(remote: ScriptedRemote) -> None:
    _, error = _paused_in_flight(remote)
    assert _told(error) == {
        "done": "engine-1, engine-0",
        "failed": "none",
        "remaining": "engine-2, engine-3, engine-4, api-0, api-1",
    }


def test_the_gate_is_asked_by_one_host_at_a_time(remote: ScriptedRemote) -> None:
    moves = _moves(remote, environment(engine=2, api=1), serial=["100%"], max_unavailable=2)
    both, at_once = threading.Barrier(2), []

    def gate() -> None:
        with suppress(threading.BrokenBarrierError):
            both.wait(1)
            at_once.append(True)

    _conductor(moves, gate=gate).run()
    assert not at_once


def test_a_run_whose_last_host_has_begun_can_be_paused_no_more(remote: ScriptedRemote) -> None:
    moves = _moves(remote, environment(engine=1, api=1))
    _conductor(moves, gate=_gate(moves, Inconclusive("paused by ada"), 2)).run()
    assert len(moves.moved) == 2


# --- no progress


def test_a_run_in_which_no_host_gets_healthy_for_too_long_ends_and_says_so(remote: ScriptedRemote) -> None:
    moves = _moves(remote, max_fail=3, max_unavailable=3, progress_deadline=100)
    moves.fails = {"engine-1": sick, "engine-2": sick}
    moves.takes = {"engine-1": 60, "engine-2": 60}
    error = _ends(_conductor(moves), Inconclusive, "no host got healthy within 100 s; done: engine-0; ")
    assert error.exit_code == 11
    assert _told(error)["remaining"] == "engine-3, engine-4, api-0, api-1"


def test_each_healthy_host_is_progress(remote: ScriptedRemote) -> None:
    moves = _moves(remote, progress_deadline=100)
    moves.takes = {state.host.name: 99 for state in moves.plan.moves}
    _conductor(moves).run()
    assert len(moves.moved) == 7


def test_what_a_policy_waits_for_by_itself_is_no_lack_of_progress(remote: ScriptedRemote) -> None:
    canary = {"soak": 600, "auto_promote": True}
    moves = _moves(remote, progress_deadline=100, batch_wait=200, canary=canary)
    _conductor(moves).run()
    assert len(moves.moved) == 7


# --- ends that nobody expects


@pytest.mark.parametrize("error", [KeyboardInterrupt, lambda: SystemExit(143), ZeroDivisionError])
def test_an_end_that_nobody_expected_passes_when_the_hosts_in_flight_are_finished(
    remote: ScriptedRemote, error: Fails
) -> None:
    moves = _moves(remote, serial=[2], max_unavailable=2)
    moves.together = threading.Barrier(2)
    moves.fails["engine-0"] = error
    with pytest.raises(type(error())):
        _conductor(moves).run()
    assert (sorted(moves.begun), moves.moved, moves.back) == (["engine-0", "engine-1"], ["engine-1"], [])


@pytest.mark.parametrize("error", [RuntimeError, lambda: SystemExit(1)])
def test_a_fault_of_our_own_lets_the_hosts_in_flight_end_and_no_other_of_the_batch_begin(
    remote: ScriptedRemote, error: Fails
) -> None:
    moves = _moves(remote, serial=[4], max_unavailable=2)
    conductor = _conductor(moves)
    moves.until = {"engine-0": lambda: conductor._stopped, "engine-1": lambda: len(moves.begun) == 2}
    moves.fails["engine-1"] = error
    with pytest.raises(type(error())):
        conductor.run()
    assert moves.did == ["begin engine-0", "begin engine-1", "fail engine-1", "end engine-0"]


def test_a_fault_of_our_own_passes_though_another_host_failed_before_it(remote: ScriptedRemote) -> None:
    moves = _moves(remote, serial=[4], max_unavailable=2)
    moves.together = threading.Barrier(2)
    moves.fails = {"engine-0": sick, "engine-1": RuntimeError}
    with pytest.raises(RuntimeError):
        _conductor(moves).run()
    assert (sorted(moves.begun), moves.back) == (["engine-0", "engine-1"], [])


def test_an_interrupt_lets_the_hosts_in_flight_end_and_no_other_of_the_batch_begin(remote: ScriptedRemote) -> None:
    heard = threading.Event()

    def interrupt(*_: object) -> None:
        heard.set()
        raise KeyboardInterrupt

    def interrupted() -> PipelineError:
        os.kill(os.getpid(), signal.SIGTERM)
        assert heard.wait(5)
        time.sleep(0.1)  # until the conductor has heard it too
        return sick()

    before = signal.signal(signal.SIGTERM, interrupt)
    moves = _moves(remote, serial=[4])
    moves.fails["engine-0"] = interrupted
    try:
        with pytest.raises(KeyboardInterrupt):
            _conductor(moves).run()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (moves.begun, moves.back) == (["engine-0"], [])


# --- on hosts that do what they are told


def _rollout(here: Site, fleet: Fleet, kept: Kept | None = None) -> Rollout:
    running = {R25.id: R25, R26.id: R26}[running_release(fleet, R26.id)]
    plan = plan_rollout(fleet, running, R26, here.environment.policies)
    return Rollout(here, plan, journal(here.clock, kept))


def _conduct(here: Site, machines: Machines) -> Conductor:
    fleet = machines.fleet(R25, R26)
    rollout = _rollout(here, fleet)
    return Conductor(rollout, len(fleet.states) - len(rollout.plan.moves))


def test_a_region_moves_whole(machines: Machines, here: Site) -> None:
    _conduct(here, machines).run()
    assert set(machines.current.values()) == {R26.id}
    assert all(machines.running.values())
    assert set(machines.rotation.values()) == {"ready"}


def test_a_release_that_never_gets_healthy_is_taken_back_from_its_first_host(machines: Machines, here: Site) -> None:
    machines.broken.add(R26.id)
    error = _ends(_conduct(here, machines), FailedAndReverted, f"engine-0 is back on {R25.id}")
    assert "engine-0 was not healthy for 3 s on end" in error.message
    assert set(machines.current.values()) == {R25.id}
    assert all(machines.running.values())


def test_a_release_that_does_not_start_is_taken_back_at_once(
    machines: Machines, here: Site, remote: ScriptedRemote
) -> None:
    machines.refused.add(R26.id)
    _ends(_conduct(here, machines), FailedAndReverted, "Job for heat failed")
    assert here.clock.monotonic() <= here.environment.policies.health.min_healthy_time
    assert set(machines.current.values()) == {R25.id}
    assert all(machines.running.values())


def test_a_release_that_is_not_whole_on_a_host_is_not_started_there(
    machines: Machines, here: Site, remote: ScriptedRemote
) -> None:
    remote.on(f"^ln -sfn .*{R26.id}", Result(1, "", "no settings"))
    _ends(_conduct(here, machines), FailedAndReverted, "no settings")
    assert (machines.current["engine-0"], machines.running["engine-0"]) == (R25.id, True)


def test_an_api_that_was_put_back_gets_requests_again_and_leaves_a_mixed_fleet(machines: Machines, here: Site) -> None:
    machines.current["engine-0"] = R26.id  # an earlier run moved it
    machines.refused.add(R26.id)
    error = _ends(_conduct(here, machines), FleetMixed, f"api-0 is back on {R25.id}; done: none; ")
    assert error.exit_code == 7
    assert machines.rotation == {"api-0": "ready", "api-1": "ready"}
    assert (machines.current["engine-0"], machines.current["api-0"]) == (R26.id, R25.id)


def test_an_engine_that_did_not_drain_is_started_again_where_it_was(machines: Machines, here: Site) -> None:
    machines.stuck.add("engine-0")
    _ends(_conduct(here, machines), FailedAndReverted, "did not drain: systemd says success")
    assert (machines.current["engine-0"], machines.running["engine-0"]) == (R25.id, True)


def test_an_engine_that_drains_too_long_is_left_to_it_and_the_same_command_goes_on(
    machines: Machines, here: Site
) -> None:
    machines.looks["engine-0"] = 10**6
    error = _ends(_conduct(here, machines), Inconclusive, "engine-0 still drains after 180 s")
    assert error.exit_code == 11
    assert machines.draining == {"engine-0"}
    machines.looks["engine-0"] = 3
    _conduct(here, machines).run()
    assert set(machines.current.values()) == {R26.id}


def test_a_host_that_is_lost_for_good_is_left_as_it_is_and_the_same_command_goes_on(
    machines: Machines, here: Site
) -> None:
    machines.lost["api-0"] = 10**6
    error = _ends(_conduct(here, machines), HostUnreachable, "halted; done: engine-0; failed: api-0")
    assert error.exit_code == 7
    machines.lost.clear()
    _conduct(here, machines).run()
    assert set(machines.current.values()) == {R26.id}
    assert set(machines.rotation.values()) == {"ready"}


def test_a_check_that_could_not_be_made_puts_nothing_back(
    machines: Machines, here: Site, remote: ScriptedRemote
) -> None:
    rows = "".join(f"{row}\tengine-0\t1\n" for row in machines.rows["engine-0"])
    remote.on(r"FROM heat\.service", rows, "", "", Result(1, "", "server has gone away"))
    _ends(_conduct(here, machines), Inconclusive, "server has gone away")
    assert machines.current["engine-0"] == R26.id


NO_DATABASE = Result(1, "", "ERROR 2002 (HY000): Can't connect to local server through socket")


def test_a_database_that_stays_away_in_the_middle_of_a_drain_puts_nothing_back_and_the_same_command_goes_on(
    machines: Machines, here: Site, remote: ScriptedRemote
) -> None:
    remote.on("TIMESTAMPDIFF", "", NO_DATABASE)
    error = _ends(_conduct(here, machines), Unanswered, "^halted; done: none; failed: engine-0 .the database did not")
    assert (error.exit_code, error.hint) == (11, "systemctl status mariadb on database-0")
    assert not remote.scripts("^ln -sfn|^systemctl start")
    remote.on("TIMESTAMPDIFF")
    _conduct(here, machines).run()
    assert set(machines.current.values()) == {R26.id}
    assert all(machines.running.values())


def test_a_broker_that_stays_away_while_the_old_vhost_gets_idle_puts_nothing_back(
    machines: Machines, here: Site, remote: ScriptedRemote
) -> None:
    remote.on("list_queues", Result(69, "", "Error: unable to perform an operation"))
    error = _ends(_conduct(here, machines), Unanswered, "^the broker did not answer: ")
    assert error.exit_code == 11
    assert _told(error) == {"done": "engine-0, api-0, api-1", "failed": "none", "remaining": "engine-1"}
    assert set(machines.current.values()) == {R25.id, R26.id}


def test_a_host_that_a_killed_run_had_switched_goes_back_to_where_the_others_are(
    machines: Machines, here: Site
) -> None:
    machines.current["engine-0"] = R26.id
    machines.kill("engine-0")
    machines.refused.add(R26.id)
    _ends(_conduct(here, machines), FailedAndReverted, f"engine-0 is back on {R25.id}")
    assert machines.current["engine-0"] == R25.id


def test_hosts_of_a_batch_move_at_once_on_real_steps(remote: ScriptedRemote) -> None:
    of = with_policy(environment(engine=5, api=4), serial=["100%"], max_unavailable="50%")
    here = site(remote, of)
    machines = Machines(remote, here.region.inventory, R25, of.heat.engine_workers)
    machines.looks = {f"engine-{number}": number for number in range(5)}
    _conduct(here, machines).run()
    assert set(machines.current.values()) == {R26.id}
    assert all(machines.running.values())
    assert set(machines.rotation.values()) == {"ready"}
    starts = remote.steps(start="^systemctl start heat-")
    assert [name.split()[1].split("-")[0] for name in starts] == ["engine"] * 4 + ["api"] * 4 + ["engine"]


@pytest.mark.parametrize("point", ["told to stop", "stopped", "switched", "started"])
@pytest.mark.parametrize("name", ["engine-0", "api-0", "api-1", "engine-1"])
def test_killed_at_any_point_of_any_host_the_same_command_finishes_the_work(
    machines: Machines, here: Site, remote: ScriptedRemote, name: str, point: str
) -> None:
    order = ["engine-0", "api-0", "api-1", "engine-1"]
    for moved in order[: order.index(name)]:
        machines.current[moved] = R26.id
    if point == "told to stop":
        machines.drain(name)
        machines.looks[name] = 3
    elif point == "started":
        machines.current[name] = R26.id
    else:
        machines.current[name] = R26.id if point == "switched" else R25.id
        machines.kill(name)
        machines.rows.pop(name, None)
        machines.rows |= {name: []} if name.startswith("engine") else {}
    if name.startswith("api"):
        machines.rotation[name] = "drain"
    fleet = machines.fleet(R25, R26)
    rollout = _rollout(here, fleet)
    left = [state.host.name for state in rollout.plan.moves]
    assert left == order[order.index(name) + (point == "started") :]
    rollout.admit_stranded(fleet)
    Conductor(rollout, len(fleet.states) - len(left)).run()
    assert set(machines.current.values()) == {R26.id}
    assert all(machines.running.values())
    assert set(machines.rotation.values()) == {"ready"}
    stopped = [step.split()[1] for step in remote.steps(stop="^systemctl stop --no-block heat-")]
    assert list(dict.fromkeys(stopped)) == left


def test_a_role_of_a_host_does_not_matter_to_how_a_failure_is_told(machines: Machines, here: Site) -> None:
    rollout = _rollout(here, machines.fleet(R25, R26))
    only = replace(rollout.plan, batches=tuple(one for one in rollout.plan.batches if one.role is Role.API))
    machines.refused.add(R26.id)
    _ends(Conductor(replace(rollout, plan=only)), FailedAndReverted, f"api-0 is back on {R25.id}")
