"""Many environments validated, a share of them in each of as many processes as there are cores."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from pipeline import environment
from pipeline.render import render
from pipeline.validation import Catalogue, Problem, validate

__all__ = ["validate_all"]

_ENOUGH = 16  # environments that are worth a process of their own


def validate_all(
    names: Sequence[str], environments: Path, templates: Path, releases: tuple[str, ...]
) -> tuple[Problem, ...]:
    """Return what is wrong with the stacks of environments by the schemas of `releases` of Heat (of all: none).

    Raises ConfigurationInvalid where an environment cannot be read or rendered, or a release has no schemas here.
    """
    processes = max(1, min(os.cpu_count() or 1, len(names) // _ENOUGH))
    judge = partial(_validate, environments=environments, templates=templates, releases=releases)
    if processes == 1:
        return judge(names)
    shares = [names[first::processes] for first in range(processes)]
    with ProcessPoolExecutor(processes) as pool:
        found = [problem for problems in pool.map(judge, shares) for problem in problems]
    return tuple(sorted(found, key=lambda problem: names.index(problem.environment)))


def _validate(
    names: Sequence[str], *, environments: Path, templates: Path, releases: tuple[str, ...]
) -> tuple[Problem, ...]:
    catalogue = Catalogue.load(releases)
    return tuple(
        problem
        for name in names
        for problem in validate(name, render(environment.load(name, environments), templates), catalogue)
    )
