"""Consequences: what a plan means for hosts and for what is kept on them, in words."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.environment import CLUSTERED, CONTROL, Role
from pipeline.errors import ConfigurationInvalid
from pipeline.plan import Act, ParameterChange, Plan, StackPlan
from pipeline.stacks import Kind, ResourceChange

__all__ = [
    "consequences",
    "hosts_leaving",
    "hosts_made_anew",
    "losses",
    "require_same_members",
    "require_same_volumes",
]

_HOST = "Region::Host"
_VOLUMES = ("OS::Cinder::Volume", "OS::Cinder::VolumeAttachment")
_PORT = "OS::Neutron::"
_BESIDE = (_PORT, *_VOLUMES)
"""Types of what a host has beside its server."""
_GONE = (Kind.REPLACED, Kind.DELETED)
_DATA = "every stack that this Heat knows goes with its data, unless a backup"
_MEANS: Mapping[str, str] = {
    CONTROL: f"{_DATA} keeps it, and no customer is answered meanwhile",
    Role.DATABASE: f"{_DATA} or a volume keeps it",
    Role.MESSAGING: "its queues and the messages in them go, and stacks in flight may hang",
    Role.LOADBALANCER: "no customer is answered meanwhile",
}
_FIRST: Mapping[str, str] = {Role.ENGINE: "drained", Role.API: "taken out of the load balancer"}
_REST = "its releases and logs go"


def consequences(plan: Plan) -> Mapping[str, tuple[str, ...]]:
    """Return what a plan means for the hosts of each stack that it touches, a line each, by the stack's name."""
    return {stack.name: lines for stack in plan.stacks if (lines := _of_stack(stack, bool(plan.release)))}


def losses(plan: Plan) -> tuple[str, ...]:
    """Return every parameter that stacks have now and are no longer given, a line each: none is dropped silently."""
    return tuple(
        f"{stack.name}: parameter {one.name} is no longer given: it was {one.before}"
        + (f", and is now the template's {one.after}" if one.change is ParameterChange.DEFAULT else "")
        for stack in plan.stacks
        for one in stack.parameters
        if one.change in (ParameterChange.DEFAULT, ParameterChange.DROPPED)
    )


def hosts_leaving(plan: Plan) -> tuple[str, ...]:
    """Return the names of the engines and APIs whose servers a plan replaces or deletes, in the plan's order."""
    return tuple(name for stack in plan.stacks if stack.name in _FIRST for name in _servers_lost(stack))


def hosts_made_anew(plan: Plan) -> tuple[tuple[str, str], ...]:
    """Return (stack, host) for every host of whose server a plan makes another, in the plan's order."""
    return tuple(
        (stack.name, name)
        for stack in plan.stacks
        if stack.act is Act.UPDATE
        for name in _servers_lost(stack)
        if _hosts(stack)[name] is not Kind.DELETED
    )


def require_same_volumes(plan: Plan) -> None:
    """Raises ConfigurationInvalid where a host that stays would get another volume for its data, or one more.

    Heat takes a volume that grows from the running server, and a server mounts one at its first boot only.
    """
    for stack in plan.stacks:
        if stack.act is not Act.UPDATE:
            continue
        anew = {name for name, kind in _hosts(stack).items() if kind in (Kind.ADDED, *_GONE)} | {*_servers_lost(stack)}
        others = [one.head for one in stack.changes if one.type in _VOLUMES and one.head not in anew]
        if others:
            hosts = ", ".join(dict.fromkeys(others))
            raise ConfigurationInvalid(
                f"{plan.environment}: topology.{stack.name}.data_volume_gb is not what the region was deployed with "
                f"(the volume of {hosts} would be taken from a running server, or not mounted)",
                hint="set it back; a volume of another size is for a new region",
            )


def require_same_members(plan: Plan) -> None:
    """Raises ConfigurationInvalid where a plan would give a running database or broker more hosts, or fewer.

    One that keeps its data alone does not become a cluster by having neighbours, and the other way round.
    """
    for stack in plan.stacks:
        if stack.name not in CLUSTERED or stack.act is not Act.UPDATE:
            continue
        others = [name for name, kind in _hosts(stack).items() if kind in (Kind.ADDED, Kind.DELETED)]
        if others:
            raise ConfigurationInvalid(
                f"{plan.environment}: topology.{stack.name}.count is not what the region was deployed with "
                f"({', '.join(others)} would come or go)",
                hint=f"set it back; a {stack.name} of another size is for a new region",
            )


def _of_stack(stack: StackPlan, brought_up: bool) -> tuple[str, ...]:
    gone, anew = set(_servers_lost(stack)), _hosts(stack)
    lines = [_host_line(name, anew[name], stack.name, brought_up) for name in anew if name in gone]
    lines += [f"{name}: its port is made anew: its address may change" for name in anew
              if name not in gone and any(_lost(one) for one in _within(stack, name))]  # fmt: skip
    if stack.name in _FIRST and gone and gone >= {name for name, kind in anew.items() if kind is not Kind.ADDED}:
        lines.append(f"every {stack.name} goes at once: customers are not served until new ones are up")
    lines += [f"{name}: is made anew, and what is kept in it goes" for name in stack.lost if name not in anew]
    return tuple(lines)


def _host_line(name: str, kind: Kind, role: str, brought_up: bool) -> str:
    what = f"{name}: its server goes for good" if kind is Kind.DELETED else f"{name}: its server is made anew"
    means = [_MEANS[role]] if role in _MEANS else []
    if role in _FIRST:
        done = f"it is {_FIRST[role]} first"
        means.append(done if brought_up else f"it is not {_FIRST[role]} first, unless the plan is of a --release")
    return ", ".join([f"{what}: {means[0]}" if means else what, *means[1:], _REST])


def _hosts(stack: StackPlan) -> dict[str, Kind]:
    return {one.path: one.kind for one in stack.resources if one.type == _HOST}


def _within(stack: StackPlan, name: str) -> list[ResourceChange]:
    return [one for one in stack.resources if one.head == name and one.path != name]


def _lost(change: ResourceChange) -> bool:
    return change.kind in _GONE


def _servers_lost(stack: StackPlan) -> tuple[str, ...]:
    """Return the hosts that lose more than what is beside a server: what else a host is made of is taken for that."""
    return tuple(
        name
        for name, kind in _hosts(stack).items()
        if kind in _GONE or any(_lost(one) and not one.type.startswith(_BESIDE) for one in _within(stack, name))
    )
