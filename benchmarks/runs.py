"""What benchmarks of rollouts share: a local cloud made for one, and what the last run on it left in its record."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pipeline import localcloud
from pipeline.workflow import Pipeline

__all__ = ["NAME", "fresh_cloud", "last_run"]

NAME = "local"


@contextmanager
def fresh_cloud(pipeline: Pipeline) -> Iterator[None]:
    """Have a local cloud of the pipeline's workspace, made anew, as long as the context is open."""
    directory, say = pipeline.workspace.cloud, pipeline.progress.say
    localcloud.down(directory, report=say)
    try:
        localcloud.up(directory, report=say)
        yield
    finally:
        localcloud.down(directory, report=say)


def last_run(pipeline: Pipeline, failed: str = "") -> dict[str, Any]:
    """Return what customers saw of the last run, how long it took (s), and its own share of the moves' time.

    {"stacks", "requests", "wait_conditions", "wall_s", "overhead"}, and "failed" where the run did.
    """
    run = pipeline.runs.of(NAME)[-1]
    counts = json.loads((run.directory / "counts.json").read_text("utf-8"))
    stages = [seconds for stage, seconds in pipeline.progress.stages if stage == "rollout"]
    return {
        **{part: counts[part] for part in ("stacks", "requests", "wait_conditions")},
        "wall_s": round(stages[-1], 1),
        "overhead": (run.summary or {})["timing"]["overhead"],
        **({"failed": failed} if failed else {}),
    }
