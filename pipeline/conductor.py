"""The conductor: takes a rollout from batch to batch by its policy, and decides what a failed host means for others.

Rules after Ansible (serial, and a failed batch finishes its hosts in flight), Nomad (auto_revert, progress_deadline,
canaries) and Kubernetes (maxUnavailable).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from pipeline.edges.lock import LockLost
from pipeline.environment import Role
from pipeline.errors import (
    FailedAndReverted,
    FleetMixed,
    HostUnreachable,
    Inconclusive,
    PipelineError,
)
from pipeline.fleet import HostState
from pipeline.health import stays_healthy
from pipeline.policy import AutoRevert, Policy
from pipeline.release import Mode
from pipeline.rollout import Batch
from pipeline.upgrade import Rollout

__all__ = ["Conductor", "Failure"]

_LOOK = 0.1  # seconds between two looks whether a host that waits for room still may begin


@dataclass(frozen=True, slots=True)
class Failure:
    """A host that did not get to the target, and why."""

    state: HostState
    error: PipelineError

    @property
    def certain(self) -> bool:
        """Whether the release is at fault: not where nobody could tell, or a person stopped the run."""
        return not isinstance(self.error, Inconclusive | HostUnreachable)


@dataclass(slots=True)
class Conductor:
    """Conducts `rollout`. `gate` is asked before each host and raises what forbids to begin with another one.

    `moved` hosts are on the target already, by an earlier run. `go_back` brings the whole region back to where it
    came from, for auto_revert all. `promoted` says that a person vouches for the canary. `owned` is asked before a host
    is put back: that is done whoever wants the run to end, but not once the environment is another run's.
    """

    rollout: Rollout
    moved: int = 0
    promoted: bool = False
    gate: Callable[[], None] = lambda: None
    go_back: Callable[[], None] | None = None
    owned: Callable[[], None] = lambda: None
    _done: list[HostState] = field(default_factory=list)
    _failed: list[Failure] = field(default_factory=list)
    _stopped: PipelineError | None = None
    _progressed: float = 0.0
    _asking: threading.Lock = field(default_factory=threading.Lock)

    def run(self) -> None:
        """Move every batch of the plan. Raises FailedAndReverted, FleetMixed or Inconclusive, naming done, failed and
        remaining hosts; what the gate raises passes.
        """
        plan = self.rollout.plan
        self._progressed = self._now
        if plan.unproved and plan.batches:
            self._prove(plan.unproved)
        for batch in plan.batches:
            if self._halting(batch) or (batch.when_idle and self._unsure):
                raise self._halt(batch)
            self._begin(batch)
            self._advance(batch)
            if self._stopped is not None and (isinstance(self._stopped, LockLost) or not self._halting(batch)):
                raise self._named(self._stopped)
            if self._halting(batch):
                raise self._halt(batch)
            if batch is not plan.batches[-1]:
                self._pause_after(batch)
        if self._failed:
            raise FleetMixed(self._summary("the rollout ended"), hint="mend the cause, then run the same command again")

    def _halting(self, batch: Batch) -> bool:
        """Whether no other host may begin: a canary failed, too many hosts did, or as many as may be down of a role."""
        too_many = len(self._failed) > self._policy.max_fail
        return too_many or self._down(batch.role) >= batch.width or (batch.canary and bool(self._failed))

    @property
    def _unsure(self) -> bool:
        """Whether a host may still work on an old vhost: an engine that drains, say, or one that nobody reaches.

        The last old engine stays for what such a host has in its hands: its next message goes to the old vhost.
        """
        return not all(failure.certain for failure in self._failed)

    def _down(self, role: Role) -> int:
        """How many hosts of a role failed and are down."""
        return sum(failure.state.host.role is role for failure in self._failed)

    @property
    def _policy(self) -> Policy:
        return self.rollout.site.environment.policies

    @property
    def _now(self) -> float:
        return self.rollout.site.clock.monotonic()

    def _begin(self, batch: Batch) -> None:
        """Wait for what must hold before a batch; say what is in flight when the APIs of a cutover begin to move."""
        site, plan = self.rollout.site, self.rollout.plan
        if batch.when_idle:
            try:
                with site.progress.stage("old vhost idle"):
                    self.rollout.await_idle()
            except PipelineError as error:
                raise self._named(error) from error
        first_api = next((one for one in plan.batches if one.role is Role.API), None)
        if batch is first_api and plan.mode is Mode.VHOST_CUTOVER:
            flying = site.insist(lambda: site.database.in_flight([]))
            site.progress.say(
                f"APIs move to vhost {plan.vhost}: {flying.stacks} stacks are in progress, engines finish them"
            )

    def _advance(self, batch: Batch) -> None:
        """Move the hosts of a batch, as many at once as it allows; after a failure those in flight are finished."""
        room = threading.Semaphore(max(0, batch.width - self._down(batch.role)))
        with ThreadPoolExecutor(max_workers=batch.width, thread_name_prefix="move") as pool:
            futures = [pool.submit(self._move, state, batch, room) for state in batch.hosts]
            try:
                for future in futures:
                    future.result()
            except BaseException:  # an interrupt: hosts in flight are finished, no other is begun
                self._stopped = self._stopped or Inconclusive("interrupted")
                raise

    def _move(self, state: HostState, batch: Batch, room: threading.Semaphore) -> None:
        """Move one host when there is room for it; one that fails stays down, and gives its room to no other."""
        while not room.acquire(timeout=_LOOK):
            if self._over(batch):
                return
        if self._over(batch) or not self._may_begin():
            return
        try:
            with self.rollout.site.progress.stage(f"move {state.host.name}"):
                self.rollout.move(state)
        except PipelineError as error:
            self.rollout.site.progress.say(f"{state.host.name}: {error.message}")
            self._failed.append(Failure(state, error))
            if isinstance(error, LockLost):
                self._stopped = error
        except BaseException:  # our own fault, which ends the run: no other host is begun meanwhile
            self._stopped = self._stopped or Inconclusive("interrupted")
            raise
        else:
            self._done.append(state)
            self._progressed = self._now
            room.release()

    def _over(self, batch: Batch) -> bool:
        return self._stopped is not None or self._halting(batch)

    def _may_begin(self) -> bool:
        with self._asking:
            try:
                self._may_go_on()
            except PipelineError as error:
                self._stopped = error
        return self._stopped is None

    def _may_go_on(self) -> None:
        self.gate()
        if self._now - self._progressed > self._policy.progress_deadline:
            raise Inconclusive(
                f"no host got healthy within {self._policy.progress_deadline:.0f} s",
                hint="find out what holds the rollout up, then run the same command again",
            )

    def _pause_after(self, batch: Batch) -> None:
        if batch.canary:
            self._prove(batch.hosts)
        if wait := self._policy.batch_wait:
            self.rollout.site.progress.say(f"waiting {wait:.0f} s before the next batch")
            self.rollout.site.clock.sleep(wait)
            self._progressed = self._now

    def _prove(self, canaries: tuple[HostState, ...]) -> None:
        """Let the first batch prove itself for its soak; without auto_promote, go on at a person's word only."""
        names, canary = ", ".join(state.host.name for state in canaries), self._policy.canary
        site, target = self.rollout.site, self.rollout.plan.target.id
        if canary.soak and not self.promoted:
            with site.progress.stage(f"soak {names}"):
                for state in canaries:
                    try:
                        stays_healthy(site, state.host, self.rollout.is_healthy(state), seconds=canary.soak)
                    except PipelineError as error:
                        self._take_back(state, canaries, error)
                        raise self._halt(Batch(state.host.role, canaries, 1, canary=True)) from error
            self._progressed = self._now
        if not (canary.auto_promote or self.promoted):
            name = site.environment.name
            raise Inconclusive(
                f"paused: the canary {names} is healthy on {target}, and a person's word is wanted",
                hint=f"inv canary.promote {name}, or inv rollback {name}",
            )

    def _take_back(self, state: HostState, canaries: tuple[HostState, ...], error: PipelineError) -> None:
        """Count a canary that failed its soak as failed, and the others as moved by this run, whichever moved them."""
        self.moved -= sum(canary in self.rollout.plan.unproved for canary in canaries)
        others = [canary for canary in canaries if canary is not state and canary not in self._done]
        self._done = [done for done in self._done if done is not state] + others
        self._failed.append(Failure(state, error))

    def _halt(self, batch: Batch) -> PipelineError:
        """Put back what the policy says, and return the error that ends the run."""
        hint = f"read the journal: {self.rollout.site.login(self._failed[-1].state.host)}"
        if self._unsure:
            worst = next(failure for failure in self._failed if not failure.certain)
            return self._named(worst.error, "halted")
        back = self._revert(batch)
        if back is None:
            return FleetMixed(self._summary("halted"), hint=hint)
        all_back = not self.moved and not self._done
        ended = FailedAndReverted if all_back else FleetMixed
        return ended(self._summary(f"{back} back on {self.rollout.plan.source}"), hint=hint)

    def _revert(self, batch: Batch) -> str | None:
        """Return who went back ("engine-0 is"), None where nobody did or could."""
        policy = self._policy.auto_revert
        if policy is AutoRevert.NONE:
            return None
        stay = [failure.state for failure in self._failed if not self._goes_back(failure.state, failed=True)]
        names = [failure.state.host.name for failure in self._failed if failure.state not in stay]
        if policy is AutoRevert.ALL and self.go_back is not None and (self._done or self.moved) and not stay:
            try:
                self.go_back()
            except PipelineError as error:
                self._could_not(error)
                return None
            self._done, self.moved = [], 0
            return "every host is"
        for state in [one for one in reversed(self._done) if one in batch.hosts]:
            if self._goes_back(state, failed=False):
                self._done.remove(state)
                names.append(state.host.name)
        return None if stay or not names else f"{', '.join(names)} {'is' if len(names) == 1 else 'are'}"

    def _goes_back(self, state: HostState, *, failed: bool) -> bool:
        try:
            self.owned()
            self.rollout.revert(state, failed=failed)
        except PipelineError as error:
            self._could_not(error)
            return False
        return True

    def _could_not(self, error: PipelineError) -> None:
        self.rollout.site.progress.say(f"could not be put back: {error.message}")

    def _named(self, error: PipelineError, what: str = "") -> PipelineError:
        """Return the same error, and so the same exit code, with every host of the plan named."""
        error.message = self._summary(what or error.message)
        return error

    def _summary(self, what: str) -> str:
        """Return `what` with every host of the plan named: done, failed and why, remaining."""
        done = [state.host.name for state in self._done]
        failed = [f"{failure.state.host.name} ({failure.error.message})" for failure in self._failed]
        over = {*done, *(failure.state.host.name for failure in self._failed)}
        left = [state.host.name for state in self.rollout.plan.moves if state.host.name not in over]
        parts = (("done", done), ("failed", failed), ("remaining", left))
        return f"{what}; " + "; ".join(f"{kind}: {', '.join(names) or 'none'}" for kind, names in parts)
