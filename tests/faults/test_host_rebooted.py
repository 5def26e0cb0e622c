"""A host reboots in the middle of its move: the run waits for it, looks again, and goes on or ends as documented."""

from __future__ import annotations

import pytest

from tests.faults.faults import DOCUMENTED, NEW, QUICK, Region

BOOTING = {**QUICK, "policies": {"health": {"healthy_deadline": 90, "min_healthy_time": 2}, "drain": {"timeout": 150}}}


@pytest.mark.kills_work  # an engine's work goes with its host
@pytest.mark.parametrize("step", ["drain", "start", "healthy"])
def test_an_engine_host_whose_power_fails_in_the_middle_of_its_move(region: Region, step: str) -> None:
    region.install()
    booted = _boot(region)
    run = region.upgrade(BOOTING)
    run.await_step(step, "engine-0")
    region.power_cut("engine-0")
    assert run.code in DOCUMENTED - {9}, run.output
    print(f"ended with {run.code}: {run.message}")
    assert _boot(region) != booted
    again = region.upgrade(BOOTING)
    assert again.code == 0, again.output
    region.is_whole(NEW)


def test_a_host_told_to_reboot_in_the_middle_of_its_move_comes_back_and_the_run_goes_on(region: Region) -> None:
    region.install()
    booted = _boot(region)
    run = region.upgrade(BOOTING)
    run.await_step("healthy", "engine-0")
    region.console("engine-0", "systemctl reboot", check=False)
    assert run.code in {0, 7, 11}, run.output
    print(f"ended with {run.code}: {run.message}")
    assert _boot(region) != booted
    again = region.upgrade(BOOTING)
    assert again.code == 0, again.output
    region.is_whole(NEW)


def _boot(region: Region) -> str:
    """Return what tells one start of engine-0 from another: the kernel, and its boot_id, are shared by all hosts."""
    return region.console("engine-0", "stat -c %Y /proc/1; awk '{print $22}' /proc/1/stat")
