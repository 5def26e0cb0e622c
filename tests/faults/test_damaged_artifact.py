"""A release's archive is damaged: seen by its digest, before anything is touched or any old release is stopped."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.faults.faults import NEW, Region


@pytest.mark.quick
def test_an_archive_damaged_in_the_cache_is_refused_before_anything_is_touched(
    region: Region, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = region.built(NEW)
    kept = tmp_path / "heat-deploys-heat" / "releases" / built.release.id
    shutil.copytree(built.archive.parent, kept)  # others on this machine use the cache itself
    archive = kept / built.archive.name
    with archive.open("r+b") as stream:
        stream.seek(archive.stat().st_size // 2)
        byte = stream.read(1)
        stream.seek(-1, 1)
        stream.write(bytes([byte[0] ^ 1]))
    before = region.marks()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    run = region.upgrade()
    assert run.code == 3, run.output
    assert built.release.id in run.message
    assert run.directory is None, "a run was begun"
    assert region.marks() == before


def test_an_archive_damaged_on_a_host_is_found_before_an_old_release_stops(region: Region) -> None:
    region.uninstall("engine-1")
    archive = f"/home/pipeline/{region.built(NEW).archive.name}"
    before = region.marks()
    # The last byte is read last: it is spoiled in time, however soon the digest is asked for.
    spoil = (
        f"until [ -f {archive} ]; do sleep 0.002; done; "
        f"printf X | dd of={archive} bs=1 conv=notrunc seek=$(($(stat -c %s {archive}) - 1)) 2>/dev/null"
    )
    with region.background("engine-1", spoil):
        run = region.upgrade()
        assert run.code in (7, 8), run.output
    assert "engine-1" in run.message
    assert "damaged" in run.message
    assert "drain" not in {step for step, _ in run.steps}
    assert region.marks() == before
    region.install()  # uploads it again
    assert region.release(NEW).id in region.console("engine-1", "ls /opt/heat/releases").split()
