"""Spans: when each step of a run began and ended, and what of a rollout's time nothing could have spared."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["UNAVOIDABLE", "Span", "overhead"]

UNAVOIDABLE = ("drain", "stop", "start", "healthy")
"""The steps that a host's move cannot do without, whatever the rollout around them."""


@dataclass(frozen=True, slots=True)
class Span:
    """One step that ended: its name, its host, and when it began and ended (seconds of one monotonic clock)."""

    step: str
    host: str
    started: float
    ended: float


def overhead(spans: tuple[Span, ...]) -> tuple[float, float]:
    """Return the seconds from the first move's begin to the last one's end, and those of them that nothing could spare.

    A second in which any host drains, stops, starts or gets healthy is unavoidable; all others are the rollout's own.
    """
    needed = sorted((span.started, span.ended) for span in spans if span.step in UNAVOIDABLE)
    if not needed:
        return 0.0, 0.0
    whole = max(end for _, end in needed) - needed[0][0]
    covered, reach = 0.0, needed[0][0]
    for start, end in needed:
        covered += max(0.0, end - max(start, reach))
        reach = max(reach, end)
    return whole, covered
