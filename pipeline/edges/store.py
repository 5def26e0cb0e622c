"""The store of evidence: one JSON file per record, written whole or not at all, readable by its owner alone."""

from __future__ import annotations

import getpass
import os
import socket
import tempfile
from collections.abc import Mapping
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Protocol

from pipeline.edges.disk import sync
from pipeline.errors import ConfigurationInvalid, PipelineError
from pipeline.evidence import Record, from_json, to_json

__all__ = ["FakeStore", "Records", "Store", "tool_version", "who"]


class Records(Protocol):
    """What the pipeline asks of a place that keeps evidence."""

    def save(self, record: Record) -> None:
        """Keep `record` for good."""

    def records(self, environment: str) -> tuple[Record, ...]:
        """Return the records of `environment`, the oldest end first."""


class Store:
    """Records below `directory`, as ENVIRONMENT/TIME-OPERATION-RELEASE.json."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def save(self, record: Record) -> None:
        """Keep `record`; a power cut leaves it whole or absent. Raises PipelineError where it cannot be written."""
        target = self._directory / record.environment / _name(record)
        try:
            _make_private(self._directory.parent, self._directory, target.parent)
            _write(target, to_json(record) + "\n")
        except OSError as error:
            raise PipelineError(
                f"{target}: the record cannot be written: {error.strerror}",
                hint=f"make room or mend the rights, then run inv {record.operation} again",
            ) from error

    def records(self, environment: str) -> tuple[Record, ...]:
        """Return the records of `environment`, the oldest end first.

        Raises ConfigurationInvalid naming the file that is damaged or cannot be read: a record that nobody can read
        may be the one that revokes all others, so it is never passed over.
        """
        found = (_read(path) for path in sorted((self._directory / environment).glob("*.json")))
        return tuple(sorted(found, key=_ended))


class FakeStore:
    """Records in memory; for tests that must not touch a disk."""

    def __init__(self, *records: Record) -> None:
        self._records = list(records)

    def save(self, record: Record) -> None:
        """Keep `record` as long as this object lives."""
        self._records.append(record)

    def records(self, environment: str) -> tuple[Record, ...]:
        """Return the records of `environment`, the oldest end first."""
        return tuple(sorted((one for one in self._records if one.environment == environment), key=_ended))


def who(variables: Mapping[str, str] = os.environ) -> str:
    """Return who runs the pipeline: "user@host", or in CI the person who started the job, "actor@github"."""
    if actor := variables.get("GITHUB_ACTOR"):
        return f"{actor}@github"
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in some containers
        user = f"uid-{os.getuid()}"
    return f"{user}@{socket.gethostname()}"


def tool_version() -> str:
    """Return the version of this project, as installed."""
    try:
        return version("heat-deploys-heat")
    except PackageNotFoundError:
        return "unknown"


def _name(record: Record) -> str:
    return f"{record.ended:%Y%m%dT%H%M%S.%fZ}-{record.operation}-{record.release_id}.json"


def _make_private(*directories: Path) -> None:
    for directory in directories:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)


def _write(target: Path, text: str) -> None:
    handle, partial = tempfile.mkstemp(dir=target.parent, prefix=".", suffix=".partial")  # mkstemp makes it 0600
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        Path(partial).rename(target)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise
    sync(target.parent)


def _read(path: Path) -> Record:
    hint = f"look at {path}; move it away only if it is no evidence"
    try:
        return from_json(path.read_bytes())
    except OSError as error:
        raise ConfigurationInvalid(f"{path}: cannot be read: {error.strerror}", hint=hint) from error
    except ConfigurationInvalid as error:
        raise ConfigurationInvalid(f"{path}: damaged: {error.message}", hint=hint) from error


def _ended(record: Record) -> datetime:
    return record.ended
