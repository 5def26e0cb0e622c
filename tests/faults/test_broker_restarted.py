"""The broker restarts in the middle of a move: engines connect again, and the run waits for health."""

from __future__ import annotations

import pytest

from tests.faults.faults import DOCUMENTED, NEW, Region


@pytest.mark.kills_work  # Heat's queues are not durable: what is in them goes with the broker
@pytest.mark.parametrize("step", ["drain", "healthy"])
def test_a_broker_that_restarts_in_the_middle_of_a_move_is_waited_for(region: Region, step: str) -> None:
    region.install()
    run = region.upgrade()
    run.await_step(step, "engine-0")
    region.console("messaging-0", "systemctl restart rabbitmq-server", timeout=120)
    assert run.code in DOCUMENTED - {9, 12}, run.output
    print(f"ended with {run.code}: {run.message}")
    again = region.upgrade()
    assert again.code == 0, again.output
    region.is_whole(NEW)
