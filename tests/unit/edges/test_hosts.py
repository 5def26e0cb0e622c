"""Observing a fleet: engine and API hosts are asked, and one that does not answer stops a run before it starts."""

from __future__ import annotations

import pytest
from builders import R26, ScriptedRemote, fleet_on, names, region

from pipeline.edges.hosts import observe, visible
from pipeline.errors import (
    CommandFailed,
    ConfigurationInvalid,
    HostKeyRefused,
    HostUnreachable,
    PipelineError,
    PreflightUnreachable,
)
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


REFUSALS = (
    ConfigurationInvalid("engine-1 lets pipeline run nothing as root", hint="its sudoers must have NOPASSWD"),
    ConfigurationInvalid("engine-1 refuses user pipeline with key K", hint="check ssh.user"),
    CommandFailed("engine-1: no end within 30 s", status=-1),
)
EACH_REFUSAL = pytest.mark.parametrize("error", REFUSALS, ids=lambda error: error.message)


@EACH_REFUSAL
def test_a_host_that_lets_nobody_look_is_not_guessed_either(remote: ScriptedRemote, error: PipelineError) -> None:
    remote.on("^for unit in", FACTS)
    remote.on("^for unit in", error, host="engine-1")
    with pytest.raises(type(error), match=error.message):
        observe(region().inventory, remote)


@pytest.mark.parametrize(
    "error",
    [*REFUSALS, HostUnreachable("it is gone"), HostKeyRefused("another key")],
    ids=lambda error: error.message,
)
def test_where_hosts_are_looked_at_one_by_one_the_others_are_seen(remote: ScriptedRemote, error: PipelineError) -> None:
    remote.on("^for unit in", FACTS)
    remote.on("^for unit in", error, host="engine-1")
    assert names(visible(region().inventory, remote).states) == ["api-0", "api-1", "engine-0"]


@EACH_REFUSAL
def test_where_none_is_seen_it_is_the_first_ones_error(remote: ScriptedRemote, error: PipelineError) -> None:
    remote.on("^for unit in", HostUnreachable("it is gone"))
    remote.on("^for unit in", error, host="api-0")
    with pytest.raises(type(error), match=error.message):
        visible(region().inventory, remote)


@EACH_REFUSAL
def test_where_only_the_dead_are_left_out_a_refusal_is_an_error(remote: ScriptedRemote, error: PipelineError) -> None:
    remote.on("^for unit in", FACTS)
    remote.on("^for unit in", HostUnreachable("engine-0 is gone"), host="engine-0")
    seen = visible(region().inventory, remote, without=PreflightUnreachable)
    assert names(seen.states) == ["api-0", "api-1", "engine-1"]
    remote.on("^for unit in", error, host="engine-1")
    with pytest.raises(type(error), match=error.message):
        visible(region().inventory, remote, without=PreflightUnreachable)
