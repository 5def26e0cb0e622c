"""Two runs in one environment: one at a time."""

from __future__ import annotations

import re
import time

import pytest

from pipeline.edges.store import who
from tests.faults.faults import NAME, Region


@pytest.mark.quick
@pytest.mark.kills_work  # the customers of a killed run signal nothing any more
def test_a_second_run_is_turned_away_and_a_killed_one_gives_way_at_once(region: Region) -> None:
    first = region.process()
    first.await_word("in flight now")

    second = region.process()
    assert second.wait() == 5, second.output
    assert who() in second.output
    assert re.search(r"whose upgrade has run for \d+ s", second.output), second.output
    assert not first.over

    first.kill()
    assert region.pipeline().locks(NAME).status(NAME) is None
    started = time.monotonic()
    third = region.process()
    third.await_word("in flight now", timeout=30)
    assert time.monotonic() - started < 20
    third.terminate()
    assert third.wait() == 143, third.output
