"""The lock: one run at a time, by whatever it is kept; nothing outlives a run but what a person holds."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from lock_bench import ADA, GRACE, MARGARET, PERSON, Bench, Passing, hold_briefly, holding

from pipeline.edges.clock import SystemClock
from pipeline.edges.lock import LockLost, ToozLocks
from pipeline.errors import ConfigurationInvalid, LockHeld, PipelineError

pytestmark = pytest.mark.usefixtures("deadline")


# Runs


def test_the_lock_is_held_while_the_body_runs_and_free_after(bench: Bench) -> None:
    assert bench.locks.status("local") is None
    with bench.locks.held("local", ADA) as lease:
        lease.confirm()
        assert bench.locks.status("local") == ADA
        lease.confirm()
    assert bench.locks.status("local") is None
    hold_briefly(bench.locks, GRACE)


def test_a_second_run_is_told_who_holds_what_and_since_when(bench: Bench) -> None:
    with bench.locks.held("local", ADA), pytest.raises(LockHeld) as caught:
        hold_briefly(bench.locks, GRACE)
    assert caught.value.message == (
        "local is locked by ada@laptop, whose upgrade has run for 3 min"
        " (run 20260501T120000-0a1b, process 4711 on laptop)"
    )
    assert caught.value.hint == "inv lock.status local"
    assert caught.value.exit_code == 5


def test_a_refused_run_leaves_the_first_its_lock(bench: Bench) -> None:
    with bench.locks.held("local", ADA) as lease:
        for _ in range(2):
            with pytest.raises(LockHeld, match="ada@laptop"):
                hold_briefly(bench.locks, GRACE)
        lease.confirm()
    hold_briefly(bench.locks, GRACE)


def test_each_environment_has_a_lock_of_its_own(bench: Bench) -> None:
    with bench.locks.held("local", ADA) as first, bench.locks.held("staging", GRACE) as second:
        first.confirm()
        second.confirm()
        assert bench.locks.status("staging") == GRACE


def test_waiting_ends_at_its_deadline_by_the_clock(bench: Bench) -> None:
    with bench.locks.held("local", ADA), pytest.raises(LockHeld, match="has run for 8 min"):
        hold_briefly(bench.locks, GRACE, wait=300)
    assert 300 <= bench.clock.monotonic() <= 301


def test_waiting_succeeds_when_the_first_run_ends(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    with ExitStack() as first:
        first.enter_context(bench.locks.held("local", ADA))
        passes = bench.clock.sleep
        monkeypatch.setattr(bench.clock, "sleep", lambda seconds: (first.close(), passes(seconds)))
        with bench.locks.held("local", GRACE, wait=60):
            assert bench.locks.status("local") == GRACE


@pytest.mark.parametrize("end", [ValueError, KeyboardInterrupt, SystemExit])
def test_the_lock_is_given_back_however_the_body_ends(
    bench: Bench, coordinators: list[Any], told: list[str], end: type[BaseException]
) -> None:
    before = threading.enumerate()
    with pytest.raises(end, match="body"), bench.locks.held("local", ADA):
        raise end("body")
    assert threading.enumerate() == before
    assert bench.locks.status("local") is None
    assert not any(coordinator.is_started for coordinator in coordinators)
    assert told == []


def test_a_run_whose_lock_was_taken_away_is_told_before_its_next_change(bench: Bench) -> None:
    with bench.locks.held("local", ADA) as lease:
        bench.lose()
        with pytest.raises(LockLost, match="local: the lock of run 20260501T120000-0a1b is lost") as caught:
            lease.confirm()
    assert caught.value.hint == "inv lock.status local"
    assert isinstance(caught.value, LockHeld)


def test_a_lease_is_worth_nothing_after_its_body(bench: Bench) -> None:
    with bench.locks.held("local", ADA) as lease:
        pass
    with pytest.raises(LockLost):
        lease.confirm()


def test_a_live_runs_lock_is_neither_broken_nor_released(bench: Bench) -> None:
    with bench.locks.held("local", ADA) as lease:
        with pytest.raises(LockHeld, match=r"ada@laptop.* the lock of a live run cannot be broken") as caught:
            bench.locks.break_("local")
        assert caught.value.hint.endswith("kill -TERM 4711 on laptop")
        with pytest.raises(LockHeld, match="ada@laptop"):
            bench.locks.release("local", ADA.owner)
        lease.confirm()


def test_where_nothing_is_held_there_is_nothing_to_give_back(bench: Bench) -> None:
    assert bench.locks.release("local", "ada@laptop") is None
    assert bench.locks.break_("local") is None


@pytest.mark.parametrize("name", ["", "../local", ".hidden", "a/b", "a\n"])
def test_what_could_be_no_files_name_is_refused(bench: Bench, name: str) -> None:
    with pytest.raises(ConfigurationInvalid, match="no name of an environment"), bench.locks.held(name, ADA):
        pass


def test_a_lost_lock_is_an_error_of_the_pipeline() -> None:
    assert issubclass(LockLost, PipelineError)
    assert LockLost.exit_code == 5


# People


def test_what_a_person_holds_keeps_every_run_out_until_they_give_it_back(holdable: Bench) -> None:
    holdable.locks.hold("local", MARGARET)
    assert holdable.locks.status("local") == MARGARET
    with pytest.raises(LockHeld) as caught:
        hold_briefly(holdable.locks, wait=60)
    assert caught.value.message == "local has been held by margaret@desk for 4 min: a disk is being replaced"
    assert holdable.locks.release("local", "margaret@desk") == MARGARET
    assert holdable.locks.status("local") is None
    hold_briefly(holdable.locks)


def test_what_another_holds_is_not_given_back(holdable: Bench) -> None:
    holdable.locks.hold("local", MARGARET)
    with pytest.raises(LockHeld, match=r"margaret@desk.*not ada@laptop's to give back") as caught:
        holdable.locks.release("local", "ada@laptop")
    assert caught.value.hint == "inv lock.break local"
    assert holdable.locks.status("local") == MARGARET


def test_anyone_may_break_what_a_person_holds(holdable: Bench) -> None:
    holdable.locks.hold("local", MARGARET)
    assert holdable.locks.break_("local") == MARGARET
    assert holdable.locks.status("local") is None


def test_a_person_cannot_hold_what_is_held(holdable: Bench) -> None:
    with holdable.locks.held("local", ADA), pytest.raises(LockHeld, match="ada@laptop"):
        holdable.locks.hold("local", MARGARET)
    holdable.locks.hold("local", MARGARET)
    with pytest.raises(LockHeld, match="margaret@desk"):
        holdable.locks.hold("local", replace(MARGARET, owner="ada@laptop"))


def test_a_hold_is_a_persons_whatever_its_operation_says(holdable: Bench) -> None:
    holdable.locks.hold("local", ADA)
    found = holdable.locks.status("local")
    assert found is not None
    assert found.held_by_person


def test_a_person_cannot_hold_a_lease(team: Bench) -> None:
    with pytest.raises(ConfigurationInvalid, match="a lease ends with its process"):
        team.locks.hold("local", MARGARET)
    assert team.locks.status("local") is None


# Processes


def test_of_two_processes_the_second_is_told_of_the_first(tmp_path: Path) -> None:
    url = f"file://{tmp_path}/locks"
    with holding(url) as child, pytest.raises(LockHeld, match=rf"child@box.*process {child.pid} on box"):
        hold_briefly(ToozLocks(url, SystemClock()))


def test_the_run_after_a_killed_one_gets_the_lock_at_once(disk: Bench, tmp_path: Path, told: list[str]) -> None:
    with holding(f"file://{tmp_path}/locks") as child:
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert (tmp_path / "locks/local.holder.json").exists()
    assert disk.locks.status("local") is None
    hold_briefly(disk.locks)
    assert disk.clock.monotonic() == 0
    assert told == []


def test_what_a_killed_run_left_can_be_taken_away(disk: Bench, tmp_path: Path) -> None:
    with holding(f"file://{tmp_path}/locks") as child:
        with pytest.raises(LockHeld, match="the lock of a live run cannot be broken"):
            disk.locks.break_("local")
        child.send_signal(signal.SIGKILL)
        child.wait()
    left = disk.locks.break_("local")
    assert left is not None
    assert left.run_id == "run-of-the-child"
    assert not (tmp_path / "locks/local.holder.json").exists()


def test_waiting_succeeds_when_the_other_process_ends(tmp_path: Path) -> None:
    with holding(f"file://{tmp_path}/locks") as child:

        class Ending(Passing):
            def sleep(self, seconds: float) -> None:
                child.communicate("")
                super().sleep(seconds)

        hold_briefly(ToozLocks(f"file://{tmp_path}/locks", Ending()), wait=60)
        assert child.returncode == 0


def test_what_a_person_holds_outlives_their_process(disk: Bench, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", PERSON, f"file://{tmp_path}/locks"], check=True)
    with pytest.raises(LockHeld, match=r"margaret@desk.*a disk is being replaced"):
        hold_briefly(disk.locks)
    assert disk.locks.release("local", "margaret@desk") is not None
    hold_briefly(disk.locks)


def test_tooz_is_loaded_for_those_who_lock_and_nobody_else() -> None:
    code = "import sys, pipeline.edges.lock; sys.exit('tooz' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
