"""The pipeline is killed, as by a power cut: whatever was left half-done, the same command finishes it."""

from __future__ import annotations

import random
import time

import pytest

from tests.faults.faults import NEW, Region

BOUNDARIES = (
    ("install", ""),
    ("database", "database"),
    ("vhost", "messaging"),
    ("drain", "engine"),
    ("start", "engine"),
    ("healthy", "engine"),
    ("drain", "api"),
    ("stop", "api"),
    ("start", "api"),
    ("healthy", "api"),
    ("admit", "api"),
    ("tidy", ""),
)
"""Where a run may be killed: each stage and step with the role of its host."""


@pytest.mark.kills_work  # the customers of a killed run signal nothing any more
def test_an_upgrade_killed_at_every_boundary_is_finished_by_the_same_command(region: Region) -> None:
    region.uninstall("api-0", "api-1", "engine-0", "engine-1")
    left = list(BOUNDARIES)
    while (reached := _killed_at(region, left)) is not None:
        left.remove(reached)
        print(f"killed at {reached}")
    print(f"not reached: {left}")
    # A host killed between two of its steps may be settled already: then only another host takes the next step.
    assert len(BOUNDARIES) - len(left) >= 10, left
    _finish(region)


@pytest.mark.kills_work
def test_an_upgrade_killed_at_random_moments_is_finished_by_the_same_command(region: Region) -> None:
    seed = random.randrange(1 << 32)  # noqa: S311 (no secret)
    print(f"seed {seed}")
    moments = random.Random(seed)  # noqa: S311 (no secret)
    region.uninstall("engine-1")
    for _ in range(4):
        run = region.process()
        run.await_word("in flight now")
        time.sleep(moments.uniform(0, 25))
        print(f"killed after {run.steps[-1:] or 'no step'}")
        run.kill()
    _finish(region)


def _killed_at(region: Region, left: list[tuple[str, str]]) -> tuple[str, str] | None:
    """Kill a run at the first boundary it comes to of those that are `left`, and return that; None where it ends."""
    run = region.process()
    while not run.over:
        begun = [(step, host.rpartition("-")[0] or host) for step, host in run.steps]
        begun += [(stage, "") for stage in ("install", "tidy") if f"begin {stage}" in run.said.splitlines()]
        if found := next((boundary for boundary in left if boundary in begun), None):
            run.kill()
            return found
        time.sleep(0.002)
    assert run.code == 0, run.output
    return None


def _finish(region: Region) -> None:
    run = region.process()
    assert run.wait() == 0, run.output
    region.is_whole(NEW)
    region.is_green()
