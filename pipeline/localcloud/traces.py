"""Directories that the machine's tools make on first use, such as /run/netns: removed again if we caused them.

Which were made because of us is noted, before they are, in a file that all clouds of this machine share; the boot's id
in it tells a note of an earlier boot from one that still holds.
"""

from __future__ import annotations

import json
from pathlib import Path

from pipeline.localcloud import cache, mounts

__all__ = ["forget", "note"]

SHARED = ("/run/netns", "/run/systemd", "/run/systemd/nspawn", "/run/systemd/nspawn/propagate")
BOOT = Path("/proc/sys/kernel/random/boot_id")


def note() -> None:
    """Note which of the shared directories are not there, before something of ours makes them."""
    with cache.locked("traces"):
        made = set(_noted()) | {path for path in SHARED if not Path(path).exists()}
        _save(made)


def forget() -> None:
    """Remove the shared directories that are ours and that nobody uses (any more)."""
    with cache.locked("traces"):
        left = {path for path in sorted(_noted(), reverse=True) if not _remove(Path(path))}
        _save(left)


def _remove(path: Path) -> bool:
    if path.is_dir() and any(path.iterdir()):
        return False
    if path.is_dir():
        mounts.unmount_below(path)
        path.rmdir()
    return True


def _noted() -> tuple[str, ...]:
    if not _file().is_file():
        return ()
    note = json.loads(_file().read_text(encoding="utf-8"))
    return tuple(note["made"]) if note["boot"] == BOOT.read_text(encoding="ascii") else ()


def _save(made: set[str]) -> None:
    if not made:
        _file().unlink(missing_ok=True)
        return
    unfinished = _file().with_suffix(".new")
    unfinished.write_text(
        json.dumps({"boot": BOOT.read_text(encoding="ascii"), "made": sorted(made)}), encoding="utf-8"
    )
    unfinished.rename(_file())


def _file() -> Path:
    return cache.directory("locks") / "traces.json"
