"""The plan of a rollout: which hosts move, in which order, on which vhost. Computed from what the hosts say now.

Nothing is remembered: a run that was killed anywhere is continued by planning again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, repeat
from typing import Any

from pipeline.environment import Role
from pipeline.errors import ConfigurationInvalid, FleetMixed
from pipeline.fleet import Fleet, HostState
from pipeline.policy import Order, Policy
from pipeline.quantities import hosts_in
from pipeline.release import Mode, Release, upgrade_mode, why

__all__ = ["Batch", "RolloutPlan", "plan_rollout", "restart_plan", "rollback_target", "running_release", "vhost_of"]


@dataclass(frozen=True, slots=True)
class Batch:
    """Hosts of one role that move together, at most `width` of them at once.

    The `canary` is the first of a whole rollout: it proves itself before any other host moves. A batch `when_idle`
    begins only when the old vhosts are idle.
    """

    role: Role
    hosts: tuple[HostState, ...]
    width: int
    canary: bool = False
    when_idle: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its hosts, in order."""
        return tuple(state.host.name for state in self.hosts)

    def __str__(self) -> str:
        notes = [
            *(["canary"] if self.canary else []),
            *(["when the old vhost is idle"] if self.when_idle else []),
            *([f"{self.width} at once"] if len(self.hosts) > 1 else []),
        ]
        return ", ".join(self.names) + (f" ({', '.join(notes)})" if notes else "")


@dataclass(frozen=True, slots=True)
class RolloutPlan:
    """What is left to do to bring a region to `target`, batch by batch.

    Engines that need not wait move before any API; the last one after all of them, and only when `old_vhosts` are idle.
    `source` is the id of the release that hosts come from. `unproved` are hosts that moved as the canary in an earlier
    run, when nothing has moved since. A `rollback` goes to an older release: binaries and vhost move, the schema stays.
    """

    mode: Mode
    reason: str
    target: Release
    vhost: str
    old_vhosts: tuple[str, ...]
    batches: tuple[Batch, ...]
    source: str = ""
    unproved: tuple[HostState, ...] = ()
    rollback: bool = False

    @property
    def moves(self) -> tuple[HostState, ...]:
        """Every host that is still to move, in order."""
        return tuple(state for batch in self.batches for state in batch.hosts)

    @property
    def waits_for_idle(self) -> tuple[HostState, ...]:
        """The engines that stop only when the old vhosts are idle."""
        return tuple(state for batch in self.batches if batch.when_idle for state in batch.hosts)

    def describe(self) -> tuple[str, ...]:
        """Return the plan for people, a line each."""
        numbered = (f"batch {number}: {batch}" for number, batch in enumerate(self.batches, 1))
        moves = tuple(numbered) or ("to move: nothing, the region is there",)
        return f"mode: {self.mode}, because {self.reason}", *moves

    def to_json(self) -> dict[str, Any]:
        """Return the plan as plain values, for a record."""
        return {
            "mode": self.mode.value,
            "reason": self.reason,
            "target": self.target.id,
            "vhost": self.vhost,
            "old_vhosts": list(self.old_vhosts),
            "rollback": self.rollback,
            "batches": [
                {
                    "role": batch.role.value,
                    "hosts": [{"name": state.host.name, "from": state.current} for state in batch.hosts],
                    "at_once": batch.width,
                    "canary": batch.canary,
                    "when_idle": batch.when_idle,
                }
                for batch in self.batches
            ],
        }


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


def rollback_target(fleet: Fleet, versions: Sequence[Release]) -> Release:
    """Return the release to go back to: another build of the newest that hosts are on, or the newest that is older.

    `versions` are the manifests of all releases on the hosts' disks. Raises ConfigurationInvalid where there is none.
    """
    on = [release for release in versions if release.id in fleet.releases]
    if not on:
        raise ConfigurationInvalid("no host runs Heat yet", hint="inv deploy ENV --release R")
    newest = max(on, key=lambda release: release.heat)
    builds = [release.id for release in on if release.heat == newest.heat]
    if len(builds) > 1:
        raise ConfigurationInvalid(
            f"hosts are on two builds of Heat {newest.heat}, and neither is older: {', '.join(sorted(builds))}",
            hint="name one: inv rollback ENV --release R",
        )
    older = [release for release in versions if release.heat <= newest.heat and release.id != newest.id]
    if not older:
        raise ConfigurationInvalid(
            f"no release older than {newest.id} is left on the hosts",
            hint="name one: inv rollback ENV --release R (inv release.list)",
        )
    return max(older, key=lambda release: (release.id in fleet.releases, release.heat))


def plan_rollout(
    fleet: Fleet, running: Release, target: Release, policy: Policy, *, rollback: bool = False
) -> RolloutPlan:
    """Return what is left to do to bring `fleet` from `running` to `target`, in the batches of `policy`.

    Order after Heat's upgrades guide: new engines on the new vhost, at least one up before any API moves, the last
    old engine only after every API. Hosts that are down already come first. Raises ConfigurationInvalid for releases
    that are not sequential, and for a cutover with a single engine, which would leave a vhost without any.
    """
    mode = upgrade_mode(running, target, rollback=rollback) if running != target else Mode.SAME_VHOST
    vhost = _target_vhost(fleet, mode, target)
    cutover = mode is Mode.VHOST_CUTOVER
    engines, apis = fleet.of(Role.ENGINE), fleet.of(Role.API)
    if cutover and len(engines) < 2:
        raise ConfigurationInvalid(
            "a cutover to another vhost needs two engine hosts: with one, no engine would serve the old vhost",
            hint="set topology.engine.count to 2 or more, then inv deploy",
        )
    pending = {role: _pending(fleet.of(role), target, vhost, policy.order) for role in (Role.ENGINE, Role.API)}
    keep = 1 if cutover else 0
    first, last = _split(pending[Role.ENGINE], keep)
    batches = [
        *_batches(Role.ENGINE, first, len(engines), len(engines) - len(pending[Role.ENGINE]), policy),
        *_batches(Role.API, pending[Role.API], len(apis), len(apis) - len(pending[Role.API]), policy),
        *(
            Batch(Role.ENGINE, (state,), hosts_in(policy.max_unavailable, len(engines)), when_idle=True)
            for state in last
        ),
    ]
    settled = [state for state in fleet.states if state not in (*pending[Role.ENGINE], *pending[Role.API])]
    if batches and not settled and running != target:
        batches[0] = replace(batches[0], canary=True)
    canary_size = hosts_in(policy.serial[0], len(engines))
    proving = batches and running != target and 0 < len(settled) <= canary_size
    unproved = tuple(settled) if proving and all(state.host.role is Role.ENGINE for state in settled) else ()
    old = sorted({state.vhost for state in fleet.states if state.vhost} - {vhost})
    reason = why(running, target) if running != target else f"every host is on {target.id} already"
    return RolloutPlan(mode, reason, target, vhost, tuple(old), tuple(batches), running.id, unproved, rollback)


def restart_plan(fleet: Fleet, release: Release, vhost: str) -> RolloutPlan:
    """Return the plan that restarts every host of a settled fleet on what it runs, for settings that changed."""
    one_by_one = (Batch(role, (state,), 1) for role in (Role.ENGINE, Role.API) for state in fleet.of(role))
    return RolloutPlan(Mode.SAME_VHOST, "settings changed", release, vhost, (), tuple(one_by_one), release.id)


def _split(pending: tuple[HostState, ...], keep: int) -> tuple[tuple[HostState, ...], tuple[HostState, ...]]:
    return pending[: len(pending) - keep], pending[len(pending) - keep :]


def _batches(role: Role, pending: tuple[HostState, ...], total: int, done: int, policy: Policy) -> Iterator[Batch]:
    """Cut `pending` into batches of policy.serial; the sizes that `done` hosts used up are not used again."""
    width = hosts_in(policy.max_unavailable, total)
    left = list(pending)
    for share in chain(policy.serial, repeat(policy.serial[-1])):
        size = hosts_in(share, total)
        if done:
            size, done = max(0, size - done), max(0, done - size)
        if not left:
            return
        if size:
            yield Batch(role, tuple(left[:size]), width)
            left = left[size:]


def _target_vhost(fleet: Fleet, mode: Mode, target: Release) -> str:
    if mode is Mode.VHOST_CUTOVER:
        there = {state.vhost for state in fleet.states if state.current == target.id and state.vhost}
        there -= {state.vhost for state in fleet.states if state.current != target.id}
        return min(there, default=vhost_of(target))  # a release may have come to a vhost that an older one opened
    used = sorted({state.vhost for state in fleet.states if state.vhost})
    if len(used) != 1:
        raise FleetMixed(
            f"releases that share a vhost were found on {len(used)}: {', '.join(used)}", hint="inv verify ENV"
        )
    return used[0]


def _pending(states: tuple[HostState, ...], target: Release, vhost: str, order: Order) -> tuple[HostState, ...]:
    """Return the hosts of one role that are not there yet: those that serve nobody first, then by name."""
    pending = [state for state in states if not (state.settled_on(target.id) and state.vhost == vhost)]
    by_name = sorted(pending, key=lambda state: state.host.name, reverse=order is Order.REVERSE_SORTED)
    return tuple(sorted(by_name, key=lambda state: state.running != ""))
