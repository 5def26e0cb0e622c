"""A region whose database and broker are clusters, for real: deployed, upgraded, and hurt member by member.

Once as it ships, and once with TLS among its hosts, which Heat's proxy to the database passes through.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.edges.clock import wait_until
from pipeline.environment import Role
from pipeline.localcloud import LocalCloud
from pipeline.site import Site
from pipeline.workflow import Pipeline
from tests.faults.faults import power_cut
from tests.integration.conftest import NEW, OLD, saying

pytestmark = pytest.mark.long

NAME = "local-cluster"
SIZE = "mariadb -BNe \"SHOW STATUS LIKE 'wsrep_cluster_size'\" | cut -f 2"


@pytest.fixture(scope="module", params=["", "tls: {internal: required}\n"], ids=["plain", "tls"])
def clustered(
    cloud: LocalCloud, pipeline: Pipeline, checkout: Path, request: pytest.FixtureRequest
) -> Iterator[Pipeline]:
    """The region, on the old release; its stacks are deleted at the end."""
    here = saying(pipeline, checkout, NAME, request.param)
    assert here.deploy(NAME, OLD)
    yield here
    here.destroy(NAME, allowed=("network", "identity", "database", "messaging"))


def _sizes(site: Site) -> tuple[list[str], list[int]]:
    """Return how many members each database and each broker sees."""
    databases, brokers = (site.region.inventory.of(role) for role in (Role.DATABASE, Role.MESSAGING))
    status = "rabbitmqctl -q cluster_status --formatter json"
    return (
        [site.remote.run(host, SIZE).stdout.strip() for host in databases],
        [len(json.loads(site.remote.run(host, status).stdout)["running_nodes"]) for host in brokers],
    )


def _is_whole(pipeline: Pipeline) -> None:
    """Wait until every member sees all three; what was hurt comes back by itself."""
    with pipeline.site(NAME) as site:
        wait_until(
            lambda: site.insist(lambda: _sizes(site)) == (["3"] * 3, [3] * 3),
            pipeline.clock,
            timeout=120,
            what="every member to see the others",
        )


def test_members_find_one_another_and_every_check_passes(clustered: Pipeline) -> None:
    _is_whole(clustered)
    checks, rungs = clustered.require_green(NAME)
    assert {"cluster_is_whole", "queues_are_kept_by_a_majority"} <= {result.name for result in checks.results}
    assert rungs.ok


def test_deploying_again_changes_nothing(clustered: Pipeline) -> None:
    assert clustered.deploy(NAME, OLD) is False


def test_an_upgrade_loses_no_stack_and_no_request(clustered: Pipeline) -> None:
    traffic, _ = clustered.upgrade(NAME, NEW)
    assert traffic.ok, traffic.failures
    assert traffic.stacks.completed >= 5
    clustered.require_green(NAME)


@pytest.mark.parametrize("member", ["database-0", "messaging-0"])
def test_a_member_that_falls_is_done_without_and_comes_back(
    clustered: Pipeline, cloud: LocalCloud, member: str
) -> None:
    power_cut(cloud, f"{NAME}-{member}")
    # Whoever is in the middle of something when a member falls may be told so: see docs/clusters.md.
    wait_until(
        lambda: clustered.smoke(NAME).ok, clustered.clock, timeout=60, what="the region to serve without the member"
    )
    _is_whole(clustered)
    clustered.verify(NAME)


def test_a_database_whose_members_all_fell_begins_anew_with_all_it_knew(clustered: Pipeline, cloud: LocalCloud) -> None:
    with clustered.site(NAME) as site:
        known = {row.engine_id for row in site.database.engines()}
    power_cut(cloud, *(f"{NAME}-database-{index}" for index in range(3)))
    clustered.deploy(NAME, NEW)
    _is_whole(clustered)
    with clustered.site(NAME) as site:
        assert known <= {row.engine_id for row in site.database.engines()}
    assert clustered.smoke(NAME).ok
