"""How a cloud's files go: nothing of it stays or comes back, and what is somebody else's is not touched."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from pipeline.edges.clock import FakeClock
from pipeline.errors import ConfigurationInvalid
from pipeline.localcloud import cloud as records
from pipeline.localcloud import lifecycle, mounts
from pipeline.localcloud.cgroups import Cgroups
from pipeline.localcloud.cloud import LocalCloud
from pipeline.localcloud.hosts import Host, Hosts

API = Host("00000000-0000-4000-8000-000000000001", "local-api-0", "198.18.5.10", "")
Mount = Callable[..., None]


@pytest.fixture
def cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalCloud:
    """Return a cloud whose files are there, and nothing else of it; what is not of files is no matter here."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("check_root", "network.remove", "traces.forget", "limits.restore"):
        monkeypatch.setattr(f"pipeline.localcloud.lifecycle.{name}", lambda *_: None)
    monkeypatch.setattr("pipeline.localcloud.lifecycle.network.namespaces", lambda _: ())
    monkeypatch.setattr("pipeline.localcloud.lifecycle.PROPAGATE", tmp_path / "propagate")
    groups = Cgroups((tmp_path / "cgroup",))
    monkeypatch.setattr("pipeline.localcloud.lifecycle.cgroups.find", lambda _: groups)
    made = LocalCloud(tmp_path / "cloud", IPv4Network("198.18.5.0/24"))
    Hosts(made, groups, tmp_path, FakeClock())._record(API)
    for name in ("machines/local-api-0/root", "machines/local-api-0/upper/etc", "mariadb/seed", "probe"):
        (made.directory / name).mkdir(parents=True)
    for name in ("seed.prepared", "keystone.prepared", "addresses.json", "secrets.json"):
        (made.directory / name).touch()
    records.save(made)
    return made


@pytest.fixture
def mounted(cloud: LocalCloud, monkeypatch: pytest.MonkeyPatch) -> tuple[Mount, list[str]]:
    """Return what mounts something at paths below the cloud's directory, and the list of what is unmounted then."""
    there: list[Path] = []
    gone: list[str] = []

    def mount(*names: str) -> None:
        there.extend(cloud.directory / name for name in names)

    def run(*command: str) -> None:
        assert command[:2] == ("umount", "--lazy")
        there[:] = [path for path in there if not path.is_relative_to(command[2])]
        gone.append(str(Path(command[2]).relative_to(cloud.directory)))

    monkeypatch.setattr(
        mounts, "below", lambda directory: tuple(path for path in there if path.is_relative_to(directory))
    )
    monkeypatch.setattr(mounts, "run", run)
    return mount, gone


def _down(cloud: LocalCloud) -> None:
    lifecycle.down(cloud.directory, report=lambda _: None, clock=FakeClock())


def test_a_cloud_that_is_down_has_no_directory(cloud: LocalCloud) -> None:
    _down(cloud)
    assert not cloud.directory.exists()


def test_what_is_somebody_elses_in_the_directory_stays(cloud: LocalCloud) -> None:
    (cloud.directory / "notes").touch()
    _down(cloud)
    assert [path.name for path in cloud.directory.iterdir()] == ["notes"]


def test_secrets_that_a_killed_writer_left_half_written_go_too(cloud: LocalCloud) -> None:
    for name in lifecycle.PRIVATE:
        (cloud.directory / f".{name}.2awldadl").touch()
    _down(cloud)
    assert not cloud.directory.exists()


def test_a_removal_that_is_cut_off_leaves_nothing_for_the_next_up_to_go_on_with(
    cloud: LocalCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    delete = lifecycle._delete

    def interrupted(*paths: Path) -> None:
        if cloud.machines in paths[0].parents:
            raise KeyboardInterrupt
        delete(*paths)

    monkeypatch.setattr(lifecycle, "_delete", interrupted)
    with pytest.raises(KeyboardInterrupt):
        _down(cloud)
    assert (cloud.machines / API.name / "upper/etc").is_dir()
    assert Hosts(cloud, Cgroups(()), cloud.directory, FakeClock()).all() == ()
    assert records.load(cloud.directory) is None
    assert not [name for name in lifecycle.OURS if name.endswith(".prepared") and (cloud.directory / name).exists()]
    assert not (cloud.directory / "addresses.json").exists()
    assert not (cloud.directory / "mariadb").exists()


def test_a_removal_that_was_cut_off_is_done_by_the_next(cloud: LocalCloud) -> None:
    (cloud.directory / ".mariadb/half").mkdir(parents=True)
    lifecycle._distrust(cloud)
    _down(cloud)
    assert not cloud.directory.exists()


def test_the_overlays_of_hosts_go_and_what_is_mounted_inside_goes_along(
    cloud: LocalCloud, mounted: tuple[Mount, list[str]]
) -> None:
    mount, gone = mounted
    mount("machines/local-api-0/root", "machines/local-api-0/root/mnt", "probe/root")
    _down(cloud)
    assert gone == ["machines/local-api-0/root", "probe/root"]
    assert not cloud.directory.exists()


def test_a_disk_at_the_clouds_directory_stays_mounted_and_loses_what_the_cloud_wrote(
    cloud: LocalCloud, mounted: tuple[Mount, list[str]]
) -> None:
    mount, gone = mounted
    mount("", "machines/local-api-0/root")
    _down(cloud)
    assert gone == ["machines/local-api-0/root"]
    assert list(cloud.directory.iterdir()) == []


def test_a_disk_for_the_machines_stays_mounted_with_what_is_no_hosts(
    cloud: LocalCloud, mounted: tuple[Mount, list[str]]
) -> None:
    mount, gone = mounted
    mount("machines")
    for theirs in ("lost+found", "photos/2026"):
        (cloud.machines / theirs).mkdir(parents=True)
    _down(cloud)
    assert gone == []
    assert [path.name for path in cloud.directory.iterdir()] == ["machines"]
    assert sorted(path.name for path in cloud.machines.iterdir()) == ["lost+found", "photos"]


@pytest.mark.parametrize("place", ["logs", "machines/local-api-0", "machines/local-api-0/upper/srv"])
def test_something_mounted_among_what_is_to_be_removed_is_told_before_anything_is_touched(
    cloud: LocalCloud, mounted: tuple[Mount, list[str]], place: str
) -> None:
    mount, gone = mounted
    mount("machines/local-api-0/root", place)
    with pytest.raises(ConfigurationInvalid, match=f"{place}: something is mounted there") as caught:
        _down(cloud)
    assert caught.value.hint == f"umount {cloud.directory / place}, then inv local.down"
    assert gone == []
    assert records.load(cloud.directory) == cloud


def test_what_is_mounted_at_a_place_of_somebody_elses_is_no_hindrance(
    cloud: LocalCloud, mounted: tuple[Mount, list[str]]
) -> None:
    mount, gone = mounted
    (cloud.directory / "backup").mkdir()
    mount("backup")
    _down(cloud)
    assert gone == []
    assert [path.name for path in cloud.directory.iterdir()] == ["backup"]
