"""The recorder: how a story ended is kept, also when it ends badly; what touched nothing leaves no record."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta

import pytest
from builders import R26

from pipeline.edges.clock import FakeClock
from pipeline.edges.store import FakeStore, who
from pipeline.errors import (
    CommandFailed,
    ConfigurationInvalid,
    FailedAndReverted,
    FleetMixed,
    GateRefused,
    Inconclusive,
    LockHeld,
    PipelineError,
    PlanStale,
    PreflightUnreachable,
    ProtectedRefused,
    StackFailed,
)
from pipeline.evidence import Operation, Record
from pipeline.recorder import Outcome, record_end, recorded, touched


class Backwards(FakeClock):
    """A wall clock that is set back a day between its first look and its second."""

    def __init__(self) -> None:
        super().__init__()
        start = datetime(2026, 1, 2, tzinfo=UTC)
        self._looks: Iterator[datetime] = iter([start, start - timedelta(days=1)])

    def now(self) -> datetime:
        return next(self._looks)


@pytest.fixture
def store() -> FakeStore:
    return FakeStore()


def _recorded(
    store: FakeStore, clock: FakeClock | None = None, *, operation: Operation = "upgrade"
) -> AbstractContextManager[Outcome]:
    return recorded(store, clock or FakeClock(), operation, "local", R26)


def _only(store: FakeStore) -> Record:
    (record,) = store.records("local")
    return record


def test_a_story_that_ends_well_leaves_a_passing_record(store: FakeStore) -> None:
    clock = FakeClock()
    with _recorded(store, clock) as outcome:
        outcome.counts.update(hosts=7)
        clock.sleep(90)
    record = _only(store)
    assert (record.operation, record.environment, record.passed, record.detail) == ("upgrade", "local", True, "")
    assert (record.release_id, record.release_digest) == (R26.id, R26.digest)
    assert record.counts == {"hosts": 7}
    assert record.ended - record.started == timedelta(seconds=90)
    assert record.who == who()


def test_a_story_whose_measure_is_bad_leaves_a_failing_record(store: FakeStore) -> None:
    with _recorded(store) as outcome:
        outcome.passed = False
    assert not _only(store).passed


@pytest.mark.parametrize("error", [FailedAndReverted, Inconclusive, PipelineError])
def test_an_error_leaves_a_failing_record_with_its_message_and_goes_on(
    store: FakeStore, error: type[PipelineError]
) -> None:
    with pytest.raises(error, match="it broke"), _recorded(store):
        raise error("it broke", hint="mend it")
    assert (_only(store).passed, _only(store).detail) == (False, "it broke")


@pytest.mark.parametrize("error", [ConfigurationInvalid, GateRefused, LockHeld, PreflightUnreachable])
def test_an_error_that_touched_nothing_says_nothing_about_the_release(
    store: FakeStore, error: type[PipelineError]
) -> None:
    with pytest.raises(error), _recorded(store):
        raise error("no")
    assert store.records("local") == ()


@pytest.mark.parametrize(
    "error", [ConfigurationInvalid, FailedAndReverted, PlanStale, PreflightUnreachable, ProtectedRefused]
)
def test_an_error_that_leaves_all_as_it_was_does_not_where_the_run_did_something_before(
    store: FakeStore, error: type[PipelineError]
) -> None:
    with pytest.raises(FleetMixed) as caught, _recorded(store), touched("engine-1 out of service"):
        raise error("no answer", hint="look at it")
    assert caught.value.message == "no answer; done by this run, and kept: engine-1 out of service"
    assert caught.value.hint == "look at it"
    assert (_only(store).passed, _only(store).detail) == (False, caught.value.message)


@pytest.mark.parametrize(
    ("what", "error"),
    [("", PreflightUnreachable), ("stacks changed", LockHeld), ("stacks changed", StackFailed), ("", StackFailed)],
)
def test_an_error_that_is_true_stays_what_it_is(what: str, error: type[PipelineError]) -> None:
    with pytest.raises(error, match=r"^no$"), touched(what):
        raise error("no")


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ZeroDivisionError])
def test_an_interrupted_story_leaves_a_failing_record(store: FakeStore, error: type[BaseException]) -> None:
    with pytest.raises(error), _recorded(store):
        raise error
    assert (_only(store).passed, _only(store).detail) == (False, f"ended by {error.__name__}")


@pytest.mark.parametrize("operation", ["verify", "smoke"])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), Inconclusive("no answer"), CommandFailed("no end", status=-1)])
def test_a_look_that_was_not_finished_says_nothing_about_the_release(
    store: FakeStore, operation: Operation, error: BaseException
) -> None:
    with pytest.raises(type(error)), _recorded(store, operation=operation):
        raise error
    assert store.records("local") == ()


def test_what_was_put_back_says_so(store: FakeStore) -> None:
    with pytest.raises(FailedAndReverted), _recorded(store):
        raise FailedAndReverted("the canary was sick")
    assert _only(store).counts == {"reverted": 1}


def test_a_clock_that_is_set_back_between_two_runs_does_not_put_the_later_one_first(store: FakeStore) -> None:
    fast = FakeClock()
    fast.sleep(3600)
    with _recorded(store, fast, operation="verify"):
        pass
    with _recorded(store, FakeClock(), operation="verify") as outcome:
        outcome.passed = False
    first, second = store.records("local")
    assert (first.passed, second.passed) == (True, False)
    assert first.ended < second.ended


def test_a_detail_shows_no_output_of_a_command(store: FakeStore) -> None:
    with pytest.raises(CommandFailed), _recorded(store):
        raise CommandFailed("engine-0: status 1", status=1, stdout="s3cret", stderr="s3cret")
    assert "s3cret" not in _only(store).detail


def test_a_clock_that_is_set_back_does_not_lose_the_record(store: FakeStore) -> None:
    with _recorded(store, Backwards()):
        pass
    assert _only(store).started == _only(store).ended


def test_what_was_destroyed_leaves_a_record_of_the_release_that_was_there(store: FakeStore) -> None:
    clock = FakeClock()
    rollout: tuple[Operation, ...] = ("upgrade", "verify")
    for operation in rollout:
        with _recorded(store, clock, operation=operation):
            clock.sleep(60)
    record_end(store, clock, "local")
    last = store.records("local")[-1]
    assert (last.operation, last.release_digest, last.passed, last.counts) == ("destroy", R26.digest, True, {})


def test_a_region_in_which_nothing_was_rolled_out_leaves_no_record_of_its_end(store: FakeStore) -> None:
    record_end(store, FakeClock(), "local")
    assert store.records("local") == ()
