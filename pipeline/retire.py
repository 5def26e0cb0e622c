"""Retiring hosts: out of service by the careful road of an upgrade, before Heat takes their servers away."""

from __future__ import annotations

from collections.abc import Callable, Collection

from pipeline.edges.hosts import visible
from pipeline.edges.parallel import on_each
from pipeline.errors import PreflightUnreachable
from pipeline.fleet import Fleet
from pipeline.inventory import Host
from pipeline.journal import Journal
from pipeline.release import Release
from pipeline.rollout import restart_plan
from pipeline.site import Site
from pipeline.upgrade import Rollout

__all__ = ["retire"]


def retire(
    site: Site,
    names: Collection[str],
    release: Release,
    journal: Journal,
    *,
    gate: Callable[[], None],
    owned: Callable[[], None] = lambda: None,
) -> tuple[str, ...]:
    """Take the hosts of `names` out of service, and return those that were taken.

    It is done all at once: those that stay have to bear it anyway.
    Engines drain with proof (see Rollout.retire), so that the host that goes holds nothing. One that never had a
    release has nothing to finish; nor has one that cannot be reached, and that is told. Raises what `gate` raises
    before each host and `owned` before what follows a wait, the error of a host that answers and cannot be looked at,
    Inconclusive where a drain takes longer than its policy, FleetMixed where its proof fails: then no host goes.
    """
    # One that answers and does not let us look may hold work: it is no dead one.
    fleet = visible(site.region.inventory, site.remote, without=PreflightUnreachable)
    for name in sorted(set(names) - {state.host.name for state in fleet.states}):
        site.progress.say(f"{name}: does not answer, so it is not drained")
    leaving = {state.host: state for state in fleet.states if state.host.name in names and state.current}
    rollout = Rollout(site, restart_plan(Fleet(()), release, ""), journal, owned)

    def take_out(host: Host) -> None:
        gate()
        rollout.retire(leaving[host])
        site.progress.say(f"{host.name}: out of service, and holds nothing")

    on_each(tuple(leaving), take_out)
    return tuple(host.name for host in leaving)
