"""tooz as the locks use it: what its drivers lack, miscount or raise reaches no run unprepared."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import tooz
from lock_bench import ADA, GRACE, HOLDING, NOON, Bench, Passing, hold_briefly, holding
from tooz import coordination
from tooz.drivers.mysql import MySQLLock

from pipeline.edges.clock import SystemClock
from pipeline.edges.lock import LockLost, ToozLocks
from pipeline.edges.locktooz import beating, why_lost
from pipeline.errors import ConfigurationInvalid, LockHeld, PreflightUnreachable

pytestmark = pytest.mark.usefixtures("deadline")


# Locks


def test_two_ways_to_one_directory_lead_to_one_lock(disk: Bench, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "locks")
    other = ToozLocks(f"file://{tmp_path}/link/../link", Passing(NOON))
    with disk.locks.held("local", ADA) as lease:
        with pytest.raises(LockHeld):
            hold_briefly(other, GRACE)
        assert other.status("local") == ADA
        lease.confirm()


def test_a_refusal_kept_for_later_takes_no_lock_away(tmp_path: Path) -> None:
    """The kernel drops all of a process's locks on a file when it closes one of its handles."""
    url = f"file://{tmp_path}/locks"
    locks = ToozLocks(url, SystemClock())
    with holding(url) as child:
        with pytest.raises(LockHeld) as kept:
            hold_briefly(locks)
        child.communicate("")
    with locks.held("local", ADA):
        del kept
        probe = subprocess.run(
            [sys.executable, "-c", HOLDING, url], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
    assert "ada@laptop" in probe.stderr
    assert probe.returncode != 0


@pytest.mark.parametrize(("noted", "why"), [(True, ""), (False, "it ran out, was given back or was taken")])
def test_a_lock_that_nobody_can_ask_is_known_by_its_note(noted: bool, why: str) -> None:
    class Etcd3Lock:
        acquired = True

        def is_still_owner(self) -> bool:
            raise tooz.NotImplemented

    assert why_lost(Etcd3Lock(), lambda: noted) == why


@pytest.mark.filterwarnings("ignore:'passwd' is deprecated")
def test_a_mysql_lock_goes_with_its_connection() -> None:
    lock = MySQLLock(b"local", urlsplit("mysql://u:p@127.0.0.1/x"), {})
    lock.acquired = True
    why = why_lost(lock, lambda: True)
    lock.acquired = False
    assert why == "nobody can tell whether it is still held: Already closed"


# Leases


def test_a_lease_is_renewed_while_the_body_runs(team: Bench, tmp_path: Path) -> None:
    locks = ToozLocks("redis://server", team.clock, 1)
    with locks.held("local", ADA) as lease:
        (member,) = tmp_path.glob("server/groups/*/*.raw")
        os.utime(member, (0, 0))
        deadline = time.monotonic() + 5
        while member.stat().st_mtime == 0 and time.monotonic() < deadline:
            time.sleep(0.02)
        lease.confirm()
    assert "lock-heartbeat" not in {thread.name for thread in threading.enumerate()}


def test_a_renewal_that_fails_is_told_and_tried_again(told: list[str]) -> None:
    beats = threading.Semaphore(0)

    class Away:
        def heartbeat(self) -> None:
            beats.release()
            raise tooz.ToozError("away")

    with beating(Away(), 0.03, told.append):
        assert beats.acquire(timeout=5)
        assert beats.acquire(timeout=5)
    assert told[0] == "the lock's lease could not be renewed, trying again: away"


def test_a_server_that_does_not_answer_touches_nothing(team: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object) -> None:
        raise coordination.ToozConnectionError("connection refused")

    monkeypatch.setattr("tooz.drivers.file.FileDriver._start", away)
    with pytest.raises(PreflightUnreachable) as caught:
        hold_briefly(team.locks)
    assert caught.value.message == "redis://server/0: cannot be used for a lock: connection refused"


def test_a_lock_that_cannot_be_asked_for_is_lost(team: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object) -> None:
        raise coordination.ToozConnectionError("connection refused")

    with team.locks.held("local", ADA) as lease:
        monkeypatch.setattr("tooz.drivers.file.FileLock.is_still_owner", away)
        with pytest.raises(LockLost, match="nobody can tell whether it is still held: connection refused"):
            lease.confirm()


def test_a_lock_that_cannot_be_given_back_is_told_and_the_runs_own_end_stands(
    team: Bench, told: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away(*_: object) -> None:
        raise coordination.ToozConnectionError("connection refused")

    caplog.set_level(logging.CRITICAL)
    with team.locks.held("local", ADA):
        monkeypatch.setattr("tooz.drivers.file.FileLock.release", away)
        monkeypatch.setattr("tooz.drivers.file.FileDriver.leave_group", away)
    assert "local: the lock could not be given back: connection refused" in told
    monkeypatch.undo()


# URLs


@pytest.mark.parametrize(
    ("url", "extra"), [("etcd3+http://h", "etcd3gw"), ("redis://:pw@h", "redis"), ("zookeeper://h", "zookeeper")]
)
def test_a_driver_whose_library_is_missing_is_named(url: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for library in ("etcd3gw", "redis", "kazoo"):
        monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ConfigurationInvalid, match="tooz cannot load its driver: ") as caught:
        hold_briefly(ToozLocks(url, Passing()))
    assert f"'tooz[{extra}]'" in caught.value.hint
    assert "\n" not in caught.value.message
    assert "pw" not in str(caught.value)


@pytest.mark.parametrize("url", ["etcd3://h", "memcached://h", "me:secret@h", "locks", "", "http://[h"])
def test_an_unknown_lock_is_refused_with_those_that_are_known(url: str) -> None:
    with pytest.raises(ConfigurationInvalid, match="the lock's URL") as caught:
        ToozLocks(url, Passing())
    assert "file:///DIRECTORY" in caught.value.hint
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["file://locks", "file://", "file:///", "file://.state/locks"])
def test_a_files_url_names_an_absolute_directory(url: str) -> None:
    with pytest.raises(ConfigurationInvalid, match="not the absolute path of a directory"):
        ToozLocks(url, Passing())
