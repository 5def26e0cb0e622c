"""Where it is written who holds an environment: files beside the lock on one machine, a tooz group for a team."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

import tooz
from tooz import coordination

from pipeline.edges.lockholder import HOLD, Holder, from_json, line, to_json, unknown
from pipeline.errors import ConfigurationInvalid

__all__ = ["Files", "Groups"]

_PREFIX = "heat-deploys-heat."  # a team's server holds other locks as well


@dataclass(frozen=True, slots=True)
class Files:
    """Who holds `environment`, as JSON files for their owner alone in `directory`; `tell` hears what is damaged.

    ENVIRONMENT.holder.json is the run that holds the lock; what a killed run left says nothing. ENVIRONMENT.hold.json
    is what a person holds, until a person takes it away.
    """

    environment: str
    directory: Path
    tell: Callable[[str], None]
    leased: ClassVar[bool] = False

    def prepare(self) -> None:
        """Make for this user alone what tooz would let others read."""
        inner = (self.directory / "groups", self.directory / "tmp")
        for directory in (*reversed(self.directory.parents), self.directory, *inner):
            directory.mkdir(mode=0o700, exist_ok=True)
        with suppress(FileExistsError):
            self._path("lock").touch(mode=0o600, exist_ok=False)

    @property
    def lock_name(self) -> bytes:
        """The name of the file to lock. It stays, since removing it would let two runs in."""
        return self._path("lock").name.encode()

    def write(self, holder: Holder) -> Callable[[], bool]:
        """Write who holds the lock, over what a dead run left. Return what tells whether that still stands."""
        self.read()  # tells of damage
        note, lock = self._path("holder.json"), self._path("lock")
        _write(note, holder)
        inode = lock.stat().st_ino  # stat: to open and close the file would take the lock away
        return lambda: lock.stat().st_ino == inode and note.read_text(encoding="utf-8") == to_json(holder)

    def read(self) -> Holder | None:
        """Return the last run that did not take its note back. Damage is told, and stands in nobody's way."""
        path = self._path("holder.json")
        try:
            return _read(path)
        except (OSError, ValueError) as error:
            self.tell(f"{path}: damaged, passed over: {line(error)}")
            return None

    def erase(self, holder: Holder) -> None:
        """Take back what `holder` wrote, and nobody else's."""
        path = self._path("holder.json")
        if path.exists() and path.read_text(encoding="utf-8") == to_json(holder):
            path.unlink()

    def write_hold(self, holder: Holder) -> None:
        """Keep a person's hold; a power cut leaves it whole or absent."""
        _write(self._path("hold.json"), holder)

    def read_hold(self, now: datetime) -> Holder | None:
        """Return a person's hold. A damaged one holds as well, for nobody knows whom: only a person may end it."""
        path = self._path("hold.json")
        try:
            return _read(path)
        except (OSError, ValueError) as error:
            return replace(unknown(f"{path} is damaged: {line(error)}", now), operation=HOLD)

    def forget(self) -> None:
        """Remove a person's hold and a dead run's note."""
        for kind in ("hold.json", "holder.json"):
            self._path(kind).unlink(missing_ok=True)

    def _path(self, kind: str) -> Path:
        return self.directory / f"{self.environment}.{kind}"


@dataclass(frozen=True, slots=True)
class Groups:
    """Who holds `environment`, said by the one `member` of a tooz group, whose membership runs out with the lock.

    `shown` is what may be told of the server; it has `timeout` seconds to answer. Not every driver has groups.
    """

    environment: str
    coordinator: Any
    member: bytes
    shown: str
    timeout: float
    tell: Callable[[str], None]
    leased: ClassVar[bool] = True

    def prepare(self) -> None:
        """Do nothing: all is the server's."""

    @property
    def lock_name(self) -> bytes:
        """The name of the lock, which is the name of the group too."""
        return f"{_PREFIX}{self.environment}".encode()

    def write(self, holder: Holder) -> Callable[[], bool]:
        """Join the group. Return what tells whether this run is still in it: true where a driver has no groups."""
        try:
            with suppress(coordination.GroupAlreadyExist):
                self.coordinator.create_group(self.lock_name).get(self.timeout)
            self.coordinator.join_group(self.lock_name, {"holder": to_json(holder)}).get(self.timeout)
        except tooz.NotImplemented:
            return lambda: True
        return lambda: self.member in self._members()

    def read(self) -> Holder | None:
        """Return the member that started last: one that was killed stays until its membership runs out."""
        with suppress(tooz.NotImplemented, coordination.GroupNotCreated):
            found = [self._holder(member) for member in self._members()]
            return max((one for one in found if one), key=lambda holder: holder.started, default=None)
        return None

    def erase(self, _holder: Holder) -> None:
        """Leave the group."""
        with suppress(tooz.NotImplemented, coordination.MemberNotJoined, coordination.GroupNotCreated):
            self.coordinator.leave_group(self.lock_name).get(self.timeout)

    def write_hold(self, _holder: Holder) -> None:
        """Refuse: what people hold must outlive their process."""
        raise ConfigurationInvalid(
            f"{self.shown}: a person cannot hold it, since a lease ends with its process; a file:// lock can be held",
            hint="pause the jobs that run the pipeline",
        )

    def read_hold(self, _now: datetime) -> None:
        """Return None: nobody can hold a team's lock without a run."""

    def forget(self) -> None:
        """Do nothing: what a dead run left runs out."""

    def _members(self) -> set[bytes]:
        members: set[bytes] = self.coordinator.get_members(self.lock_name).get(self.timeout)
        return members

    def _holder(self, member: bytes) -> Holder | None:
        try:
            said = self.coordinator.get_member_capabilities(self.lock_name, member).get(self.timeout)
            return from_json(said["holder"])
        except coordination.MemberNotJoined:
            return None
        except (KeyError, TypeError, ValueError) as error:
            self.tell(f"{self.shown}: who holds {self.environment} is damaged, passed over: {line(error)}")
            return None


def _read(path: Path) -> Holder | None:
    try:
        return from_json(path.read_bytes())
    except FileNotFoundError:
        return None


def _write(path: Path, holder: Holder) -> None:
    """Write `path` whole or not at all, for its owner alone."""
    handle, partial = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".partial")  # mkstemp makes it 0600
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(to_json(holder))
            stream.flush()
            os.fsync(stream.fileno())
        Path(partial).rename(path)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise
