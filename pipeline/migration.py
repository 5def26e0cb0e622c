"""Whose schema the database has: the releases on the hosts' disks, and whether a newer one of them made it."""

from __future__ import annotations

from pipeline import commands
from pipeline.errors import ConfigurationInvalid
from pipeline.fleet import Fleet
from pipeline.release import HeatVersion, Release, newer_heads
from pipeline.site import Site

__all__ = ["made_by_a_newer", "manifest", "manifests"]


def manifest(site: Site, fleet: Fleet, release_id: str) -> Release:
    """Return a release as a host that has it describes it: the controller may never have built it."""
    for state in fleet.states:
        if release_id in state.installed:
            return Release.from_json(site.remote.run(state.host, commands.manifest(release_id)).stdout)
    raise ConfigurationInvalid(f"no host has release {release_id} on disk", hint="inv release.list")


def manifests(site: Site, fleet: Fleet) -> tuple[Release, ...]:
    """Return every release that hosts have on disk, as the hosts describe them."""
    return tuple(manifest(site, fleet, release_id) for release_id in _on_disk(fleet))


def made_by_a_newer(site: Site, fleet: Fleet, release: Release) -> bool:
    """Whether the schema is that of a newer release than `release`, which hosts of `fleet` have on disk.

    So it is after a rollback. The older code works with that schema, for it is additive, and must not migrate it: its
    own migrations do not know that revision. Neither the database nor a host is asked where no host has a newer one.
    """
    newer = [manifest(site, fleet, one) for one in _on_disk(fleet) if HeatVersion.of(one) > release.heat]
    return bool(newer) and site.insist(site.database.alembic_head) in newer_heads(newer, release)


def _on_disk(fleet: Fleet) -> tuple[str, ...]:
    return tuple(sorted({release_id for state in fleet.states for release_id in state.installed}))
