"""A stack's action: a deletion's begin, the wait for the end by the events of that action alone; and why it failed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from pipeline.edges.clock import Clock
from pipeline.edges.heat import Heat, HeatRefused
from pipeline.errors import Inconclusive, StackFailed
from pipeline.stacks import Event, Resource

__all__ = ["GONE", "End", "delete", "ended", "failure_of", "failures"]

GONE = "GONE"
"""The status of a stack that is no longer there: Heat tells no events of one that is deleted."""

_DOMAIN = "OS::Keystone::Domain"
"""Keystone deletes no domain that is enabled, and Heat does not disable it first."""
_TOLD = 5  # failures that one message names


class Ended(Protocol):
    """How an action ended."""

    @property
    def name(self) -> str:
        """Return the stack's name."""

    @property
    def status(self) -> str:
        """Return the stack's status."""

    @property
    def reason(self) -> str:
        """Return what Heat says of it."""


@dataclass(frozen=True, slots=True)
class End:
    """The end of an action on stack `name`; `failed` are the failures that its events told, the first one first."""

    name: str
    status: str
    reason: str
    failed: tuple[Event, ...] = ()


def delete(heat: Heat, stack_id: str) -> None:
    """Start to delete a stack; what is in its domains of Keystone's is shut out from now on. Raises HeatRefused."""
    for one in heat.resources(stack_id, depth=0):
        if one.kind == _DOMAIN and one.physical_id:
            heat.disable_domain(one.physical_id)
    heat.delete(stack_id)


def ended(
    heat: Heat,
    clock: Clock,
    stack_id: str,
    seen: Collection[str],
    *,
    name: str,
    timeout: float,
    poll: float,
    report: Callable[[Event], None],
    deletes: bool = False,
) -> End:
    """Return how the action ended that began after the events in `seen`; `report` hears each of its events once.

    Of one that `deletes` Heat may tell no end, or none any more: the stack itself is asked for too.
    A Heat that is away, or answers 500, is asked again: the action goes on without us. Raises Inconclusive after
    `timeout` seconds.
    """
    deadline, known, away = clock.monotonic() + timeout, set(seen), ""
    identity = f"{name}/{stack_id.rpartition('/')[2]}"
    failed: list[Event] = []
    while True:
        try:
            events, away = heat.events(stack_id), ""
            left = heat.find(identity, outputs=False) if deletes else None
        except HeatRefused as refused:
            if refused.status == 404:
                return End(name, GONE, "it is no longer there", tuple(failed))
            if refused.status and refused.status < 500:
                raise
            events, left, away = (), None, refused.message
        for event in events:
            if event.id in known:
                continue
            known.add(event.id)
            report(event)
            if event.resource == name and event.status.endswith(("_COMPLETE", "_FAILED")):
                return End(name, event.status, event.reason, tuple(failed))
            if event.status.endswith("_FAILED"):
                failed.append(event)
        if deletes and not away and (left is None or left.status == "DELETE_COMPLETE"):
            return End(name, GONE, "it is no longer there", tuple(failed))
        if clock.monotonic() > deadline:
            raise Inconclusive(
                f"stack {name} did not end within {timeout:.0f} s{f': {away}' if away else ''}",
                hint=f"openstack stack event list {name}",
            )
        clock.sleep(poll)


def failure_of(heat: Heat, end: Ended, stack_id: str) -> StackFailed:
    """Return the error for a stack that failed: its failed resources at any depth, each with Heat's reason."""
    try:
        worst = [f"{one.path} ({one.kind}): {one.reason}" for one in failures(heat.resources(stack_id))]
    except HeatRefused:  # a rollback may have taken them
        worst = []
    worst = worst or [f"{event.resource}: {event.reason}" for event in getattr(end, "failed", ())[:1]] or [end.reason]
    more = [f"and {len(worst) - _TOLD} more"] if len(worst) > _TOLD else []
    return StackFailed(
        f"stack {end.name} is {end.status}: {'; '.join([*worst[:_TOLD], *more])}",
        hint="mend the cause, then run the same command again",
    )


def failures(resources: Sequence[Resource]) -> tuple[Resource, ...]:
    """Return the failed resources, the deepest first, without those that only repeat the reason of one in them."""
    failed = [resource for resource in resources if resource.failed]
    outer = {resource.stack for resource in failed}
    causes = [resource for resource in failed if not (resource.physical_id and resource.physical_id in outer)]
    return tuple(sorted(causes, key=lambda resource: -resource.depth))
