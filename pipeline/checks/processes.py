"""What systemd and /proc say of a unit that runs Heat."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.checks import questions
from pipeline.checks.expectation import answer

__all__ = ["Process", "current_release", "process_of", "seconds_of", "unit_properties"]

_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1, "min": 60, "h": 3600, "d": 86400, "w": 604800}


@dataclass(frozen=True, slots=True)
class Process:
    """A unit's main process: the release whose directory it runs in, its user, and how many children it has.

    `files` are (open files, how many there may be) of it and of each child; without a limit that is infinite.
    """

    release: str
    user: str
    children: int
    files: tuple[tuple[int, float], ...] = ()

    @property
    def fullest(self) -> tuple[int, float]:
        """(open files, how many there may be) of the process that is nearest to its limit."""
        return max(self.files, key=lambda one: one[0] / one[1], default=(0, float("inf")))


def unit_properties(host: Any, unit: str) -> Mapping[str, str]:
    """Return what systemd on `host` says of `unit`; one that does not exist is inactive."""
    lines = answer(host, *questions.unit(unit)).splitlines()
    return {key: value for key, _, value in (line.partition("=") for line in lines)}


def current_release(host: Any) -> str:
    """Return the id of the release that the link `current` names, "" where there is no link."""
    name: str = host.run(*questions.CURRENT_LINK).stdout.strip()
    return name


def process_of(host: Any, unit: str) -> Process | None:
    """Return the main process of `unit`, None where it does not run."""
    lines = host.run(*questions.process(unit)).stdout.splitlines()
    if len(lines) < 3:
        return None
    release, user, children, *files = lines
    pairs = (line.split() for line in files)
    counts = tuple((int(open_), _limit(limit)) for open_, limit in (pair for pair in pairs if len(pair) == 2))
    return Process(release, user, int(children), counts)


def _limit(text: str) -> float:
    return float(text) if text.isdigit() and int(text) else float("inf")


def seconds_of(span: str) -> float:
    """Return a time span as systemd prints it ("2min 30s", "infinity") in seconds. Raises ValueError for others."""
    if span == "infinity":
        return float("inf")
    parts = [re.fullmatch(r"([\d.]+)([a-z]+)", word) for word in span.split()]
    if not parts or not all(part and part[2] in _UNITS for part in parts):
        raise ValueError(f"{span!r} is no time span of systemd")
    return sum(float(part[1]) * _UNITS[part[2]] for part in parts if part)
