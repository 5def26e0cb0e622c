"""The holder: a customer whose stacks wait for a server, which takes its time before it signals."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any

from pipeline import chain
from pipeline.edges.clock import wait_until
from pipeline.edges.heat import Heat, HeatRefused
from pipeline.edges.sessions import root_cause
from pipeline.errors import Inconclusive, PipelineError
from pipeline.stacks import Stack
from pipeline.traffic.client import Client, StackBad
from pipeline.traffic.relay import Relay

__all__ = ["Holder", "signal"]

# Seconds to hold on, beyond traffic.hold, until another is open: an engine that drains has to wait as long.
_PATIENCE = 60
_ANSWER = 30  # seconds for a signal, which an engine must take
_LONGEST = 43200  # seconds; Heat takes no longer Timeout for a WaitCondition
_ID = "canary"


class Holder:
    """Makes a stack with a WaitCondition, holds it open, signals it as a server would, deletes it; then the next one.

    The signal goes to heat-api-cfn with nothing but the presigned address, which is a password: no field keeps it,
    and no error quotes it.
    """

    def __init__(self, client: Client, relay: Relay) -> None:
        self._client = client
        self._relay = relay

    def work(self, names: Iterator[str], closing: Callable[[], bool], *, delay: float = 0) -> None:
        """Start after `delay` seconds, and go through one stack after the other until `closing`."""
        with contextlib.suppress(Inconclusive):
            wait_until(closing, self._client.clock, timeout=delay, what="closing time")
        while not closing():
            self.go_through(next(names))
            self._client.clock.sleep(self._client.settings.pause)

    def go_through(self, name: str) -> None:
        """Take stack `name` from create to gone, and write into the ledger how it ended."""
        self._client.go_through(name, lambda: self._whole_life(name))

    def _whole_life(self, name: str) -> None:
        stack = self._client.create(name, **chain.waiting(self._timeout))
        url = self._open(stack)
        began = self._client.clock.monotonic()
        self._hold(stack, until=began + self._client.settings.hold)
        self._signal(url, data=name)
        self._relay.signalled(self._client.clock.monotonic() - began)
        self._client.settled(stack, "CREATE")
        found = self._client.found(stack)
        if _data(found) != {_ID: name}:
            raise StackBad(found.status, f"its WaitCondition holds {_data(found)}, and was signalled {name!r}")
        self._client.delete(stack)

    @property
    def _timeout(self) -> float:
        """Longer than all that a holder waits for: no signal comes late through the canary's own fault."""
        settings = self._client.settings
        return min(settings.hold + _PATIENCE + 2 * settings.stack_timeout, _LONGEST)

    def _open(self, stack: str) -> str:
        """Wait until an engine is at work on the WaitCondition, and return the address to signal to.

        Outputs are not asked for before: Heat would sign the handle's address while the handle is being made, with a
        second pair of keys, and one of the two addresses is then worth nothing.
        """

        def look(found: Stack | None) -> str | None:
            _still_waits(found)
            if not self._is_open(stack):
                return None
            return str(self._client.found(stack).outputs.get("url") or "") or None

        return self._client.watch(stack, look)

    def _is_open(self, stack: str) -> bool:
        states = {found.name: found.status for found in self._client.heat.resources(stack)}
        return states.get(chain.CONDITION) == "CREATE_IN_PROGRESS"

    def _hold(self, stack: str, *, until: float) -> None:
        """Hold the WaitCondition open at least until then, and on while it is the only one; not after closing time."""

        def let_go() -> bool:
            with contextlib.suppress(HeatRefused):  # in the ledger already
                _still_waits(self._client.heat.find(stack, outputs=False))
            return self._relay.let_go(ripe=self._client.clock.monotonic() >= until)

        self._relay.opened()
        try:
            self._client.wait(let_go, "another to open", timeout=self._client.settings.hold + _PATIENCE)
        except PipelineError as error:
            self._relay.lost()
            if not isinstance(error, Inconclusive):
                raise

    def _signal(self, url: str, *, data: str) -> None:
        """Signal until the signal is taken, as a server's curl --retry would."""
        body = json.dumps(_success("the canary's server is up", data)).encode()
        answer = ""

        def taken() -> bool:
            nonlocal answer
            try:
                with self._client.line.demanding(200):
                    status = self._client.heat.send("PUT", url, body=body, timeout=_ANSWER).status
            except HeatRefused as error:
                answer = root_cause(error)
                return False
            answer = f"HTTP {status}"
            return status == 200

        try:
            self._client.wait(taken, "the signal to be taken")
        except Inconclusive as error:
            raise StackBad("UNSIGNALLED", f"the last answer to its signal was {answer}") from error


def signal(heat: Heat, stack: str) -> None:
    """Signal stack `stack` by Heat's own API, for a customer that is no more; one that takes none is left alone.

    Raises HeatRefused where Heat itself is at fault: then nobody knows whether it was heard.
    """
    try:
        heat.signal(stack, chain.HANDLE, _success("the canary was killed", ""))
    except HeatRefused as refused:  # its handle is not made yet, or nobody waits any more
        if not 400 <= refused.status < 500:
            raise


def _success(reason: str, data: str) -> dict[str, str]:
    return {"Status": "SUCCESS", "UniqueId": _ID, "Reason": reason, "Data": data}


def _still_waits(found: Stack | None) -> None:
    """Raise StackBad where a stack has ended that waits for its signal."""
    if found and not found.in_progress:
        raise StackBad(found.status, found.reason if not found.complete else "it did not wait for its signal")


def _data(found: Stack) -> Any:
    text = str(found.outputs.get("data") or "{}")
    try:
        return json.loads(text)
    except ValueError:
        return text
