"""An engine is killed with work in its hands: nobody finishes that, and the rollout says whose it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pipeline import chain
from pipeline.edges.clock import wait_until
from tests.faults.faults import CLOCK, DOCUMENTED, NEW, Region

STACK = "canary-held"  # no name that a run gives its own customers' stacks
KILL = "systemctl kill --kill-whom=all --signal=KILL heat-engine"


@contextmanager
def held(region: Region) -> Iterator[str]:
    """Hold a WaitCondition open, and give the name of the host whose engine holds it."""
    with region.site() as site:
        site.customer.create(STACK, **chain.waiting(900))

        def holder() -> str | None:  # of the condition: its handle is made before, by any engine, and in no time
            for row in site.database.engines():
                held = site.database.held([row.engine_id])
                if row.live and any((one.stack, one.resource) == (STACK, "condition") for one in held):
                    return row.host
            return None

        host = wait_until(holder, CLOCK, timeout=30, what="an engine to hold the WaitCondition")
        try:
            yield host
        finally:
            site.customer.delete(STACK)


@pytest.mark.kills_work
def test_a_rollout_names_the_stacks_that_an_engine_killed_before_it_left_behind(region: Region) -> None:
    region.install()
    with held(region) as host:
        region.console(host, KILL)
        wait_until(
            lambda: region.console(host, "systemctl is-active heat-engine", check=False) == "active",
            CLOCK,
            timeout=30,
            what="systemd to start the engine again",
        )
        run = region.upgrade()
        assert run.code in (0, 11), run.output
        lost = [line for line in run.lines() if line["kind"] == "seen" and line["step"] == "lost"]
        assert [line["host"] for line in lost] == [host], run.output
        assert STACK in str(lost)
        assert STACK in run.said
    if run.code:
        assert region.upgrade().code == 0
    region.is_whole(NEW)


@pytest.mark.kills_work
def test_an_engine_killed_while_it_drains_halts_the_run_and_its_stack_is_named(region: Region) -> None:
    region.install()
    with held(region) as host:
        run = region.upgrade()
        run.await_step("drain", host)
        wait_until(
            lambda: region.console(host, "systemctl is-active heat-engine", check=False) == "deactivating",
            CLOCK,
            timeout=60,
            interval=0.1,
            what="the drain to begin",
        )
        region.console(host, KILL)
        assert run.code in DOCUMENTED - {0, 9}, run.output
        assert STACK in run.message, run.output
        assert host in run.message
    again = region.upgrade()
    assert again.code == 0, again.output
    region.is_whole(NEW)
