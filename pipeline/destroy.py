"""Destroying stacks: in the reverse of the order they were launched in, as wide as that allows."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from pipeline.edges.clock import Clock
from pipeline.edges.heat import Event, Heat, HeatRefused
from pipeline.edges.parallel import in_order
from pipeline.edges.refusals import untouched
from pipeline.edges.stackwait import GONE, delete, ended, failure_of
from pipeline.environment import Environment
from pipeline.errors import ProtectedRefused, StackFailed
from pipeline.render import RenderedStack
from pipeline.stacks import Stack

__all__ = ["Destroyer", "destroy_all", "doomed"]


@dataclass(frozen=True, slots=True)
class Destroyer:
    """Destroys one stack at a time. `timeouts` are the seconds that each may take; `report` hears every event.

    `gate` is asked before each, and raises what forbids it.
    """

    heat: Heat
    clock: Clock
    timeouts: Mapping[str, float]
    report: Callable[[str, Event], None]
    poll: float = 1.0
    gate: Callable[[], None] = lambda: None

    def destroy(self, name: str, stack: Stack) -> None:
        """Delete a stack and wait until it is gone. Raises StackFailed with what could not be deleted, Inconclusive."""
        try:
            self._destroy(name, stack)
        except HeatRefused as refused:
            raise StackFailed(
                f"stack {stack.name} may be there still: {refused.message}",
                hint=refused.hint or "mend the cause, then run the same command again",
            ) from refused

    def _destroy(self, name: str, stack: Stack) -> None:
        seen = frozenset(event.id for event in self.heat.events(stack.identity))
        self.gate()
        delete(self.heat, stack.identity)
        end = ended(
            self.heat,
            self.clock,
            stack.identity,
            seen,
            name=stack.name,
            timeout=self.timeouts[name],
            poll=self.poll,
            report=lambda event: self.report(name, event),
            deletes=True,
        )
        if end.status not in (GONE, "DELETE_COMPLETE"):
            raise failure_of(self.heat, end, stack.identity)


def doomed(
    heat: Heat, environment: Environment, stacks: Sequence[RenderedStack], allowed: Collection[str]
) -> dict[str, Stack]:
    """Return the stacks there are to destroy, by name, those first that others need.

    Raises ProtectedRefused where one of them is protected and not `allowed` by name.
    """
    with untouched():
        found = {one.name: one for one in heat.list(name=[stack.stack_name for stack in stacks])}
    there = {stack.name: found[stack.stack_name] for stack in stacks if stack.stack_name in found}
    kept = [name for name in there if environment.stacks.of(name).protected and name not in allowed]
    if kept:
        raise ProtectedRefused(
            f"protected in {environment.name}: {', '.join(kept)}; nothing was destroyed",
            hint=f"inv destroy {environment.name} --allow-destroy {','.join(kept)}, if that is meant",
        )
    return there


def destroy_all(there: Mapping[str, Stack], stacks: Sequence[RenderedStack], destroyer: Destroyer) -> None:
    """Destroy the stacks of `there`, each when all that take something from it are gone.

    When one cannot be, those under way are waited for, no other is begun, and the first error is raised.
    """
    takers = {name: {one.name for one in stacks if name in one.needs and one.name in there} for name in there}
    _, errors = in_order(takers, lambda name, _: destroyer.destroy(name, there[name]))
    if errors:
        errors[0].message += "".join(f"; also: {error.message}" for error in errors[1:])
        raise errors[0]
