"""A release of Heat itself, built from the package index that uv is configured for."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from pipeline.edges.wheelhouse import Wheelhouse
from pipeline.installation import IMPORTS

UV = str(Path(sys.executable).with_name("uv"))

pytestmark = pytest.mark.integration


def quiet(line: str) -> None:
    """Take the lines of a build that nobody reads."""


def test_heat_itself_is_built_reproducibly_and_imports_from_its_archive_alone(tmp_path: Path) -> None:
    built, again = (Wheelhouse(tmp_path / name, uv=UV).build("26.0.2", report=quiet) for name in ("one", "other"))
    assert (built.release.worker_rpc, built.release.alembic_head) == ("1.9", "97b2a986f922")
    assert (built.release.id, built.sha256) == (again.release.id, again.sha256)
    with tarfile.open(built.archive) as tar:
        tar.extractall(tmp_path / "host", filter="data")
    python, own = tmp_path / "host/venv/bin/python", Path(sys.executable).resolve()
    python.symlink_to(own)
    (tmp_path / "host/venv/pyvenv.cfg").write_text(f"home = {own.parent}\n")
    subprocess.run([python, "-I", "-W", "ignore", "-c", IMPORTS], check=True, capture_output=True)
    # Whatever had no bytecode got it by that import; files of the archive are of 1970.
    late = [path for path in (tmp_path / "host").rglob("*.pyc") if path.stat().st_mtime > 0]
    assert late == []
