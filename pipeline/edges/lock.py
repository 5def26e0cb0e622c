"""The lock: one run at a time per environment, on one machine or in a team.

Who holds it is told in lockholder and written in locknotes; locktooz says which URLs will do, and what keeps the lock.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from pipeline.edges.clock import Clock, wait_until
from pipeline.edges.lockholder import HOLD, UNKNOWN, Holder, Refusal, check_name, refuse_others, refused, unbreakable
from pipeline.errors import Inconclusive, LockHeld

if TYPE_CHECKING:
    from pipeline.edges.locknotes import Files, Groups
    from pipeline.edges.locktooz import Session

__all__ = ["UNKNOWN", "FakeLocks", "Holder", "Lease", "LockLost", "Locks", "ToozLocks"]

_GRACE = 0.5  # whoever looks at a lock holds it for a moment, which must not turn a run away
_WARN = logging.getLogger(__name__).warning


class LockLost(LockHeld):
    """The lock that this run held is held no more: stop before the next change."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A lock on `environment` while the body of `held` runs; `why_lost` says why it is gone, or "" while it is not."""

    environment: str
    holder: Holder
    why_lost: Callable[[], str] = field(repr=False)

    def confirm(self) -> None:
        """Ask whether the lock is still held, before a change. Raises LockLost where it is not, or nobody can tell."""
        if why := self.why_lost():
            raise LockLost(
                f"{self.environment}: the lock of run {self.holder.run_id} is lost: {why}",
                hint=f"inv lock.status {self.environment}",
            )


class Locks(Protocol):
    """What the pipeline asks of whatever lets one run at a time into an environment."""

    def held(self, environment: str, holder: Holder, *, wait: float = 0) -> AbstractContextManager[Lease]:
        """Hold `environment` for `holder` while the body runs, however it ends.

        Raises LockHeld, naming who holds it, where it is still held after `wait` seconds.
        """

    def status(self, environment: str) -> Holder | None:
        """Return who holds `environment`: a person, or a run that lives; by owner UNKNOWN if nobody can tell."""

    def hold(self, environment: str, holder: Holder) -> None:
        """Let a person hold `environment` beyond the end of this process. Raises LockHeld where anyone does already."""

    def release(self, environment: str, owner: str) -> Holder | None:
        """Give back what `owner` holds as a person and return it, or None. Raises LockHeld where it is another's."""

    def break_(self, environment: str) -> Holder | None:
        """Take away what any person holds or a dead run left, and return it. Raises LockHeld where a run lives."""


class ToozLocks:
    """Locks behind a tooz URL; a killed run keeps a team's lock for `lease` seconds; `tell` hears what is damaged.

    Raises ConfigurationInvalid for a URL that is no lock's, or whose driver cannot be loaded or used, and
    PreflightUnreachable where a team's server does not answer. A person's hold needs a file's lock.
    """

    def __init__(self, url: str, clock: Clock, lease: float = 30, *, tell: Callable[[str], None] = _WARN) -> None:
        from pipeline.edges.locktooz import Tooz  # tooz takes 0.2 s to load, which few tasks need

        self._tooz = Tooz(url, lease, tell)
        self._clock = clock

    @contextmanager
    def held(self, environment: str, holder: Holder, *, wait: float = 0) -> Iterator[Lease]:
        """Hold `environment` while the body runs. What cannot be given back is told, and runs out by itself."""
        with self._session(environment) as session, ExitStack() as end:
            with session.translated():
                lock = end.enter_context(self._locked(session, refused, wait, heeding=True))
                why_lost = session.note(lock, holder)
            end.callback(session.at_the_end, f"{environment}: its holder stays noted", session.notes.erase, holder)
            yield Lease(environment, holder, why_lost)

    def status(self, environment: str) -> Holder | None:
        """Return who holds `environment`; `reason` says why its owner is UNKNOWN."""
        with self._session(environment) as session, session.translated():
            if hold := session.notes.read_hold(self._clock.now()):
                return hold
            lock = self._get(session, 0, heeding=False)
            if lock is None:
                return session.holder(self._clock.now())
            session.give_back(lock)
            return None

    def hold(self, environment: str, holder: Holder) -> None:
        """Let a person hold `environment`. Raises ConfigurationInvalid for a team's lock: a lease outlives nobody."""
        with self._notes(environment, refused, heeding=True) as notes:
            notes.write_hold(replace(holder, operation=HOLD))

    def release(self, environment: str, owner: str) -> Holder | None:
        """Give back what `owner` holds as a person and return it, or None where nobody holds anything."""
        with self._notes(environment, refused) as notes:
            if hold := notes.read_hold(self._clock.now()):
                refuse_others(environment, hold, owner, self._clock.now())
                notes.forget()
            return hold

    def break_(self, environment: str) -> Holder | None:
        """Take away what any person holds or a dead run left and return it, or None where nothing was left."""
        with self._notes(environment, unbreakable) as notes:
            left = notes.read_hold(self._clock.now()) or notes.read()
            notes.forget()
            return left

    def _session(self, environment: str) -> AbstractContextManager[Session]:
        check_name(environment)
        return self._tooz.session(environment)

    @contextmanager
    def _notes(self, environment: str, refusal: Refusal, *, heeding: bool = False) -> Iterator[Files | Groups]:
        """Lock while the body, which does nothing else, reads and writes the notes."""
        with (
            self._session(environment) as session,
            session.translated(),
            self._locked(session, refusal, heeding=heeding),
        ):
            yield session.notes

    @contextmanager
    def _locked(self, session: Session, refusal: Refusal, wait: float = 0, *, heeding: bool) -> Iterator[Any]:
        """Lock while the body runs, `heeding` what people hold. Raises what `refusal` makes where that cannot be."""
        lock = self._get(session, wait, heeding=heeding)
        if lock is None:
            now = self._clock.now()
            raise refusal(session.notes.environment, session.holder(now), now)
        try:
            yield lock
        finally:
            session.give_back(lock)

    def _get(self, session: Session, wait: float, *, heeding: bool) -> Any | None:
        def attempt() -> Any | None:
            lock = session.attempt()
            if lock and heeding and session.notes.read_hold(self._clock.now()):
                lock.release()
                return None
            return lock

        with suppress(Inconclusive):
            return wait_until(attempt, self._clock, timeout=max(wait, _GRACE), what="the lock")
        return None


class FakeLocks:
    """Locks in memory, between the runs of one process; for tests that must not touch a disk."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._held: dict[str, Holder] = {}

    @contextmanager
    def held(self, environment: str, holder: Holder, *, wait: float = 0) -> Iterator[Lease]:
        """Hold `environment` while the body runs."""
        self._take(environment, holder, wait)
        try:
            yield Lease(environment, holder, lambda: "" if self._held.get(environment) is holder else "it was taken")
        finally:
            if self._held.get(environment) is holder:
                self.lose(environment)

    def status(self, environment: str) -> Holder | None:
        """Return who holds `environment`."""
        return self._held.get(environment)

    def hold(self, environment: str, holder: Holder) -> None:
        """Let a person hold `environment` as long as this object lives."""
        self._take(environment, replace(holder, operation=HOLD), 0)

    def release(self, environment: str, owner: str) -> Holder | None:
        """Give back what `owner` holds as a person and return it, or None where nobody holds anything."""
        if hold := self._left(environment, refused):
            refuse_others(environment, hold, owner, self._clock.now())
        return self._held.pop(environment, None)

    def break_(self, environment: str) -> Holder | None:
        """Take away what any person holds and return it, or None; in memory no run is dead."""
        self._left(environment, unbreakable)
        return self._held.pop(environment, None)

    def lose(self, environment: str) -> None:
        """Take the lock away from its run, as happens to a lease that runs out."""
        self._held.pop(environment, None)

    def _take(self, environment: str, holder: Holder, wait: float) -> None:
        check_name(environment)
        with suppress(Inconclusive):
            wait_until(lambda: self.status(environment) is None, self._clock, timeout=wait, what="the lock")
        if current := self.status(environment):
            raise refused(environment, current, self._clock.now())
        self._held[environment] = holder

    def _left(self, environment: str, refusal: Refusal) -> Holder | None:
        holder = self.status(environment)
        if holder and not holder.held_by_person:
            raise refusal(environment, holder, self._clock.now())
        return holder
