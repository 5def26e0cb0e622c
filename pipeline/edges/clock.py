"""Time: monotonic deadlines for waits, UTC stamps for records."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol, TypeVar

from pipeline.errors import Inconclusive

__all__ = ["Clock", "FakeClock", "SystemClock", "wait_until"]

T = TypeVar("T")


class Clock(Protocol):
    """What the pipeline asks of time."""

    def monotonic(self) -> float:
        """Return seconds that never go backwards."""

    def sleep(self, seconds: float) -> None:
        """Let `seconds` pass."""

    def now(self) -> datetime:
        """Return the present moment in UTC."""


class SystemClock:
    """The machine's own clock."""

    def monotonic(self) -> float:
        """Return seconds that never go backwards."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Let `seconds` pass."""
        time.sleep(seconds)

    def now(self) -> datetime:
        """Return the present moment in UTC."""
        return datetime.now(UTC)


class FakeClock:
    """A clock whose time passes only when someone sleeps; for tests that must not wait."""

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._start = start
        self._seconds = 0.0

    def monotonic(self) -> float:
        """Return the seconds slept so far."""
        return self._seconds

    def sleep(self, seconds: float) -> None:
        """Advance by `seconds`, at once."""
        self._seconds += seconds

    def now(self) -> datetime:
        """Return the start advanced by the seconds slept."""
        return datetime.fromtimestamp(self._start.timestamp() + self._seconds, UTC)


def wait_until(
    answer: Callable[[], T | None],
    clock: Clock,
    *,
    timeout: float,
    what: str,
    interval: float = 0.5,
    hint: str = "",
) -> T:
    """Ask `answer` every `interval` seconds and return the first thing it gives that is not None or False.

    Errors of `answer` pass through: a wait ends complete, failed or timed out.
    Raises Inconclusive, naming `what` was waited for, after `timeout` seconds.
    """
    deadline = clock.monotonic() + timeout
    while True:
        result = answer()
        if result is not None and result is not False:
            return result
        if clock.monotonic() >= deadline:
            raise Inconclusive(f"waited {timeout:.0f} s for {what}, and it did not come", hint=hint)
        clock.sleep(interval)
