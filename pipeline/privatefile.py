"""A private file: its owner's alone from the first byte on, and whole or not there."""

from __future__ import annotations

import glob
import os
import tempfile
from pathlib import Path

__all__ = ["partials", "write_private"]


def write_private(path: Path, text: str) -> None:
    """Write `text` to `path` (0600); readers see all of it or what was there. A missing directory is made (0700).

    Of several writers at once the last one's text stays. Raises OSError, and then all is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, partial = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        Path(partial).replace(path)
    except BaseException:
        Path(partial).unlink()
        raise


def partials(path: Path) -> tuple[Path, ...]:
    """Return what writers of `path` that were killed left beside it: files that hold what it was to hold, or a part."""
    return tuple(path.parent.glob(f".{glob.escape(path.name)}.{8 * '?'}"))  # as mkstemp names them
