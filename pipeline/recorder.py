"""The recorder: every story leaves evidence of how it ended, also when it fails or is interrupted.

An error that says that nothing was touched is believed, so it has to be told otherwise once something was.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from pipeline.edges.clock import Clock
from pipeline.edges.lock import LockLost
from pipeline.edges.store import Records, tool_version, who
from pipeline.errors import (
    ConfigurationInvalid,
    FailedAndReverted,
    FleetMixed,
    GateRefused,
    LockHeld,
    PipelineError,
    PlanStale,
    PreflightUnreachable,
)
from pipeline.evidence import Operation, Record
from pipeline.release import Release

__all__ = ["Outcome", "record_end", "recorded", "touched"]

_LOOKS: tuple[Operation, ...] = ("verify", "smoke")
_TOUCHED_NOTHING = {error.exit_code for error in (ConfigurationInvalid, GateRefused, LockHeld, PreflightUnreachable)}
_LEFT_AS_IT_WAS = {*_TOUCHED_NOTHING, PlanStale.exit_code, FailedAndReverted.exit_code}


@dataclass(slots=True)
class Outcome:
    """What a story's body tells its record: counts by name, whether what was measured is good, and what is not."""

    counts: dict[str, int | float] = field(default_factory=dict)
    passed: bool = True
    detail: str = ""


@contextmanager
def recorded(
    store: Records, clock: Clock, operation: Operation, environment: str, release: Release
) -> Iterator[Outcome]:
    """Save one Record when the body ends: passed as the body says, failed where an error leaves it.

    An error that touched nothing, as a refused gate, says nothing about the release and leaves no record; nor does a
    look (verify, smoke) that was interrupted or could not be had: what it saw, its body tells.
    """
    outcome, started = Outcome(), clock.now()

    def save(passed: bool, detail: str) -> None:
        # A wall clock may be set back while a run goes on, or between two.
        ended = max(started, clock.now(), _after_all(store, environment) or started)
        store.save(
            Record(
                operation, environment, release.id, release.digest, passed, outcome.counts, started, ended,
                who(), tool_version(), detail,
            )
        )  # fmt: skip

    try:
        yield outcome
    except PipelineError as error:
        if isinstance(error, FailedAndReverted):
            outcome.counts["reverted"] = 1
        if operation not in _LOOKS and (error.exit_code not in _TOUCHED_NOTHING or isinstance(error, LockLost)):
            save(False, error.message)
        raise
    except BaseException as error:
        if operation not in _LOOKS:
            save(False, f"ended by {type(error).__name__}")
        raise
    save(outcome.passed, outcome.detail)


def record_end(store: Records, clock: Clock, environment: str) -> None:
    """Save that an environment was destroyed, as a record of the release rolled out last; none where none ever was.

    Raises ConfigurationInvalid where its records cannot be read.
    """
    rollouts = [one for one in store.records(environment) if one.passed and one.operation in ("deploy", "upgrade")]
    if rollouts:
        now = max(clock.now(), _after_all(store, environment) or clock.now())
        last = replace(rollouts[-1], operation="destroy", counts={}, started=now, ended=now, detail="")
        store.save(replace(last, who=who(), tool_version=tool_version()))


def _after_all(store: Records, environment: str) -> datetime | None:
    """Return the moment after the newest record's end; None for none, and where one is damaged: the gate refuses it."""
    try:
        ends = [record.ended for record in store.records(environment)]
    except ConfigurationInvalid:
        return None
    return max(ends) + timedelta(microseconds=1) if ends else None


@contextmanager
def touched(what: str) -> Iterator[None]:
    """Raise an error of the body that means that all is as it was as FleetMixed, for `what` is not, by the same run.

    "" stands for nothing, and then every error stays what it is. A lost lock does always: it is about the next run.
    """
    try:
        yield
    except PipelineError as error:
        if not what or error.exit_code not in _LEFT_AS_IT_WAS or isinstance(error, LockHeld):
            raise
        hint = error.hint or "the same command again goes on from there"
        raise FleetMixed(f"{error.message}; done by this run, and kept: {what}", hint=hint) from error
