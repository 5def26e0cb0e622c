"""Planning: Heat is asked what it has and what it would do, all stacks at once; nothing is changed by it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pipeline.differences import Mask, digest_of, parameter_changes, parsed, template_diff
from pipeline.edges.clock import Clock, wait_until
from pipeline.edges.foresight import foreseen
from pipeline.edges.heat import Heat
from pipeline.edges.refusals import untouched
from pipeline.environment import Environment
from pipeline.errors import Inconclusive
from pipeline.plan import Act, Live, Parameter, Plan, StackPlan
from pipeline.render import GIVEN, RenderedStack
from pipeline.stacks import Content, Kind, ResourceChange, Stack

__all__ = ["at_rest", "survey", "templates_digest"]

T = TypeVar("T")
S = TypeVar("S")
_WIDTH = 8


@dataclass(frozen=True, slots=True)
class _Seen:
    """A stack as Heat has it."""

    stack: Stack
    content: Content


@dataclass(frozen=True, slots=True)
class _Draft:
    """A stack, what Heat has of it, and what it would be sent; `missing` are values that nobody knows yet."""

    stack: RenderedStack
    seen: _Seen | None
    parameters: Mapping[str, Any]
    missing: Mapping[str, str]
    template: Mapping[str, Any] = field(default_factory=dict)

    @property
    def lives(self) -> _Seen | None:
        """What there is of the stack to update: one that never worked is deleted first."""
        seen = self.seen
        return None if seen is None or seen.stack.never_worked else seen

    @property
    def values(self) -> Mapping[str, Any]:
        """What it would be sent: values of now stand for those that are to come."""
        now = (self.lives.content.environment.get("parameters") or {}) if self.lives else {}
        return {**self.parameters, **{key: now[key] for key in self.missing if key in now}}

    @property
    def mask(self) -> Mask:
        return Mask(self.template, self.seen.content if self.seen else None, self.parameters)


def survey(
    heat: Heat,
    environment: Environment,
    templates: Path,
    stacks: Sequence[RenderedStack],
    given: Mapping[str, Any],
    *,
    release: str = "",
) -> Plan:
    """Return the plan of launching `stacks`, those first that others need; `given` are the inputs of no stack, secrets
    as Secret.

    Raises PreflightUnreachable where the cloud does not answer as it should, ConfigurationInvalid where it refuses,
    Inconclusive where an action is under way on a stack: what comes of it cannot be foreseen.
    """
    with ThreadPoolExecutor(max_workers=_WIDTH, thread_name_prefix="plan") as pool:
        with untouched():
            found = {one.name: one for one in heat.list(name=[stack.stack_name for stack in stacks])}
            here = [found[stack.stack_name] for stack in stacks if stack.stack_name in found]
            seen = {one.stack.name: one for one in _each(pool, lambda one: _look(heat, one), here) if one}
        _require_rest(environment, seen.values())
        outputs: dict[str, Mapping[str, Any]] = {GIVEN: given}
        works = {name: one.stack.outputs for name, one in seen.items() if not one.stack.never_worked}
        outputs |= {one.name: works[one.stack_name] for one in stacks if one.stack_name in works}
        drafts = [_draft(stack, seen.get(stack.stack_name), outputs) for stack in stacks]
        resources = _each(pool, lambda draft: _preview(heat, environment, draft), drafts)
    plans: dict[str, StackPlan] = {}
    for draft, changes in zip(drafts, resources, strict=True):
        plans[draft.stack.name] = _planned(draft, changes, environment, plans)
    settings = hashlib.sha256(environment.model_dump_json().encode()).hexdigest()
    return Plan(environment.name, release, settings, templates_digest(templates), tuple(plans.values()))


def at_rest(heat: Heat, stacks: Sequence[RenderedStack], clock: Clock, *, timeout: float) -> None:
    """Wait until nothing is under way on any of `stacks`: a run may have been killed half-way.

    Raises Inconclusive after `timeout` seconds.
    """
    names = [stack.stack_name for stack in stacks]

    def settled() -> bool:
        with untouched():
            return not any(stack.in_progress for stack in heat.list(name=names))

    wait_until(settled, clock, timeout=timeout, what="what is under way on the stacks to end", interval=1)


def templates_digest(templates: Path) -> str:
    """Return the sha256 of every file below `templates`: those of the hosts are of no stack, and count as well."""
    digest = hashlib.sha256()
    for path in sorted(path for path in templates.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(templates)}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _look(heat: Heat, listed: Stack) -> _Seen | None:
    found = heat.find(listed.identity)
    return _Seen(found, heat.content(found.identity)) if found else None


def _require_rest(environment: Environment, seen: Iterable[_Seen]) -> None:
    busy = [one.stack for one in seen if one.stack.in_progress]
    if busy:
        told = ", ".join(f"{stack.name} is {stack.status}" for stack in busy)
        raise Inconclusive(f"what is under way cannot be planned: {told}", hint=f"inv lock.status {environment.name}")


def _draft(stack: RenderedStack, seen: _Seen | None, outputs: Mapping[str, Any]) -> _Draft:
    values, missing = dict(stack.parameters), {}
    for key, path in stack.inputs.items():
        value: Any = outputs
        for step in path:
            value = value.get(step) if isinstance(value, Mapping) else None
        if value is None:
            missing[key] = path[0]
        else:
            values[key] = value
    return _Draft(stack, seen, values, missing, parsed(stack.template))


def _preview(heat: Heat, environment: Environment, draft: _Draft) -> tuple[ResourceChange, ...]:
    """Ask Heat what it would do. What lacks a value that another stack gives is only validated, where it is new."""
    stack, live, values = draft.stack, draft.lives, draft.values
    body = stack.body({**dict.fromkeys(draft.missing, ""), **values}, timeout=environment.deadlines.stack)
    with untouched(draft.mask.text):
        if live is not None:
            return foreseen(heat, live.stack, live.content, body, tag=stack.tag(values))
        names: tuple[str, ...] | None = None
        if draft.seen is None and set(draft.missing.values()) <= {GIVEN}:  # the key, which any text may stand for
            names = heat.preview(stack.stack_name, **body)
        else:
            heat.validate(**{key: body[key] for key in ("template", "files", "environment")})
    found = draft.template.get("resources") or {}
    return tuple(
        ResourceChange(name, Kind.ADDED, str(found[name].get("type", "")))
        for name in sorted(found)
        if names is None or name in names
    )


def _planned(
    draft: _Draft, resources: tuple[ResourceChange, ...], environment: Environment, before: Mapping[str, StackPlan]
) -> StackPlan:
    """Return the plan of one stack, which may take values from those planned `before`."""
    stack, seen, live, mask = draft.stack, draft.seen, draft.lives, draft.mask
    moving = {name for name, plan in before.items() if plan.act is not Act.NONE or plan.unforeseen}
    unknown = {key: path[0] for key, path in stack.inputs.items() if path[0] in moving} | dict(draft.missing)
    content = stack.digest(draft.values)
    parameters = parameter_changes(
        live.content if live else None,
        draft.template,
        draft.parameters,
        unknown,
        mask,
        same_content=seen is not None and seen.stack.was_sent(f"content-{content}"),
    )
    diff = template_diff(live.content if live else None, stack, draft.template, mask)
    return StackPlan(
        name=stack.name,
        stack_name=stack.stack_name,
        act=_act(draft, resources, parameters, diff),
        protected=environment.stacks.of(stack.name).protected,
        live=_live(seen) if seen else None,
        rendered=digest_of([stack.template, stack.files, stack.registry]),
        content=content,
        resources=resources,
        parameters=parameters,
        diff=diff,
    )


def _act(
    draft: _Draft, resources: Sequence[ResourceChange], parameters: Sequence[Parameter], diff: Sequence[str]
) -> Act:
    if draft.seen is None:
        return Act.CREATE
    if draft.lives is None:
        return Act.RECREATE
    known = [one for one in parameters if not one.source or (one.after and one.after != one.before)]
    touched = any(one.kind is not Kind.UNCHANGED for one in resources)
    return Act.UPDATE if known or diff or touched or not draft.seen.stack.complete else Act.NONE


def _live(seen: _Seen) -> Live:
    stack, content = seen.stack, seen.content
    sent = digest_of([content.template, content.files, content.environment, list(stack.tags)])
    return Live(stack.id, stack.status, stack.updated, digest_of(content.template), sent)


def _each(pool: ThreadPoolExecutor, act: Callable[[S], T], on: Iterable[S]) -> list[T]:
    """Return what `act` gives for each, all at once; every one is finished before the first error is raised."""
    futures = [pool.submit(act, one) for one in on]
    errors = [error for future in futures if (error := future.exception()) is not None]
    for error in errors:
        raise error
    return [future.result() for future in futures]
