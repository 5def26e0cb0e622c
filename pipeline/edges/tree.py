"""The tree of a release: its wheels, installed and compiled once at the build, so that a host only unpacks.

On a host, making an inode costs more than its bytes. uv makes each twice (in its cache, then as a link) and the cache
and the wheels must be removed again, so the archive holds the installed files. The tests that packages ship stay out.
"""

from __future__ import annotations

import csv
import gzip
import io
import os
import platform
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pipeline.edges.index import run_uv, scrub
from pipeline.errors import ConfigurationInvalid
from pipeline.installation import IMPORTS, MAGIC, release_dir
from pipeline.release import Release

__all__ = ["pack"]

_DEADLINE = 600.0  # seconds for one run of the hosts' Python
_GZIP = 1  # on two cores, a host unpacks this faster than it receives the same files plain
# What a venv holds beside the release: made for the machine that builds, or for nobody.
_VENV_ONLY = ("python*", "activate*", "deactivate.bat", "pydoc.bat")
_CONFIG = "home = /usr/bin\ninclude-system-site-packages = false\nversion = {python}\n"


def pack(archive: Path, release: Release, wheels: Sequence[Path], *, uv: str) -> None:
    """Install `wheels` beside the `archive` to be made, prove their imports, and write the archive.

    The same content gives the same bytes where Python (to its last digit) and zlib are the same; elsewhere bytecode or
    compression may differ, and with them the archive's sha256, never the release's id. Where no Python of the hosts'
    version is found the archive has no bytecode, and hosts compile. Uses no network.
    Raises ConfigurationInvalid when the wheels do not install, or Heat cannot be imported from them.
    """
    scratch = archive.parent.absolute() / "scratch"
    python = _python(uv, release.python)
    venv = _installed(scratch, release, wheels, uv, python or sys.executable)
    magic = _compiled(scratch, venv, release) if python else "none"
    texts = {
        "manifest.json": release.to_json(),
        "requirements.lock": release.lock(),
        MAGIC: f"{magic}\n",
        "venv/pyvenv.cfg": _CONFIG.format(python=release.python),
    }
    _write(archive, texts, dict(_files(venv, release.python)))
    shutil.rmtree(scratch)


def _python(uv: str, version: str) -> str | None:
    """Return a Python of the hosts' minor version that runs the hosts' wheels; None where this machine has none."""
    if sys.platform != "linux":
        return None
    if ".".join(map(str, sys.version_info[:2])) == version:
        return sys.executable
    try:
        argv = [uv, "python", "find", "--offline", "--no-project", "--no-python-downloads", version]
        return run_uv(argv, what=f"no Python {version} is here").strip()
    except ConfigurationInvalid:
        return None  # an answer: hosts compile


def _installed(scratch: Path, release: Release, wheels: Sequence[Path], uv: str, python: str) -> Path:
    """Return a venv of `wheels`, as hosts see them, without the tests of packages."""
    house, lock, venv = scratch / "wheels", scratch / "requirements.lock", scratch / "venv"
    house.mkdir(parents=True)
    for wheel in wheels:
        (house / wheel.name).symlink_to(wheel.resolve())
    lock.write_text(release.lock())
    alone = ("--quiet", "--offline", "--no-config")
    run_uv([uv, "venv", *alone, "--relocatable", "--python", python, str(venv)], what="no venv can be made")
    hosts = ("--python-version", release.python, "--python-platform", f"{platform.machine()}-unknown-linux-gnu")
    source = ("--no-index", "--find-links", str(house), "--require-hashes", "-r", str(lock))
    run_uv(
        [uv, "pip", "install", *alone, *hosts, "--python", f"{venv}/bin/python", *source],
        what=f"the wheels of release {release.id} do not install",
    )
    _prune(venv)
    return venv


def _prune(venv: Path) -> None:
    """Remove tests and C headers of packages, and uv's notes, which hold a time; records then name what is there."""
    shutil.rmtree(venv / "include", ignore_errors=not (venv / "include").exists())
    for site in venv.glob("lib/python*/site-packages"):
        for tests in [path for path in site.rglob("tests") if path.is_dir()]:
            shutil.rmtree(tests, ignore_errors=not tests.exists())  # gone with the tests around it
        for note in list(site.glob("*.dist-info/uv_cache.json")):
            note.unlink()
        for record in site.glob("*.dist-info/RECORD"):
            rows = [row for row in csv.reader(record.read_text().splitlines()) if (site / row[0]).exists()]
            record.unlink()  # it may share its content with uv's cache
            with record.open("w", newline="") as out:
                csv.writer(out, lineterminator="\n").writerows(sorted(rows))


def _compiled(scratch: Path, venv: Path, release: Release) -> str:
    """Compile what the services import and all of Heat; return the hex magic number of the bytecode.

    It is never checked against its source: on a host nobody but root writes to a release. Paths in it are the host's.
    """
    python, cache, listing = str(venv / "bin/python"), scratch / "imported", scratch / "sources"
    apart = ("-I", "-W", "ignore", "-X", f"pycache_prefix={cache}")
    _run([python, *apart, "-c", IMPORTS], f"Heat {release.heat} cannot be imported")
    # Also what is tried and given up, as an optional dependency: each start of a service would compile it again.
    tried = (path.with_name(f"{path.name.split('.')[0]}.py") for path in (cache / venv.relative_to("/")).rglob("*.pyc"))
    imported = {f"/{path.relative_to(cache)}" for path in tried}
    heat = {str(path) for path in venv.glob("lib/python*/site-packages/heat/**/*.py")}
    listing.write_text("".join(f"{name}\n" for name in sorted(imported | heat)))
    paths = ("-s", str(scratch), "-p", release_dir(release.id))
    # One job, one order, one hash seed: what marshal writes depends on which strings were seen before.
    how = ("-q", "-j", "1", "--invalidation-mode", "unchecked-hash", "-i", str(listing), *paths)
    _run([python, "-s", "-B", "-m", "compileall", *how], f"Heat {release.heat} does not compile")
    return _run(
        [python, "-I", "-B", "-c", "import importlib.util as u; print(u.MAGIC_NUMBER.hex())"], "Python fails"
    ).strip()


def _run(argv: list[str], what: str) -> str:
    environment = {"PATH": os.defpath, "HOME": "/", "LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "0"}
    try:
        done = subprocess.run(
            argv, env=environment, cwd="/", text=True, capture_output=True, timeout=_DEADLINE, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise ConfigurationInvalid(f"{what}: Python took more than {_DEADLINE:.0f} s") from error
    if done.returncode:
        raise ConfigurationInvalid(f"{what}: {scrub((done.stderr or done.stdout).strip()[-400:])}")
    return done.stdout


def _files(venv: Path, python: str) -> Iterator[tuple[str, Path]]:
    """Yield the name in the archive and the file, for what wheels and compiler made in `venv`."""
    for folder in ("bin", "etc", "lib", "share"):
        for path in (venv / folder).rglob("*"):
            inside = path.relative_to(venv)
            made_by_venv = folder == "bin" and any(inside.match(pattern) for pattern in _VENV_ONLY)
            if path.is_file() and not path.is_symlink() and not made_by_venv:
                parts = inside.parts[2:] if folder == "lib" else inside.parts
                yield "/".join(("venv", *(("lib", f"python{python}") if folder == "lib" else ()), *parts)), path


def _write(archive: Path, texts: Mapping[str, str], files: Mapping[str, Path]) -> None:
    """Write the archive: sorted, no times, no owners."""
    with (
        archive.open("wb") as out,
        gzip.GzipFile("", "wb", _GZIP, out, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for name, text in texts.items():
            _add(tar, name, io.BytesIO(text.encode()), len(text.encode()))
        for name, path in sorted(files.items()):
            status = path.stat()
            with path.open("rb") as content:
                _add(tar, name, content, status.st_size, 0o755 if status.st_mode & 0o100 else 0o644)


def _add(tar: tarfile.TarFile, name: str, content: io.BufferedIOBase, size: int, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)  # time 0 and owner 0 are its defaults
    entry.size, entry.mode = size, mode
    tar.addfile(entry, content)
