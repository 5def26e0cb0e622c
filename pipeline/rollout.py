"""The plan of a rollout: which hosts move, in which order, on which vhost. Computed from what the hosts say now.

Nothing is remembered: a run that was killed anywhere is continued by planning again.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.environment import Role
from pipeline.errors import ConfigurationInvalid, FleetMixed
from pipeline.fleet import Fleet, HostState
from pipeline.release import Mode, Release, upgrade_mode, why

__all__ = ["RolloutPlan", "plan_rollout", "restart_plan", "running_release", "vhost_of"]


@dataclass(frozen=True, slots=True)
class RolloutPlan:
    """What is left to do to bring a region to `target`.

    `engines_first` move before any API; `engines_last` after all of them, and only when `old_vhosts` are idle.
    """

    mode: Mode
    reason: str
    target: Release
    vhost: str
    old_vhosts: tuple[str, ...]
    engines_first: tuple[HostState, ...]
    apis: tuple[HostState, ...]
    engines_last: tuple[HostState, ...]

    @property
    def moves(self) -> tuple[HostState, ...]:
        """Every host that is still to move, in order."""
        return (*self.engines_first, *self.apis, *self.engines_last)

    def describe(self) -> tuple[str, ...]:
        """Return the plan for people, a line each."""
        moves = ", ".join(state.host.name for state in self.moves) or "nothing: the region is there"
        return f"mode: {self.mode}, because {self.reason}", f"to move, in order: {moves}"


def vhost_of(release: Release) -> str:
    """Return the name of the vhost that a cutover to `release` opens."""
    return f"heat-{release.id}"


def running_release(fleet: Fleet, target_id: str) -> str:
    """Return the id of the release that the fleet comes from; `target_id` itself where every host is on it.

    Raises ConfigurationInvalid before the first deploy, FleetMixed where hosts are on two other releases.
    """
    others = fleet.releases - {target_id}
    if len(others) > 1:
        raise FleetMixed(
            f"hosts are on {len(others)} releases: {', '.join(sorted(others))}",
            hint="finish the upgrade to one of them first: inv upgrade ENV --release R",
        )
    if not fleet.releases:
        raise ConfigurationInvalid("no host runs Heat yet", hint="inv deploy ENV --release R")
    return next(iter(others), target_id)


def plan_rollout(fleet: Fleet, running: Release, target: Release) -> RolloutPlan:
    """Return what is left to do to bring `fleet` from `running` to `target`.

    Order after Heat's upgrades guide: new engines on the new vhost, at least one up before any API moves, the last
    old engine only after every API. Hosts that are down already come first. Raises ConfigurationInvalid for releases
    that are not sequential, and for a cutover with a single engine, which would leave a vhost without any.
    """
    mode = upgrade_mode(running, target) if running != target else Mode.SAME_VHOST
    vhost = _target_vhost(fleet, mode, target)
    engines = _pending(fleet.of(Role.ENGINE), target, vhost)
    apis = _pending(fleet.of(Role.API), target, vhost)
    cutover = mode is Mode.VHOST_CUTOVER
    if cutover and len(fleet.of(Role.ENGINE)) < 2:
        raise ConfigurationInvalid(
            "a cutover to another vhost needs two engine hosts: with one, no engine would serve the old vhost",
            hint="set topology.engine.count to 2 or more, then inv deploy",
        )
    keep = 1 if cutover else 0
    first, last = engines[: len(engines) - keep], engines[len(engines) - keep :]
    old = sorted({state.vhost for state in fleet.states if state.vhost} - {vhost})
    reason = why(running, target) if running != target else f"every host is on {target.id} already"
    return RolloutPlan(mode, reason, target, vhost, tuple(old), first, apis, last)


def restart_plan(fleet: Fleet, release: Release, vhost: str) -> RolloutPlan:
    """Return the plan that restarts every host of a settled fleet on what it runs, for settings that changed."""
    engines, apis = fleet.of(Role.ENGINE), fleet.of(Role.API)
    return RolloutPlan(Mode.SAME_VHOST, "settings changed", release, vhost, (), engines, apis, ())


def _target_vhost(fleet: Fleet, mode: Mode, target: Release) -> str:
    if mode is Mode.VHOST_CUTOVER:
        return vhost_of(target)
    used = sorted({state.vhost for state in fleet.states if state.vhost})
    if len(used) != 1:
        raise FleetMixed(
            f"releases that share a vhost were found on {len(used)}: {', '.join(used)}", hint="inv verify ENV"
        )
    return used[0]


def _pending(states: tuple[HostState, ...], target: Release, vhost: str) -> tuple[HostState, ...]:
    pending = [state for state in states if not (state.settled_on(target.id) and state.vhost == vhost)]
    return tuple(sorted(pending, key=lambda state: (state.running != "", state.host.name)))
