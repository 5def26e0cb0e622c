"""Traffic: canary customers that work while the region is changed, from the first line to the last."""

from __future__ import annotations

import itertools
import re
import secrets
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace
from types import TracebackType

from pipeline.edges.clock import Clock, wait_until
from pipeline.edges.heat import Heat
from pipeline.environment import Traffic as Settings
from pipeline.errors import PipelineError
from pipeline.traffic.client import Client
from pipeline.traffic.customer import Customer, Pinger
from pipeline.traffic.holder import Holder, signal
from pipeline.traffic.ledger import Counts, Ledger, Line, TrafficReport
from pipeline.traffic.relay import Relay

__all__ = ["Traffic", "clean", "dismiss"]

_LOT = 3  # random bytes that tell one run's stacks from another's
_WAITING = "waiting"  # in the names of stacks that wait for a signal
_ACTING = ("CREATE_IN_PROGRESS", "UPDATE_IN_PROGRESS")
_REST = 20.0  # seconds that they get to end what they do; an engine that is down never ends it
_HOLDERS = 2  # one holds a WaitCondition open while the other makes its next


class Traffic:
    """Customers of the region, at work while the context is open.

    `heat_factory` gives Heat as the customers' user; `prefix` starts the names of their stacks. Stacks that fail or
    get stuck are kept for a look and named in the report; all others are deleted. With traffic.hold, one
    WaitCondition or more is open at every moment, from the first one's opening to the close; if Heat fails one, or
    needs a minute to make the next, the report's longest_gap_s tells.
    """

    def __init__(self, heat_factory: Callable[[], Heat], settings: Settings, clock: Clock, *, prefix: str) -> None:
        self._heat_factory = heat_factory
        self._settings = settings
        self._clock = clock
        self._prefix = f"{prefix}-{secrets.token_hex(_LOT)}"
        self._ledger = Ledger(clock)
        self._relay = Relay(clock)
        self._closing, self._dropped, self._silent = threading.Event(), threading.Event(), threading.Event()
        self._customers: list[Future[None]] = []
        self._pinger: Future[None] | None = None

    def __enter__(self) -> Traffic:
        self._heat = self._heat_factory()
        pinger = Pinger(self._watched(), self._watched(), self._ledger, self._clock)
        self._ledger.open()
        self._pool = ThreadPoolExecutor(self._settings.clients + _HOLDERS + 1, thread_name_prefix="traffic")
        self._pinger = self._pool.submit(pinger.work, self._silent.is_set)
        for number in range(self._settings.clients):
            names = _names(f"{self._prefix}-{number}")
            self._customers.append(self._pool.submit(Customer(self._client()).work, names, self._closing.is_set))
        if self._settings.hold:
            self._customers.extend(self._hold(number) for number in range(_HOLDERS))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop(drain=kind is None)

    def stop(self, *, drain: bool = True) -> None:
        """Let each customer finish its stack (at most traffic.stack_timeout per action), or drop it; then clean up.

        A WaitCondition that is held open is signalled at once. Stopping twice is stopping once.
        """
        if self._pinger is None:
            return
        if not drain:
            self._dropped.set()
        self._closing.set()
        self._relay.over()
        try:
            wait(self._customers)
        except BaseException:
            self._dropped.set()
            raise
        finally:
            self._silent.set()
            self._pool.shutdown()
            self._ledger.close()
            pinger, self._pinger = self._pinger, None
            self._sweep()
        for worker in (*self._customers, pinger):
            worker.result()

    def counts(self) -> Counts:
        """Return the counts as they are now, for progress."""
        return self._ledger.counts()

    def report(self) -> TrafficReport:
        """Return the whole account as it is now."""
        return replace(self._ledger.report(), wait_conditions=self._relay.counts())

    def _hold(self, number: int) -> Future[None]:
        holder, names = Holder(self._client(), self._relay), _names(f"{self._prefix}-{_WAITING}-{number}")
        # Staggered, so that each opens in the middle of another's time.
        delay = number * self._settings.hold / _HOLDERS
        return self._pool.submit(holder.work, names, self._closing.is_set, delay=delay)

    def _client(self) -> Client:
        line = Line(self._ledger)
        heat = self._heat.watched(line)
        return Client(heat, line, self._ledger, self._clock, self._settings, self._dropped.is_set)

    def _watched(self) -> Heat:
        return self._heat.watched(Line(self._ledger))

    def _sweep(self) -> None:
        try:
            clean(self._heat, self._prefix, self._clock, keep=self._ledger.kept, timeout=self._settings.stack_timeout)
        except PipelineError as error:  # how the run itself ended is worth more than what its sweep left
            self._ledger.note(error.message)


def clean(
    heat: Heat, prefix: str, clock: Clock, *, keep: frozenset[str] = frozenset(), timeout: float = 300
) -> tuple[str, ...]:
    """Delete the stacks whose names start with `prefix`-, but those in `keep`, and return their names.

    Raises Inconclusive, naming them, where they are not gone after `timeout` seconds; HeatRefused.
    """

    def left() -> dict[str, str]:
        found = (stack for stack in heat.list() if stack.name.startswith(f"{prefix}-") and stack.name not in keep)
        return {stack.name: stack.identity for stack in found}

    doomed = left()
    for identity in doomed.values():
        heat.delete(identity)
    if doomed:
        names = ", ".join(sorted(doomed))
        wait_until(lambda: not left(), clock, timeout=timeout, what=f"stacks {names} to be deleted", interval=1)
    return tuple(sorted(doomed))


def dismiss(heat: Heat, prefix: str, clock: Clock) -> tuple[str, ...]:
    """Let go of what the customers `prefix` of a killed run hold, start to delete all their stacks; return the names.

    A WaitCondition is signalled first: an engine that drains hears of no delete, and would wait for it to the end. Then
    actions under way get a while to end: Heat may trip over itself where a stack is deleted in the middle of one. What
    failed before stays for a look. No delete is waited for. Raises HeatRefused.
    """
    theirs = re.compile(rf"{re.escape(prefix)}-[0-9a-f]{{{2 * _LOT}}}-.+")  # as Traffic names them, and nobody else
    found = (stack for stack in heat.list() if theirs.fullmatch(stack.name))
    left = tuple(stack for stack in found if not stack.status.endswith("_FAILED"))
    for stack in left:
        if stack.status == "CREATE_IN_PROGRESS" and f"-{_WAITING}-" in stack.name:
            signal(heat, stack.identity)
    busy = {stack.identity for stack in left if stack.status.endswith(_ACTING)}
    patience = clock.monotonic() + _REST
    while busy and clock.monotonic() < patience:
        clock.sleep(1)
        busy &= {stack.identity for stack in heat.list() if stack.status.endswith(_ACTING)}
    for stack in left:
        heat.delete(stack.identity)
    return tuple(sorted(stack.name for stack in left))


def _names(start: str) -> Iterator[str]:
    return (f"{start}-{count}" for count in itertools.count(1))
