"""Time: waits end complete, failed or timed out, and the two clocks keep the same promises."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from pipeline.edges.clock import Clock, FakeClock, SystemClock, wait_until
from pipeline.errors import HostUnreachable, Inconclusive

CLOCKS = pytest.mark.parametrize("clock", [SystemClock(), FakeClock()], ids=["system", "fake"])


@CLOCKS
def test_sleeping_moves_the_clock_forward(clock: Clock) -> None:
    before, then = clock.monotonic(), clock.now()
    clock.sleep(0.01)
    assert clock.monotonic() - before >= 0.01
    assert clock.now() > then


@CLOCKS
def test_now_is_utc(clock: Clock) -> None:
    assert clock.now().tzinfo is UTC


def test_a_fake_clock_starts_where_it_is_told() -> None:
    clock = FakeClock(datetime(2026, 5, 1, 12, tzinfo=UTC))
    clock.sleep(90)
    assert clock.now() == datetime(2026, 5, 1, 12, 1, 30, tzinfo=UTC)


def test_a_wait_returns_the_first_answer_at_once() -> None:
    clock = FakeClock()
    assert wait_until(lambda: "ready", clock, timeout=10, what="it") == "ready"
    assert clock.monotonic() == 0


def test_a_wait_asks_again_until_there_is_an_answer() -> None:
    clock, answers = FakeClock(), iter([None, False, "up"])
    assert wait_until(lambda: next(answers), clock, timeout=10, interval=2, what="engine-0") == "up"
    assert clock.monotonic() == 4


def test_zero_is_an_answer() -> None:
    assert wait_until(lambda: 0, FakeClock(), timeout=1, what="an empty queue") == 0


def test_a_wait_that_times_out_names_what_and_how_long_and_what_next() -> None:
    clock = FakeClock()
    with pytest.raises(Inconclusive, match="waited 30 s for engine-0 to start") as caught:
        wait_until(lambda: None, clock, timeout=30, what="engine-0 to start", hint="inv local.logs")
    assert caught.value.hint == "inv local.logs"
    assert clock.monotonic() == pytest.approx(30, abs=1)


def test_slow_questions_count_against_the_deadline() -> None:
    clock, asked = FakeClock(), []

    def slowly() -> None:
        asked.append(clock.monotonic())
        clock.sleep(20)

    with pytest.raises(Inconclusive):
        wait_until(slowly, clock, timeout=30, what="it")
    assert len(asked) == 2


def test_an_answer_that_comes_with_the_deadline_still_counts() -> None:
    clock = FakeClock()

    def late() -> str:
        clock.sleep(60)
        return "late"

    assert wait_until(late, clock, timeout=30, what="it") == "late"


def test_an_error_while_waiting_passes_through() -> None:
    def lost() -> None:
        raise HostUnreachable("engine-0: gone")

    with pytest.raises(HostUnreachable):
        wait_until(lost, FakeClock(), timeout=30, what="it")
