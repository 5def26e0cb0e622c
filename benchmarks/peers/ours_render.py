"""The pipeline's way: `inv validate --all` in a checkout of its own, where each environment is read and rendered."""

from __future__ import annotations

import sys
from pathlib import Path

from rich.console import Console

from pipeline.edges.clock import SystemClock
from pipeline.environment import list_environments
from pipeline.progress import Progress
from pipeline.workflow import Pipeline
from pipeline.workspace import Workspace


def main() -> None:
    """Validate all environments of a checkout, and say how many there were and how many problems."""
    workspace, clock = Workspace(Path(sys.argv[1]), Path(sys.argv[1], ".state")), SystemClock()
    names = list_environments(workspace.environments)
    problems = Pipeline(workspace, clock, Progress(Console(), clock)).validate(names)
    print(f"{len(names)} environments, {len(problems)} problems")


if __name__ == "__main__":
    main()
