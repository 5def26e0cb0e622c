"""Mounts under a directory: which there are, and how they go."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from pipeline.errors import CommandFailed, ConfigurationInvalid
from pipeline.localcloud.system import run

__all__ = ["below", "check_overlay", "overlay", "unmount_below", "unmount_overlay"]


def below(directory: Path) -> tuple[Path, ...]:
    """Return the mount points at or under `directory`, the newest first."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        # Field 5 is the mount point, with blanks and the like as octal escapes.
        where = Path(re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), line.split()[4]))
        if where == directory or directory in where.parents:
            found.append(where)
    return tuple(reversed(found))


def overlay(image: Path, directory: Path) -> Path:
    """Mount `directory`/root: the image, read-only, with everything written going to `directory`/upper. Return it."""
    upper, work, root = (directory / name for name in ("upper", "work", "root"))
    for path in (upper, work, root):
        path.mkdir(parents=True, exist_ok=True)
    # The root's own mode is the upper directory's.
    upper.chmod(0o755)
    options = ",".join(
        f"{key}={_escaped(path)}" for key, path in (("lowerdir", image), ("upperdir", upper), ("workdir", work))
    )
    run("mount", "-t", "overlay", "-o", options, "overlay", str(root))
    return root


def check_overlay(image: Path, directory: Path) -> None:
    """Raise ConfigurationInvalid if no overlay can be mounted in `directory`: then its filesystem cannot hold hosts."""
    try:
        overlay(image, directory)
    except CommandFailed as error:
        raise ConfigurationInvalid(
            f"{directory.parent}: its filesystem cannot hold the disks of hosts (overlayfs): {error.message}",
            hint="use a checkout on ext4 or xfs, not on an overlay or a network filesystem",
        ) from error
    finally:
        unmount_below(directory)
        shutil.rmtree(directory)


def unmount_below(directory: Path) -> None:
    """Take away every mount at or under `directory`."""
    for path in below(directory):
        run("umount", "--lazy", str(path))


def unmount_overlay(directory: Path) -> None:
    """Take away what `overlay` mounted in `directory`, and what is mounted inside of that; nothing else."""
    root = directory / "root"
    for path in below(root):
        if path == root:
            # The kernel takes along what is mounted inside.
            run("umount", "--lazy", str(path))


def _escaped(path: Path) -> str:
    return re.sub(r"([\\:,])", r"\\\1", str(path))
