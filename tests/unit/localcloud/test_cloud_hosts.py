"""Hosts as their records have them; the integration tests boot real ones."""

from __future__ import annotations

from ipaddress import IPv4Network
from pathlib import Path

import pytest

from pipeline.edges.clock import FakeClock
from pipeline.localcloud.cgroups import Cgroups
from pipeline.localcloud.cloud import LocalCloud
from pipeline.localcloud.hosts import RECORD, Host, Hosts

STAYS = Host("00000000-0000-4000-8000-000000000001", "stays", "198.18.5.10", "")
GOES = Host("00000000-0000-4000-8000-000000000002", "goes", "198.18.5.11", "")


@pytest.fixture
def hosts(tmp_path: Path) -> Hosts:
    made = Hosts(
        LocalCloud(tmp_path, IPv4Network("198.18.5.0/24")), Cgroups((tmp_path / "cgroup",)), tmp_path, FakeClock()
    )
    for host in (GOES, STAYS):
        made._record(host)
    return made


def test_hosts_are_known_by_their_records(hosts: Hosts) -> None:
    assert hosts.all() == (GOES, STAYS)


def test_a_host_that_is_removed_while_all_are_listed_fails_nobody(
    hosts: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Path.glob

    def then_removed(self: Path, pattern: str) -> list[Path]:
        records = list(found(self, pattern))
        (hosts.cloud.machines / GOES.name / RECORD).unlink()
        return records

    monkeypatch.setattr(Path, "glob", then_removed)
    assert hosts.all() == (STAYS,)
