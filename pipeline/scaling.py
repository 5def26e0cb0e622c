"""Scaling a role out and in: which hosts come, which go, and that none goes with work in its hands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pipeline.edges.parallel import on_each
from pipeline.environment import Role
from pipeline.errors import ConfigurationInvalid
from pipeline.fleet import Fleet, HostState
from pipeline.inventory import Host, Inventory
from pipeline.journal import Journal
from pipeline.release import Release
from pipeline.rollout import restart_plan
from pipeline.site import Site
from pipeline.upgrade import Rollout

__all__ = ["SCALABLE", "Scaling", "plan_scaling", "refuse_loss", "retire"]

SCALABLE = (Role.ENGINE, Role.API)


@dataclass(frozen=True, slots=True)
class Scaling:
    """What it takes to have `count` hosts of `role`: how many come, and which go. A role's hosts go from the last."""

    role: Role
    count: int
    coming: int
    leaving: tuple[HostState, ...]


def plan_scaling(fleet: Fleet, role: Role, count: int) -> Scaling:
    """Return what it takes to have `count` hosts of `role`, of a `fleet` as it is.

    Raises ConfigurationInvalid for a role that does not scale, and where no host that runs would be left.
    """
    if role not in SCALABLE:
        raise ConfigurationInvalid(
            f"role {role} does not scale (those that do: {', '.join(SCALABLE)})", hint="inv scale ENV --role engine"
        )
    states = fleet.of(role)
    staying = states[:count]
    if not any(state.running for state in staying):
        raise ConfigurationInvalid(
            f"with {count} hosts of role {role}, none that runs would be left", hint="inv status ENV"
        )
    return Scaling(role, count, max(0, count - len(states)), states[count:])


def retire(
    site: Site, scaling: Scaling, release: Release, vhost: str, journal: Journal, *, gate: Callable[[], None]
) -> None:
    """Take the hosts that leave out of service, all at once: those that stay have to bear it anyway.

    Engines drain with proof (see Rollout.retire), so that the host that goes holds nothing. Raises what `gate` raises,
    Inconclusive where a drain takes longer than its policy, FleetMixed where its proof fails: then no host goes.
    """
    rollout = Rollout(site, restart_plan(Fleet(scaling.leaving), release, vhost), journal)
    states = {state.host: state for state in scaling.leaving}

    def take_out(host: Host) -> None:
        gate()
        rollout.retire(states[host])
        site.progress.say(f"{host.name}: out of service, and holds nothing")

    on_each(tuple(states), take_out)


def refuse_loss(inventory: Inventory, counts: Callable[[Role], int]) -> None:
    """Refuse to launch stacks with fewer hosts of a role than there are: theirs would go with work in their hands.

    `counts` is what the environment says. Raises ConfigurationInvalid.
    """
    for role in SCALABLE:
        if leaving := inventory.of(role)[counts(role) :]:
            raise ConfigurationInvalid(
                f"{', '.join(host.name for host in leaving)} would be deleted with what they have in hand: "
                f"the environment wants {counts(role)} hosts of role {role}, and there are {len(inventory.of(role))}",
                hint=f"inv scale {inventory.environment} --role {role} --count {counts(role)}, which drains them first",
            )
