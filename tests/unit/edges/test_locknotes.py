"""Where it is written who holds an environment: files for their owner alone, groups; damage stops no run."""

from __future__ import annotations

import json
import stat
from dataclasses import replace
from pathlib import Path

import pytest
import tooz
from lock_bench import ADA, GRACE, MARGARET, NOON, Bench, Passing, hold_briefly
from tooz import coordination

from pipeline.edges import locknotes
from pipeline.edges.lock import UNKNOWN, LockLost, ToozLocks
from pipeline.errors import ConfigurationInvalid, LockHeld

pytestmark = pytest.mark.usefixtures("deadline")


# Files


def test_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    locks = ToozLocks(f"file://{tmp_path}/state/locks", Passing(NOON))
    with locks.held("local", ADA):
        modes = {path: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")}
    locks.hold("staging", MARGARET)
    modes |= {path: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")}
    names = {path.name for path in modes if path.is_file() or path.name == "local.holder.json"}
    assert names == {"local.lock", "local.holder.json", "staging.lock", "staging.hold.json"}
    assert {mode for path, mode in modes.items() if path.name in names} == {0o600}
    assert {mode for path, mode in modes.items() if path.name not in names} == {0o700}


def test_a_run_takes_its_own_note_back(disk: Bench, tmp_path: Path) -> None:
    with disk.locks.held("local", ADA):
        assert json.loads((tmp_path / "locks/local.holder.json").read_bytes())["owner"] == "ada@laptop"
    assert [path.name for path in (tmp_path / "locks").glob("local*")] == ["local.lock"]


def test_a_run_that_lost_its_lock_leaves_the_next_ones_note(disk: Bench, tmp_path: Path) -> None:
    note = tmp_path / "locks/local.holder.json"
    with disk.locks.held("local", ADA) as lease:
        theirs = note.read_text(encoding="utf-8").replace("ada", "eve")
        note.write_text(theirs, encoding="utf-8")
        with pytest.raises(LockLost):
            lease.confirm()
    assert note.read_text(encoding="utf-8") == theirs


def test_a_lock_whose_file_was_removed_is_lost(disk: Bench, tmp_path: Path) -> None:
    with disk.locks.held("local", ADA) as lease:
        (tmp_path / "locks/local.lock").unlink()
        with pytest.raises(LockLost, match=r"nobody can tell whether it is still held: .*/local\.lock: No such file"):
            lease.confirm()
        (tmp_path / "locks/local.lock").touch()
        with pytest.raises(LockLost, match="was taken"):
            lease.confirm()


@pytest.mark.parametrize("damage", [b"", b'{"owner":', b"{}", b"\xff", b"null"])
def test_a_damaged_note_stops_nobody_and_is_told(disk: Bench, tmp_path: Path, told: list[str], damage: bytes) -> None:
    hold_briefly(disk.locks)
    note = tmp_path / "locks/local.holder.json"
    note.write_bytes(damage)
    assert disk.locks.status("local") is None
    hold_briefly(disk.locks)
    assert len(told) == 1
    assert told[0].startswith(f"{note}: damaged, passed over: ")
    assert not note.exists()


def test_a_run_whose_note_is_damaged_still_holds(disk: Bench, tmp_path: Path) -> None:
    with disk.locks.held("local", ADA):
        (tmp_path / "locks/local.holder.json").write_bytes(b"{")
        with pytest.raises(LockHeld, match="local is locked by an unknown owner"):
            hold_briefly(disk.locks, GRACE)
        holder = disk.locks.status("local")
    assert holder is not None
    assert holder.owner == UNKNOWN


def test_a_damaged_hold_still_holds_until_it_is_broken(disk: Bench, tmp_path: Path) -> None:
    disk.locks.hold("local", MARGARET)
    (tmp_path / "locks/local.hold.json").write_bytes(b"{")
    with pytest.raises(LockHeld, match=r"held by an unknown owner: .*hold\.json is damaged"):
        hold_briefly(disk.locks)
    with pytest.raises(LockHeld):
        disk.locks.release("local", "margaret@desk")
    assert disk.locks.break_("local") is not None
    hold_briefly(disk.locks)


def test_a_hold_that_cannot_be_written_leaves_nothing_behind(
    disk: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(locknotes.os, "fsync", full)
    for attempt in (lambda: disk.locks.hold("local", MARGARET), lambda: hold_briefly(disk.locks)):
        with pytest.raises(ConfigurationInvalid, match="No space left on device"):
            attempt()
    assert [path.name for path in (tmp_path / "locks").iterdir() if path.is_file()] == ["local.lock"]
    monkeypatch.undo()
    hold_briefly(disk.locks)


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(ConfigurationInvalid, match=r"/file/locks: cannot be used for a lock: .*/file: File exists"):
        hold_briefly(ToozLocks(f"file://{tmp_path}/file/locks", Passing()))


# Groups


def test_a_driver_without_groups_knows_no_owner(team: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> None:
        raise tooz.NotImplemented("not implemented")

    for name in ("create_group", "get_members", "leave_group"):
        monkeypatch.setattr(f"tooz.drivers.file.FileDriver.{name}", none)
    with team.locks.held("local", ADA) as lease:
        lease.confirm()
        with pytest.raises(LockHeld, match="local is locked by an unknown owner: redis://server/0 does not say who"):
            hold_briefly(team.locks, GRACE)
        with pytest.raises(LockHeld) as caught:
            team.locks.break_("local")
        assert caught.value.hint == "stop that run, and its lock goes with it"
    assert team.locks.status("local") is None


def test_of_two_members_the_later_one_holds(team: Bench, tmp_path: Path) -> None:
    with team.locks.held("local", ADA):
        (dead,) = tmp_path.glob("server/groups/*/*.raw")
        kept = dead.read_bytes()
    dead.write_bytes(kept)
    with team.locks.held("local", GRACE):
        assert team.locks.status("local") == GRACE


def test_a_member_that_says_nothing_of_use_is_told(team: Bench, told: list[str]) -> None:
    server = coordination.get_coordinator("redis://server", b"stranger", executor="synchronous")
    server.start()
    with team.locks.held("local", replace(ADA, started=NOON)):
        server.join_group(b"heat-deploys-heat.local", {"weight": 1}).get()
        assert team.locks.status("local") == ADA
    server.stop()
    assert told == ["redis://server/0: who holds local is damaged, passed over: 'holder'"]
