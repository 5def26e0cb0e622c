"""Launching stacks: create or update each, as wide as their dependencies allow, and wait for its end.

A wait is anchored to the events of the action it waits for, so that an earlier action's end is never taken for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from enum import StrEnum
from graphlib import TopologicalSorter
from typing import Any

from pipeline.edges.clock import Clock, wait_until
from pipeline.edges.heat import Event, Heat, Resource, Stack
from pipeline.errors import Inconclusive, PipelineError, StackFailed
from pipeline.render import GIVEN, RenderedStack
from pipeline.secrets import Secret

__all__ = ["Change", "Launched", "Launcher", "Outputs", "deepest_failure", "launch_all"]

Outputs = Mapping[str, Mapping[str, Any]]


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
    """Launches one stack at a time. `timeout` seconds bound each; `report` hears every event."""

    heat: Heat
    clock: Clock
    timeout: float
    report: Callable[[str, Event], None]
    poll: float = 1.0

    def launch(self, stack: RenderedStack, outputs: Outputs) -> Launched:
        """Create or update `stack`, which takes its inputs from `outputs`, and wait until it is complete.

        Raises StackFailed with the deepest failed resource, Inconclusive at the deadline.
        """
        parameters = {**stack.parameters, **{key: _dig(outputs, path) for key, path in stack.inputs.items()}}
        tag = f"content-{stack.digest(parameters)}"
        found = self._settled(stack)
        if found is None:
            self.heat.preview(stack.stack_name, **_body(stack, parameters, tag, self.timeout))
            change, found = Change.CREATED, self._create(stack, parameters, tag)
        elif found.complete and tag in found.tags:
            change = Change.UNCHANGED
        else:
            change, found = self._update(found, stack, parameters, tag)
        return Launched(stack.name, change, found.outputs)

    def _settled(self, stack: RenderedStack) -> Stack | None:
        """Return the stack once nothing is under way on it: an earlier run may have been killed half-way.

        One whose creation failed never worked, so it is deleted, and None returned.
        """
        found = self._once(stack, lambda found: found is None or not found.in_progress)
        if found is not None and found.status in ("CREATE_FAILED", "DELETE_FAILED"):
            self.heat.delete(found.id)
            found = self._once(stack, lambda found: found is None or found.status == "DELETE_FAILED")
        if found is not None and found.status == "DELETE_FAILED":
            raise self._failure(stack, found.id, found.status, found.reason)
        return found

    def _once(self, stack: RenderedStack, holds: Callable[[Stack | None], bool]) -> Stack | None:
        def settled() -> tuple[Stack | None] | None:
            found = self.heat.find(stack.stack_name)
            return (found,) if holds(found) else None

        what = f"stack {stack.stack_name} to settle"
        return wait_until(settled, self.clock, timeout=self.timeout, what=what, interval=self.poll)[0]

    def _create(self, stack: RenderedStack, parameters: Mapping[str, Any], tag: str) -> Stack:
        stack_id = self.heat.create(stack.stack_name, **_body(stack, parameters, tag, self.timeout))
        return self._finish(stack, stack_id, frozenset())

    def _update(
        self, found: Stack, stack: RenderedStack, parameters: Mapping[str, Any], tag: str
    ) -> tuple[Change, Stack]:
        body = _body(stack, parameters, tag, self.timeout)
        changes = self.heat.preview_update(found.id, **body)
        seen = frozenset(event.id for event in self.heat.events(found.id))
        self.heat.update(found.id, **body)
        updated = self._finish(stack, found.id, seen)
        touched = any(names for kind, names in changes.items() if kind != "unchanged")
        return (Change.UPDATED if touched or updated.outputs != found.outputs else Change.UNCHANGED), updated

    def _finish(self, stack: RenderedStack, stack_id: str, seen: frozenset[str]) -> Stack:
        ended = self._wait(stack, stack_id, seen)
        if not ended.status.endswith("_COMPLETE"):
            raise self._failure(stack, stack_id, ended.status, ended.reason)
        found = self.heat.find(stack.stack_name)
        if found is None:
            raise StackFailed(f"stack {stack.stack_name} vanished when it was complete")
        return found

    def _failure(self, stack: RenderedStack, stack_id: str, status: str, reason: str) -> StackFailed:
        worst = deepest_failure(self.heat.resources(stack_id))
        why = f"{worst.name} ({worst.kind}): {worst.reason}" if worst else reason
        return StackFailed(
            f"stack {stack.stack_name} is {status}: {why}", hint="mend the cause, then run the same command again"
        )

    def _wait(self, stack: RenderedStack, stack_id: str, seen: frozenset[str]) -> Event:
        """Return the event that ends the action begun after the events in `seen`."""
        deadline, known = self.clock.monotonic() + self.timeout, set(seen)
        while True:
            for event in self.heat.events(stack_id):
                if event.id in known:
                    continue
                known.add(event.id)
                self.report(stack.name, event)
                if event.resource == stack.stack_name and event.status.endswith(("_COMPLETE", "_FAILED")):
                    return event
            if self.clock.monotonic() > deadline:
                raise Inconclusive(
                    f"stack {stack.stack_name} did not end within {self.timeout:.0f} s",
                    hint=f"openstack stack event list {stack.stack_name}",
                )
            self.clock.sleep(self.poll)


def launch_all(stacks: Sequence[RenderedStack], launcher: Launcher, given: Mapping[str, Any]) -> dict[str, Launched]:
    """Launch `stacks`, each as soon as those it needs are complete; return them by name.

    `given` are the inputs that come from no stack, secrets as Secret.
    When one fails, those under way are waited for, no other is begun, and the first error is raised.
    """
    by_name = {stack.name: stack for stack in stacks}
    order = TopologicalSorter({stack.name: stack.needs for stack in stacks})
    order.prepare()
    done: dict[str, Launched] = {}
    errors: list[PipelineError] = []
    running: dict[Future[Launched], str] = {}
    with ThreadPoolExecutor(max_workers=max(len(stacks), 1), thread_name_prefix="stack") as pool:
        while (order.is_active() and not errors) or running:
            for name in order.get_ready() if not errors else ():
                outputs = {GIVEN: given, **{known: launched.outputs for known, launched in done.items()}}
                running[pool.submit(launcher.launch, by_name[name], outputs)] = name
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                name = running.pop(future)
                try:
                    done[name] = future.result()
                except PipelineError as error:
                    errors.append(error)
                else:
                    order.done(name)
    if errors:
        raise errors[0]
    return done


def deepest_failure(resources: Sequence[Resource]) -> Resource | None:
    """Return the failed resource nested deepest, for those above it only repeat its reason."""
    failed = [resource for resource in resources if resource.status.endswith("_FAILED")]
    return max(failed, key=lambda resource: resource.depth, default=None)


def _body(stack: RenderedStack, parameters: Mapping[str, Any], tag: str, timeout: float) -> dict[str, Any]:
    """Return what Heat is asked with: the one place where secrets among the parameters are revealed."""
    revealed = {key: value.reveal() if isinstance(value, Secret) else value for key, value in parameters.items()}
    return {
        "template": stack.template,
        "files": dict(stack.files),
        "environment": stack.heat_environment(revealed),
        "tags": f"heat-deploys-heat,{tag}",
        "timeout_mins": max(1, round(timeout / 60)),
    }


def _dig(outputs: Outputs, path: tuple[str, ...]) -> Any:
    value: Any = outputs
    for step in path:
        if not isinstance(value, Mapping) or step not in value:
            raise StackFailed(f"stack {path[0]} has no output {'.'.join(path[1:])}")
        value = value[step]
    return value
