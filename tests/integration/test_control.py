"""A region with a control host, for real: deployed, upgraded, and the power of the machine with most roles cut."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from pipeline.edges.clock import wait_until
from pipeline.errors import ProtectedRefused, VerificationFailed
from pipeline.localcloud import LocalCloud
from pipeline.workflow import Pipeline
from tests.faults.faults import power_cut
from tests.integration.conftest import NEW, OLD

pytestmark = pytest.mark.long

NAME = "local-small"


@pytest.fixture(scope="module")
def small(cloud: LocalCloud, pipeline: Pipeline) -> Iterator[Pipeline]:
    """The region, on the old release; its stacks are deleted at the end."""
    assert pipeline.deploy(NAME, OLD)
    yield pipeline
    pipeline.destroy(NAME, allowed=("network", "identity", "control"))


def _on(pipeline: Pipeline, release: str) -> None:
    status = {one.host: one.running.partition("-")[0] for one in pipeline.status(NAME)}
    assert {host for host, running in status.items() if running == release} == {"api-0", "engine-0", "engine-1"}


def test_three_machines_have_every_role_and_every_check_passes(small: Pipeline) -> None:
    with small.site(NAME) as site:
        machines = [host.name for host in site.region.inventory.machines]
    assert machines == ["control-0", "engine-0", "engine-1"]
    checks, rungs = small.require_green(NAME)
    assert {result.role for result in checks.results} == {"database", "messaging", "api", "engine", "loadbalancer"}
    assert rungs.ok
    _on(small, OLD)


def test_deploying_again_changes_nothing(small: Pipeline) -> None:
    assert small.deploy(NAME, OLD) is False
    assert small.plan_stacks(NAME).empty


def test_an_upgrade_loses_no_stack_but_its_one_api_is_missed(small: Pipeline) -> None:
    with pytest.raises(VerificationFailed, match="customers noticed"):
        small.upgrade(NAME, NEW)
    run = max((run for run in small.runs.of(NAME) if "-upgrade-" in run.id), key=lambda run: run.id)
    stacks = json.loads((run.directory / "counts.json").read_text(encoding="utf-8"))["stacks"]
    assert (stacks["failed"], stacks["stuck"]) == (0, 0)
    assert stacks["completed"] >= 5
    _on(small, NEW)
    small.require_green(NAME)


def test_a_machine_that_loses_its_power_comes_back_with_all_its_roles(small: Pipeline, cloud: LocalCloud) -> None:
    power_cut(cloud, f"{NAME}-control-0")
    with small.site(NAME) as site:
        site.insist(lambda: site.remote.run(site.region.inventory.host("control-0"), "true"))
    wait_until(lambda: small.smoke(NAME).ok, small.clock, timeout=180, what="the region to serve again")
    small.require_green(NAME)


def test_it_is_not_destroyed_unless_it_is_named(small: Pipeline) -> None:
    with pytest.raises(ProtectedRefused, match="control"):
        small.destroy(NAME, allowed=("network", "identity"))
