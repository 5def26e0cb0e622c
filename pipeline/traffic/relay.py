"""The relay: customers who hold WaitConditions open, so that one is open at every moment."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from pipeline.edges.clock import Clock

__all__ = ["Relay", "WaitCounts"]


@dataclass(frozen=True, slots=True)
class WaitCounts:
    """WaitConditions: how many were held open and then signalled, and the longest time one was open.

    `longest_gap_s` is the longest time in which none was open, from the first one's opening to the closing of traffic.
    """

    held: int = 0
    longest_open_s: float = 0
    longest_gap_s: float = 0


class Relay:
    """Who holds a WaitCondition open, safe to use from any thread.

    Times alone cannot promise that one is always open, since nobody knows how long Heat takes to make the next. So
    nobody lets go of the last one: whoever wants to must first be let, and of two who ask at once only one is.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._guard = threading.Lock()
        self._open = self._held = 0
        self._longest_open = self._longest_gap = 0.0
        self._none_since: float | None = None
        self._over = False

    def opened(self) -> None:
        """Take note that one more is open."""
        with self._guard:
            self._longest_gap = self._gap()
            self._open += 1
            self._none_since = None

    def let_go(self, *, ripe: bool) -> bool:
        """Say whether one may be closed, and if so, count it as closed: it is ripe and not the last, or all is over."""
        with self._guard:
            allowed = self._over or (ripe and self._open > 1)
            if allowed:
                self._closed()
            return allowed

    def lost(self) -> None:
        """Take note that one is closed without anybody's leave."""
        with self._guard:
            self._closed()

    def signalled(self, seconds: float) -> None:
        """Count one that was open for `seconds` when its signal was taken."""
        with self._guard:
            self._held += 1
            self._longest_open = max(self._longest_open, seconds)

    def over(self) -> None:
        """Let everybody go: from now on none need be open."""
        with self._guard:
            self._longest_gap = self._gap()
            self._over = True

    def counts(self) -> WaitCounts:
        """Return the counts as they are now."""
        with self._guard:
            return WaitCounts(self._held, round(self._longest_open, 3), round(self._gap(), 3))

    def _closed(self) -> None:
        self._open -= 1
        if not self._open:
            self._none_since = self._clock.monotonic()

    def _gap(self) -> float:
        if self._over or self._none_since is None:
            return self._longest_gap
        return max(self._longest_gap, self._clock.monotonic() - self._none_since)
