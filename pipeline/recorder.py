"""The recorder: every story leaves evidence of how it ended, also when it fails or is interrupted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from pipeline.edges.clock import Clock
from pipeline.edges.lock import LockLost
from pipeline.edges.store import Records, tool_version, who
from pipeline.errors import ConfigurationInvalid, GateRefused, LockHeld, PipelineError, PreflightUnreachable
from pipeline.evidence import Operation, Record
from pipeline.release import Release

__all__ = ["Outcome", "recorded"]

_TOUCHED_NOTHING = {error.exit_code for error in (ConfigurationInvalid, GateRefused, LockHeld, PreflightUnreachable)}


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

    An error that touched nothing, as a refused gate, says nothing about the release and leaves no record.
    """
    outcome, started = Outcome(), clock.now()

    def save(passed: bool, detail: str) -> None:
        # A wall clock may be set back while a run goes on.
        ended = max(started, clock.now())
        store.save(
            Record(
                operation, environment, release.id, release.digest, passed, outcome.counts, started, ended,
                who(), tool_version(), detail,
            )
        )  # fmt: skip

    try:
        yield outcome
    except PipelineError as error:
        if error.exit_code not in _TOUCHED_NOTHING or isinstance(error, LockLost):
            save(False, error.message)
        raise
    except BaseException as error:
        save(False, f"ended by {type(error).__name__}")
        raise
    save(outcome.passed, outcome.detail)
