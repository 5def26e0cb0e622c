"""Who holds an environment: as a value, in JSON, and in the words of those who are turned away."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import ClassVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from pipeline.errors import ConfigurationInvalid, LockHeld

__all__ = [
    "HOLD",
    "UNKNOWN",
    "Holder",
    "Refusal",
    "age",
    "check_name",
    "from_json",
    "line",
    "refuse_others",
    "refused",
    "to_json",
    "told",
    "unbreakable",
    "unknown",
]

HOLD = "hold"
UNKNOWN = "unknown owner"


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds an environment: a run, or, where `operation` is "hold", a person, for `reason`.

    `owner` is user@host, or CI's actor; `started` is UTC. Raises ValueError where it is not.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)

    owner: str
    operation: str
    run_id: str
    host: str
    pid: int
    started: datetime
    reason: str = ""

    def __post_init__(self) -> None:
        if self.started.utcoffset() != timedelta(0):
            raise ValueError("started: must be UTC")

    @property
    def held_by_person(self) -> bool:
        """Whether a person holds the environment, with no run behind it."""
        return self.operation == HOLD


def unknown(why: str, now: datetime) -> Holder:
    """Return whoever holds what is locked while nobody can tell by whom."""
    return Holder(UNKNOWN, "unknown", "", "", 0, now, why)


def to_json(holder: Holder) -> str:
    """Return a line of JSON, the same for the same holder."""
    return json.dumps(asdict(holder) | {"started": holder.started.isoformat()}, sort_keys=True) + "\n"


def from_json(text: str | bytes) -> Holder:
    """Return the holder that to_json wrote. Raises ValidationError, which is a ValueError."""
    return TypeAdapter(Holder).validate_json(text)


Refusal = Callable[[str, Holder, datetime], LockHeld]


def refused(environment: str, holder: Holder, now: datetime) -> LockHeld:
    """Return what turns a run away."""
    return LockHeld(told(environment, holder, now), hint=f"inv lock.status {environment}")


def unbreakable(environment: str, holder: Holder, now: datetime) -> LockHeld:
    """Return what keeps a person from breaking the lock of a run that lives."""
    where = f": kill -TERM {holder.pid} on {holder.host}" if holder.pid else ""
    return LockHeld(
        f"{told(environment, holder, now)}; that run lives, and the lock of a live run cannot be broken",
        hint=f"stop that run, and its lock goes with it{where}",
    )


def refuse_others(environment: str, hold: Holder, owner: str, now: datetime) -> None:
    """Raise LockHeld where `hold` is not `owner`'s to give back."""
    if hold.owner != owner:
        words = told(environment, hold, now)
        raise LockHeld(f"{words}; it is not {owner}'s to give back", hint=f"inv lock.break {environment}")


def told(environment: str, holder: Holder, now: datetime) -> str:
    """Say in a line who holds `environment`, doing what, for how long."""
    since = age((now - holder.started).total_seconds())
    why = f": {holder.reason}" if holder.reason else ""
    if holder.owner == UNKNOWN:
        return f"{environment} is {'held' if holder.held_by_person else 'locked'} by an {UNKNOWN}{why}"
    if holder.held_by_person:
        return f"{environment} has been held by {holder.owner} for {since}{why}"
    where = f"run {holder.run_id}, process {holder.pid} on {holder.host}"
    return f"{environment} is locked by {holder.owner}, whose {holder.operation} has run for {since} ({where}){why}"


def age(seconds: float) -> str:
    """Return a span as people say it; clocks that differ make none negative."""
    minutes, rest = divmod(max(0, int(seconds)), 60)
    if not minutes:
        return f"{rest} s"
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min" if minutes < 48 * 60 else f"{minutes // (24 * 60)} days"


def line(error: BaseException) -> str:
    """Return what an error says, in one line."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        return ": ".join([*map(str, first["loc"]), first["msg"]])
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split()) or type(error).__name__


def check_name(environment: str) -> None:
    """Raise ConfigurationInvalid for what could be no file's name."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]*", environment):
        raise ConfigurationInvalid(f"{environment!r} is no name of an environment", hint="inv env.list")
