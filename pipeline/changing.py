"""A run that changes an environment: it holds the lock, asks before each host, and leaves a directory of its own."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pipeline.edges.clock import Clock
from pipeline.edges.lock import Holder, Lease, Locks
from pipeline.edges.runs import Run, Runs
from pipeline.edges.store import who
from pipeline.errors import FleetMixed, Inconclusive, PipelineError
from pipeline.evidence import Operation, StackOperation
from pipeline.progress import Progress
from pipeline.spans import overhead

__all__ = ["Changing", "changing", "holder_now"]

_ROLLS: tuple[Operation | StackOperation, ...] = ("upgrade", "rollback")


@dataclass(frozen=True, slots=True)
class Changing:
    """A run that changes an environment: its own log, and the lock it holds."""

    operation: Operation | StackOperation
    environment: str
    log: Run
    lease: Lease
    runs: Runs

    def gate(self) -> None:
        """Let the run go on to another host. Raises LockLost, Inconclusive for a pause, FleetMixed for an abort."""
        self.lease.confirm()
        if (asked := self.runs.asked(self.environment)) is None:
            return
        request, by = asked
        ways = ["type the same command again to go on"]
        if self.operation in _ROLLS:
            ways.append(f"inv rollback {self.environment}")
        if request == "pause":
            raise Inconclusive(f"paused by {by}", hint=", or ".join(ways))
        raise FleetMixed(f"aborted by {by}", hint=", or ".join(reversed(ways)))


def holder_now(operation: str, run_id: str, now: datetime, reason: str = "") -> Holder:
    """Return this process and its user as the holder of a lock."""
    return Holder(who(), operation, run_id, socket.gethostname(), os.getpid(), now, reason)


@contextmanager
def changing(
    operation: Operation | StackOperation,
    environment: str,
    *,
    locks: Locks,
    runs: Runs,
    clock: Clock,
    progress: Progress,
    lock_wait: float,
) -> Iterator[Changing]:
    """Hold the lock of `environment`, and keep what is said and done in a directory of the run's own.

    Raises LockHeld where another has it for longer than `lock_wait` seconds.
    """
    started, run_id = clock.now(), runs.name(operation)
    holder = holder_now(operation, run_id, started)
    with locks.held(environment, holder, wait=lock_wait) as lease, runs.heeding(environment):
        log = runs.begin(environment, run_id)
        run = Changing(operation, environment, log, lease, runs)
        ended: BaseException | None = None
        try:
            with progress.heard(log.event):
                yield run
        except BaseException as error:
            ended = error
            raise
        finally:
            log.keep("summary", _summary(run, started, clock.now(), ended))


def _summary(run: Changing, started: datetime, ended: datetime, error: BaseException | None) -> dict[str, Any]:
    """Return what a run came to, as plain values."""
    whole, needed = overhead(run.log.spans)
    told = error.message if isinstance(error, PipelineError) else f"ended by {type(error).__name__}" if error else ""
    return {
        "run": run.log.id,
        "environment": run.environment,
        "operation": run.operation,
        "by": who(),
        "started": started.isoformat(timespec="milliseconds"),
        "ended": ended.isoformat(timespec="milliseconds"),
        "exit_code": _exit_code(error),
        "detail": told,
        "timing": {
            "moves_s": round(whole, 3),
            "unavoidable_s": round(needed, 3),
            "overhead": round((whole - needed) / needed, 4) if needed else 0.0,
        },
    }


def _exit_code(error: BaseException | None) -> int:
    """Return the status that the process ends with because of `error`."""
    if error is None:
        return 0
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 1
    if isinstance(error, KeyboardInterrupt):
        return 130
    return error.exit_code if isinstance(error, PipelineError) else 1
