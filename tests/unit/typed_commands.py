"""Commands as people type them, read by invoke's own parser; for tests of what workflows and documents tell to type."""

from __future__ import annotations

import shlex
from functools import cache
from pathlib import Path
from types import ModuleType

from invoke.collection import Collection
from invoke.loader import FilesystemLoader
from invoke.parser import Parser

ROOT = Path(__file__).parents[2]


@cache
def tasks_module() -> ModuleType:
    """Return tasks.py, loaded once for all tests."""
    return fresh_tasks_module()


def fresh_tasks_module() -> ModuleType:
    """Return tasks.py, loaded anew: invoke forgets a task's help once it has read the task's options."""
    module: ModuleType = FilesystemLoader(start=str(ROOT)).load("tasks")[0]
    return module


@cache
def collection() -> Collection:
    """Return the tasks that ./inv --list shows."""
    return Collection.from_module(tasks_module())


def task_of(command: str) -> str:
    """Return the task that `command` ("./inv verify local") runs.

    Raises invoke.exceptions.ParseError for an unknown task or flag, ValueError for a command that is not one of inv.
    """
    program, *arguments = shlex.split(command)
    if program not in ("./inv", "inv"):
        raise ValueError(f"{command}: is no command of inv")
    (context,) = Parser(contexts=collection().to_contexts()).parse_argv(arguments)
    if missing := [one.name for one in context.missing_positional_args]:
        raise ValueError(f"{command}: lacks {', '.join(map(str, missing))}")
    return str(context.name)
