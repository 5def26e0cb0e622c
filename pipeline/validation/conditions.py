"""The conditions of a template: what each is made of, and which ones resources, outputs, `if` and others ask for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any

from pipeline.validation.template import Finding, Template
from pipeline.validation.values import nearest, shown

__all__ = ["Place", "circle_of", "unsound_conditions"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a condition stands: in `resource` ("" for an output or another condition) at `path`."""

    resource: str
    path: str
    condition: Any


def unsound_conditions(template: Template, ifs: Iterable[Place]) -> Iterator[Finding]:
    """Yield definitions that are none, conditions that are asked for and not there, and a circle of them.

    `ifs` are the conditions of the template's `if` functions.
    """
    yield from _misdefined(template)
    known = template.section("conditions")
    places = [*_places(template), *ifs]
    needs = _followed(places, known)
    for place in (*places, *(Place("", f"conditions.{name}", known[name]) for name in needs)):
        for name in _asked(place.condition):
            if not isinstance(name, str) or name not in known:
                expected = f"a condition of this template{nearest(name, known)}"
                yield Finding(template.file, place.resource, place.path, expected, shown(name))
    if circle := circle_of(needs):
        path, told = f"conditions.{circle[0]}", " → ".join(circle)
        yield Finding(template.file, "", path, "conditions that do not need one another", told)


def circle_of(needs: Mapping[str, Iterable[str]]) -> list[str]:
    """Return names that need one another in a circle, where there is one in what each name `needs`."""
    try:
        TopologicalSorter(needs).prepare()
    except CycleError as error:
        return [str(name) for name in error.args[1]]
    return []


def _misdefined(template: Template) -> Iterator[Finding]:
    given = template.document.get("conditions", {})
    if not isinstance(given, dict):
        yield Finding(template.file, "", "conditions", "a mapping by name", type(given).__name__)
    functions = template.condition_functions
    for name, one in template.section("conditions").items() if functions else ():
        if not isinstance(one, bool) and not (isinstance(one, dict) and len(one) == 1 and functions.issuperset(one)):
            expected = f"true, false or one of the functions {', '.join(sorted(functions))}"
            yield Finding(template.file, "", f"conditions.{name}", expected, shown(one))


def _places(template: Template) -> Iterator[Place]:
    for name, one in template.resources.items():
        yield Place(name, "condition", one.get("condition"))
    for name, one in template.outputs.items():
        yield Place("", f"outputs.{name}.condition", one.get("condition"))


def _followed(places: Iterable[Place], known: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the names that each condition asks for, of those that Heat comes by: it looks at no other."""
    needs: dict[str, list[str]] = {}
    waiting = [name for place in places for name in _names(place.condition)]
    while waiting:
        name = waiting.pop()
        if name not in needs and isinstance(known.get(name), dict):
            needs[name] = _names(known[name])
            waiting += needs[name]
    return needs


def _names(condition: Any) -> list[str]:
    return [name for name in _asked(condition) if isinstance(name, str)]


def _asked(condition: Any) -> Iterator[Any]:
    """Yield the names that a condition asks for, and what stands in the place of one."""
    match condition:
        case {"not": inner}:
            yield from _asked(inner)
        case {"and": [*parts]} | {"or": [*parts]}:
            for part in parts:
                yield from _asked(part)
        case None | bool() | dict():
            return  # asks for values, as `equals` does, or for nothing
        case name:
            yield name
