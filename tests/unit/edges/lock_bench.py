"""What the tests of the locks are made of: holders, a clock that never stands still, and processes that hold a lock."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from pipeline.edges.clock import FakeClock
from pipeline.edges.lock import Holder, Locks

__all__ = ["ADA", "GRACE", "HOLDING", "MARGARET", "NOON", "PERSON", "Bench", "Passing", "hold_briefly", "holding"]

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
ADA = Holder("ada@laptop", "upgrade", "20260501T120000-0a1b", "laptop", 4711, NOON)
GRACE = Holder("grace@github", "deploy", "20260501T120100-2c3d", "runner-1", 815, NOON + timedelta(minutes=1))
MARGARET = Holder("margaret@desk", "hold", "", "desk", 1, NOON, "a disk is being replaced")

HOLDING = """
import os, sys
from datetime import UTC, datetime
from pipeline.edges.clock import SystemClock
from pipeline.edges.lock import Holder, ToozLocks
holder = Holder("child@box", "upgrade", "run-of-the-child", "box", os.getpid(), datetime.now(UTC))
with ToozLocks(sys.argv[1], SystemClock()).held("local", holder):
    print("held", flush=True)
    sys.stdin.read()
"""
PERSON = """
import sys
from datetime import UTC, datetime
from pipeline.edges.clock import SystemClock
from pipeline.edges.lock import Holder, ToozLocks
holder = Holder("margaret@desk", "hold", "", "desk", 1, datetime.now(UTC), "a disk is being replaced")
ToozLocks(sys.argv[1], SystemClock()).hold("local", holder)
"""


class Passing(FakeClock):
    """A fake clock on which every wait ends: one that lets no time pass would ask for ever, without a pause."""

    def sleep(self, seconds: float) -> None:
        """Advance by `seconds`, and fail where that is no time at all."""
        assert seconds > 0, "this wait never ends"
        super().sleep(seconds)


@dataclass(frozen=True)
class Bench:
    """Locks under test, with their clock and a way to take a run's lock away behind its back."""

    locks: Locks
    clock: FakeClock
    lose: Callable[[], object]


@contextmanager
def holding(url: str) -> Iterator[subprocess.Popen[str]]:
    """Run a process that holds `local` until its input ends."""
    command = [sys.executable, "-c", HOLDING, url]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def hold_briefly(locks: Locks, holder: Holder = ADA, *, wait: float = 0) -> None:
    """Take the lock of `local`, see that it is held, and give it back."""
    with locks.held("local", holder, wait=wait) as lease:
        lease.confirm()
