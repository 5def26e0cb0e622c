"""Caches outside of any checkout: built once, found again by the digest of what they were built from."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["directory", "locked"]

NAME = "heat-deploys-heat"


def directory(kind: str) -> Path:
    """Return (and make) the cache directory of `kind`: images, venvs or locks."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    path = Path(base) / NAME / kind
    path.mkdir(parents=True, exist_ok=True)
    return path


@contextmanager
def locked(name: str, *, on_wait: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold the lock `name` of this machine; the kernel lets it go when the holder dies.

    `on_wait` is called once if someone else has it. Lock files live in the cache so that a cloud's own directory
    can be removed while its lock is held.
    """
    with (directory("locks") / name).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            on_wait()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
