"""The recorder: every story leaves evidence of how it ended, also when it fails or is interrupted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from pipeline.edges.clock import Clock
from pipeline.edges.store import Records, tool_version, who
from pipeline.errors import PipelineError
from pipeline.evidence import Operation, Record
from pipeline.release import Release

__all__ = ["Outcome", "recorded"]


@dataclass(slots=True)
class Outcome:
    """What a story's body tells its record: counts by name, and whether what was measured is good."""

    counts: dict[str, int | float] = field(default_factory=dict)
    passed: bool = True


@contextmanager
def recorded(
    store: Records, clock: Clock, operation: Operation, environment: str, release: Release
) -> Iterator[Outcome]:
    """Save one Record when the body ends: passed as the body says, failed where an error leaves it."""
    outcome, started = Outcome(), clock.now()
    detail, ended_well = "interrupted", False
    try:
        yield outcome
        detail, ended_well = "", True
    except PipelineError as error:
        detail = error.message
        raise
    finally:
        store.save(
            Record(
                operation=operation,
                environment=environment,
                release_id=release.id,
                release_digest=release.digest,
                passed=ended_well and outcome.passed,
                counts=outcome.counts,
                started=started,
                ended=clock.now(),
                who=who(),
                tool_version=tool_version(),
                detail=detail,
            )
        )
