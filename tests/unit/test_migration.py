"""Whose schema the database has: what the hosts' disks say, and who is asked."""

from __future__ import annotations

from dataclasses import replace

import pytest
from builders import R25, R26, R27, Machines, ScriptedRemote, fleet_on

from pipeline.edges.ssh import Result
from pipeline.fleet import Fleet
from pipeline.migration import made_by_a_newer, manifest, manifests
from pipeline.release import Release
from pipeline.site import Site


def _fleet(*on_one_host: Release) -> Fleet:
    """Return a fleet on release 25, whose last host alone has the releases `on_one_host` too."""
    *others, last = fleet_on(R25).states
    return Fleet((*others, replace(last, installed=(R25.id, *(one.id for one in on_one_host)))))


def _schema(remote: ScriptedRemote, head: str) -> None:
    remote.on("information_schema", "1\n" if head else "")
    remote.on("version_num", f"{head}\n")


def test_releases_are_described_by_the_hosts_that_have_them(machines: Machines, here: Site) -> None:
    fleet = _fleet(R26)
    assert manifest(here, fleet, R26.id) == R26
    assert manifests(here, fleet) == (R25, R26)


@pytest.mark.parametrize(
    ("head", "made"),
    [(R26.alembic_head, True), (R25.alembic_head, False), ("0123456789ab", False), ("", False)],
    ids=["a newer release's", "its own", "nobody's", "none"],
)
def test_a_schema_is_a_newer_releases_where_any_host_has_that_on_disk(
    machines: Machines, remote: ScriptedRemote, here: Site, head: str, made: bool
) -> None:
    _schema(remote, head)
    assert made_by_a_newer(here, _fleet(R26), R25) is made


def test_a_newer_release_with_the_same_schema_made_nothing_else(
    machines: Machines, remote: ScriptedRemote, here: Site
) -> None:
    _schema(remote, R26.alembic_head)
    assert not made_by_a_newer(here, _fleet(R26, R27), R26)


def test_nobody_is_asked_where_no_host_has_a_newer_release(
    machines: Machines, remote: ScriptedRemote, here: Site
) -> None:
    assert not made_by_a_newer(here, _fleet(R25), R26)
    assert remote.ran == []


def test_a_database_that_is_away_for_a_moment_is_asked_again(
    machines: Machines, remote: ScriptedRemote, here: Site
) -> None:
    _schema(remote, R26.alembic_head)
    remote.on("version_num", Result(1, "", "ERROR 2002 (HY000): Can't connect"), f"{R26.alembic_head}\n")
    assert made_by_a_newer(here, _fleet(R26), R25)
