"""A release whose engine starts, registers, and listens where nobody asks: only a question tells, and no row."""

from __future__ import annotations

from tests.faults.faults import OLD, Region

DEAF = 's/topic=rpc_api.LISTENER_TOPIC/topic="nobody"/'


def test_a_canary_engine_that_answers_nobody_goes_back_and_no_other_host_is_touched(region: Region) -> None:
    path = f"{region.install()}/heat/engine/service.py"
    before = region.marks("engine-1", "api-0", "api-1")
    with region.spoiled(path, DEAF, "engine-0"):
        run = region.upgrade()
        assert run.code == 8, run.output
        assert "engine-0" in run.message
        assert region.marks("engine-1", "api-0", "api-1") == before
        region.is_whole(OLD)
