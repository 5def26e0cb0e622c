"""An upgrade with a vhost of its own is killed at its turning points: the same command finishes it each time."""

from __future__ import annotations

from contextlib import suppress

import pytest

from pipeline.errors import VerificationFailed
from tests.faults.faults import NAME, NEW, SILENT, Region

BEFORE = "25.0.2"  # another worker RPC than NEW's
TURNS = ("begin move engine-0", "begin move api-0", "begin old vhost idle", "begin move engine-1", "begin tidy")


@pytest.mark.kills_work  # the customers of a killed run signal nothing any more
def test_a_cutover_killed_at_its_turning_points_is_finished_by_the_same_command(region: Region) -> None:
    with suppress(VerificationFailed):  # all hosts of a role at once, which customers notice
        region.pipeline(SILENT).rollback(NAME, BEFORE)
    reached = []
    for turn in TURNS:
        run = region.process()
        run.await_word(turn, timeout=300)
        run.kill()
        reached.append(turn)
    run = region.process()
    assert run.wait(600) == 0, run.output
    assert reached == list(TURNS)
    region.is_whole(NEW)
    region.is_green()
