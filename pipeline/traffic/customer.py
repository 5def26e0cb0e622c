"""Customers: one that makes, changes and deletes stacks, one that asks the API the whole time."""

from __future__ import annotations

import contextlib
import itertools
import random
from collections.abc import Callable, Iterator
from typing import Any

from pipeline import chain
from pipeline.edges.clock import Clock
from pipeline.edges.heat import Heat, HeatRefused
from pipeline.traffic.client import Client, StackBad
from pipeline.traffic.ledger import Ledger

__all__ = ["Customer", "Pinger"]

_PING = 0.2
_WAITS = (0, 0, 1, 2)  # seconds that a chain spends in one resource
_KINDS = (chain.body, chain.body, chain.nested)


class Customer:
    """Makes a stack, looks at its outputs, changes it, looks again, deletes it; then the next one.

    The stacks are chains, and every third is a chain nested in another stack.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    def work(self, names: Iterator[str], closing: Callable[[], bool]) -> None:
        """Go through one stack after the other, until `closing` says that no other may be started."""
        for kind in itertools.cycle(_KINDS):
            if closing():
                return
            self.go_through(next(names), kind)
            self._client.clock.sleep(self._client.settings.pause)

    def go_through(self, name: str, kind: Callable[..., dict[str, Any]] = chain.body) -> None:
        """Take stack `name` from create to gone, and write into the ledger how it ended."""
        self._client.go_through(name, lambda: self._whole_life(name, kind))

    def _whole_life(self, name: str, kind: Callable[..., dict[str, Any]]) -> None:
        stack = self._client.create(name, **kind("created", wait=_wait()))
        self._client.settled(stack, "CREATE")
        secret = self._confirm(stack, "created")
        self._client.update(stack, **kind("updated", wait=_wait()))
        self._client.settled(stack, "UPDATE")
        self._confirm(stack, "updated", secret=secret)
        self._client.delete(stack)

    def _confirm(self, stack: str, word: str, *, secret: str | None = None) -> str:
        found = self._client.found(stack)
        if wrong := chain.explain(found.outputs, word, secret=secret):
            raise StackBad(found.status, wrong)
        return str(found.outputs["secret"])


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


def _wait() -> int:
    return random.choice(_WAITS)  # noqa: S311 (no secret)
