"""tooz, as the locks use it: the URLs that will do, sessions whose leases are renewed, errors in our words.

file:///DIRECTORY, for one machine. The lock is the kernel's and goes with its process, however that ends.

etcd3+http, etcd3+https, redis, zookeeper, mysql, for a team. The lock is a lease that its run renews (zookeeper: a
session; mysql: a connection), so that a killed run's runs out. A tooz group says who holds it; mysql has no groups.
"""

from __future__ import annotations

import math
import os
import socket
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pymysql
import tooz
from tooz import coordination

from pipeline.edges.lockholder import Holder, line, unknown
from pipeline.edges.locknotes import Files, Groups
from pipeline.errors import ConfigurationInvalid, PreflightUnreachable

__all__ = ["Session", "Tooz", "beating", "why_lost"]

# Of tooz's drivers, those whose lock goes with its run and can be asked whether it is still there; and their extras.
_EXTRAS = {
    "file": "",
    "etcd3+http": "etcd3gw",
    "etcd3+https": "etcd3gw",
    "mysql": "mysql",
    "redis": "redis",
    "zookeeper": "zookeeper",
}
_KINDS = f"file:///DIRECTORY for one machine, or for a team one of {', '.join(list(_EXTRAS)[1:])}"
# tooz translates most of what its drivers raise; OSError are files and sockets, RuntimeError is fasteners' ThreadError.
_TROUBLE = (tooz.ToozError, OSError, RuntimeError, pymysql.MySQLError)


@dataclass(frozen=True, slots=True)
class Session:
    """A tooz coordinator for one environment, and the notes of who holds it. `shown` is what may be told of its URL."""

    shown: str
    coordinator: Any
    notes: Files | Groups
    tell: Callable[[str], None]

    def attempt(self) -> Any | None:
        """Return the lock, or None where another has it. It is a new object each time, which nothing else may keep.

        tooz's file lock miscounts after a refusal, and when the file that it leaves open is closed, the kernel takes
        all locks of this process on that file away.
        """
        lock = self.coordinator.get_lock(self.notes.lock_name)
        return lock if lock.acquire(blocking=False) else None

    def note(self, lock: Any, holder: Holder) -> Callable[[], str]:
        """Write who holds `lock`. Return what says why it is gone, or "" while it is there and the note stands."""
        ours = self.notes.write(holder)
        return lambda: why_lost(lock, ours)

    def give_back(self, lock: Any) -> None:
        """Release `lock`, or tell why not: it runs out by itself."""
        self.at_the_end(f"{self.notes.environment}: the lock could not be given back", lock.release)

    def holder(self, now: datetime) -> Holder:
        """Return who holds the environment that is not free, by owner UNKNOWN if nobody can tell."""
        return self.notes.read_hold(now) or self.notes.read() or unknown(f"{self.shown} does not say who", now)

    def at_the_end(self, what: str, undo: Callable[..., object], *arguments: object) -> None:
        """Tell of what goes wrong at the end of a run, rather than raise it over the run's own end."""
        try:
            undo(*arguments)
        except _TROUBLE as error:
            self.tell(f"{what}: {line(error)}")

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Raise what goes wrong in the body as PreflightUnreachable for a team's server, else ConfigurationInvalid."""
        try:
            yield
        except _TROUBLE as error:
            text = f"{self.shown}: cannot be used for a lock: {line(error)}"
            if self.notes.leased:
                raise PreflightUnreachable(text, hint="mend the server or the URL of the lock") from error
            raise ConfigurationInvalid(text, hint="mend its rights, or make room") from error


class Tooz:
    """tooz behind a URL. Raises ConfigurationInvalid for one that is no lock's, or whose driver cannot be loaded."""

    def __init__(self, url: str, lease: float, tell: Callable[[str], None]) -> None:
        self._extra, self._shown, self._directory = _parsed(url)
        # tooz knows by its path whether this very process holds a file's lock: there may be only one path to it.
        self._url = f"file://{self._directory}" if self._directory else url
        self._lease = max(1, math.ceil(lease))  # drivers count whole seconds
        self._tell = tell

    @contextmanager
    def session(self, environment: str) -> Iterator[Session]:
        """Connect, renew all leases while the body runs, and stop whatever was started."""
        session = self._loaded(environment)
        with session.translated():
            session.notes.prepare()
            session.coordinator.start()
        with ExitStack() as end:
            end.callback(session.at_the_end, f"{self._shown}: cannot be closed", session.coordinator.stop)
            if session.notes.leased and session.coordinator.requires_beating:
                end.enter_context(beating(session.coordinator, self._lease, self._tell))
            yield session

    def _loaded(self, environment: str) -> Session:
        member = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex}".encode()
        # Groups need no thread of their own.
        options = {"lock_timeout": self._lease, "membership_timeout": self._lease, "executor": "synchronous"}
        try:
            coordinator = coordination.get_coordinator(self._url, member, **options)
        except (ImportError, RuntimeError, ValueError, tooz.ToozError) as error:
            raise ConfigurationInvalid(
                f"{self._shown}: tooz cannot load its driver: {line(error)}",
                hint=f".venv/bin/uv pip install 'tooz[{self._extra}]', or lock on this machine with file:///DIRECTORY",
            ) from error
        return Session(self._shown, coordinator, self._notes(environment, coordinator, member), self._tell)

    def _notes(self, environment: str, coordinator: Any, member: bytes) -> Files | Groups:
        if self._directory:
            return Files(environment, self._directory, self._tell)
        return Groups(environment, coordinator, member, self._shown, self._lease, self._tell)


@contextmanager
def beating(coordinator: Any, lease: float, tell: Callable[[str], None]) -> Iterator[None]:
    """Renew the leases of `coordinator` three times per `lease` seconds while the body runs.

    tooz's own heart does not serve: while the server is away it never returns from a beat, and so cannot be stopped.
    """
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(lease / 3):
            try:
                coordinator.heartbeat()
            except _TROUBLE as error:
                tell(f"the lock's lease could not be renewed, trying again: {line(error)}")

    thread = threading.Thread(target=beat, name="lock-heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(lease)


def why_lost(lock: Any, ours: Callable[[], bool]) -> str:
    """Say why `lock` is gone, or "" where it is there and, as `ours` tells, its note still stands."""
    try:
        return "" if _owned(lock) and ours() else "it ran out, was given back or was taken"
    except _TROUBLE as error:
        return f"nobody can tell whether it is still held: {line(error)}"


def _owned(lock: Any) -> bool:
    """Return whether tooz's lock is still there. etcd3 cannot be asked, and is known by its group instead."""
    try:
        return bool(lock.is_still_owner())
    except tooz.NotImplemented:
        # MySQL's cannot be asked either and has no group; but it is there as long as the lock's one connection is.
        if isinstance(connection := getattr(lock, "_conn", None), pymysql.Connection):
            connection.ping(reconnect=False)
        return bool(lock.acquired)


def _parsed(url: str) -> tuple[str, str, Path | None]:
    """Return tooz's extra for `url`, what may be shown of it, and its directory if it is a file's."""
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise ConfigurationInvalid(f"the lock's URL is none: {line(error)}", hint=_KINDS) from error
    if parts.scheme not in _EXTRAS:
        raise ConfigurationInvalid(f"the lock's URL begins with {parts.scheme or 'nothing'}://", hint=_KINDS)
    shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"  # the rest may be a password
    if parts.scheme == "file" and (parts.netloc or not parts.path.strip("/")):
        raise ConfigurationInvalid(f"{shown}: not the absolute path of a directory", hint=_KINDS)
    return _EXTRAS[parts.scheme], shown, Path(parts.path).resolve() if parts.scheme == "file" else None
