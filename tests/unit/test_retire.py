"""Retiring hosts before their servers go: engines drain, APIs leave the load balancer, the dead are told."""

from __future__ import annotations

import pytest
from builders import LOCAL, R25, Kept, Machines, ScriptedRemote, Services, journal, region, said, site

from pipeline.errors import HostUnreachable
from pipeline.retire import retire
from pipeline.site import Site

STOP = "^systemctl stop --no-block heat-"


@pytest.fixture
def remote() -> ScriptedRemote:
    made = ScriptedRemote()
    made.on("")
    Services(made, R25)
    Machines(made, region().inventory, R25, LOCAL.heat.engine_workers)
    return made


@pytest.fixture
def here(remote: ScriptedRemote) -> Site:
    return site(remote)


def test_an_engine_is_drained_with_proof(here: Site, remote: ScriptedRemote) -> None:
    lines = Kept()
    assert retire(here, ["engine-1"], R25, journal(here.clock, lines)) == ("engine-1",)
    assert remote.steps(stop=STOP) == ["stop engine-1"]
    assert lines.steps() == ["drain engine-1"]


def test_an_api_leaves_the_load_balancer_before_it_stops(here: Site, remote: ScriptedRemote) -> None:
    retire(here, ["api-0"], R25, journal(here.clock))
    assert remote.steps(drain="set server .*api-0 state drain", stop=STOP) == ["drain loadbalancer-0", "stop api-0"]


def test_a_host_that_does_not_answer_is_told_and_left(here: Site, remote: ScriptedRemote) -> None:
    remote.on("", HostUnreachable("engine-1: timed out"), host="engine-1")
    assert retire(here, ["engine-1", "engine-0"], R25, journal(here.clock)) == ("engine-0",)
    assert "engine-1: does not answer, so it is not drained" in said(here.progress)


def test_a_host_that_serves_nothing_needs_no_drain(here: Site, remote: ScriptedRemote) -> None:
    remote.on("", "", host="engine-1")
    assert retire(here, ["engine-1"], R25, journal(here.clock)) == ()
