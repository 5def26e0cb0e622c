"""The code of a release of Heat on this machine: unpacked from its archive, and asked what its resources accept."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from pathlib import Path

from pipeline.edges.wheelhouse import Built
from pipeline.errors import ConfigurationInvalid, PipelineError

__all__ = ["schemas_of", "unpack"]

_DEADLINE = 600.0  # seconds for a Heat to tell its schemas: some ten, on a machine with nothing else to do


def unpack(built: Built, directory: Path) -> Path:
    """Unpack a release into `directory`, and return the Python in which its Heat can be imported.

    Raises ConfigurationInvalid where this machine's Python is not the one that the release is made for.
    """
    if f"{sys.version_info[0]}.{sys.version_info[1]}" != built.release.python:
        raise ConfigurationInvalid(
            f"release {built.release.id} is made for Python {built.release.python}",
            hint=f"PYTHON=python{built.release.python} ./inv --list, in a checkout without .venv",
        )
    with tarfile.open(built.archive) as archive:
        archive.extractall(directory, filter="data")
    own, python = Path(sys.executable).resolve(), directory / "venv" / "bin" / "python"
    python.symlink_to(own)
    (directory / "venv" / "pyvenv.cfg").write_text(f"home = {own.parent}\n", encoding="utf-8")
    return python


def schemas_of(python: Path, program: Path, plugins: Path) -> str:
    """Return what the Heat of `python` says of its resources and of those in `plugins`, asked by `program`."""
    done = subprocess.run(
        [str(python), "-W", "ignore", str(program), str(plugins)],
        capture_output=True,
        text=True,
        timeout=_DEADLINE,
        check=False,
    )
    if done.returncode:
        words = done.stderr.strip().splitlines() or ["no message"]
        raise PipelineError(f"this Heat does not tell its schemas: {words[-1]}", hint="the same with --debug")
    return done.stdout
