"""The steps of a rolling upgrade, each safe to run again. The story that puts them in order is pipeline.workflow.

Order and reasons after Heat's upgrades guide ("rolling upgrade") and the worker RPC's versions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pipeline import commands
from pipeline.edges.broker import Queue
from pipeline.environment import Role
from pipeline.errors import CommandFailed, FailedAndReverted, FleetMixed, Inconclusive, PipelineError
from pipeline.fleet import Fleet, HostState
from pipeline.health import api_answers, engine_is_up, live_engines, stays_healthy
from pipeline.hostfiles import UNITS
from pipeline.rollout import RolloutPlan
from pipeline.site import Site

__all__ = ["DrainProof", "Rollout", "purge_steps"]


@dataclass(frozen=True, slots=True)
class DrainProof:
    """What was seen when an engine stopped: its workers' rows gone, nothing held, and the seconds it took."""

    host: str
    engines: tuple[str, ...]
    seconds: float


@dataclass(slots=True)
class Rollout:
    """Brings one region to `plan.target`; `moved` hosts of it are there already, by this run or an earlier one."""

    site: Site
    plan: RolloutPlan
    moved: int = 0

    def prepare_database(self, backup_name: str) -> str:
        """Check, purge, back up, then migrate the schema once with the new code; return the backup's path.

        Source: Heat's upgrades guide: backup first; db_sync with the new code, from one host.
        """
        site, release = self.site, self.plan.target
        host = site.region.inventory.one(Role.ENGINE)
        deadline = site.environment.deadlines.step
        site.remote.run(host, commands.upgrade_check(release.id), timeout=deadline)
        for days in purge_steps(site.database.oldest_deleted_days()):
            site.progress.say(f"purging what was deleted more than {days} days ago")
            site.remote.run(host, commands.purge_deleted(release.id, days), timeout=deadline)
        path = site.database.backup(backup_name, timeout=deadline)
        site.progress.say(f"backup: {path} on {site.region.inventory.one(Role.DATABASE).name}")
        if site.database.alembic_head() != release.alembic_head:
            site.remote.run(host, commands.db_sync(release.id), timeout=deadline)
            site.progress.say(f"schema is at {site.database.alembic_head()}")
        return path

    def open_vhost(self) -> None:
        """Make the vhost that the new release talks on, before anything needs it."""
        self.site.broker.create_vhost(self.plan.vhost)
        if expiring := self.site.broker.expiring(self.plan.vhost):
            raise PipelineError(
                f"policies {', '.join(expiring)} let messages of vhost {self.plan.vhost} expire: stacks would be lost",
                hint="remove message-ttl from them, then run the same command again",
            )

    def move_engine(self, state: HostState) -> None:
        """Drain an engine, switch it to the new release, start it, and wait until it is healthy."""
        if state.running:
            proof = self._drain(state)
            self.site.progress.say(f"{proof.host}: {len(proof.engines)} workers drained in {proof.seconds:.1f} s")
        before = live_engines(self.site, state.host)
        self._move(state, lambda: engine_is_up(self.site, state.host, before))

    def move_api(self, state: HostState) -> None:
        """Take an API host out of the load balancer, switch both its APIs, prove them, and let it back in."""
        host, policy = state.host, self.site.environment.policy
        self.site.balancer.drain(host.name, timeout=policy.drain.timeout)
        # Always: a host with one API down counts as not running, and its other API would stay on the old release.
        self.site.remote.run(host, commands.stop(UNITS[Role.API]), timeout=self._stop_timeout)
        revisions = frozenset({self.plan.target.id, state.current})
        self._move(state, lambda: api_answers(self.site, host, revisions))
        self.site.balancer.admit(host.name, timeout=policy.health.healthy_deadline)
        self.site.progress.say(f"{host.name}: in rotation again on {self.plan.target.id}")

    def admit_stranded(self, fleet: Fleet) -> None:
        """Let APIs back into rotation that are settled but drained: a run was killed before it could."""
        policy, balancer = self.site.environment.policy.health, self.site.balancer
        drained = {server.name for server in balancer.servers() if server.status.startswith("DRAIN")}
        for state in fleet.of(Role.API):
            if state.host.name in drained and state not in self.plan.apis and state.running:
                balancer.admit(state.host.name, timeout=policy.healthy_deadline)
                self.site.progress.say(f"{state.host.name}: was left out of rotation, and is in it again")

    def await_idle(self) -> None:
        """Wait until the old vhosts are idle: no message, nothing held by their engines, on several polls in a row.

        Raises Inconclusive at the drain's deadline, saying what is still held. Empty queues alone prove nothing,
        because messages are acknowledged before they are worked on.
        """
        policy = self.site.environment.policy.drain
        old = [engine for state in self.plan.engines_last for engine in live_engines(self.site, state.host)]
        quiet, last = 0, ""
        deadline = self.site.clock.monotonic() + policy.timeout
        while True:
            ready = sum(queue.ready for vhost in self.plan.old_vhosts for queue in self._work(vhost))
            held = self.site.database.in_flight(old)
            quiet = quiet + 1 if not ready and held.idle else 0
            said = f"old vhost: {ready} messages, {held.resources} resources and {held.locks} stacks held"
            if said != last:
                self.site.progress.say(said)
                last = said
            if quiet >= policy.idle_polls:
                return
            if self.site.clock.monotonic() > deadline:
                raise Inconclusive(
                    f"{said} after {policy.timeout:.0f} s",
                    hint="a WaitCondition may hold it: wait, or raise policy.drain.timeout, then run again",
                )
            self.site.clock.sleep(policy.poll)

    def tidy(self, fleet: Fleet, keep: str) -> None:
        """Remove what nobody needs any more: rows of ended engines, unused vhosts, releases older than `keep`.

        `keep` is the id of the release before, which stays on disk to go back to; `fleet` is as it was at the start.
        """
        site, target = self.site, self.plan.target
        site.remote.run(site.region.inventory.one(Role.ENGINE), commands.service_clean(target.id))
        for vhost in site.broker.vhosts():
            if vhost.startswith("heat-") and vhost != self.plan.vhost:
                site.broker.delete_vhost(vhost)
                site.progress.say(f"vhost {vhost} removed")
        for state in fleet.states if self.plan.moves else ():
            for old in set(state.installed) - {target.id, keep}:
                site.remote.run(state.host, commands.remove_release(old))
                site.progress.say(f"{state.host.name}: release {old} removed")

    def _work(self, vhost: str) -> tuple[Queue, ...]:
        return tuple(queue for queue in self.site.broker.queues(vhost) if queue.of_engines)

    @property
    def _stop_timeout(self) -> float:
        return self.site.environment.heat.graceful_shutdown_timeout + 60

    def _drain(self, state: HostState) -> DrainProof:
        """Stop an engine by TERM and prove that it ended gracefully: its rows are gone, and it holds nothing."""
        clock, host = self.site.clock, state.host
        engines = sorted(live_engines(self.site, host))
        flying = self.site.database.in_flight(engines)
        self.site.progress.say(f"{host.name}: draining, {flying.resources} resources in its hands")
        started = clock.monotonic()
        result = self.site.remote.run(host, commands.stop(UNITS[Role.ENGINE]), timeout=self._stop_timeout)
        seconds = clock.monotonic() - started
        left = set(engines) & live_engines(self.site, host)
        held = self.site.database.in_flight(engines)
        if left or not held.idle:
            raise FleetMixed(
                f"{host.name} did not drain: systemd says {result.stdout.strip()}, {len(left)} of its workers' rows "
                f"are still there, and it holds {held.resources} resources and {held.locks} stacks",
                hint=f"look at the journal of heat-engine on {host.name}, then run the same command again",
            )
        return DrainProof(host.name, tuple(engines), seconds)

    def _move(self, state: HostState, healthy: Callable[[], bool]) -> None:
        """Switch a stopped host and wait until it is healthy; put it back on its old release if it never is."""
        script = f"{commands.switch(self.plan.target.id)}\n{commands.start(UNITS[state.host.role])}"
        try:
            self.site.remote.run(state.host, script, timeout=self.site.environment.deadlines.step)
            stays_healthy(self.site, state.host, healthy)
        except (Inconclusive, CommandFailed) as error:
            raise self._given_up(state, error) from error
        self.moved += 1
        self.site.progress.say(f"{state.host.name}: healthy on {self.plan.target.id}")

    def _given_up(self, state: HostState, error: PipelineError) -> PipelineError:
        """Put a host that never got healthy back on its old release, if it has one; return the error to raise."""
        name, target = state.host.name, self.plan.target.id
        said = f"{name} did not get healthy on {target} ({error.message})"
        hint = f"read the journal of {name}: inv local.ssh {name}"
        if state.current in ("", target):
            return FleetMixed(f"{said}; it has no other release to go back to", hint=hint)
        self._revert(state)
        failure = FleetMixed if self.moved else FailedAndReverted
        return failure(f"{said}; it is back on {state.current}", hint=hint)

    def _revert(self, state: HostState) -> None:
        """Put a host back on the release it came from, and an API back into rotation."""
        units = UNITS[state.host.role]
        script = f"systemctl stop {' '.join(units)}\n{commands.switch(state.current)}\n{commands.start(units)}"
        self.site.remote.run(state.host, script, timeout=self._stop_timeout)
        if state.host.role is Role.API:
            deadline = self.site.environment.policy.health.healthy_deadline
            self.site.balancer.admit(state.host.name, timeout=deadline)


def purge_steps(oldest_days: int) -> tuple[int, ...]:
    """Return the ages (days) to purge down to, one after the other, when the oldest deleted stack is that old.

    A large backlog makes db_sync impossibly slow, and purging it in one go is as slow: walk the age down from a year.
    """
    return tuple(days for days in (365, 270, 180, 120, 90) if days < oldest_days)
