"""The steps of a rolling upgrade, each safe to run again. The story that puts them in order is pipeline.workflow.

Order and reasons after Heat's upgrades guide ("rolling upgrade") and the worker RPC's versions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from pipeline import commands
from pipeline.edges.broker import Queue
from pipeline.edges.database import Dump, Held, InFlight
from pipeline.edges.ssh import Result
from pipeline.environment import Role
from pipeline.errors import CommandFailed, FleetMixed, HostUnreachable, Inconclusive, PipelineError, Unanswered
from pipeline.fleet import Fleet, HostState
from pipeline.health import Workers, api_answers, engine_answers, engine_is_up, live_engines, stays_healthy, workers_of
from pipeline.hostfiles import UNITS
from pipeline.inventory import Host
from pipeline.journal import Journal
from pipeline.migration import made_by_a_newer
from pipeline.policy import Backup
from pipeline.release import HeatVersion
from pipeline.rollout import RolloutPlan
from pipeline.site import Site

__all__ = ["Rollout", "purge_steps"]

_CHOICE = (
    "run the same command again to go on waiting (it drains on by itself), signal what a WaitCondition waits for, "
    "or give a stack up: openstack stack cancel STACK"
)
_NAMED = 5  # of what an engine holds, the oldest
_TELL = 10.0  # seconds between two lines about what a drain waits for
_BREATH = 0.2  # seconds between two looks at a unit that stops; each look takes up to two seconds on the host


class Stranded:
    """Messages that a draining engine took and will not work on; they go back to the broker, for other engines.

    oslo.messaging stops reading before it waits for the work under way, and cancels no consumer: the broker goes on
    delivering, one message for each (rabbit_qos_prefetch_count), and that comes back only when the engine ends. Work
    under way that waits for such a message, as a nested stack's parent does, would keep the engine from ever ending.
    """

    def __init__(self, site: Site, host: Host) -> None:
        self._site = site
        self._host = host
        self._seen: frozenset[str] = frozenset()

    def give_back(self) -> int:
        """Close the connections that held the same unacknowledged state at two looks in a row; return how many.

        A broker that is away counts as a look that saw nothing.
        """
        try:
            now = self._site.broker.taken(self._host.address)
            stranded, self._seen = now & self._seen, now
            if stranded:
                self._site.broker.close(stranded)
        except (HostUnreachable, Unanswered):  # the drain goes on, and is looked at again in a moment
            self._seen = frozenset()
            return 0
        if stranded:
            self._site.progress.say(f"{self._host.name}: {len(stranded)} messages it had taken went back for others")
        return len(stranded)


@dataclass(frozen=True, slots=True)
class Rollout:
    """Brings the hosts of one region to `plan.target`, each by steps that are safe to take again.

    `owned` raises LockLost where the environment is another run's by now. It is asked before what changes it after a
    long wait, as a drain or a backup is: a lock's lease may run out meanwhile. What it raises passes.
    """

    site: Site
    plan: RolloutPlan
    journal: Journal
    owned: Callable[[], None] = lambda: None

    def prepare_database(self, backup_name: str, fleet: Fleet) -> str:
        """Check, purge, back up, then migrate the schema once with the new code; return the backup's path or "".

        A schema that a newer release made, which hosts of `fleet` have on disk, stays as it is.
        Source: Heat's upgrades guide: backup first; db_sync with the new code, from one host.
        """
        site, release = self.site, self.plan.target
        host = site.region.inventory.one(Role.ENGINE)
        deadline = site.environment.deadlines.step
        site.step(host, "upgrade-check", commands.upgrade_check(release.id), timeout=deadline)
        for days in purge_steps(site.insist(site.database.oldest_deleted_days)):
            site.progress.say(f"purging what was deleted more than {days} days ago")
            site.step(host, "purge", commands.purge_deleted(release.id, days), timeout=deadline)
        dump = None
        if site.environment.policies.database.backup is Backup.REQUIRED:
            dump = site.database.backup(backup_name, partial(site.step, timeout=deadline))
            site.progress.say(f"backup: {dump.path} on {dump.host.name}")
        if site.insist(site.database.alembic_head) != release.alembic_head:
            if not made_by_a_newer(site, fleet, release):
                self._migrate(host, dump)
            site.progress.say(f"schema is at {site.insist(site.database.alembic_head)}")
        return dump.path if dump else ""

    def _migrate(self, host: Host, dump: Dump | None) -> None:
        self.owned()
        site = self.site
        restore = f"; the state before: gzip -dc {dump.path} | mariadb, as root on {dump.host.name}" if dump else ""
        try:
            site.step(host, "db-sync", commands.db_sync(self.plan.target.id), timeout=site.environment.deadlines.step)
        except CommandFailed as error:
            raise CommandFailed(
                f"the schema could not be migrated: {error.message}",
                status=error.status,
                stdout=error.stdout,
                stderr=error.stderr,
                hint=f"mend the cause and run the same command again, which goes on from there{restore}",
            ) from error

    def open_vhost(self) -> None:
        """Make the vhost that the new release talks on, before anything needs it."""
        self.owned()
        broker, vhost = self.site.broker, self.plan.vhost
        self.site.insist(lambda: broker.create_vhost(vhost))
        if expiring := self.site.insist(lambda: broker.expiring(vhost)):
            raise PipelineError(
                f"policies {', '.join(expiring)} let messages of vhost {self.plan.vhost} expire: stacks would be lost",
                hint="remove message-ttl from them, then run the same command again",
            )

    def move(self, state: HostState) -> None:
        """Bring one host to the plan's target by the road of its role; raises what kept it from getting there."""
        self._go(state, self.plan.target.id)
        self.site.progress.say(f"{state.host.name}: healthy on {self.plan.target.id}")

    def revert(self, state: HostState, *, failed: bool) -> str:
        """Put a host that was moved back on the release it came from, by the same road, and return that release.

        One that `failed` has no drain to prove. Raises FleetMixed where there is no release to go back to.
        """
        source = state.current if state.current not in ("", self.plan.target.id) else self.plan.source
        if source not in state.installed or source == self.plan.target.id:
            raise FleetMixed(f"{state.host.name} has no other release to go back to")
        self._go(state, source, prove=not failed)
        self.site.progress.say(f"{state.host.name}: back on {source}")
        return source

    def retire(self, state: HostState) -> None:
        """Take a host out of service for good: an engine drains with proof, an API's requests are finished first."""
        if state.host.role is Role.ENGINE:
            self._drain(state, prove=True)
        else:
            self._leave(state.host)

    def is_healthy(self, state: HostState) -> Callable[[], bool]:
        """Return the question whether a host that moved is healthy on the plan's target now."""
        if state.host.role is Role.ENGINE:
            return partial(engine_is_up, self.site, state.host, frozenset())
        return partial(api_answers, self.site, state.host, frozenset({self.plan.target.id}))

    def _go(self, state: HostState, release_id: str, *, prove: bool = True) -> None:
        if state.host.role is Role.ENGINE:
            self._go_engine(state, release_id, prove=prove)
        else:
            self._go_api(state, release_id)

    def _go_engine(self, state: HostState, release_id: str, *, prove: bool) -> None:
        """Drain an engine, switch it, start it, and wait until it is healthy and answers by RPC."""
        host = state.host
        self._drain(state, prove=prove)
        before = self.site.insist(lambda: live_engines(self.site, host))
        self._start(host, release_id)
        with self.journal.step("healthy", host.name):
            stays_healthy(self.site, host, lambda: engine_is_up(self.site, host, before))
            stays_healthy(self.site, host, lambda: engine_answers(self.site, host, release_id), seconds=0)

    def _go_api(self, state: HostState, release_id: str) -> None:
        """Take an API host out of the load balancer, switch both its APIs, prove them, and let it back in."""
        host, policy = state.host, self.site.environment.policies
        self._leave(host)
        self._start(host, release_id)
        with self.journal.step("healthy", host.name):
            revisions = frozenset({self.plan.target.id, self.plan.source, state.current, release_id})
            stays_healthy(self.site, host, lambda: api_answers(self.site, host, revisions))
        with self.journal.step("admit", host.name):
            self.site.insist(lambda: self.site.balancer.admit(host.name, timeout=policy.health.healthy_deadline))
        self.site.progress.say(f"{host.name}: in rotation again on {release_id}")

    def _leave(self, host: Host) -> None:
        """Take an API host out of the load balancer, and stop it once its requests are answered."""
        timeout = self.site.environment.policies.drain.timeout
        with self.journal.step("drain", host.name):
            self.site.insist(lambda: self.site.balancer.drain(host.name, timeout=timeout))
        self.owned()
        # Always: a host with one API down counts as not running, and its other API would stay on the old release.
        with self.journal.step("stop", host.name):
            self._stop(host, lambda: "")

    def admit_stranded(self, fleet: Fleet) -> bool:
        """Let APIs that run but are drained, since a run was killed, back into rotation; return whether there were any.

        Those that have yet to move too: with one out already, moving another would leave the fewer to serve.
        """
        policy, balancer = self.site.environment.policies.health, self.site.balancer
        servers = self.site.insist(balancer.servers)
        drained = {server.name for server in servers if server.status.startswith("DRAIN")}
        stranded = [state for state in fleet.of(Role.API) if state.host.name in drained and state.running]
        for state in stranded:
            if state in self.plan.moves:
                self.site.insist(
                    partial(balancer.ready, state.host.name)
                )  # it is not waited for: what is to move may be sick
            else:
                self.site.insist(partial(balancer.admit, state.host.name, timeout=policy.healthy_deadline))
            self.site.progress.say(f"{state.host.name}: was left out of rotation, and is in it again")
        return bool(stranded)

    def await_idle(self) -> None:
        """Wait until the old vhosts are idle: no message, nothing held by their engines, on several polls in a row.

        Raises Inconclusive at the drain's deadline, saying what is still held. Empty queues alone prove nothing,
        because messages are acknowledged before they are worked on.
        """
        policy = self.site.environment.policies.drain
        serving = (state for state in self.plan.waits_for_idle if state.running or state.draining)
        old = [engine for state in serving for engine in self._workers_of(state.host).running]
        stranded = [Stranded(self.site, state.host) for state in self.plan.waits_for_idle if state.draining]
        quiet, last = 0, ""
        deadline = self.site.clock.monotonic() + policy.timeout
        while True:
            for one in stranded:
                one.give_back()
            ready = sum(queue.ready for vhost in self.plan.old_vhosts for queue in self._work(vhost))
            held = self._in_flight(old)
            quiet = quiet + 1 if not ready and held.idle else 0
            said = f"old vhost: {ready} messages, {held.resources} resources and {held.locks} stacks held"
            if said != last:
                self.site.progress.say(said)
                last = said
            if quiet >= policy.idle_polls:
                self.journal.note("idle", vhosts=list(self.plan.old_vhosts), polls=quiet)
                return
            if self.site.clock.monotonic() > deadline:
                raise Inconclusive(f"{said} after {policy.timeout:.0f} s{self._named(old)}", hint=_CHOICE)
            self.site.clock.sleep(policy.poll)

    def tidy(self, fleet: Fleet, keep: str) -> None:
        """Remove what nobody needs any more: rows of ended engines, unused vhosts, releases older than `keep`.

        `keep` is the id of the release before, which stays on disk to go back to; `fleet` is as it was at the start.
        Releases newer than the target stay too: a region that went back has the schema of one, as its manifest tells.
        """
        site, target = self.site, self.plan.target
        self._insist(site.region.inventory.one(Role.ENGINE), commands.service_clean(target.id))
        for vhost in site.insist(site.broker.vhosts):
            if vhost.startswith("heat-") and vhost != self.plan.vhost:
                site.insist(partial(site.broker.delete_vhost, vhost))
                site.progress.say(f"vhost {vhost} removed")
        # Killed between the last host's switch and its start, a run is taken up with nothing known to go back to.
        over = self.plan.moves and not self.plan.rollback and keep != target.id
        for state in fleet.states if over else ():
            others = set(state.installed) - {target.id, keep}
            for old in (one for one in others if HeatVersion.of(one) <= target.heat):
                self._insist(state.host, commands.remove_release(old))
                site.progress.say(f"{state.host.name}: release {old} removed")

    def _work(self, vhost: str) -> tuple[Queue, ...]:
        queues = self.site.insist(lambda: self.site.broker.queues(vhost))
        return tuple(queue for queue in queues if queue.of_engines)

    def _workers_of(self, host: Host) -> Workers:
        return self.site.insist(lambda: workers_of(self.site, host))

    def _in_flight(self, engines: Sequence[str]) -> InFlight:
        return self.site.insist(lambda: self.site.database.in_flight(engines))

    def _drain(self, state: HostState, *, prove: bool) -> None:
        """Stop an engine by TERM and prove that it ended gracefully: its rows are gone, and it holds nothing.

        Heat removes a worker's row when the last of its threads has ended. What such a worker still holds, unchanged
        since before it was stopped, was done by no thread of it: it could not be written down once, as the database was
        away, and that is told instead of refused. Raises Inconclusive at the drain's deadline, saying what it still
        holds, FleetMixed where the proof fails.
        """
        site, host = self.site, state.host
        workers = self._workers_of(host)
        serving = bool(state.running or state.draining)
        running = workers.running if serving else ()
        killed = workers.killed if serving else (*workers.killed, *workers.running)
        self._tell_unfinished(host.name, killed, self._held(killed) if killed else (), "were killed before")
        started = site.clock.monotonic()
        with self.journal.step("drain", host.name):
            before = self._held(running)
            if running:
                site.progress.say(f"{host.name}: draining, {len(before)} resources in its hands")
            result = self._stop(host, lambda: self._named(running), stranded=Stranded(site, host))
        seconds = site.clock.monotonic() - started
        left = set(running) & site.insist(lambda: live_engines(site, host))
        held = self._held(running)
        if prove and (left or set(held) - set(before)):
            raise FleetMixed(
                f"{host.name} did not drain: systemd says {result}, {len(left)} of its workers' rows "
                f"are still there, and it holds {len(held)} resources{_listed(held)}",
                hint=f"look at the journal of heat-engine on {host.name}, then run the same command again",
            )
        self.journal.note("drained", host=host.name, engines=list(running), held=len(held), seconds=round(seconds, 3))
        if running and not left:
            site.progress.say(f"{host.name}: {len(running)} workers drained in {seconds:.1f} s")
            self._tell_unfinished(host.name, running, held, "ended, each of their threads done")
        elif left:
            site.progress.say(f"{host.name}: {len(left)} workers ended without a drain")

    def _tell_unfinished(self, name: str, engines: Sequence[str], held: Sequence[Held], ended: str) -> None:
        """Say what workers that have `ended` leave unfinished: nobody rescues it, and no rollout can."""
        if held:
            self.journal.note("lost", host=name, engines=list(engines), held=[str(one) for one in held])
            self.site.progress.say(
                f"{name}: {len(engines)} workers {ended}, and nobody finishes{_listed(held).removeprefix(':')}: "
                "openstack stack update --existing STACK takes it up"
            )

    def _held(self, engines: Sequence[str]) -> tuple[Held, ...]:
        return self.site.insist(lambda: self.site.database.held(engines))

    def _named(self, engines: tuple[str, ...] | list[str]) -> str:
        """Return ": RESOURCE of stack STACK …" for what `engines` hold, "" where that is nothing."""
        return _listed(self._held(engines)) if engines else ""

    def _stop(self, host: Host, waiting: Callable[[], str], stranded: Stranded | None = None) -> str:
        """Tell a host's units to stop and wait for their end; return systemd's Result.

        `waiting` tells what is waited for. systemd drains on whatever becomes of the connection or of this run.
        Raises Inconclusive at the drain's deadline.
        """
        clock, timeout = self.site.clock, self.site.environment.policies.drain.timeout
        deadline, told = clock.monotonic() + timeout, 0.0
        while (said := self._insist(host, commands.stop(UNITS[host.role])).stdout.strip()) == commands.DRAINING:
            now = clock.monotonic()
            if stranded is not None and (returned := stranded.give_back()):
                self.journal.note("given back", host=host.name, connections=returned)
            if now >= deadline:
                raise Inconclusive(f"{host.name} still drains after {timeout:.0f} s{waiting()}", hint=_CHOICE)
            if now - told >= _TELL and (named := waiting()):
                self.site.progress.say(f"{host.name}: still finishes{named.removeprefix(':')}")
                told = now
            clock.sleep(_BREATH)
        return said

    def _start(self, host: Host, release_id: str) -> None:
        self.owned()
        with self.journal.step("start", host.name):
            script = f"{commands.switch(release_id)}\n{commands.start(UNITS[host.role])}"
            self._insist(host, script, timeout=self.site.environment.deadlines.step)

    def _insist(self, host: Host, script: str, *, timeout: float = 60) -> Result:
        """Run a script that is safe to run again; see Site.insist."""
        return self.site.insist(lambda: self.site.remote.run(host, script, timeout=timeout))


def _listed(held: Sequence[Held]) -> str:
    """Return ": RESOURCE of stack STACK …; …" for the first few of what is `held`, "" where that is nothing."""
    more = f"; and {len(held) - _NAMED} more" if len(held) > _NAMED else ""
    return f": {'; '.join(str(one) for one in held[:_NAMED])}{more}" if held else ""


def purge_steps(oldest_days: int) -> tuple[int, ...]:
    """Return the ages (days) to purge down to, one after the other, when the oldest deleted stack is that old.

    A large backlog makes db_sync impossibly slow, and purging it in one go is as slow: walk the age down from a year.
    """
    return tuple(days for days in (365, 270, 180, 120, 90) if days < oldest_days)
