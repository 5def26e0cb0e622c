"""Drift: what of a region is no longer as it was launched, or not as it is rendered now, by stack and by host."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.edges.clock import Clock
from pipeline.edges.heat import Heat
from pipeline.edges.stackwait import ended, failures
from pipeline.plan import Act, Plan, StackPlan
from pipeline.stacks import Event

__all__ = ["CHECKS", "Drift", "HostDrift", "StackDrift", "check_stacks"]

CHECKS = "check_files_are_as_rendered or check_units_have_the_right_settings or check_variables_are_as_configured"
"""The checks of hosts that find configuration changed behind the pipeline's back, as pytest's -k takes them."""

_CHECKED = ("CREATE_COMPLETE", "UPDATE_COMPLETE", "CHECK_")
"""The statuses of stacks that Heat is asked to check. Others would end CHECK_COMPLETE: Heat takes a resource whose type
has no check for a good one, though its creation failed, and an update that was rolled back would count as done."""


@dataclass(frozen=True, slots=True)
class StackDrift:
    """What is different about one stack: `changed` are the resources that a check found to be otherwise than Heat
    left them, each with Heat's reason; `rendered` is what a plan would do, in a word, "" where nothing."""

    stack: str
    status: str
    changed: tuple[str, ...]
    rendered: str
    diff: tuple[str, ...]

    @property
    def found(self) -> bool:
        """Whether anything is different."""
        return bool(self.changed or self.rendered)


@dataclass(frozen=True, slots=True)
class HostDrift:
    """A check of a host's configuration that failed, and what it found."""

    host: str
    check: str
    found: str


@dataclass(frozen=True, slots=True)
class Drift:
    """All that is different in a region. `unseen` says why its hosts were not looked at, "" where they were."""

    environment: str
    stacks: tuple[StackDrift, ...]
    hosts: tuple[HostDrift, ...] = ()
    unseen: str = ""

    @property
    def found(self) -> int:
        """How many stacks and hosts are different."""
        hosts = {one.host for one in self.hosts}
        return sum(one.found for one in self.stacks) + len(hosts)

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {**asdict(self), "found": self.found}


def check_stacks(
    heat: Heat, clock: Clock, plan: Plan, timeouts: Mapping[str, float], report: Callable[[str, Event], None]
) -> tuple[StackDrift, ...]:
    """Have Heat compare every stack of a plan with what there is, all at once, and return what is different.

    Raises HeatRefused where Heat will not, Inconclusive where a check does not end in time.
    """
    with ThreadPoolExecutor(max_workers=max(len(plan.stacks), 1), thread_name_prefix="check") as pool:
        return tuple(pool.map(lambda stack: _check(heat, clock, stack, timeouts[stack.name], report), plan.stacks))


def _check(
    heat: Heat, clock: Clock, stack: StackPlan, timeout: float, report: Callable[[str, Event], None]
) -> StackDrift:
    rendered = "" if stack.act is Act.NONE else f"to {stack.act}"
    if stack.live is None:
        return StackDrift(stack.stack_name, "there is none", (), rendered, ())
    identity, status = f"{stack.stack_name}/{stack.live.id}", stack.live.status
    if not status.startswith(_CHECKED):
        failed = [f"{one.path} ({one.kind}): {one.reason}" for one in failures(heat.resources(identity))]
        changed = (*failed, f"not checked, for it is {status}: inv deploy first")
        return StackDrift(stack.stack_name, status, changed, rendered, stack.diff)
    seen = frozenset(event.id for event in heat.events(identity))
    heat.check(identity)
    end = ended(
        heat, clock, identity, seen,
        name=stack.stack_name, timeout=timeout, poll=0.5, report=lambda event: report(stack.name, event),
    )  # fmt: skip
    changed = ()
    if not end.status.endswith("_COMPLETE"):
        changed = tuple(f"{one.path} ({one.kind}): {one.reason}" for one in failures(heat.resources(identity)))
    return StackDrift(stack.stack_name, end.status, changed, rendered, stack.diff)
