"""The Python environment of the cloud's own services: Keystone and the seed Heat, locked by hash, built once."""

from __future__ import annotations

import hashlib
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from pipeline.errors import ConfigurationInvalid, PipelineError
from pipeline.localcloud import cache
from pipeline.localcloud.system import run

__all__ = ["ensure_venv"]

LOCK = Path(__file__).parent / "requirements.lock"
COMPLETE = ".complete"


def ensure_venv(report: Callable[[str], None]) -> Path:
    """Return the environment made from requirements.lock, building it (some seconds) if the cache has none.

    It is built where it will stay, because scripts in it name its path, and counts only with its stamp.
    Raises ConfigurationInvalid if a package cannot be had or differs from its hash.
    """
    digest = hashlib.sha256(LOCK.read_bytes() + sys.version.encode()).hexdigest()[:16]
    final = cache.directory("venvs") / digest
    with cache.locked(f"venv-{digest}"):
        if (final / COMPLETE).is_file():
            return final
        report("services: installing Keystone and Heat for the seed, once")
        if final.exists():
            shutil.rmtree(final)
        _build(final)
        (final / COMPLETE).touch()
    return final


def _build(path: Path) -> None:
    uv = str(Path(sys.executable).parent / "uv")
    die_with_us = ("setpriv", "--pdeathsig=KILL")
    try:
        run(*die_with_us, uv, "venv", "--quiet", "--no-project", "--python", sys.executable, str(path))
        run(
            *die_with_us, uv, "pip", "sync", "--quiet", "--require-hashes", "--compile-bytecode",
            f"--python={path / 'bin' / 'python'}", str(LOCK),
            timeout=900,
        )  # fmt: skip
    except PipelineError as error:
        raise ConfigurationInvalid(
            f"the services' packages could not be installed: {error.message}",
            hint="check that the Python package index answers, then inv local.up",
        ) from error
