"""What systemd and /proc say of a unit that runs Heat."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.checks.expectation import answer
from pipeline.hostfiles import CURRENT

__all__ = ["SETTINGS", "Process", "current_release", "process_of", "seconds_of", "unit_properties"]

SETTINGS = {
    "User": "heat",
    "Group": "heat",
    "KillMode": "mixed",
    "LimitNOFILE": "65536",
    "NoNewPrivileges": "yes",
    "PrivateDevices": "yes",
    "PrivateTmp": "yes",
    "ProtectHome": "yes",
    "ProtectSystem": "strict",
    "RestrictSUIDSGID": "yes",
    "WorkingDirectory": CURRENT,
}
"""How systemd runs a unit of Heat, in its own words. Not root, hardened, and TERM to the parent only."""

_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1, "min": 60, "h": 3600, "d": 86400, "w": 604800}


@dataclass(frozen=True, slots=True)
class Process:
    """A unit's main process: the release whose directory it runs in, its user, and how many children it has."""

    release: str
    user: str
    children: int


def unit_properties(host: Any, unit: str) -> Mapping[str, str]:
    """Return what systemd on `host` says of `unit`; one that does not exist is inactive."""
    lines = answer(host, "systemctl show -- %s", f"{unit}.service").splitlines()
    return {key: value for key, _, value in (line.partition("=") for line in lines)}


def current_release(host: Any) -> str:
    """Return the id of the release that the link `current` names, "" where there is no link."""
    name: str = host.run('basename -- "$(readlink %s)"', CURRENT).stdout.strip()
    return name


def process_of(host: Any, unit: str) -> Process | None:
    """Return the main process of `unit`, None where it does not run."""
    pid = unit_properties(host, unit)["MainPID"]
    if pid == "0":
        return None
    answer = host.run(
        'basename -- "$(readlink /proc/%s/cwd)"; stat -c %%U /proc/%s; pgrep -c -P %s', pid, pid, pid
    ).stdout.split()
    return Process(answer[0], answer[1], int(answer[2])) if len(answer) == 3 else None


def seconds_of(span: str) -> float:
    """Return a time span as systemd prints it ("2min 30s", "infinity") in seconds. Raises ValueError for others."""
    if span == "infinity":
        return float("inf")
    parts = [re.fullmatch(r"([\d.]+)([a-z]+)", word) for word in span.split()]
    if not parts or not all(part and part[2] in _UNITS for part in parts):
        raise ValueError(f"{span!r} is no time span of systemd")
    return sum(float(part[1]) * _UNITS[part[2]] for part in parts if part)
