"""What the wheelhouse keeps, and how it bears a power cut; tests/integration/test_wheelhouse.py builds for real."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from builders import R25, R26, R26_BUILDS
from kept_releases import build_nothing, keep

from pipeline.edges import wheelhouse
from pipeline.edges.wheelhouse import Built, Wheelhouse
from pipeline.errors import ConfigurationInvalid

KEPT = ("manifest.json", "archive.sha256")
SPOILT = (b"", bytes(40), b"\xff{")


def quiet(line: str) -> None:
    """Take the lines of a build that nobody reads."""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a cache in which two releases are kept; a pack of another is a few bytes."""

    def pack(archive: Path, *_: object, **__: object) -> None:
        archive.write_bytes(b"packed")

    build_nothing(monkeypatch)
    monkeypatch.setattr(wheelhouse, "pack", pack)
    for release in (R25, R26):
        keep(tmp_path, release)
    return tmp_path


def _house(cache: Path) -> Wheelhouse:
    return Wheelhouse(cache, uv="uv")


@pytest.mark.parametrize("content", SPOILT)
@pytest.mark.parametrize("name", KEPT)
def test_one_damaged_release_is_left_out_and_stops_no_other(cache: Path, name: str, content: bytes) -> None:
    (cache / "releases" / R25.id / name).write_bytes(content)
    house = _house(cache)
    assert [one.release for one in house.list()] == [R26]
    assert house.find("26.0.2").release == R26
    house.check(house.find(R26.digest[:6]))


@pytest.mark.parametrize("reference", ["25.0.2", R25.id, R25.digest[:6], R25.digest])
@pytest.mark.parametrize("name", KEPT)
def test_who_asks_for_a_damaged_release_is_told_its_file_and_how_to_build_it(
    cache: Path, name: str, reference: str
) -> None:
    damaged = cache / "releases" / R25.id / name
    damaged.write_bytes(b"")
    with pytest.raises(ConfigurationInvalid) as caught:
        _house(cache).find(reference)
    assert caught.value.message.startswith(f"{damaged}: damaged: ")
    assert caught.value.hint == "inv release.build --heat 25.0.2"


def test_an_older_build_does_not_stand_in_for_the_newest_that_is_damaged(cache: Path) -> None:
    (newest,) = (keep(cache, one).with_name("manifest.json") for one in R26_BUILDS[:1])
    os.utime(newest, ns=(2**62, 2**62))
    newest.write_bytes(b"")
    os.utime(newest, ns=(2**62, 2**62))
    with pytest.raises(ConfigurationInvalid, match=R26_BUILDS[0].id):
        _house(cache).find("26.0.2")


@pytest.mark.parametrize("name", KEPT)
def test_a_version_whose_release_is_damaged_is_built_anew(
    cache: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (cache / "releases" / R25.id / name).write_bytes(b"")
    house = _house(cache)
    monkeypatch.setattr(Wheelhouse, "build", lambda self, heat, **_: self._kept(R25, ()))
    built = house.ensure("25.0.2", report=quiet)
    house.check(built)
    assert house.find(R25.id) == built
    assert built.archive.read_bytes() == b"packed"


def test_a_whole_release_is_not_packed_again(cache: Path) -> None:
    house = _house(cache)
    assert house._kept(R25, ()) == house.find(R25.id)
    assert house.find(R25.id).archive.read_bytes() == R25.id.encode()


def test_an_archive_whose_record_is_empty_is_refused_by_name(cache: Path) -> None:
    built = _house(cache).find(R25.id)
    record = built.archive.with_name("archive.sha256")
    record.write_bytes(b"")
    with pytest.raises(ConfigurationInvalid, match=f"{record}: damaged: it holds no sha256"):
        _house(cache).check(built)


def test_a_damaged_archive_comes_with_the_directory_to_remove_before_the_build(cache: Path) -> None:
    built = _house(cache).find(R25.id)
    built.archive.write_bytes(b"half")
    with pytest.raises(ConfigurationInvalid, match=f"the archive of release {R25.id} is damaged") as caught:
        _house(cache).check(built)
    assert caught.value.hint == f"remove {built.archive.parent}, then inv release.build --heat 25.0.2"


def test_a_release_is_on_the_disk_itself_before_it_has_its_name(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[tuple[str, bool]] = []
    (one,) = R26_BUILDS[:1]
    home = cache / "releases" / one.id

    def fsync(handle: int) -> None:
        written.append((Path(f"/proc/self/fd/{handle}").readlink().name, home.exists()))

    monkeypatch.setattr(os, "fsync", fsync)
    built = _house(cache)._kept(one, ())
    assert set(written[:3]) == {(name, False) for name in (built.archive.name, *KEPT)}
    assert written[3:] == [(one.id, False), ("releases", True)]


def test_what_a_killed_builder_left_is_removed_by_the_next(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for left in ("releases/.partial-x/25.0.2-x/scratch", "wheels/build-x/out"):
        (cache / left).mkdir(parents=True)
    (cache / "wheels" / ("0" * 64)).mkdir()
    with _house(cache)._one_builder():
        assert not (cache / "releases/.partial-x").exists()
        assert [path.name for path in (cache / "wheels").iterdir()] == ["0" * 64]
    assert {one.release for one in _house(cache).list()} == {R25, R26}


def test_the_sha256_of_an_archive_is_what_its_record_says(cache: Path) -> None:
    built = _house(cache).find("26.0.2")
    assert built == Built(R26, built.archive)
    assert built.archive.with_name("archive.sha256").read_text().startswith(f"{built.sha256}  ")
