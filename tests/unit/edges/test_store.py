"""The store: what was saved is read back, for its owner alone, and damage is never passed over."""

from __future__ import annotations

import stat
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path

import pytest

from pipeline.edges import store as store_module
from pipeline.edges.store import FakeStore, Records, Store, tool_version, who
from pipeline.errors import ConfigurationInvalid, PipelineError
from pipeline.evidence import Operation, Record, from_json

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


def _record(operation: Operation = "verify", minute: int = 0, environment: str = "local") -> Record:
    started = NOON + timedelta(minutes=minute)
    ended = started + timedelta(seconds=1, microseconds=5)
    return Record(operation, environment, "26.0.2-0123", "0123", True, {}, started, ended, "ada@laptop", "0.1.0")


@pytest.fixture(params=["disk", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Records:
    """Return each kind of store: both keep the same promises."""
    return Store(tmp_path / "records") if request.param == "disk" else FakeStore()


def test_an_environment_starts_without_records(store: Records) -> None:
    assert store.records("local") == ()


def test_records_come_back_as_they_were_the_oldest_first(store: Records) -> None:
    late, early = _record("smoke", 5), _record("verify", 1)
    store.save(late)
    store.save(early)
    assert store.records("local") == (early, late)


def test_records_of_one_environment_are_not_those_of_another(store: Records) -> None:
    store.save(_record(environment="staging"))
    assert store.records("local") == ()


def test_two_operations_that_end_together_are_both_kept(store: Records) -> None:
    store.save(_record("verify"))
    store.save(_record("smoke"))
    assert len(store.records("local")) == 2


def test_a_record_is_one_file_named_by_time_operation_and_release(tmp_path: Path) -> None:
    Store(tmp_path).save(_record())
    (path,) = tmp_path.rglob("*.json")
    assert path == tmp_path / "local/20260501T120001.000005Z-verify-26.0.2-0123.json"
    assert from_json(path.read_text(encoding="utf-8")) == _record()


def test_records_are_for_their_owner_alone(tmp_path: Path) -> None:
    Store(tmp_path / "state" / "records").save(_record())
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")}
    assert {mode for path, mode in modes.items() if path.is_file()} == {0o600}
    assert {mode for path, mode in modes.items() if path.is_dir()} == {0o700}


def test_a_save_that_breaks_off_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store_module.os, "fsync", full)
    with pytest.raises(PipelineError, match=r"20260501T120001.*cannot be written: No space left on device") as caught:
        Store(tmp_path).save(_record())
    assert "inv verify" in caught.value.hint
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_half_written_file_of_a_killed_run_is_no_record(tmp_path: Path) -> None:
    Store(tmp_path).save(_record())
    (tmp_path / "local/.half.partial").write_text('{"coun', encoding="utf-8")
    assert Store(tmp_path).records("local") == (_record(),)


@pytest.mark.parametrize("damage", [b"", b'{"counts":', b"{}", b"\xff\xfe"])
def test_a_damaged_file_is_named(tmp_path: Path, damage: bytes) -> None:
    Store(tmp_path).save(_record())
    (path,) = tmp_path.rglob("*.json")
    path.write_bytes(damage)
    with pytest.raises(ConfigurationInvalid) as caught:
        Store(tmp_path).records("local")
    assert caught.value.message.startswith(f"{path}: damaged: not a record: ")
    assert str(path) in caught.value.hint


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "local/x.json").mkdir(parents=True)
    with pytest.raises(ConfigurationInvalid, match=r"x\.json: cannot be read: Is a directory"):
        Store(tmp_path).records("local")


def test_who_is_the_user_on_this_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module.getpass, "getuser", lambda: "ada")
    monkeypatch.setattr(store_module.socket, "gethostname", lambda: "laptop")
    assert who({}) == "ada@laptop"


def test_who_is_the_actor_in_ci() -> None:
    assert who({"GITHUB_ACTOR": "grace"}) == "grace@github"


def test_a_user_without_a_name_is_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    def nameless() -> str:
        raise KeyError("getpwuid(): uid not found: 12345")

    monkeypatch.setattr(store_module.getpass, "getuser", nameless)
    monkeypatch.setattr(store_module.os, "getuid", lambda: 12345)
    assert who({}).startswith("uid-12345@")


def test_the_tools_version_is_the_installed_one() -> None:
    assert tool_version() == version("heat-deploys-heat")
