"""Scaling for real: engines and APIs come and go under traffic, and no customer notices."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import yaml

from pipeline.demo import Proof
from pipeline.edges.heat import connect
from pipeline.edges.yamledit import set_value
from pipeline.environment import Role
from pipeline.traffic import Traffic
from pipeline.workflow import Pipeline
from tests.integration.conftest import NEW, saying

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def scalable(story: Proof, pipeline: Pipeline, checkout: Path) -> Pipeline:
    """The demo's region, from a copy of the environments: scaling writes into them."""
    return saying(pipeline, checkout, "local", "")


def _hosts(pipeline: Pipeline) -> list[str]:
    with pipeline.site("local") as site:
        return [host.name for host in site.region.inventory.of(Role.ENGINE, Role.API)]


def test_a_region_scales_out_and_in_and_no_customer_notices(scalable: Pipeline) -> None:
    customers = partial(connect, "local", scalable.workspace.customer_clouds("local"))
    settings = scalable.environment("local").traffic
    with Traffic(customers, settings, scalable.clock, prefix="scale") as traffic:
        for role in (Role.ENGINE, Role.API):
            assert scalable.scale("local", role, 3).coming == 1
        assert _hosts(scalable) == ["api-0", "api-1", "api-2", "engine-0", "engine-1", "engine-2"]
        checks, rungs = scalable.require_green("local")
        assert {"engine-2", "api-2"} <= {result.host for result in checks.results}
        assert rungs.ok
        with scalable.site("local") as site:
            assert {server.name for server in site.balancer.servers()} == {"api-0", "api-1", "api-2"}
            assert {row.host for row in site.database.engines() if row.live} == {"engine-0", "engine-1", "engine-2"}
        for role in (Role.ENGINE, Role.API):
            (left,) = scalable.scale("local", role, 2).leaving
            assert left.host.name == f"{role}-2"
    report = traffic.report()
    assert report.ok, report.failures
    assert report.stacks.completed >= 10
    assert _hosts(scalable) == ["api-0", "api-1", "engine-0", "engine-1"]
    with scalable.site("local") as site:
        assert {server.name for server in site.balancer.servers()} == {"api-0", "api-1"}
        assert {row.host for row in site.database.engines() if row.live} == {"engine-0", "engine-1"}
    own = yaml.safe_load((scalable.workspace.environments / "local.yaml").read_text("utf-8"))
    assert own["topology"] == {"engine": {"count": 2}, "api": {"count": 2}}


def test_a_deploy_drains_a_host_that_only_the_file_has_given_up(scalable: Pipeline) -> None:
    path = scalable.workspace.environments / "local.yaml"
    before = set_value(path, ("topology", "engine", "count"), 1)
    try:
        assert scalable.deploy("local", NEW) is True
        assert _hosts(scalable) == ["api-0", "api-1", "engine-0"]
        journal = (scalable.runs.of("local")[-1].directory / "journal.jsonl").read_text("utf-8")
        assert '"drained"' in journal
        with scalable.site("local") as site:
            assert {row.host for row in site.database.engines() if row.live} == {"engine-0"}
    finally:
        set_value(path, ("topology", "engine", "count"), before)
    assert scalable.scale("local", Role.ENGINE, before).coming == 1
    assert scalable.deploy("local", NEW) is False
