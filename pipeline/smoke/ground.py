"""The ground that rungs stand on: one run's stacks, their names, and how long it waits for them."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Set
from datetime import UTC, datetime, timedelta
from typing import Any

from pipeline.edges.clock import Clock, wait_until
from pipeline.edges.heat import Heat
from pipeline.errors import Inconclusive, PipelineError
from pipeline.smoke import causes
from pipeline.stacks import Stack

__all__ = ["Ground", "RungFailed", "RungSkipped", "left_by_a_killed_run"]

_STAMP = "%Y%m%dT%H%M%S"
_NAME = re.compile(r"^smoke-(\d{8}T\d{6})-[0-9a-f]{6}-")
_OLD = timedelta(hours=1)  # no run lasts so long


class RungFailed(PipelineError):
    """A rung did not hold; `likely_cause` is what to look at."""

    exit_code = 10

    def __init__(self, message: str, likely_cause: str) -> None:
        super().__init__(message, hint=likely_cause)
        self.likely_cause = likely_cause


class RungSkipped(PipelineError):
    """A rung cannot be tried here; the message says why."""


class Ground:
    """One run against one Heat. `engines` and `expect_engines` as pipeline.smoke.climb takes them."""

    def __init__(
        self,
        heat: Heat,
        clock: Clock,
        *,
        timeout: float,
        expect_engines: int | None,
        engines: Callable[[str], Set[str]] | None,
    ) -> None:
        self.heat = heat
        self.clock = clock
        self.timeout = timeout
        self.expect_engines = expect_engines
        self.engines = engines
        self.chain = ""
        self.secret = ""
        self.began = False
        self._run = f"smoke-{clock.now().strftime(_STAMP)}-{secrets.token_hex(3)}-"

    def name(self, what: str) -> str:
        """Return the name of this run's stack for `what`."""
        return f"{self._run}{what}"

    def begin(self, what: str, **body: Any) -> str:
        """Start to create a stack and return its identity."""
        name = self.name(what)
        self.began = True
        return f"{name}/{self.heat.create(name, **body)}"

    def make(self, what: str, **body: Any) -> Stack:
        """Create a stack, wait for it, and return it with its outputs. Raises RungFailed."""
        return self.settled(self.begin(what, **body), "CREATE")

    def settled(self, identity: str, action: str, *, meanwhile: Callable[[], None] = lambda: None) -> Stack:
        """Wait until `action` has ended well, and return the stack with its outputs. Raises RungFailed.

        `meanwhile` is called at each look.
        """

        def look() -> Stack | None:
            meanwhile()
            found = self.heat.find(identity, outputs=False)
            if found is None:
                raise RungFailed(f"stack {identity} is gone, and nobody deleted it", "someone else deletes stacks here")
            return found if found.status in (f"{action}_COMPLETE", f"{action}_FAILED") else None

        end = self._wait(look, identity, action)
        if not end.complete:
            raise self._failed(end)
        return self.heat.find(identity) or end

    def gone(self, identity: str) -> None:
        """Delete a stack and wait until it is gone. Raises RungFailed."""
        self.heat.delete(identity)

        def look() -> Stack | bool:
            found = self.heat.find(identity, outputs=False)
            if found is None or found.status == "DELETE_COMPLETE":
                return True
            return found if found.status == "DELETE_FAILED" else False

        end = self._wait(look, identity, "DELETE")
        if isinstance(end, Stack):
            raise self._failed(end)

    def release(self, identity: str) -> None:
        """Start to delete a stack that served its purpose; the clean-up at the end waits for it."""
        self.heat.delete(identity)

    def mine(self) -> tuple[Stack, ...]:
        """Return this run's stacks that are still there, and those of killed runs."""
        now = self.clock.now()
        return tuple(
            stack
            for stack in self.heat.list()
            if stack.name.startswith(self._run) or left_by_a_killed_run(stack.name, now)
        )

    def _wait(self, look: Callable[[], Any], identity: str, action: str) -> Any:
        try:
            return wait_until(look, self.clock, timeout=self.timeout, what=f"{action} of {identity}")
        except Inconclusive as error:
            begun = any(found.status != "INIT_COMPLETE" for found in self.heat.resources(identity))
            detail = f"stack {identity.partition('/')[0]}: {action} came to no end within {self.timeout:.0f} s"
            raise RungFailed(detail, causes.RESOURCE_SLOW if begun else causes.NO_WORKER) from error

    def _failed(self, stack: Stack) -> RungFailed:
        bad = [found for found in self.heat.resources(stack.id) if found.failed]
        deepest = max(bad, key=lambda found: found.depth, default=None)
        reason = f"{deepest.path} ({deepest.kind}): {deepest.reason}" if deepest else stack.reason
        return RungFailed(f"stack {stack.name}: {stack.status}: {reason}", causes.of_reason(reason))


def left_by_a_killed_run(name: str, now: datetime) -> bool:
    """Tell whether stack `name` is one of a smoke test that began so long ago that it can only have been killed."""
    found = _NAME.match(name)
    return found is not None and now - datetime.strptime(found[1], _STAMP).replace(tzinfo=UTC) > _OLD
