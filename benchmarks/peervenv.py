"""The environment of the peers that bench.ssh measures: locked by hash, apart from the project's own, built once."""

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

LOCK = Path(__file__).parent / "peers" / "requirements.lock"
COMPLETE = ".complete"


def ensure_venv(report: Callable[[str], None]) -> Path:
    """Return the environment made from requirements.lock, building it (some seconds) if the cache has none.

    Raises ConfigurationInvalid if a package cannot be had or differs from its hash.
    """
    digest = hashlib.sha256(LOCK.read_bytes() + sys.version.encode()).hexdigest()[:16]
    final = cache.directory("venvs") / f"peers-{digest}"
    with cache.locked(f"venv-peers-{digest}"):
        if not (final / COMPLETE).is_file():
            report("peers: installing them into an environment of their own, once")
            shutil.rmtree(final, ignore_errors=True)
            _build(final)
            (final / COMPLETE).touch()
    return final


def _build(path: Path) -> None:
    uv = str(Path(sys.executable).parent / "uv")
    try:
        run(uv, "venv", "--quiet", "--no-project", "--python", sys.executable, str(path))
        run(
            uv, "pip", "sync", "--quiet", "--require-hashes", "--compile-bytecode",
            f"--python={path / 'bin' / 'python'}", str(LOCK),
            timeout=900,
        )  # fmt: skip
    except PipelineError as error:
        raise ConfigurationInvalid(
            f"the peers' packages could not be installed: {error.message}",
            hint="check that the Python package index answers, then the same again",
        ) from error
