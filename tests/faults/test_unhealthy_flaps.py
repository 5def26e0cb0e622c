"""An engine that comes and goes is neither healthy nor failed: the run ends as inconclusive, and can go on."""

from __future__ import annotations

import pytest

from pipeline.edges.clock import wait_until
from tests.faults.faults import CLOCK, NEW, OLD, QUICK, Region

# Down for two seconds (RestartSec) of every five: seen healthy, and never for as long as it must be.
FLAP = "while :; do systemctl kill --kill-whom=all --signal=KILL heat-engine; sleep 5; done"
PATIENT = {**QUICK, "policies": {**QUICK["policies"], "health": {"healthy_deadline": 60, "min_healthy_time": 20}}}
REGISTERED = "mariadb -N -e \"SELECT COUNT(*) FROM heat.service WHERE host='engine-0' AND deleted_at IS NULL\""


@pytest.mark.kills_work  # an engine that is killed leaves what it holds
def test_a_host_whose_health_flaps_until_the_deadline_ends_the_run_with_11(region: Region) -> None:
    region.install()
    before = region.marks("engine-1", "api-0", "api-1")
    run = region.upgrade(PATIENT)
    run.await_step("healthy", "engine-0")
    wait_until(
        lambda: int(region.console("database-0", REGISTERED)) >= 2,
        CLOCK,
        timeout=60,
        what="the workers of engine-0 to register",
    )
    with region.background("engine-0", FLAP):
        assert run.code == 11, run.output
    assert "it comes and goes" in run.message
    assert "engine-0" in run.message
    assert region.marks("engine-1", "api-0", "api-1") == before
    assert region.on() | {"engine-0": ""} == {"api-0": OLD, "api-1": OLD, "engine-0": "", "engine-1": OLD}
    region.console("engine-0", "systemctl reset-failed heat-engine; systemctl start heat-engine")
    again = region.upgrade()
    assert again.code == 0, again.output
    region.is_whole(NEW)
