"""The same act on several hosts at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from pipeline.errors import PipelineError
from pipeline.inventory import Host

__all__ = ["on_each"]

T = TypeVar("T")
_WIDTH = 64


def on_each(hosts: Sequence[Host], act: Callable[[Host], T]) -> tuple[T, ...]:
    """Return what `act` gives for each of `hosts`, in their order, all at once.

    Every host's act is finished before an error is raised: the first host's, naming how many others failed.
    """
    if not hosts:
        return ()
    with ThreadPoolExecutor(max_workers=min(len(hosts), _WIDTH), thread_name_prefix="host") as pool:
        futures = [pool.submit(act, host) for host in hosts]
    errors = [error for future in futures if (error := future.exception()) is not None]
    for error in errors:
        if isinstance(error, PipelineError) and len(errors) > 1:
            error.message += f" (and {len(errors) - 1} more hosts failed)"
        raise error
    return tuple(future.result() for future in futures)
