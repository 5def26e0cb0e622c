"""A Plan: what launching an environment's stacks would do to each, as Heat foresees it. Values in, values out.

A plan holds no time and no name of whoever made it: the same world gives the same plan, so that one made again tells
whether an older one is stale. It holds no secret: values of hidden parameters are masked, and count by digest only.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, ClassVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from pipeline.errors import ConfigurationInvalid, PlanStale, ProtectedRefused
from pipeline.stacks import Kind, ResourceChange

__all__ = [
    "Act",
    "Live",
    "Parameter",
    "ParameterChange",
    "Plan",
    "StackPlan",
    "from_json",
    "lost",
    "require_fresh",
    "stale",
    "to_json",
]

FORMAT = 1
_EMPTY = frozenset({"AWS::CloudFormation::WaitCondition", "OS::Heat::WaitCondition", "OS::Neutron::SecurityGroupRule"})
"""Types of which nothing is lost when one is made anew: a condition's signals stay with its handle (seen on real Heat),
and a rule keeps nothing."""


class Act(StrEnum):
    """What is done to a stack as a whole."""

    CREATE = "create"
    RECREATE = "recreate"
    UPDATE = "update"
    NONE = "none"


class ParameterChange(StrEnum):
    """What becomes of a parameter; DEFAULT: it is no longer given, and the template's default holds."""

    ADDED = "added"
    CHANGED = "changed"
    DROPPED = "dropped"
    DEFAULT = "default"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter that does not stay as it is. `source` is the stack that an unknown value comes from."""

    name: str
    change: ParameterChange
    before: str
    after: str
    source: str = ""


@dataclass(frozen=True, slots=True)
class Live:
    """A stack as it was seen: `template` and `sent` are digests, of its template and of all that it was sent."""

    id: str
    status: str
    updated: str
    template: str
    sent: str


@dataclass(frozen=True, slots=True)
class StackPlan:
    """What would be done to one stack.

    `rendered` is the digest of its template and files, `content` that of them and all values, as its tag has it.
    `diff` are the lines of a unified diff, the live template's (-) and the rendered one's (+).
    """

    name: str
    stack_name: str
    act: Act
    protected: bool
    live: Live | None
    rendered: str
    content: str
    resources: tuple[ResourceChange, ...]
    parameters: tuple[Parameter, ...]
    diff: tuple[str, ...]

    @property
    def changes(self) -> tuple[ResourceChange, ...]:
        """What does not stay as it is."""
        return tuple(one for one in self.resources if one.kind is not Kind.UNCHANGED)

    @property
    def unforeseen(self) -> bool:
        """Whether it takes values that are known only once another stack is changed."""
        return any(one.change is ParameterChange.UNKNOWN for one in self.parameters)

    @property
    def lost(self) -> tuple[str, ...]:
        """Names of the resources that are protected, and would be replaced or deleted; of the stack where it is a rest
        that could not be deleted, for what is in it is not told."""
        if not self.protected:
            return ()
        rest = self.act is Act.RECREATE and self.live is not None and self.live.status == "DELETE_FAILED"
        return (self.name,) if rest else lost(self.resources)


@dataclass(frozen=True, slots=True)
class Plan:
    """What would be done to an environment. `settings` and `templates` are digests of what it was made from.

    `release` is the id of the release that hosts are brought up on, "" where only stacks are launched.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)

    environment: str
    release: str
    settings: str
    templates: str
    stacks: tuple[StackPlan, ...]

    @property
    def empty(self) -> bool:
        """Whether there is nothing to do to any stack."""
        return all(stack.act is Act.NONE for stack in self.stacks)

    @property
    def by_name(self) -> Mapping[str, StackPlan]:
        """The stacks by their names."""
        return {stack.name: stack for stack in self.stacks}

    def require(self, allowed: Collection[str]) -> None:
        """Let the plan be carried out, which may replace or delete what is `allowed` by name.

        Raises ProtectedRefused where a protected stack would lose anything else.
        """
        refused = [name for stack in self.stacks for name in stack.lost if name not in allowed]
        if refused:
            raise ProtectedRefused(
                f"{', '.join(refused)} in {self.environment} would be replaced or deleted, and what is kept there lost",
                hint=f"the same with --allow-replace {','.join(refused)}, if that is meant",
            )


def lost(resources: Collection[ResourceChange]) -> tuple[str, ...]:
    """Return the names of a stack's own resources of which something would be replaced or deleted."""
    gone = (one for one in resources if one.kind in (Kind.REPLACED, Kind.DELETED) and one.type not in _EMPTY)
    return tuple(dict.fromkeys(one.head for one in gone))


def to_json(plan: Plan) -> str:
    """Return a plan as JSON with sorted keys: the same bytes for the same plan."""
    return json.dumps({"format": FORMAT, **asdict(plan)}, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def from_json(text: str | bytes, where: str) -> Plan:
    """Return the plan that to_json wrote into file `where`. Raises ConfigurationInvalid, naming what is wrong."""
    again = "make it again: inv plan ENV --out FILE"
    try:
        document: Any = json.loads(text)
        if not isinstance(document, dict) or document.pop("format", None) != FORMAT:
            raise ConfigurationInvalid(f"{where}: is no plan of format {FORMAT}", hint=again)
        return TypeAdapter(Plan).validate_json(json.dumps(document))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ConfigurationInvalid(f"{where}: {place}: {first['msg']}", hint=again) from error
    except ValueError as error:  # no JSON, no UTF-8, a surrogate without its other half
        raise ConfigurationInvalid(f"{where}: is no plan: {error}", hint=again) from error


def stale(planned: Plan, now: Plan) -> str:
    """Return why `planned` no longer holds, "" where it does; `now` is the plan of that environment made again."""
    if planned == now:
        return ""
    if planned.environment != now.environment or planned.release != now.release:
        return "it is for another environment or release"
    if planned.settings != now.settings:
        return f"the settings of environment {now.environment} are others now"
    if [one.name for one in planned.stacks] != [one.name for one in now.stacks]:
        return "there are other stacks to launch now"
    for before, after in zip(planned.stacks, now.stacks, strict=True):
        if before != after:
            return f"stack {after.stack_name} {_moved(before, after)}"
    return "templates are others now"


def _moved(before: StackPlan, after: StackPlan) -> str:
    """Return what is different about a stack, as the end of a sentence that begins with its name."""
    then, now = before.live, after.live
    if then is None or now is None:
        return "was made since" if now else "is gone" if then else _otherwise(before, after)
    if then.id != now.id:
        return "is another one of that name now"
    if then != now:
        return f"was changed since: it is {now.status}, updated {now.updated or 'never'}"
    return _otherwise(before, after)


def _otherwise(before: StackPlan, after: StackPlan) -> str:
    if before.rendered != after.rendered:
        return "has another template or other files now"
    if before.content != after.content or before.parameters != after.parameters:
        return "would be launched with other values now"
    if before.resources != after.resources:
        return "would have other resources changed now"
    return "is planned otherwise now"


def require_fresh(planned: Plan, now: Plan) -> None:
    """Let `planned` be carried out. Raises PlanStale where the plan made again, `now`, is another."""
    if told := stale(planned, now):
        release = f" --release {planned.release}" if planned.release else ""
        raise PlanStale(
            f"the plan is stale: {told}",
            hint=f"inv plan {planned.environment}{release} --out FILE, and look at it before it is applied",
        )
