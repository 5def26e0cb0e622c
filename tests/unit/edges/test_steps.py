"""The runner of steps: what it asks, for how long, and how each ending is told from the others."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from builders import ScriptedRemote, host

from pipeline.edges.clock import FakeClock
from pipeline.edges.ssh import Result
from pipeline.edges.steps import HostRebooted, run_step
from pipeline.errors import CommandFailed, HostKeyRefused, HostUnreachable, Inconclusive, OutcomeUnknown

START, LOOK, STOP, FORGET = "systemd-run", r"^\}\nlocked\ntell\Z", "systemctl stop", r"\|\| rm -f step"
RUNNING, BUSY = "step running started\n", "step busy\n"
LOST = HostUnreachable("engine-0 (198.18.7.15): connection lost: reset")
SILENT = CommandFailed("engine-0: no end within 40 s", status=-1)
DONE = "step ended started exited 0 success\ndone\n"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def said() -> list[str]:
    return []


class Step:
    """A call of run_step, and what it asked."""

    def __init__(self, remote: ScriptedRemote, clock: FakeClock, said: list[str]) -> None:
        self.remote, self.clock, self.said = remote, clock, said
        remote.ends_steps = False
        remote.on(FORGET)

    def run(self, timeout: float = 60) -> Result:
        return run_step(self.remote, self.clock, host(), "try", "echo done", timeout=timeout, report=self.said.append)

    @property
    def asked(self) -> list[str]:
        return [line.split()[0] for line in self.remote.steps(start=START, look=LOOK, stop=STOP, forget=FORGET)]

    @property
    def nonces(self) -> set[str]:
        return {nonce for _, script in self.remote.ran for nonce in re.findall(r"^wanted=(\w+)$", script, re.MULTILINE)}


@pytest.fixture
def step(remote: ScriptedRemote, clock: FakeClock, said: list[str]) -> Step:
    return Step(remote, clock, said)


# --- ends


def test_a_short_step_takes_two_round_trips(step: Step) -> None:
    step.remote.on(START, DONE)
    assert step.run() == Result(0, "done\n", "")
    assert (step.asked, step.clock.monotonic(), step.said) == (["start", "forget"], 0, [])


def test_a_long_step_is_asked_about_until_it_ends(step: Step) -> None:
    step.remote.on(LOOK, RUNNING, RUNNING, DONE)
    step.remote.on(START, RUNNING)
    assert step.run().stdout == "done\n"
    assert step.asked == ["start", "look", "look", "look", "forget"]
    assert len(step.nonces) == 1


def test_questions_get_rarer(step: Step) -> None:
    asked: list[float] = []

    def look(*_: object) -> str:
        asked.append(step.clock.monotonic())
        return RUNNING if asked[-1] < 20 else DONE

    step.remote.on(LOOK, look)
    step.remote.on(START, RUNNING)
    step.run()
    pauses = [round(later - earlier, 2) for earlier, later in pairwise(asked)]
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-1]) == (0.2, 2.0)


def test_each_call_has_a_nonce_of_its_own(step: Step) -> None:
    step.remote.on(START, DONE)
    step.run()
    step.run()
    assert len(step.nonces) == 2


def test_a_failed_step_fails_as_any_command_does(step: Step) -> None:
    step.remote.on(START, Result(0, "step ended started exited 3 exit-code\nout\n", "one\ntwo\nthree\nfour\n"))
    with pytest.raises(CommandFailed, match=r"^engine-0: status 3: two \| three \| four$") as caught:
        step.run()
    assert (caught.value.status, caught.value.stdout, caught.value.stderr) == (3, "out\n", "one\ntwo\nthree\nfour\n")
    assert step.asked == ["start", "forget"]


def test_a_killed_step_says_by_what(step: Step) -> None:
    step.remote.on(START, "step ended started killed KILL oom-kill\n")
    with pytest.raises(CommandFailed, match=r"status 137: killed by KILL \(oom-kill\)"):
        step.run()


def test_a_step_that_cannot_be_started_says_why(step: Step) -> None:
    step.remote.on(START, Result(1, "", "cat: write error: No space left on device\n"))
    with pytest.raises(CommandFailed, match=r"^engine-0: status 1: cat: write error: No space left on device"):
        step.run()
    assert step.asked == ["start"]


def test_a_result_that_cannot_be_removed_is_still_a_result(step: Step) -> None:
    step.remote.on(START, DONE)
    step.remote.on(FORGET, LOST)
    assert step.run().stdout == "done\n"


# --- lost connections


@pytest.mark.parametrize("lost", [LOST, SILENT])
def test_a_lost_connection_is_told_once_and_the_step_asked_about(step: Step, lost: Exception) -> None:
    step.remote.on(LOOK, lost, lost, RUNNING, lost, DONE)
    step.remote.on(START, RUNNING)
    assert step.run().stdout == "done\n"
    (line,) = step.said
    assert line.startswith("engine-0: lost; step try goes on there, and is asked about again (engine-0")


def test_a_start_whose_answer_was_lost_is_asked_about_by_its_nonce(step: Step) -> None:
    step.remote.on(LOOK, DONE)
    step.remote.on(START, LOST, LOST, RUNNING)
    assert step.run().stdout == "done\n"
    assert step.asked == ["start", "start", "start", "look", "forget"]
    assert len(step.nonces) == 1


def test_a_host_that_is_lost_to_the_end_leaves_the_outcome_unknown(step: Step) -> None:
    step.remote.on(LOOK, LOST)
    step.remote.on(START, RUNNING)
    with pytest.raises(OutcomeUnknown, match=r"^engine-0: step try is not known to have ended: .*reset") as caught:
        step.run(timeout=30)
    assert caught.value.exit_code == 12
    assert caught.value.hint == "run the same command again: it adopts the step where that still runs"
    assert step.clock.monotonic() == pytest.approx(30)
    assert set(step.asked) == {"start", "look"}


def test_a_host_that_never_answers_is_given_up_at_the_timeout(step: Step) -> None:
    step.remote.on(START, LOST)
    with pytest.raises(OutcomeUnknown):
        step.run(timeout=30)
    assert step.clock.monotonic() == pytest.approx(30)


def test_a_question_that_the_host_fails_to_answer_is_asked_again(step: Step) -> None:
    step.remote.on(LOOK, Result(1, "", "sh: cannot fork"), DONE)
    step.remote.on(START, RUNNING)
    assert step.run().stdout == "done\n"
    assert "cannot fork" in step.said[0]


def test_another_host_key_before_the_step_is_what_it_is(step: Step) -> None:
    step.remote.on(START, HostKeyRefused("engine-0 shows another key"))
    with pytest.raises(HostKeyRefused):
        step.run()


def test_another_host_key_during_the_step_leaves_the_outcome_unknown(step: Step) -> None:
    step.remote.on(LOOK, HostKeyRefused("engine-0 shows another key"))
    step.remote.on(START, RUNNING)
    with pytest.raises(OutcomeUnknown, match="engine-0 shows another key"):
        step.run()


# --- earlier runs


def test_a_step_that_runs_since_an_earlier_run_is_adopted(step: Step) -> None:
    step.remote.on(LOOK, "step running adopted\n", DONE)
    step.remote.on(START, "step running adopted\n")
    assert step.run().stdout == "done\n"
    assert step.said == ["engine-0: step try runs since an earlier run; waiting for its end"]


def test_another_step_is_waited_for_and_ours_then_has_its_whole_time(step: Step) -> None:
    def look(*_: object) -> str:
        return RUNNING if step.clock.monotonic() < 75 else DONE

    def start(*_: object) -> str:
        return BUSY if step.clock.monotonic() < 40 else RUNNING

    step.remote.on(LOOK, look)
    step.remote.on(START, start)
    assert step.run(timeout=60).stdout == "done\n"
    assert step.said == ["engine-0: another step try still runs since an earlier run; waiting for its end"]
    assert len(step.nonces) == 1


def test_another_step_that_does_not_end_leaves_ours_not_started(step: Step) -> None:
    step.remote.on(START, BUSY)
    with pytest.raises(
        Inconclusive, match=r"step try was not started: another one .* did not end within 60 s"
    ) as caught:
        step.run(timeout=60)
    assert caught.value.hint == "systemctl status heat-pipeline-try on engine-0"
    assert step.clock.monotonic() == pytest.approx(60)


# --- timeouts


def test_a_step_that_does_not_end_in_time_is_stopped(step: Step) -> None:
    step.remote.on(LOOK, RUNNING)
    step.remote.on(START, RUNNING)
    step.remote.on(STOP, Result(0, "step ended started killed TERM success\nbegun\n", "slow\n"))
    with pytest.raises(CommandFailed, match=r"^engine-0: no end of step try within 30 s, so it was stopped$") as caught:
        step.run(timeout=30)
    assert (caught.value.status, caught.value.stdout) == (-1, "begun\n")
    assert step.asked[-2:] == ["stop", "forget"]
    assert step.clock.monotonic() == pytest.approx(30)


def test_a_step_that_ended_well_just_before_its_stop_has_ended_well(step: Step) -> None:
    step.remote.on(LOOK, RUNNING)
    step.remote.on(START, RUNNING)
    step.remote.on(STOP, DONE)
    assert step.run(timeout=30).stdout == "done\n"


def test_a_step_that_the_host_stopped_at_its_limit_did_not_end_in_time(step: Step) -> None:
    step.remote.on(LOOK, LOST, "step ended adopted killed TERM timeout\n")
    step.remote.on(START, RUNNING)
    with pytest.raises(CommandFailed, match="no end of step try within the time it was given, so it was stopped"):
        step.run()


@pytest.mark.parametrize(
    ("answer", "reason"), [(LOST, "is not known to have ended"), (RUNNING, "did not end within 30 s, nor when it was")]
)
def test_a_stop_that_was_not_seen_to_work_leaves_the_outcome_unknown(
    step: Step, answer: str | Exception, reason: str
) -> None:
    step.remote.on(LOOK, RUNNING)
    step.remote.on(START, RUNNING)
    step.remote.on(STOP, answer)
    with pytest.raises(OutcomeUnknown, match=reason):
        step.run(timeout=30)
    assert "forget" not in step.asked


# --- ends that nobody saw


def test_a_reboot_in_the_middle_is_told_from_a_lost_connection(step: Step) -> None:
    step.remote.on(LOOK, LOST, LOST, "step rebooted started\n")
    step.remote.on(START, RUNNING)
    with pytest.raises(HostRebooted, match=r"^engine-0 rebooted in the middle of step try\n") as caught:
        step.run()
    assert caught.value.exit_code == 12
    assert caught.value.hint == ("see /var/lib/heat-pipeline/steps/try/stderr there, then run the same command again")


@pytest.mark.parametrize(
    ("state", "reason"),
    [("vanished started", "runs no more, and left no status"), ("unknown", "is not known there: its result was read")],
)
def test_an_end_that_left_nothing_is_unknown(step: Step, state: str, reason: str) -> None:
    step.remote.on(START, f"step {state}\n")
    with pytest.raises(OutcomeUnknown, match=f"engine-0: step try {reason}"):
        step.run()
