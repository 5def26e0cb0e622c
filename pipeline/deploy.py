"""Launching stacks: create or update each, as wide as their dependencies allow, and wait for its end.

A wait is anchored to the events of the action it waits for, so that an earlier action's end is never taken for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeVar

from pipeline.edges.clock import Clock, wait_until
from pipeline.edges.foresight import foreseen
from pipeline.edges.heat import Event, Heat, HeatRefused, Stack
from pipeline.edges.parallel import in_order
from pipeline.edges.refusals import meaning
from pipeline.edges.stackwait import delete, ended, failure_of
from pipeline.errors import (
    FailedAndReverted,
    OutcomeUnknown,
    PipelineError,
    PlanStale,
    ProtectedRefused,
    StackFailed,
)
from pipeline.plan import Act, StackPlan, lost
from pipeline.render import GIVEN, RenderedStack
from pipeline.stackrules import OnFailure, StackRules
from pipeline.stacks import Kind, ResourceChange

__all__ = ["Change", "Launched", "Launcher", "Outputs", "launch_all"]

T = TypeVar("T")
Outputs = Mapping[str, Mapping[str, Any]]
_AGAIN = "mend the cause, then run the same command again"


class Change(StrEnum):
    """What launching a stack did."""

    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"


@dataclass(frozen=True, slots=True)
class Launched:
    """One stack, complete: what was done to it, and its outputs."""

    name: str
    change: Change
    outputs: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Launcher:
    """Launches one stack at a time, by its `rules`. `timeout` seconds bound each that has no other; `report` hears
    every event.

    `foreseen` are the plans that are carried out, by stack; `allowed` names protected resources that may be lost;
    `labels` are tags that stacks get when they are changed. `gate` is asked before each change, and raises what forbids
    it.
    """

    heat: Heat
    clock: Clock
    timeout: float
    report: Callable[[str, Event], None]
    poll: float = 1.0
    rules: StackRules = field(default_factory=StackRules)
    foreseen: Mapping[str, StackPlan] = field(default_factory=dict)
    allowed: frozenset[str] = frozenset()
    labels: tuple[str, ...] = ()
    gate: Callable[[], None] = lambda: None

    def launch(self, stack: RenderedStack, outputs: Outputs) -> Launched:
        """Create or update `stack`, which takes its inputs from `outputs`, and wait until it is complete.

        Raises StackFailed with the failed resources, FailedAndReverted where it was rolled back, Inconclusive at the
        deadline, PlanStale and ProtectedRefused before an update that was not foreseen or would lose what is protected.
        """
        parameters = {**stack.parameters, **{key: _dig(outputs, path) for key, path in stack.inputs.items()}}
        found = self._settled(stack)
        if found is None:
            change, found = Change.CREATED, self._create(stack, parameters)
        elif self._stands(stack, found, parameters):
            change = Change.UNCHANGED
        else:
            change, found = self._update(found, stack, parameters)
        return Launched(stack.name, change, found.outputs)

    def _stands(self, stack: RenderedStack, found: Stack, parameters: Mapping[str, Any]) -> bool:
        """Whether there is nothing to do: a plan compared all of it with what Heat has, and a tag may lie."""
        plan = self.foreseen.get(stack.name)
        if plan is not None and plan.content == stack.digest(parameters):
            return plan.act is Act.NONE
        return found.as_sent and stack.tag(parameters) in found.tags

    def _settled(self, stack: RenderedStack) -> Stack | None:
        """Return the stack once nothing is under way on it: an earlier run may have been killed half-way.

        One whose creation failed never worked, so it is deleted, and None returned.
        """
        found = self._once(stack, lambda found: found is None or not found.in_progress)
        if found is not None and found.never_worked:
            if found.is_rest and self.rules.of(stack.name).protected and stack.name not in self.allowed:
                raise ProtectedRefused(
                    f"{stack.name}: stack {stack.stack_name}, of which something is left, would be deleted",
                    hint=f"the same with --allow-replace {stack.name}, if that is meant",
                )
            self._delete(stack, found.id)
            return None
        return found

    def _delete(self, stack: RenderedStack, stack_id: str) -> None:
        self.gate()
        delete(self.heat, stack_id)
        found = self._once(stack, lambda found: found is None or found.is_rest, begun=True)
        if found is not None:
            raise failure_of(self.heat, found, stack_id)

    def _once(
        self, stack: RenderedStack, holds: Callable[[Stack | None], bool], *, begun: bool = False
    ) -> Stack | None:
        """Return the stack once `holds` is true of it. What has `begun` goes on without us while Heat is away."""

        def settled() -> tuple[Stack | None] | None:
            try:
                found = self.heat.find(stack.stack_name)
            except HeatRefused as refused:
                if not begun or 0 < refused.status < 500:
                    raise
                return None
            return (found,) if holds(found) else None

        what = f"stack {stack.stack_name} to settle"
        return wait_until(settled, self.clock, timeout=self._timeout(stack), what=what, interval=self.poll)[0]

    def _create(self, stack: RenderedStack, parameters: Mapping[str, Any]) -> Stack:
        body = self._body(stack, parameters)
        self.heat.preview(stack.stack_name, **body)
        self.gate()
        stack_id = _begun(stack, lambda: self.heat.create(stack.stack_name, **body))
        return self._finish(stack, stack_id, frozenset(), new=True)

    def _update(self, found: Stack, stack: RenderedStack, parameters: Mapping[str, Any]) -> tuple[Change, Stack]:
        body = self._body(stack, parameters)
        content = self.heat.content(found.identity)
        changes = foreseen(self.heat, found, content, body, tag=stack.tag(parameters))
        self._judge(stack, parameters, changes)
        seen = frozenset(event.id for event in self.heat.events(found.id))
        self.gate()
        _begun(stack, lambda: self.heat.update(found.id, **body))
        updated = self._finish(stack, found.id, seen, new=False)
        touched = any(one.kind is not Kind.UNCHANGED for one in changes)
        return (Change.UPDATED if touched or updated.outputs != found.outputs else Change.UNCHANGED), updated

    def _judge(self, stack: RenderedStack, parameters: Mapping[str, Any], changes: tuple[ResourceChange, ...]) -> None:
        plan = self.foreseen.get(stack.name)
        if plan is not None and plan.content == stack.digest(parameters) and plan.resources != changes:
            raise PlanStale(f"Heat would now do otherwise to stack {stack.stack_name} than was planned", hint=_AGAIN)
        refused = [name for name in lost(changes) if name not in self.allowed]
        if refused and self.rules.of(stack.name).protected:
            raise ProtectedRefused(
                f"{', '.join(refused)} of stack {stack.stack_name} would be replaced or deleted",
                hint=f"the same with --allow-replace {','.join(refused)}, if that is meant",
            )
        planned = () if plan is None else lost(plan.resources)
        unforeseen = [name for name in lost(changes) if name not in {*planned, *self.allowed}]
        if plan is not None and unforeseen:  # an engine that goes is drained first, by a plan that knows of it
            raise PlanStale(
                f"{', '.join(unforeseen)} of stack {stack.stack_name} would be replaced or deleted, which could not be "
                "foreseen before other stacks were changed",
                hint="run inv deploy again, which plans anew, or make another plan: inv plan ENV",
            )

    def _finish(self, stack: RenderedStack, stack_id: str, seen: frozenset[str], *, new: bool) -> Stack:
        with _under_way(stack):
            return self._ended(stack, stack_id, seen, new=new)

    def _ended(self, stack: RenderedStack, stack_id: str, seen: frozenset[str], *, new: bool) -> Stack:
        end = ended(
            self.heat, self.clock, stack_id, seen,
            name=stack.stack_name, timeout=self._timeout(stack), poll=self.poll,
            report=lambda event: self.report(stack.name, event), deletes=new and self._rolls_back,
        )  # fmt: skip
        if end.status not in ("CREATE_COMPLETE", "UPDATE_COMPLETE"):  # a rollback ends complete too
            failure = failure_of(self.heat, end, stack_id)
            raise self._gone_back(stack, failure, new=new) if self._rolls_back else failure
        found = self._once(stack, lambda _: True, begun=True)
        if found is None:
            raise StackFailed(f"stack {stack.stack_name} vanished when it was complete")
        return found

    @property
    def _rolls_back(self) -> bool:
        return self.rules.on_failure is OnFailure.ROLLBACK

    def _gone_back(self, stack: RenderedStack, failure: StackFailed, *, new: bool) -> PipelineError:
        """Wait until Heat has rolled a failed stack back, and return how that ended; a new one is deleted then."""
        back = self._once(
            stack, lambda found: found is None or found.status in ("ROLLBACK_COMPLETE", "ROLLBACK_FAILED"), begun=True
        )
        if back is not None and back.status == "ROLLBACK_FAILED":
            return StackFailed(f"{failure.message}; and it could not be rolled back: {back.reason}", hint=_AGAIN)
        if back is not None and new:
            self._delete(stack, back.id)
        return FailedAndReverted(
            f"{failure.message}; {'it is deleted again' if new else 'it was rolled back'}", hint=_AGAIN
        )

    def _body(self, stack: RenderedStack, parameters: Mapping[str, Any]) -> dict[str, Any]:
        timeout = self._timeout(stack)
        return stack.body(parameters, timeout=timeout, rollback=self._rolls_back, labels=self.labels)

    def _timeout(self, stack: RenderedStack) -> float:
        return self.rules.of(stack.name).timeout or self.timeout


def launch_all(stacks: Sequence[RenderedStack], launcher: Launcher, given: Mapping[str, Any]) -> dict[str, Launched]:
    """Launch `stacks`, each as soon as those it needs are complete; return them by name.

    `given` are the inputs that come from no stack, secrets as Secret. When one fails, those under way are waited for,
    no other is begun, and the first error is raised: with what it means where nothing was changed, else naming what
    was.
    """
    by_name = {stack.name: stack for stack in stacks}

    def launch(name: str, done: Mapping[str, Launched]) -> Launched:
        return launcher.launch(by_name[name], {GIVEN: given, **{known: one.outputs for known, one in done.items()}})

    done, errors = in_order({stack.name: stack.needs for stack in stacks}, launch)
    if errors:
        raise _told(errors, [name for name, one in done.items() if one.change is not Change.UNCHANGED])
    return done


def _told(errors: Sequence[PipelineError], changed: Sequence[str]) -> PipelineError:
    """Return the first error as what it is: one that leaves all as it was does not where others were changed."""
    first, others = errors[0], errors[1:]
    also = "".join(f"; also: {error.message}" for error in others)
    if isinstance(first, HeatRefused) and not changed and not others:
        return meaning(first)
    kept = f"; changed by this run, and kept: {', '.join(changed)}" if changed else ""
    if isinstance(first, HeatRefused | PlanStale | ProtectedRefused | FailedAndReverted) and (changed or others):
        return StackFailed(f"{first.message}{also}{kept}", hint=first.hint or _AGAIN)
    first.message += also + kept
    return first


def _begun(stack: RenderedStack, ask: Callable[[], T]) -> T:
    """Return what Heat answers when it is asked to begin. Raises OutcomeUnknown where it did not say whether it did."""
    try:
        return ask()
    except HeatRefused as refused:
        if refused.status and refused.status < 500:
            raise
        raise OutcomeUnknown(
            f"{refused.message}: whether it began is not known",
            hint=f"openstack stack event list {stack.stack_name}; the same command again goes on from there",
        ) from refused


@contextmanager
def _under_way(stack: RenderedStack) -> Iterator[None]:
    """Raise what Heat refuses in the body as what it means while an action is under way."""
    try:
        yield
    except HeatRefused as refused:
        raise OutcomeUnknown(
            f"{refused.message}: how it ended is not known",
            hint=f"openstack stack event list {stack.stack_name}; the same command again goes on from there",
        ) from refused


def _dig(outputs: Outputs, path: tuple[str, ...]) -> Any:
    value: Any = outputs
    for step in path:
        if not isinstance(value, Mapping) or step not in value:
            raise StackFailed(f"stack {path[0]} has no output {'.'.join(path[1:])}")
        value = value[step]
    return value
