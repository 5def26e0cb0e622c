"""The pipeline is asked to end: it begins nothing new, gives the lock back, says how it ended, and can go on."""

from __future__ import annotations

from tests.faults.faults import NAME, NEW, QUICK, Region

ALL_AT_ONCE = {**QUICK, "policies": {**QUICK["policies"], "serial": ["100%"]}}


def test_a_run_told_to_end_finishes_its_host_and_begins_no_other(region: Region) -> None:
    run = region.process()
    run.await_step("drain", "engine-0")
    run.terminate()
    assert run.wait() == 143, run.output
    assert run.moved == {"engine-0"}
    assert region.on() == {"api-0": "26.0.1", "api-1": "26.0.1", "engine-0": NEW, "engine-1": "26.0.1"}
    assert region.pipeline().locks(NAME).status(NAME) is None
    assert not region.lost()

    again = region.process()
    assert again.wait() == 0, again.output
    assert "engine-0" not in again.moved
    region.is_whole(NEW)
    assert run.summary["detail"]
    assert run.summary["exit_code"] == 143


def test_a_run_told_to_end_begins_no_other_host_of_the_same_batch(region: Region) -> None:
    run = region.process(ALL_AT_ONCE)
    run.await_step("drain", "engine-0")
    run.terminate()
    assert run.wait() == 143, run.output
    assert run.moved == {"engine-0"}
