"""The database is away for a while in the middle of a move: the run waits or ends as documented, and can go on."""

from __future__ import annotations

import time

import pytest

from tests.faults.faults import DOCUMENTED, NEW, Region

AWAY = 20  # seconds


@pytest.mark.kills_work  # an engine fails what it cannot write down
@pytest.mark.parametrize("step", ["drain", "healthy"])
def test_a_database_that_stops_in_the_middle_of_a_move_ends_as_documented(region: Region, step: str) -> None:
    region.install()
    before = region.marks("engine-1", "api-0", "api-1")
    run = region.upgrade()
    run.await_step(step, "engine-0")
    region.console("database-0", "systemctl stop mariadb")
    try:
        time.sleep(AWAY)
    finally:
        region.console("database-0", "systemctl start mariadb")
    assert run.code in DOCUMENTED - {9, 12}, run.output
    print(f"ended with {run.code}: {run.message}")
    if run.code != 0 and "engine-1" not in {host for _, host in run.steps}:
        assert region.marks("engine-1", "api-0", "api-1") == before
    again = region.upgrade()
    assert again.code == 0, again.output
    region.is_whole(NEW)
