"""Upgrades and rollbacks in a row, under the traffic of many customers, on one region: does any stack ever get lost?

A round goes through all releases, step by step, back by one as an operator would, and then down to the first again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

from benchmarks.runs import NAME, fresh_cloud, last_run
from pipeline.environment import Environment
from pipeline.errors import PipelineError
from pipeline.workflow import Pipeline

__all__ = ["Busy", "failures", "measure"]


@dataclass(frozen=True, slots=True)
class Busy(Pipeline):
    """The pipeline, with `clients` customers at work in every region."""

    clients: int = 8

    def environment(self, name: str) -> Environment:
        """Return environment `name` with its traffic; see Pipeline.environment."""
        found = Pipeline.environment(self, name)
        return found.model_copy(update={"traffic": found.traffic.model_copy(update={"clients": self.clients})})


def measure(pipeline: Busy, releases: Sequence[str], rounds: int) -> dict[str, Any]:
    """Return {"clients", "changes": [{"round", "change", "stacks", "requests", "wait_conditions", "wall_s", …}]}.

    The local cloud of the pipeline's workspace is taken down before and after. What a change failed with is in its
    "failed", and no other is begun after it.
    """
    changes: list[dict[str, Any]] = []
    with fresh_cloud(pipeline):
        pipeline.deploy(NAME, releases[0])
        for number, change, roll in _changes(pipeline, releases, rounds):
            failed = ""
            with pipeline.progress.stage(f"round {number}: {change}"):
                try:
                    roll()
                except PipelineError as error:
                    failed = error.message
            changes.append({"round": number, "change": change, **last_run(pipeline, failed)})
            if failed:
                break
    return {"clients": pipeline.clients, "changes": changes}


def failures(figures: dict[str, Any]) -> str:
    """Return which changes failed, and with what; "" where none did."""
    told = (f"round {one['round']}, {one['change']}: {one['failed']}" for one in figures["changes"] if "failed" in one)
    return "; ".join(told)


def _changes(
    pipeline: Pipeline, releases: Sequence[str], rounds: int
) -> Iterator[tuple[int, str, Callable[[], object]]]:
    """Yield (round, what it is, how it is done) for one change after the other."""
    for number in range(1, rounds + 1):
        for old, new in pairwise(releases):
            yield number, f"{old} → {new}", partial(pipeline.upgrade, NAME, new)
        for new, old in pairwise(reversed(releases)):
            # The first way back is the one that operators type: to whatever was there before.
            known = () if new == releases[-1] else (old,)
            yield number, f"{new} → {old}", partial(pipeline.rollback, NAME, *known)
