"""Retiring hosts: out of service by the careful road of an upgrade, before Heat takes their servers away."""

from __future__ import annotations

from collections.abc import Collection

from pipeline.edges.hosts import visible
from pipeline.fleet import Fleet
from pipeline.journal import Journal
from pipeline.release import Release
from pipeline.rollout import restart_plan
from pipeline.site import Site
from pipeline.upgrade import Rollout

__all__ = ["retire"]


def retire(site: Site, names: Collection[str], release: Release, journal: Journal) -> tuple[str, ...]:
    """Take the hosts of `names` out of service one by one, and return those that were in it.

    One that does not answer has nothing left to finish, and is told. Raises Inconclusive at a drain's deadline,
    FleetMixed where an engine ended without a proof that it drained.
    """
    fleet = visible(site.region.inventory, site.remote)
    for name in sorted(set(names) - {state.host.name for state in fleet.states}):
        site.progress.say(f"{name}: does not answer, so it is not drained")
    serving = [state for state in fleet.states if state.host.name in names and (state.running or state.draining)]
    rollout = Rollout(site, restart_plan(Fleet(()), release, ""), journal)
    for state in serving:
        rollout.retire(state)
        site.progress.say(f"{state.host.name}: out of service")
    return tuple(state.host.name for state in serving)
