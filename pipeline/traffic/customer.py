"""Customers: one that makes, changes and deletes stacks, one that asks the API the whole time."""

from __future__ import annotations

import contextlib
import itertools
import random
from collections.abc import Callable, Iterator
from typing import TypeVar

from pipeline import chain
from pipeline.edges.clock import Clock, wait_until
from pipeline.edges.heat import Heat, HeatRefused
from pipeline.environment import Traffic as Settings
from pipeline.errors import Inconclusive, PipelineError
from pipeline.stacks import Stack
from pipeline.traffic.ledger import Ledger, Line

__all__ = ["Customer", "Pinger"]

T = TypeVar("T")
_POLL = 0.5
_PING = 0.2
_WAITS = (0, 0, 1, 2)  # seconds that a chain spends in one resource


class _StackBad(PipelineError):
    """A stack of the customer's failed."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class _StackStuck(PipelineError):
    """A stack of the customer's came to no end."""

    def __init__(self, status: str) -> None:
        super().__init__(status)
        self.status = status


class _Interrupted(PipelineError):
    """The customer is told to drop everything."""


class Customer:
    """Makes a chain, looks at its outputs, changes it, looks again, deletes it; then the next one."""

    def __init__(
        self, heat: Heat, line: Line, ledger: Ledger, clock: Clock, settings: Settings, dropped: Callable[[], bool]
    ) -> None:
        self._heat = heat
        self._line = line
        self._ledger = ledger
        self._clock = clock
        self._settings = settings
        self._dropped = dropped

    def work(self, names: Iterator[str], closing: Callable[[], bool]) -> None:
        """Go through one stack after the other, until `closing` says that no other may be started."""
        while not closing():
            self.go_through(next(names))
            self._clock.sleep(self._settings.pause)

    def go_through(self, name: str) -> None:
        """Take stack `name` from create to gone, and write into the ledger how it ended."""
        try:
            self._whole_life(name)
        except _StackBad as bad:
            self._ledger.failed(name, bad.status, bad.message)
        except _StackStuck as stuck:
            self._ledger.stuck(name, stuck.status, self._settings.stack_timeout)
        except _Interrupted:
            return
        else:
            self._ledger.completed()

    def _whole_life(self, name: str) -> None:
        stack = self._create(name, "created")
        self._settled(stack, "CREATE")
        secret = self._confirm(stack, "created")
        self._insist(lambda: self._heat.update(stack, **_chain("updated")))
        self._settled(stack, "UPDATE")
        self._confirm(stack, "updated", secret=secret)
        with self._line.expecting(404):
            self._insist(lambda: self._heat.delete(stack))
            self._settled(stack, "DELETE")

    def _create(self, name: str, word: str) -> str:
        asked = itertools.count()

        def create() -> str:
            # A create that was refused may have been heard all the same: look before asking again.
            if next(asked) and (found := self._find(name)):
                return found.identity
            return f"{name}/{self._heat.create(name, **_chain(word))}"

        return self._insist(create)

    def _find(self, name: str) -> Stack | None:
        with self._line.expecting(404):
            return self._heat.find(name, outputs=False)

    def _confirm(self, stack: str, word: str, *, secret: str | None = None) -> str:
        found = self._insist(lambda: self._heat.find(stack))
        if found is None:
            raise _StackBad("GONE", "Heat no longer knows it, and nobody deleted it")
        if wrong := chain.explain(found.outputs, word, secret=secret):
            raise _StackBad(found.status, wrong)
        return str(found.outputs["secret"])

    def _insist(self, request: Callable[[], T]) -> T:
        """Ask until Heat listens. What it refuses is in the ledger already; only its own faults are asked again."""
        refusals: list[HeatRefused] = []

        def attempt() -> tuple[T] | None:
            self._mind_interruption()
            try:
                return (request(),)
            except HeatRefused as refused:
                if 0 < refused.status < 500:
                    raise _StackBad("REFUSED", refused.message) from refused
                refusals.append(refused)
                return None

        try:
            return self._wait(attempt, "Heat to listen")[0]
        except Inconclusive as error:
            raise _StackBad("REFUSED", refusals[-1].message if refusals else error.message) from error

    def _settled(self, stack: str, action: str) -> None:
        """Wait until `action` has ended well. Raises _StackBad and _StackStuck."""
        seen = "not seen since the request"

        def look() -> Stack | bool:
            nonlocal seen
            self._mind_interruption()
            try:
                found = self._heat.find(stack, outputs=False)
            except HeatRefused:
                return False  # in the ledger already; a customer asks again
            if found is None:
                seen = "GONE"
                return action == "DELETE"
            seen = found.status
            return found if found.status in (f"{action}_COMPLETE", f"{action}_FAILED") else False

        try:
            end = self._wait(look, action)
        except Inconclusive as error:
            raise _StackStuck(seen) from error
        if isinstance(end, Stack) and not end.complete:
            raise _StackBad(end.status, end.reason)

    def _wait(self, answer: Callable[[], T | None], what: str) -> T:
        return wait_until(answer, self._clock, timeout=self._settings.stack_timeout, what=what, interval=_POLL)

    def _mind_interruption(self) -> None:
        if self._dropped():
            raise _Interrupted("dropped")


class Pinger:
    """Asks both APIs about five times a second, in turns on kept connections and on new ones."""

    def __init__(self, kept: Heat, fresh: Heat, ledger: Ledger, clock: Clock) -> None:
        self._connections = itertools.cycle((kept, fresh))
        self._fresh = fresh
        self._ledger = ledger
        self._clock = clock
        self._stacks = f"{kept.endpoint()}/stacks?limit=1"
        self._roots = (kept.root(), kept.root("cloudformation"))

    def work(self, closing: Callable[[], bool]) -> None:
        """Ask until `closing`."""
        # An odd number of questions, so that each is asked on both kinds of connection.
        questions: tuple[Callable[[Heat], object], ...] = (
            lambda heat: heat.send("GET", self._roots[0]),
            lambda heat: heat.send("GET", self._stacks, token=True),
            lambda heat: heat.send("GET", self._roots[1]),
            self._ask_revision,
            lambda heat: heat.send("GET", self._stacks, token=True),
        )
        for question in itertools.cycle(questions):
            if closing():
                return
            heat = next(self._connections)
            with contextlib.suppress(HeatRefused):  # in the ledger already, with its reason
                question(heat)
            self._fresh.hang_up()
            self._clock.sleep(_PING)

    def _ask_revision(self, heat: Heat) -> None:
        info = heat.build_info()
        self._ledger.revision(str(info["api"]["revision"]), str(info["engine"]["revision"]))


def _chain(word: str) -> dict[str, object]:
    return chain.body(word, wait=random.choice(_WAITS))  # noqa: S311 (no secret)
