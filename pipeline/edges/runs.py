"""The runs: each leaves a directory with its plan, events, journal and summary; and what is asked of one under way."""

from __future__ import annotations

import json
import logging
import os
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pipeline.edges.clock import Clock
from pipeline.errors import ConfigurationInvalid, PipelineError
from pipeline.privatefile import write_private
from pipeline.spans import Span

__all__ = ["Request", "Run", "Runs"]

Request = Literal["pause", "abort"]
_FILE = 0o600
_DIRECTORY = 0o700
_WARN = logging.getLogger(__name__).warning


@dataclass(frozen=True, slots=True)
class Run:
    """One run, in its own directory (0700): plan.json, events.jsonl, journal.jsonl, and summary.json when it ended.

    A line of its log that cannot be kept, as on a full disk, ends nothing: the host that it tells of is in the middle
    of its move. The first such is told on stderr.
    """

    directory: Path
    clock: Clock
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _incomplete: threading.Event = field(default_factory=threading.Event, repr=False)

    @property
    def id(self) -> str:
        """The name of the run, which begins with when it was started (UTC)."""
        return self.directory.name

    def event(self, text: str) -> None:
        """Keep a line that people were told."""
        self._append("events.jsonl", {"at": self._now, "said": text})

    def write(self, line: dict[str, Any]) -> None:
        """Keep a line of the journal; see pipeline.journal."""
        self._append("journal.jsonl", line)

    def save(self, name: str, value: Any) -> None:
        """Keep `value` as NAME.json, whole or not at all."""
        _write(self.directory / f"{name}.json", value)

    def keep(self, name: str, value: Any) -> None:
        """As `save`, of what is known when a run ends: where it cannot be kept that is told once, and ends nothing."""
        try:
            self.save(name, value)
        except PipelineError as error:
            self._miss(error.message)

    @property
    def summary(self) -> dict[str, Any] | None:
        """What the run came to; None while it goes on, and for one that was killed."""
        return _json(self.directory / "summary.json")

    @property
    def spans(self) -> tuple[Span, ...]:
        """The steps of the journal that ended, well or not."""
        path = self.directory / "journal.jsonl"
        lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []
        return tuple(
            Span(line["step"], line["host"], line["started_s"], line["ended_s"]) for line in lines if "ended_s" in line
        )

    @property
    def _now(self) -> str:
        return self.clock.now().isoformat(timespec="milliseconds")

    def _append(self, name: str, line: dict[str, Any]) -> None:
        path, text = self.directory / name, json.dumps(line, default=str) + "\n"
        with self._lock:
            try:
                _append(path, text.encode())
            except OSError as error:
                self._miss(f"{path}: cannot be written: {error.strerror}")

    def _miss(self, why: str) -> None:
        if not self._incomplete.is_set():
            self._incomplete.set()
            _WARN("%s; the run goes on, and its log is incomplete", why)


@dataclass(frozen=True, slots=True)
class Runs:
    """The runs below `directory`, as ENVIRONMENT/TIME-OPERATION-xxxx/."""

    directory: Path
    clock: Clock

    def name(self, operation: str) -> str:
        """Return a name for a run that begins now."""
        return f"{self.clock.now():%Y%m%dT%H%M%SZ}-{operation}-{secrets.token_hex(2)}"

    def begin(self, environment: str, name: str) -> Run:
        """Make the directory of a new run. Raises PipelineError where that cannot be done."""
        directory = self.directory / environment / name
        try:
            directory.mkdir(parents=True, mode=_DIRECTORY)
        except OSError as error:
            raise PipelineError(
                f"{directory}: cannot be made: {error.strerror}", hint="make room, or mend rights"
            ) from error
        return Run(directory, self.clock)

    def of(self, environment: str) -> tuple[Run, ...]:
        """Return the runs of an environment, the oldest first."""
        found = sorted(path for path in (self.directory / environment).glob("*-*-*") if path.is_dir())
        return tuple(Run(path, self.clock) for path in found)

    def ask(self, environment: str, request: Request, who: str) -> None:
        """Ask the run under way in `environment` to pause or to abort before it begins with another host."""
        path = self._request(environment)
        path.parent.mkdir(parents=True, exist_ok=True, mode=_DIRECTORY)
        _write(path, {"request": request, "who": who})

    def asked(self, environment: str) -> tuple[Request, str] | None:
        """Return what was asked of the run under way, and by whom."""
        found = _json(self._request(environment))
        return (found["request"], str(found["who"])) if found else None

    @contextmanager
    def heeding(self, environment: str) -> Iterator[None]:
        """Forget what was asked of an earlier run, and at the end what was asked of this one."""
        self._request(environment).unlink(missing_ok=True)
        try:
            yield
        finally:
            self._request(environment).unlink(missing_ok=True)

    def _request(self, environment: str) -> Path:
        return self.directory / environment / "request.json"


def _append(path: Path, line: bytes) -> None:
    """Append a line to `path` (0600), whole or not at all: half a line would spoil the one after it. Raises OSError."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, _FILE), "wb", buffering=0) as stream:
        before, left = os.fstat(stream.fileno()).st_size, line
        try:
            while left:
                left = left[stream.write(left) :]
        except OSError:
            if left != line:
                stream.truncate(before)
            raise


def _write(target: Path, value: Any) -> None:
    try:
        write_private(target, json.dumps(value, indent=1, default=str) + "\n")
    except OSError as error:
        raise PipelineError(
            f"{target}: cannot be written: {error.strerror}", hint="make room, or mend rights"
        ) from error


def _json(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ConfigurationInvalid(f"{path}: cannot be read: {error}", hint=f"look at {path.parent}") from error
    return found if isinstance(found, dict) else None
