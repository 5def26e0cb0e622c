"""Heat's answers as values: stacks, resources and what an update would do to them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pipeline.stacks import Kind, Resource, ResourceChange, Stack

__all__ = ["changes_of", "names_in", "resources_of", "stack_id_of", "stack_of"]


def stack_of(found: Any) -> Stack:
    """Return the stack that heatclient found."""
    outputs = {one["output_key"]: one.get("output_value") for one in getattr(found, "outputs", None) or ()}
    return Stack(
        found.id,
        found.stack_name,
        found.stack_status,
        found.stack_status_reason or "",
        found.updated_time or "",
        outputs,
        tuple(getattr(found, "tags", None) or ()),
    )


def resources_of(found: Iterable[Any]) -> tuple[Resource, ...]:
    """Return resources with their paths: Heat lists nested ones flat, tied to the outer one by its physical id."""
    listed = list(found)
    owners = {one.physical_resource_id: one for one in listed if one.physical_resource_id}

    def path(one: Any) -> str:
        owner = owners.get(stack_id_of(one))
        return one.resource_name if owner is None else f"{path(owner)}/{one.resource_name}"

    return tuple(
        Resource(
            path(one),
            one.resource_type,
            one.resource_status,
            one.resource_status_reason or "",
            one.physical_resource_id or "",
            stack_id_of(one),
        )
        for one in listed
    )


def changes_of(answer: Mapping[str, Any]) -> tuple[ResourceChange, ...]:
    """Return the changes of an update's preview, sorted by path: Heat lists nested ones flat, below their kind."""
    entries = [(kind, entry) for kind in Kind for entry in answer.get(kind.value) or ()]
    owners = {nested["stack_name"]: entry for _, entry in entries if (nested := entry.get("nested_stack_id"))}

    def path(entry: Mapping[str, Any]) -> str:
        owner, name = owners.get(entry.get("stack_name")), str(entry["resource_name"])
        if owner is not None and owner is not entry:
            return f"{path(owner)}/{name}"
        # A nested stack that is yet to be made has no name that its resources could be found by.
        outer = entry.get("parent_resource")
        return f"{outer}/{name}" if outer else name

    return tuple(sorted({ResourceChange(path(entry), kind, str(entry["resource_type"])) for kind, entry in entries}))


def names_in(preview: Iterable[Any]) -> Iterator[str]:
    """Yield the names in a creation's preview, in which a nested stack stands as a list of its own."""
    for entry in preview:
        if isinstance(entry, list):
            yield from names_in(entry)
        else:
            yield str(entry["resource_name"])


def stack_id_of(found: Any) -> str:
    """Return the id of the stack that a resource or event belongs to; its link ends in /stacks/NAME/ID."""
    href = next((link["href"] for link in found.links if link["rel"] == "stack"), "")
    return str(href.rpartition("/")[2])
