"""What a template refers to: parameters, resources and their attributes, conditions; and whether all of it is there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.validation.conditions import Place, circle_of, unsound_conditions
from pipeline.validation.expressions import PSEUDO, Scope
from pipeline.validation.schemas import Catalogue
from pipeline.validation.template import Finding, Template
from pipeline.validation.values import advised, nearest

__all__ = ["Found", "Nested", "dangling"]

Nested = Mapping[str, Template]
"""The templates that types of resources are made of, by type."""

Found = tuple[Finding, frozenset[str]]


@dataclass(frozen=True, slots=True)
class _Call:
    """A function that `resource` ("" for an output or a condition) calls at `path`."""

    resource: str
    path: str
    function: str
    argument: Any


def dangling(template: Template, nested: Nested, catalogue: Catalogue) -> Iterator[Found]:
    """Yield each reference that leads nowhere, and a circle of resources, with the releases where it is so."""
    scope = template.scope({})
    calls = [*_calls(template, scope)]
    for call in calls:
        yield from _lost(call, template, nested, catalogue)
    for name, one in template.resources.items():
        yield from ((found, catalogue.releases) for found in _lost_names(name, one, template))
    yield from ((found, catalogue.releases) for found in unsound_conditions(template, _ifs(calls)))
    if circle := circle_of(_needs(template, calls)):
        found = Finding(template.file, circle[0], "", "resources that do not need one another", " → ".join(circle))
        yield found, catalogue.releases


def _ifs(calls: list[_Call]) -> Iterator[Place]:
    """Yield the condition of each `if`."""
    for call in calls:
        if call.function == "if" and isinstance(call.argument, list) and call.argument:
            yield Place(call.resource, call.path, call.argument[0])


def _calls(template: Template, scope: Scope) -> Iterator[_Call]:
    for name, one in template.resources.items():
        for key in ("properties", "metadata", "deletion_policy", "update_policy", "condition"):
            yield from _within(one.get(key), name, key, scope)
    for name, one in template.outputs.items():
        for key in ("value", "condition"):
            yield from _within(one.get(key), "", f"outputs.{name}.{key}", scope)
    for name, one in template.section("conditions").items():
        yield from _within(one, "", f"conditions.{name}", scope)


def _within(node: Any, resource: str, path: str, scope: Scope) -> Iterator[_Call]:
    name = scope.function_of(node)
    if name is not None:
        yield _Call(resource, path, name, node[name])
    if isinstance(node, dict):
        for key, one in node.items():
            if isinstance(one, dict | list):
                yield from _within(one, resource, path if key == name else f"{path}.{key}", scope)
    elif isinstance(node, list):
        for index, one in enumerate(node):
            if isinstance(one, dict | list):
                yield from _within(one, resource, f"{path}.{index}", scope)


def _lost(call: _Call, template: Template, nested: Nested, catalogue: Catalogue) -> Iterator[Found]:
    first = call.argument[0] if isinstance(call.argument, list) and call.argument else call.argument
    known: Mapping[str, Any]
    if call.function == "get_param":
        known, what = {**template.parameters, **dict.fromkeys(PSEUDO)}, "a parameter"
    elif call.function in ("get_resource", "get_attr"):
        known, what = template.resources, "a resource"
    else:
        return
    if isinstance(first, str) and first not in known:
        expected = f"{what} of this template{nearest(first, known)}"
        yield Finding(template.file, call.resource, call.path, expected, first), catalogue.releases
    elif call.function == "get_attr":
        yield from _lost_attribute(call, template, nested, catalogue)


def _lost_attribute(call: _Call, template: Template, nested: Nested, catalogue: Catalogue) -> Iterator[Found]:
    match call.argument:
        case [str(resource), str(attribute), *path]:
            kind = template.resources[resource].get("type")
        case _:
            return
    if isinstance(kind, str) and kind in nested:
        for expected, found in _lost_output(nested[kind], attribute, path):
            yield Finding(template.file, call.resource, call.path, expected, found), catalogue.releases
        return
    for made, releases in catalogue.of(kind) if isinstance(kind, str) else ():
        advice = made.attributes.get(attribute)
        if advice is not None:
            told = advised(call.path, advice)
            words = f"{attribute}: {told.found}"
            yield Finding(template.file, call.resource, call.path, told.expected, words, advice=True), releases
        elif attribute not in made.attributes and not made.open:
            known = ", ".join(sorted(made.attributes))
            expected = f"an attribute of {kind} ({known})"
            yield Finding(template.file, call.resource, call.path, expected, f"{resource} {attribute}"), releases


def _lost_output(template: Template, attribute: str, path: list[Any]) -> Iterator[tuple[str, str]]:
    known = template.outputs
    if attribute not in known:
        if attribute != "show" and not attribute.startswith("resource."):
            yield f"an output of {template.file} ({', '.join(map(str, known))})", attribute
        return
    value = known[attribute].get("value")
    literal = isinstance(value, dict) and template.scope({}).function_of(value) is None
    if path and isinstance(path[0], str) and literal and path[0] not in value:
        yield f"a key of output {attribute} of {template.file} ({', '.join(map(str, value))})", path[0]


def _lost_names(name: str, resource: Mapping[str, Any], template: Template) -> Iterator[Finding]:
    for needed in _depends_on(resource):
        if not isinstance(needed, str) or needed not in template.resources:
            expected = f"a resource of this template{nearest(needed, template.resources)}"
            yield Finding(template.file, name, "depends_on", expected, str(needed))


def _depends_on(resource: Mapping[str, Any]) -> list[Any]:
    needed = resource.get("depends_on") or []
    return needed if isinstance(needed, list) else [needed]


def _needs(template: Template, calls: list[_Call]) -> dict[str, set[str]]:
    """Return the resources that each needs, by name."""
    needs: dict[str, set[str]] = {
        name: {one for one in _depends_on(facts) if isinstance(one, str)} for name, facts in template.resources.items()
    }
    for call in calls:
        if call.resource and call.function in ("get_resource", "get_attr"):
            first = call.argument[0] if isinstance(call.argument, list) and call.argument else call.argument
            if isinstance(first, str):
                needs[call.resource].add(first)
    return needs
