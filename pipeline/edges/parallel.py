"""The same act on several hosts at once, and on several things as wide as the order between them allows."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from graphlib import TopologicalSorter
from typing import TypeVar

from pipeline.errors import PipelineError

__all__ = ["in_order", "on_each"]

S = TypeVar("S")
T = TypeVar("T")
_WIDTH = 64


def on_each(those: Sequence[S], act: Callable[[S], T]) -> tuple[T, ...]:
    """Return what `act` gives for each of `those`, hosts mostly, in their order, all at once.

    Every act is finished before an error is raised: the first one's, naming how many others failed.
    """
    if not those:
        return ()
    with ThreadPoolExecutor(max_workers=min(len(those), _WIDTH), thread_name_prefix="host") as pool:
        futures = [pool.submit(act, one) for one in those]
    errors = [error for future in futures if (error := future.exception()) is not None]
    for error in errors:
        if isinstance(error, PipelineError) and len(errors) > 1:
            error.message += f" (and {len(errors) - 1} more hosts failed)"
        raise error
    return tuple(future.result() for future in futures)


def in_order(
    needs: Mapping[str, Collection[str]], act: Callable[[str, Mapping[str, T]], T]
) -> tuple[dict[str, T], list[PipelineError]]:
    """Act on each name as soon as all that it `needs` are done; return what came of each, and the errors.

    `act` is given what came of those done before. When one fails, those under way are waited for, and no other begins.
    """
    order = TopologicalSorter(needs)
    order.prepare()
    done: dict[str, T] = {}
    errors: list[PipelineError] = []
    running: dict[Future[T], str] = {}
    with ThreadPoolExecutor(max_workers=max(len(needs), 1), thread_name_prefix="stack") as pool:
        while (order.is_active() and not errors) or running:
            for name in order.get_ready() if not errors else ():
                running[pool.submit(act, name, dict(done))] = name
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                name = running.pop(future)
                try:
                    done[name] = future.result()
                except PipelineError as error:
                    errors.append(error)
                else:
                    order.done(name)
    return done, errors
