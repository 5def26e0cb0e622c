"""A release whose engine exits as soon as it is started: its host goes back, and no other is touched."""

from __future__ import annotations

from tests.faults.faults import NEW, OLD, Region

BROKEN = '1i raise SystemExit("this release is broken")'
PROGRAM = "heat/cmd/engine.py"


def test_a_canary_engine_that_does_not_start_goes_back_and_no_other_host_is_touched(region: Region) -> None:
    path = f"{region.install()}/{PROGRAM}"
    before = region.marks("engine-1", "api-0", "api-1")
    with region.spoiled(path, BROKEN, "engine-0", "engine-1"):
        run = region.upgrade()
        assert run.code == 8, run.output
        assert "engine-0" in run.message
        assert region.marks("engine-1", "api-0", "api-1") == before
        region.is_whole(OLD)


def test_a_later_engine_that_does_not_start_goes_back_and_the_same_command_finishes(region: Region) -> None:
    path = f"{region.install()}/{PROGRAM}"
    before = region.marks("api-0", "api-1")
    with region.spoiled(path, BROKEN, "engine-1"):
        run = region.upgrade()
        assert run.code == 7, run.output
        assert region.marks("api-0", "api-1") == before
        assert region.on() == {"api-0": OLD, "api-1": OLD, "engine-0": NEW, "engine-1": OLD}
    again = region.upgrade()
    assert again.code == 0, again.output
    region.is_whole(NEW)
