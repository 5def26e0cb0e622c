"""Observing a fleet: engine and API hosts are asked, and one that does not answer stops a run before it starts."""

from __future__ import annotations

import pytest
from builders import R26, ScriptedRemote, fleet_on, region

from pipeline.edges.hosts import observe
from pipeline.errors import HostKeyRefused, HostUnreachable, PipelineError, PreflightUnreachable
from pipeline.rollout import vhost_of

FACTS = f"current {R26.id}\nvhost {vhost_of(R26)}\ninstalled {R26.id}\nrunning {R26.id}\n"


def test_the_fleet_is_what_its_hosts_say(remote: ScriptedRemote) -> None:
    remote.on("^for unit in", FACTS)
    assert observe(region().inventory, remote) == fleet_on(R26)


def test_only_hosts_that_run_heat_are_asked_each_about_its_units(remote: ScriptedRemote) -> None:
    remote.on("^for unit in", FACTS)
    observe(region().inventory, remote)
    units = {name: script.split("for unit in ")[1].split(";")[0] for name, script in remote.ran}
    assert units == {
        "api-0": "heat-api heat-api-cfn",
        "api-1": "heat-api heat-api-cfn",
        "engine-0": "heat-engine",
        "engine-1": "heat-engine",
    }


@pytest.mark.parametrize(
    "error", [HostUnreachable("engine-1 is gone", hint="h"), HostKeyRefused("another key", hint="h")]
)
def test_a_host_that_cannot_be_seen_is_not_guessed(remote: ScriptedRemote, error: PipelineError) -> None:
    remote.on("^for unit in", FACTS)
    remote.on("^for unit in", error, host="engine-1")
    with pytest.raises(PreflightUnreachable) as caught:
        observe(region().inventory, remote)
    assert (caught.value.exit_code, caught.value.message, caught.value.hint) == (9, error.message, "h")
