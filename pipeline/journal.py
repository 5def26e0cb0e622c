"""The journal of a run: what it was about to do and what it did, for people and for `inv history`.

Never a source of truth: what is left to do is asked of the hosts.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from pipeline.edges.clock import Clock

__all__ = ["Journal", "Lines", "Nowhere"]


class Lines(Protocol):
    """Where a journal's lines go."""

    def write(self, line: dict[str, Any]) -> None:
        """Keep one line."""


class Nowhere:
    """Keeps no lines, for what is no run of the pipeline."""

    def write(self, line: dict[str, Any]) -> None:
        """Drop one line."""


@dataclass(frozen=True, slots=True)
class Journal:
    """Writes `intent` before a step and `done` or `failed` after it, with the seconds it took."""

    clock: Clock
    lines: Lines

    @contextmanager
    def step(self, name: str, host: str) -> Iterator[None]:
        """Keep step `name` on `host`: an intent without its end is a step whose outcome is unknown."""
        at = self.clock.now().isoformat(timespec="milliseconds")
        started = self.clock.monotonic()
        known = {"step": name, "host": host}
        self.lines.write({"at": at, "kind": "intent", **known, "started_s": round(started, 3)})
        try:
            yield
        except BaseException as error:
            self._end("failed", known, started, error=f"{type(error).__name__}: {error}".splitlines()[0])
            raise
        self._end("done", known, started)

    def note(self, name: str, **facts: Any) -> None:
        """Keep something that was seen, as the proof of a drain."""
        at = self.clock.now().isoformat(timespec="milliseconds")
        self.lines.write({"at": at, "kind": "seen", "step": name, **facts})

    def _end(self, kind: str, known: dict[str, str], started: float, **facts: str) -> None:
        ended = self.clock.monotonic()
        at = self.clock.now().isoformat(timespec="milliseconds")
        times = {"started_s": round(started, 3), "ended_s": round(ended, 3), "seconds": round(ended - started, 3)}
        self.lines.write({"at": at, "kind": kind, **known, **times, **facts})
