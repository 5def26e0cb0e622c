"""The client: how a customer deals with Heat, and how it writes down what became of each stack."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, TypeVar

from pipeline.edges.clock import Clock, wait_until
from pipeline.edges.heat import Heat, HeatRefused
from pipeline.environment import Traffic as Settings
from pipeline.errors import Inconclusive, PipelineError
from pipeline.stacks import Stack
from pipeline.traffic.ledger import Ledger, Line

__all__ = ["Client", "Interrupted", "StackBad", "StackStuck"]

T = TypeVar("T")
_POLL = 0.5


class StackBad(PipelineError):
    """A stack of the customer's failed."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class StackStuck(PipelineError):
    """A stack of the customer's came to no end."""

    def __init__(self, status: str) -> None:
        super().__init__(status)
        self.status = status


class Interrupted(PipelineError):
    """The customer is told to drop everything."""


class Client:
    """One customer's way of working with Heat: patient with its faults, and exact about how each stack ends.

    Every wait has traffic.stack_timeout. Each method raises StackBad, StackStuck or Interrupted; stacks go by identity.
    """

    def __init__(
        self, heat: Heat, line: Line, ledger: Ledger, clock: Clock, settings: Settings, dropped: Callable[[], bool]
    ) -> None:
        self.heat = heat
        self.line = line
        self.clock = clock
        self.settings = settings
        self._ledger = ledger
        self._dropped = dropped

    def go_through(self, name: str, life: Callable[[], None]) -> None:
        """Let `life` take stack `name` from create to gone, and write into the ledger how it ended."""
        try:
            life()
        except StackBad as bad:
            self._ledger.failed(name, bad.status, bad.message)
        except StackStuck as stuck:
            self._ledger.stuck(name, stuck.status, self.settings.stack_timeout)
        except Interrupted:
            return
        else:
            self._ledger.completed()

    def create(self, name: str, **body: Any) -> str:
        """Start to create stack `name`, and return its identity."""
        asked = itertools.count()

        def create() -> str:
            # A create that was refused may have been heard all the same: look before asking again.
            if next(asked) and (found := self._find(name)):
                return found.identity
            return f"{name}/{self.heat.create(name, **body)}"

        return self._insist(create)

    def update(self, stack: str, **body: Any) -> None:
        """Start to update a stack."""
        self._insist(lambda: self.heat.update(stack, **body))

    def delete(self, stack: str) -> None:
        """Delete a stack and wait until it is gone."""
        with self.line.expecting(404):
            self._insist(lambda: self.heat.delete(stack))
            self.settled(stack, "DELETE")

    def found(self, stack: str) -> Stack:
        """Return a stack with its outputs."""
        found = self._insist(lambda: self.heat.find(stack))
        if found is None:
            raise StackBad("GONE", "Heat no longer knows it, and nobody deleted it")
        return found

    def settled(self, stack: str, action: str) -> None:
        """Wait until `action` has ended well."""

        def look(found: Stack | None) -> Stack | bool:
            if found is None:
                return action == "DELETE"
            return found if found.status in (f"{action}_COMPLETE", f"{action}_FAILED") else False

        end = self.watch(stack, look)
        if isinstance(end, Stack) and not end.complete:
            raise StackBad(end.status, end.reason)

    def watch(
        self,
        stack: str,
        look: Callable[[Stack | None], T | None],
        *,
        outputs: bool = False,
        timeout: float | None = None,
    ) -> T:
        """Show the stack to `look`, again and again, until it gives something; StackStuck after `timeout` seconds."""
        seen = "not seen since the request"

        def attempt() -> T | None:
            nonlocal seen
            try:
                found = self.heat.find(stack, outputs=outputs)
                seen = found.status if found else "GONE"
                return look(found)
            except HeatRefused:
                return None  # in the ledger already; a customer asks again

        try:
            return self.wait(attempt, stack, timeout=timeout)
        except Inconclusive as error:
            raise StackStuck(seen) from error

    def wait(self, answer: Callable[[], T | None], what: str, *, timeout: float | None = None) -> T:
        """Ask `answer` until it gives something. Raises Inconclusive after `timeout` seconds."""

        def attempt() -> T | None:
            self._mind_interruption()
            return answer()

        limit = self.settings.stack_timeout if timeout is None else timeout
        return wait_until(attempt, self.clock, timeout=limit, what=what, interval=_POLL)

    def _find(self, name: str) -> Stack | None:
        with self.line.expecting(404):
            return self.heat.find(name, outputs=False)

    def _insist(self, request: Callable[[], T]) -> T:
        """Ask until Heat listens. What it refuses is in the ledger already; only its own faults are asked again."""
        refusals: list[HeatRefused] = []

        def attempt() -> tuple[T] | None:
            try:
                return (request(),)
            except HeatRefused as refused:
                if 0 < refused.status < 500:
                    raise StackBad("REFUSED", refused.message) from refused
                refusals.append(refused)
                return None

        try:
            return self.wait(attempt, "Heat to listen")[0]
        except Inconclusive as error:
            raise StackBad("REFUSED", refusals[-1].message if refusals else error.message) from error

    def _mind_interruption(self) -> None:
        if self._dropped():
            raise Interrupted("dropped")
