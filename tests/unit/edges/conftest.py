"""Fixtures that the tests of the locks share; what they are made of is in lock_bench.py."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from lock_bench import NOON, Bench, Passing

from pipeline.edges.lock import FakeLocks, ToozLocks


@pytest.fixture
def deadline() -> Iterator[None]:
    """Fail a test that is not over after a minute, whatever it waits for, in whichever loop."""

    def over(*_: object) -> None:
        pytest.fail("not over after 60 s")

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, 60, 10)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def coordinators(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Any]:
    """Return the coordinators that tooz made; tooz's file driver, groups and all, stands in for a team's server."""
    from tooz import coordination

    made: list[Any] = []
    real = coordination.get_coordinator

    def get_coordinator(url: str, member: bytes, **options: object) -> Any:
        made.append(real(f"file://{tmp_path}/server" if url.startswith("redis://") else url, member, **options))
        return made[-1]

    monkeypatch.setattr(coordination, "get_coordinator", get_coordinator)
    return made


@pytest.fixture
def told() -> list[str]:
    """Return what the locks told."""
    return []


@pytest.fixture
def disk(tmp_path: Path, coordinators: list[Any], told: list[str]) -> Bench:
    """Return the locks of one machine."""
    clock = Passing(NOON + timedelta(minutes=3))
    lose = (tmp_path / "locks" / "local.holder.json").unlink
    return Bench(ToozLocks(f"file://{tmp_path}/locks", clock, tell=told.append), clock, lose)


@pytest.fixture
def team(tmp_path: Path, coordinators: list[Any], told: list[str]) -> Bench:
    """Return the locks of a team."""
    clock = Passing(NOON + timedelta(minutes=3))

    def lose() -> None:
        for member in tmp_path.glob("server/groups/*/*.raw"):
            member.unlink()

    return Bench(ToozLocks("redis://u:secret@server/0?x=secret", clock, tell=told.append), clock, lose)


@pytest.fixture
def memory() -> Bench:
    """Return the locks of tests."""
    clock = Passing(NOON + timedelta(minutes=3))
    locks = FakeLocks(clock)
    return Bench(locks, clock, lambda: locks.lose("local"))


@pytest.fixture(params=["disk", "team", "memory"])
def bench(request: pytest.FixtureRequest) -> Bench:
    """Return each kind of locks: all keep the same promises to runs."""
    found: Bench = request.getfixturevalue(request.param)
    return found


@pytest.fixture(params=["disk", "memory"])
def holdable(request: pytest.FixtureRequest) -> Bench:
    """Return each kind of locks that a person can hold."""
    found: Bench = request.getfixturevalue(request.param)
    return found
