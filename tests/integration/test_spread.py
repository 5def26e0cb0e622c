"""A file spreads over a region's hosts, and a command runs on them, with the systemd and network that they have."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from pipeline import handover
from pipeline.demo import Proof
from pipeline.edges.clock import SystemClock, wait_until
from pipeline.edges.parallel import on_each
from pipeline.edges.spread import Way, spread
from pipeline.errors import PipelineError
from pipeline.fanout import Outcome, Silent
from pipeline.handover import File
from pipeline.site import Site
from pipeline.workflow import Pipeline

DATA = os.urandom(20_000_000)
SHA256 = hashlib.sha256(DATA).hexdigest()
TARGET = "/home/pipeline/to-be-spread"
UNIT = "heat-pipeline-spread.service"


@pytest.fixture
def site(story: Proof, pipeline: Pipeline) -> Iterator[Site]:
    """The region that the demo made; what is spread over it is gone afterwards."""
    with pipeline.site("local") as opened:
        yield opened
        with suppress(PipelineError):
            on_each(
                opened.region.inventory.hosts,
                lambda host: opened.remote.run(host, f"rm -f {TARGET} {TARGET}.fetched; {handover.stop_giving()}"),
            )


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "to-be-spread"
    path.write_bytes(DATA)
    return path


def test_seven_hosts_get_a_file_by_one_copy_from_here_and_nothing_serves_it_any_more(site: Site, source: Path) -> None:
    hosts = site.region.inventory.hosts
    arrivals = spread(site.remote, hosts, source, TARGET, SHA256, report=print)
    ways = [arrival.way for arrival in arrivals]
    assert (ways.count(Way.UPLOADED), ways.count(Way.GIVEN)) == (1, len(hosts) - 1)
    for host in hosts:
        assert site.remote.run(host, f"sha256sum <{TARGET}").stdout.split()[0] == SHA256
        assert site.remote.run(host, f"stat -c '%U %a' {TARGET}").stdout == "pipeline 600\n"
        state = site.remote.run(host, f"systemctl is-active {UNIT}", check=False).stdout
        assert state == "inactive\n"
        assert site.remote.run(host, "systemctl --failed --quiet --plain", check=False).stdout == ""
    assert {arrival.way for arrival in spread(site.remote, hosts, source, TARGET, SHA256)} == {Way.HAD}


def test_a_server_is_nobody_listens_on_one_address_and_ends_by_itself(site: Site, source: Path) -> None:
    host = site.region.inventory.hosts[0]
    site.remote.put(host, source, TARGET)
    file = File(TARGET, SHA256, len(DATA))
    url = handover.read_url(site.remote.run(host, handover.give(file, host.address, 6)).stdout)
    assert url is not None
    assert url.startswith(f"http://{host.address}:")
    pid = site.remote.run(host, f"systemctl show --property MainPID --value {UNIT}").stdout.strip()
    user = site.remote.run(host, f"stat -c %u /proc/{pid}").stdout.strip()
    assert int(user) >= 61184, "not of systemd's dynamic users"
    shown = site.remote.run(host, f"tr '\\0' ' ' </proc/{pid}/cmdline; systemctl show {UNIT}").stdout
    assert url.rpartition("/")[2] not in shown
    inside = f"nsenter --mount --target {pid} setpriv --reuid {user} --clear-groups"
    assert site.remote.run(host, f"{inside} ls /home/pipeline", check=False).status != 0
    wait_until(
        lambda: site.remote.run(host, f"systemctl is-active {UNIT}", check=False).stdout == "inactive\n",
        SystemClock(),
        timeout=20,
        interval=0.5,
        what=f"{UNIT} to end by itself",
    )


def test_a_command_runs_on_every_host_of_a_role(story: Proof, pipeline: Pipeline) -> None:
    results = pipeline.run_on_hosts("local", "hostname", Silent(), roles=["engine", "api"])
    assert [(one.outcome, one.stdout) for one in results] == [(Outcome.DONE, f"local-{one.host}\n") for one in results]
    assert len(results) == 4
