"""A disk is full: found before any old release is stopped. The disks are small ones of their own, in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.faults.faults import OLD, Region


@pytest.mark.quick
def test_a_host_without_room_is_found_before_an_old_release_stops(region: Region) -> None:
    region.uninstall("engine-1")
    before = region.marks()
    with small_disk(region, "engine-1", "/opt/heat/releases", spare_mib=100):
        run = region.upgrade()
        assert run.code in (7, 8), run.output
        assert "engine-1" in run.message
        assert "free disk" in run.message
        assert "drain" not in {step for step, _ in run.steps}
        assert region.marks() == before
    region.is_whole(OLD)


@pytest.mark.quick
def test_a_backup_without_room_stops_the_run_before_any_host_is_touched(region: Region) -> None:
    region.install()
    before = region.marks()
    region.console("database-0", "mkdir -p -m 0700 /var/backups/heat")
    with small_disk(region, "database-0", "/var/backups/heat", spare_mib=0, copy=False):
        run = region.upgrade()
        assert run.code == 8, run.output
        assert "backed up" in run.message
        assert "drain" not in {step for step, _ in run.steps}
        assert region.marks() == before
    region.is_whole(OLD)


@contextmanager
def small_disk(region: Region, host: str, path: str, *, spare_mib: int, copy: bool = True) -> Iterator[None]:
    """Put a disk in memory over `path`, with a copy of what is there, and room for `spare_mib` MiB more."""
    used = int(region.console(host, f"du -sm {path} | cut -f 1")) if copy else 0
    size = f"{used + spare_mib}m" if used + spare_mib else "8k"
    fill = f"cp -a {path}/. /mnt/small/" if copy else "true"
    region.console(
        host,
        f"set -e; mkdir -p /mnt/small; mount -t tmpfs -o size={size},mode=0755 small /mnt/small; {fill}; "
        f"mount --move /mnt/small {path} 2>/dev/null || {{ mount --bind /mnt/small {path}; umount /mnt/small; }}",
        timeout=180,
    )
    try:
        yield
    finally:
        region.console(host, f"umount --lazy {path}")
