"""A Release: one version of Heat with every package it runs on, named by the digest of its content.

Pure: values, rules about going from one release to another, and parsers of Heat's own source. Builds and caches are in
pipeline/edges/wheelhouse.py, the installation on a host in pipeline/installation.py.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from pipeline.errors import ConfigurationInvalid

__all__ = [
    "PYTHON",
    "HeatVersion",
    "Mode",
    "Package",
    "Release",
    "alembic_head_of",
    "engine_rpc_of",
    "newer_heads",
    "upgrade_mode",
    "why",
    "worker_rpc_of",
]

PYTHON = "3.11"  # of the hosts: Debian 12


@dataclass(frozen=True, slots=True, order=True)
class HeatVersion:
    """A version of Heat, ordered as versions are: 25.0.2 < 26.0.0 < 26.0.2."""

    major: int
    minor: int
    patch: int

    @classmethod
    def parse(cls, text: str) -> HeatVersion:
        """Read "26.0.2". Raises ConfigurationInvalid for anything but three numbers."""
        match = re.fullmatch(r"(\d{1,4})\.(\d{1,4})\.(\d{1,4})", text)
        if not match:
            raise ConfigurationInvalid(
                f"{text!r} is no version of Heat: three numbers were expected, as in 26.0.2",
                hint="inv release.build --heat 26.0.2",
            )
        return cls(*(int(part) for part in match.groups()))

    @classmethod
    def of(cls, release_id: str) -> HeatVersion:
        """Return the version in a release's id. Raises ConfigurationInvalid for what is no id."""
        return cls.parse(release_id.partition("-")[0])

    @property
    def series(self) -> str:
        """The OpenStack series, as "2026.1" for 26; two a year, counted from 25 = 2025.2."""
        return series_of(self.major)

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"


def series_of(major: int) -> str:
    """Return the OpenStack series of a major version of Heat: 25 is "2025.2", 26 is "2026.1"."""
    return f"{2025 + (major - 24) // 2}.{1 + major % 2}"


@dataclass(frozen=True, slots=True, order=True)
class Package:
    """One wheel of a release; `sha256` is that of the file."""

    name: str
    version: str
    filename: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Release:
    """What is installed on hosts, and what must be known of it to upgrade safely.

    `engine_rpc` is what APIs say to engines, `worker_rpc` what engines say to each other; `python` is the hosts'.
    """

    heat: HeatVersion
    engine_rpc: str
    worker_rpc: str
    alembic_head: str
    python: str
    packages: tuple[Package, ...]

    @property
    def digest(self) -> str:
        """The sha256 (hex) of everything that decides what runs: the same content is the same release."""
        return hashlib.sha256(_canonical(self._content())).hexdigest()

    @property
    def id(self) -> str:
        """The name on disk and in commands: "26.0.2-" and the first 12 hex digits of the digest."""
        return f"{self.heat}-{self.digest[:12]}"

    def to_json(self) -> str:
        """Return the manifest: the same bytes for the same release, on every machine."""
        return _canonical({"id": self.id, "digest": self.digest, **self._content()}).decode()

    @classmethod
    def from_json(cls, text: str) -> Release:
        """Read a manifest. Raises ConfigurationInvalid when it is damaged or does not match its own digest."""
        try:
            data: dict[str, Any] = json.loads(text)
            release = cls(
                heat=HeatVersion.parse(data["heat"]),
                packages=tuple(Package(**package) for package in data["packages"]),
                **{key: str(data[key]) for key in ("engine_rpc", "worker_rpc", "alembic_head", "python")},
            )
            intact = (data["id"], data["digest"]) == (release.id, release.digest)
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigurationInvalid(f"a release's manifest cannot be read: {error!r}", hint=_REBUILD) from error
        if not intact:
            raise ConfigurationInvalid(f"the manifest of {data['id']} does not match its digest", hint=_REBUILD)
        return release

    def lock(self) -> str:
        """Return requirements.lock: each wheel pinned by its version and its one hash, with no address in it."""
        return "".join(f"{p.name}=={p.version} --hash=sha256:{p.sha256}\n" for p in sorted(self.packages))

    def _content(self) -> dict[str, Any]:
        return {
            "heat": str(self.heat),
            "engine_rpc": self.engine_rpc,
            "worker_rpc": self.worker_rpc,
            "alembic_head": self.alembic_head,
            "python": self.python,
            "packages": [asdict(package) for package in sorted(self.packages)],
        }


_REBUILD = "inv release.build --heat VERSION"


def _canonical(data: dict[str, Any]) -> bytes:
    return (json.dumps(data, sort_keys=True, indent=1, ensure_ascii=True) + "\n").encode()


class Mode(StrEnum):
    """How engines of two releases may meet: on one vhost, or on a vhost each."""

    SAME_VHOST = "same-vhost"
    VHOST_CUTOVER = "vhost-cutover"


def upgrade_mode(running: Release, target: Release, *, rollback: bool = False) -> Mode:
    """Return how to go from `running` to `target`; computed, because the wrong choice loses stacks in flight.

    An engine drops a cast of a newer worker RPC after acknowledging it, so only equal worker RPCs share a vhost.
    Heat goes one release at a time (its upgrades guide). `rollback` allows an older target: binaries and vhost go
    back, the schema stays. Raises ConfigurationInvalid for a skipped release, or an older target without `rollback`.
    """
    if target.heat < running.heat and not rollback:
        raise ConfigurationInvalid(
            f"{target.heat} is older than the running {running.heat}: that is a rollback, not an upgrade",
            hint=f"name a release of Heat {running.heat} or newer (inv release.list)",
        )
    _refuse_a_skip(running.heat.major, target.heat.major)
    return Mode.SAME_VHOST if running.worker_rpc == target.worker_rpc else Mode.VHOST_CUTOVER


def _refuse_a_skip(start: int, end: int) -> None:
    if abs(end - start) <= 1:
        return
    step = 1 if end > start else -1
    chain = " → ".join(f"{major} ({series_of(major)})" for major in range(start, end + step, step))
    raise ConfigurationInvalid(
        f"Heat goes one release at a time, and {start} to {end} skips some: go {chain}",
        hint=f"inv upgrade ENVIRONMENT --release {start + step}.0.0 (or a newer patch of it) first",
    )


def why(running: Release, target: Release) -> str:
    """Return one sentence that tells why the mode is what it is, and whether the schema moves."""
    if running.worker_rpc == target.worker_rpc:
        vhost = f"engines speak worker RPC {target.worker_rpc} in both releases and may share a vhost"
    else:
        vhost = (
            f"worker RPC goes {running.worker_rpc} → {target.worker_rpc}, and an engine loses a message of a newer "
            f"one, so {target.heat} needs a vhost of its own"
        )
    if running.alembic_head == target.alembic_head:
        return f"{vhost}; the schema stays at {target.alembic_head}."
    return f"{vhost}; the schema goes {running.alembic_head} → {target.alembic_head}."


def newer_heads(known: Iterable[Release], release: Release) -> frozenset[str]:
    """Return the schemas that only those of `known` make that are newer than `release`.

    `release` works with each of them, for migrations only add; a rollback leaves the schema as it is.
    """
    return frozenset(one.alembic_head for one in known if one.heat > release.heat) - {release.alembic_head}


def worker_rpc_of(source: str) -> str:
    """Return the worker RPC version in the text of heat/engine/worker.py, as "1.9"."""
    return _rpc_version(source, "WorkerService")


def engine_rpc_of(source: str) -> str:
    """Return the engine RPC version in the text of heat/engine/service.py, as "1.36"."""
    return _rpc_version(source, "EngineService")


def _rpc_version(source: str, owner: str) -> str:
    for node in ast.walk(_parse(source)):
        if isinstance(node, ast.ClassDef) and node.name == owner:
            version = dict(_assignments(node.body)).get("RPC_API_VERSION")
            if isinstance(version, str):
                return version
    raise ConfigurationInvalid(
        f"this Heat's source has no {owner}.RPC_API_VERSION, so its upgrade mode cannot be known",
        hint="choose a released version of Heat, 25.0.0 or newer",
    )


def alembic_head_of(sources: Iterable[str]) -> str:
    """Return the one head among the texts of heat/db/migrations/versions/*.py.

    Raises ConfigurationInvalid unless exactly one revision is nobody's down_revision.
    """
    revisions: set[str] = set()
    parents: set[str] = set()
    for source in sources:
        found = dict(_assignments(_parse(source).body))
        if isinstance(revision := found.get("revision"), str):
            revisions.add(revision)
            down = found.get("down_revision")
            parents.update([down] if isinstance(down, str) else down or ())
    heads = sorted(revisions - parents)
    if len(heads) != 1:
        raise ConfigurationInvalid(
            f"one Alembic head was expected in Heat's migrations, {len(heads)} found: {', '.join(heads) or 'none'}",
            hint="choose a released version of Heat, 25.0.0 or newer",
        )
    return heads[0]


def _parse(source: str) -> ast.Module:
    try:
        return ast.parse(source)
    except SyntaxError as error:
        raise ConfigurationInvalid(f"a file of this Heat cannot be parsed: {error.msg}", hint=_REBUILD) from error


def _assignments(body: list[ast.stmt]) -> Iterator[tuple[str, Any]]:
    """Yield name and value of each plain assignment in `body` of a literal: others are None."""
    for node in body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        if isinstance(node, ast.AnnAssign):
            targets = [node.target]
        for target in targets:
            if isinstance(target, ast.Name):
                yield target.id, _literal(getattr(node, "value", None))


def _literal(node: ast.expr | None) -> object:
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Tuple | ast.List):
        return tuple(element.value for element in node.elts if isinstance(element, ast.Constant))
    return None
