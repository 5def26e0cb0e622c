"""The wheelhouse: builds releases of Heat into archives, keeps them, and finds them again.

Below `cache`: releases/ID/{heat-ID.FORMAT.tar.gz, manifest.json, archive.sha256}, and wheels/SHA256/FILE shared by all.
An archive holds manifest.json, requirements.lock and the installed, compiled tree, which a host only unpacks.
The id covers every wheel, but not the tree, which derives from them; archive.sha256 covers all of it.
"""

from __future__ import annotations

import fcntl
import hashlib
import platform
import re
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from pipeline.edges.disk import sync
from pipeline.edges.index import Index, Locked, run_uv
from pipeline.edges.tree import pack
from pipeline.errors import ConfigurationInvalid, PipelineError
from pipeline.release import (
    PYTHON,
    HeatVersion,
    Package,
    Release,
    alembic_head_of,
    engine_rpc_of,
    worker_rpc_of,
)

__all__ = ["Built", "Wheelhouse"]

_HEAT = "openstack-heat"
_FORMAT = 2  # of archives: one that an older pipeline packed is not used, but packed again
# pymysql speaks to the database, pyuwsgi serves the APIs
_BESIDE_HEAT = ("pymysql", "pyuwsgi")
_EPOCH = "315532800"  # 1980-01-01, the first moment a zip file can tell


@dataclass(frozen=True, slots=True)
class Built:
    """A release and the archive that installs it."""

    release: Release
    archive: Path

    @property
    def sha256(self) -> str:
        """The archive's sha256 (hex), as recorded when it was built. Raises ConfigurationInvalid without a record."""
        record = self.archive.parent / "archive.sha256"
        try:
            found = re.match(r"[0-9a-f]+", record.read_text("ascii"))
        except (OSError, ValueError) as error:
            raise _damaged(record, error) from error
        if found is None:
            raise _damaged(record, "it holds no sha256")
        return found[0]


class Wheelhouse:
    """Releases below `cache`, built with the `uv` given (a path) for hosts with `python`."""

    def __init__(self, cache: Path, *, uv: str, python: str = PYTHON) -> None:
        self._releases = cache / "releases"
        self._wheels = cache / "wheels"
        self._lock = cache / "wheelhouse.lock"
        self._uv = shutil.which(uv) or uv
        self._python = python
        self._index = Index(self._uv, python=python, machine=platform.machine())

    def build(self, heat: str, *, report: Callable[[str], None], exclude_newer: str = "") -> Built:
        """Resolve Heat `heat` ("26.0.2") as the index is now, or was at `exclude_newer` (a date), and keep the release.

        The same resolution gives the same id, and on one machine the same archive (see tree.pack). `report` gets a
        line per stage.
        Raises ConfigurationInvalid when there is no such version, Inconclusive when the index does not answer.
        """
        version = HeatVersion.parse(heat)
        report(f"Heat {version} ({version.series}): resolving")
        files = self._resolve(version, exclude_newer)
        with self._one_builder():
            report(f"Heat {version}: {len(files)} packages, downloading those not cached")
            self._index.download(files, self._wheels)
            packages = {self._wheel(file, files): file for file in files}
            release = _describe(
                version, self._python, {_package(wheel, file): wheel for wheel, file in packages.items()}
            )
            built = self._kept(release, tuple(packages))
        report(f"Heat {version}: release {release.id}, {built.archive.stat().st_size / 1e6:.0f} MB")
        return built

    def find(self, reference: str) -> Built:
        """Return the release with this id, this beginning of a digest (4 or more), or the newest of this version.

        Raises ConfigurationInvalid when there is none, when it cannot be read, or more than one digest begins so.
        """
        manifests = self._manifests()
        named = [one for one in manifests if reference in (_id(one), _version(one))][-1:]
        named = named or [one for one in manifests if _begins(one, reference)]
        if len(named) > 1:
            ids = ", ".join(map(_id, named))
            raise ConfigurationInvalid(
                f"{reference} is the beginning of several releases: {ids}", hint="inv release.list"
            )
        for built in map(_read, named):
            if reference in (built.release.id, str(built.release.heat)) or built.release.digest.startswith(reference):
                return built
        version = reference if re.fullmatch(r"\d+\.\d+\.\d+", reference) else reference.split("-")[0]
        version = version if re.fullmatch(r"\d+\.\d+\.\d+", version) else "26.0.2"
        raise ConfigurationInvalid(
            f"there is no release {reference} on this machine", hint=f"inv release.build --heat {version}"
        )

    def ensure(self, reference: str, *, report: Callable[[str], None]) -> Built:
        """Return the release `reference` names as `find` does; a plain version is built where it does not find one."""
        try:
            return self.find(reference)
        except ConfigurationInvalid:
            if not re.fullmatch(r"\d+\.\d+\.\d+", reference):
                raise
        return self.build(reference, report=report)

    def list(self) -> tuple[Built, ...]:
        """Return every release that is kept in today's format, by version and then by age, the newest last.

        What is damaged is left out: `find` tells who asks for it.
        """
        built = (one for one in map(_readable, self._manifests()) if one is not None)
        return tuple(sorted(built, key=lambda one: one.release.heat))

    def check(self, built: Built) -> None:
        """Read the whole archive and compare it with its record. Raises ConfigurationInvalid when it is damaged."""
        if not _is_whole(built):
            raise ConfigurationInvalid(
                f"the archive of release {built.release.id} is damaged",
                hint=f"remove {built.archive.parent}, then inv release.build --heat {built.release.heat}",
            )

    def _manifests(self) -> tuple[Path, ...]:
        """Return the manifests that have an archive of today's format beside them, the newest last, unread."""
        found = sorted(self._releases.glob("[0-9]*/manifest.json"), key=lambda path: path.stat().st_mtime_ns)
        return tuple(one for one in found if (one.parent / _archive_name(_id(one))).is_file())

    def _resolve(self, version: HeatVersion, exclude_newer: str) -> tuple[Locked, ...]:
        wanted = (f"{_HEAT}=={version}", *_BESIDE_HEAT)
        try:
            return self._index.resolve(wanted, exclude_newer=exclude_newer)
        except ConfigurationInvalid as error:
            near = self._index.neighbours(_HEAT, str(version)) if f"no version of {_HEAT}" in error.message else ()
            if not near:
                raise ConfigurationInvalid(error.message, hint="inv release.build --heat VERSION") from error
            raise ConfigurationInvalid(
                f"there is no Heat {version} on the package index; near it are {' and '.join(near)}",
                hint=f"inv release.build --heat {near[0]}",
            ) from error

    def _wheel(self, file: Locked, lock: Sequence[Locked]) -> Path:
        """Return the wheel of a downloaded file: itself, or what its source builds to."""
        source = self._wheels / file.sha256 / file.filename
        if file.is_wheel:
            return source
        with tempfile.TemporaryDirectory(prefix="build-", dir=self._wheels) as scratch:
            constraints = Path(scratch, "constraints.txt")
            constraints.write_text("".join(f"{one.name}=={one.version} --hash=sha256:{one.sha256}\n" for one in lock))
            how = ("--quiet", "--wheel", "--no-create-gitignore", "--python", sys.executable)
            run_uv(
                [self._uv, "build", *how, "-b", str(constraints), "-o", f"{scratch}/out", str(source)],
                what=f"{file.filename} cannot be built",
                cwd=scratch,
                SOURCE_DATE_EPOCH=_EPOCH,
                CC="false",  # hosts differ from this machine: only wheels without compiled parts may come of it
            )
            (wheel,) = Path(scratch, "out").glob("*.whl")
            if not wheel.name.endswith("-none-any.whl"):
                raise ConfigurationInvalid(
                    f"{file.filename} has no wheel for the hosts, and needs a compiler", hint="choose another version"
                )
            return wheel.rename(source.parent / wheel.name)

    def _kept(self, release: Release, wheels: Sequence[Path]) -> Built:
        """Return the release as it is kept, packing it first unless a whole archive of it is there."""
        home = self._releases / release.id
        kept = _readable(home / "manifest.json")
        if kept and _is_whole(kept):
            (home / "manifest.json").touch()  # built last: the newest of its version
            return kept
        if home.exists():
            shutil.rmtree(home)
        self._releases.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".partial-", dir=self._releases) as scratch:
            partial = Path(scratch, release.id)
            partial.mkdir(mode=0o755)
            archive = partial / _archive_name(release.id)
            pack(archive, release, wheels, uv=self._uv)
            (partial / "archive.sha256").write_text(f"{_sha256(archive)}  {archive.name}\n")
            (partial / "manifest.json").write_text(release.to_json())
            for path in (*partial.iterdir(), partial):
                sync(path)  # after a power cut the name must not be there without its content
            partial.rename(home)
            sync(self._releases)
        return Built(release, home / archive.name)

    @contextmanager
    def _one_builder(self) -> Iterator[None]:
        """Let one process at a time write to the cache; another waits, and then finds the work done.

        What a killed builder left half-made is removed first: nobody else makes any while the lock is held.
        """
        self._wheels.mkdir(parents=True, exist_ok=True)
        with self._lock.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            for left in (*self._releases.glob(".partial-*"), *self._wheels.glob("build-*")):
                shutil.rmtree(left)
            yield


def _load(manifest: Path) -> Built:
    """Read a manifest. Raises ConfigurationInvalid, which names the file, where it is damaged."""
    try:
        release = Release.from_json(manifest.read_text("utf-8"))
    except PipelineError as error:
        raise _damaged(manifest, error.message) from error
    except (OSError, ValueError) as error:
        raise _damaged(manifest, error) from error
    return Built(release, manifest.parent / _archive_name(release.id))


def _read(manifest: Path) -> Built:
    """Return what is kept beside a manifest. Raises ConfigurationInvalid where that, or the sha256, cannot be read."""
    built = _load(manifest)
    _ = built.sha256  # raises
    return built


def _readable(manifest: Path) -> Built | None:
    try:
        return _read(manifest)
    except ConfigurationInvalid:
        return None


def _is_whole(built: Built) -> bool:
    return built.archive.is_file() and _sha256(built.archive) == built.sha256


def _damaged(path: Path, why: object) -> ConfigurationInvalid:
    return ConfigurationInvalid(f"{path}: damaged: {why}", hint=f"inv release.build --heat {_version(path)}")


def _id(path: Path) -> str:
    """Return the id of the release that a file is kept for: it names the directory."""
    return path.parent.name


def _version(path: Path) -> str:
    return _id(path).partition("-")[0]


def _begins(manifest: Path, reference: str) -> bool:
    """Return whether `reference` may be a digest's beginning, of which an id has 12 digits."""
    digest = _id(manifest).partition("-")[2]
    return re.fullmatch(r"[0-9a-f]{4,64}", reference) is not None and digest.startswith(reference[:12])


def _archive_name(release_id: str) -> str:
    return f"heat-{release_id}.{_FORMAT}.tar.gz"


def _package(wheel: Path, file: Locked) -> Package:
    return Package(file.name, file.version, wheel.name, file.sha256 if file.is_wheel else _sha256(wheel))


def _describe(version: HeatVersion, python: str, wheels: dict[Package, Path]) -> Release:
    """Make the manifest: the packages, and what Heat's own source says of its RPC and its schema."""
    heat = next(path for package, path in wheels.items() if package.name == _HEAT)
    with zipfile.ZipFile(heat) as archive:
        migrations = [name for name in archive.namelist() if fnmatch(name, "heat/db/migrations/versions/*.py")]
        try:
            worker, engine = (archive.read(f"heat/engine/{name}.py").decode() for name in ("worker", "service"))
        except KeyError as error:
            raise ConfigurationInvalid(f"the wheel of Heat {version} lacks a file: {error}") from error
        head = alembic_head_of(archive.read(name).decode() for name in migrations)
    return Release(version, engine_rpc_of(engine), worker_rpc_of(worker), head, python, tuple(sorted(wheels)))


def _sha256(path: Path) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
