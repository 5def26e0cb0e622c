"""Settling Heat's preview of an update: what it only seems to change, because it cannot know, stays as it is.

Heat previews an update on a stack in memory whose resources have no ids yet: each reference to another resource reads
as that one's bare name, so that whatever refers to anything seems updated, and replaced where it cannot be updated
in place. What Heat says is therefore an upper bound. Here the definitions of a resource are compared, those it was
sent and those it would be sent, with the values of parameters in place and references left as they are: where they
are equal, and nothing they refer to is made anew, the resource stays as it is. Of a nested template, its outputs are
compared too: they are what others read of it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import yaml

from pipeline.stacks import Content, Kind, ResourceChange

__all__ = ["Sent", "settled"]

_SEEMING = (Kind.UPDATED, Kind.REPLACED)
_REFERENCES = {"get_resource": False, "get_attr": True, "Ref": False, "Fn::GetAtt": True}
"""How a template refers to a resource, and whether to an attribute of it."""
_SAME = object()
"""What stands for each hidden value that is known to stay: Heat tells asterisks, and it would be sent a word."""


@dataclass(frozen=True, slots=True)
class Sent:
    """What a stack was, or would be, sent: a template as Heat parses it, and what it is to be read with."""

    template: Mapping[str, Any]
    files: Mapping[str, str]
    registry: Mapping[str, Any]
    parameters: Mapping[str, Any]

    @classmethod
    def of(cls, content: Content) -> Sent:
        """Return what a stack was sent, as Heat tells it."""
        sent = content.environment
        values = {**(sent.get("parameter_defaults") or {}), **(sent.get("parameters") or {})}
        return cls(content.template, content.files, sent.get("resource_registry") or {}, values)


def settled(
    changes: Collection[ResourceChange],
    before: Sent,
    after: Sent,
    *,
    failed: Collection[str] = (),
    hidden: bool = False,
) -> tuple[ResourceChange, ...]:
    """Return Heat's `changes` of an update from `before` to `after`, sorted, each as far as there is a reason for it.

    `failed` are paths of resources whose last action failed: Heat replaces those whatever they are defined as. Where
    a `hidden` value may differ, which Heat does not tell, all that takes one is left as Heat says.
    """
    truth = _Truth(changes, _Definitions(before, hidden), _Definitions(after, hidden), frozenset(failed))
    return tuple(sorted({ResourceChange(one.path, truth.of(one), one.type) for one in changes if truth.holds(one)}))


class _Truth:
    """What really becomes of resources, by path."""

    def __init__(
        self, changes: Collection[ResourceChange], was: _Definitions, now: _Definitions, failed: frozenset[str]
    ) -> None:
        self._changes = tuple(changes)
        self._was, self._now, self._failed = was, now, failed
        self._stays: dict[str, bool] = {}
        self._tells: dict[tuple[str, str], bool] = {}

    def of(self, change: ResourceChange) -> Kind:
        """Return what becomes of a resource: one in which something changes is updated itself."""
        if change.kind not in _SEEMING or not self._stay(change.path):
            return change.kind
        inside = any(self._own(one) is not Kind.UNCHANGED for one in self._within(change.path))
        return Kind.UPDATED if inside or self._tells_otherwise(change.path, "") else Kind.UNCHANGED

    def holds(self, change: ResourceChange) -> bool:
        """Whether it is not nested in what only seems to be replaced, and so told as deleted and added."""
        outer = change.path.rpartition("/")[0]
        replaced = any(one.path == outer and one.kind is Kind.REPLACED for one in self._changes)
        return not (outer and replaced and change.kind in (Kind.ADDED, Kind.DELETED) and self._stay(outer))

    def _own(self, change: ResourceChange) -> Kind:
        return Kind.UNCHANGED if change.kind in _SEEMING and self._stay(change.path) else change.kind

    def _stay(self, path: str) -> bool:
        """Whether a resource is defined as before, and nothing moved that it refers to."""
        if path not in self._stays:
            self._stays[path] = True  # what refers to itself in a circle is not moved by that
            old, new = self._was.of(path), self._now.of(path)
            same = old is not None and old == new and path not in self._failed
            self._stays[path] = same and not any(self._moved(*one) for one in _referred(new, path))
        return self._stays[path]

    def _moved(self, path: str, attribute: str | None) -> bool:
        """Whether the id of a resource becomes another one, or an `attribute` of it may: "" for any, None for none."""
        own = {self._own(one) for one in self._changes if one.path == path and self.holds(one)} - {Kind.UNCHANGED}
        if attribute is None:
            return bool(own - {Kind.UPDATED})
        inside = {self._own(one) for one in self._within(path)} - {Kind.UNCHANGED}
        return bool(own or inside) or self._tells_otherwise(path, attribute)

    def _tells_otherwise(self, path: str, name: str) -> bool:
        """Whether output `name` of the template nested at `path` changes, or any where none has that name."""
        if (path, name) not in self._tells:
            self._tells[path, name] = False  # in a circle, as above
            old, new = self._was.outputs(path), self._now.outputs(path)
            inner: Iterable[ResourceChange] = ()
            if name in old and name in new:
                old, new = {name: old[name]}, {name: new[name]}
            else:
                inner = self._within(path)
            self._tells[path, name] = (
                old != new
                or any(self._moved(*one) for one in _referred([*new.values()], f"{path}/"))
                or any(self._tells_otherwise(one.path, "") for one in inner)
            )
        return self._tells[path, name]

    def _within(self, path: str) -> Iterator[ResourceChange]:
        return (one for one in self._changes if one.path.startswith(f"{path}/") and self.holds(one))


class _Definitions:
    """The definitions in a stack, by path: parameters are replaced by values, or by what the outer stack gives."""

    def __init__(self, sent: Sent, hidden: bool) -> None:
        self._sent = sent
        self._secret = object() if hidden else _SAME
        self._known: dict[str, Any] = {}

    def of(self, path: str) -> Any:
        """Return the definition of the resource at `path`, None where it cannot be told: it is nested otherwise."""
        if path not in self._known:
            outer, _, name = path.rpartition("/")
            template, values = self._scope(outer)
            resources = template.get("resources") or {}
            self._known[path] = self._filled(resources[name], template, values) if name in resources else None
        return self._known[path]

    def outputs(self, path: str) -> dict[str, Any]:
        """Return the outputs of the template nested at `path`, none where none is, without what only describes them."""
        template, values = self._scope(path)
        outputs = {name: one for name, one in (template.get("outputs") or {}).items() if isinstance(one, Mapping)}
        told = {name: {key: one[key] for key in one if key != "description"} for name, one in outputs.items()}
        return {name: self._filled(one, template, values) for name, one in told.items()}

    def _scope(self, outer: str) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """Return the template that the resources in `outer` are of, and the values of its parameters."""
        if not outer:
            return self._sent.template, self._values(self._sent.template, self._sent.parameters)
        definition = self.of(outer)
        text = self._sent.files.get(str(self._sent.registry.get(str((definition or {}).get("type")), "")))
        if definition is None or text is None:
            return {}, {}
        template = _parsed(text)
        # What is named in an outer stack's template is not what has that name in the nested one.
        given = {key: {"outer": value} for key, value in (definition.get("properties") or {}).items()}
        return template, self._values(template, given)

    def _values(self, template: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
        schemas = template.get("parameters") or {}
        defaults = {name: schema.get("default") for name, schema in schemas.items() if isinstance(schema, Mapping)}
        values = {name: _text(value) for name, value in {**defaults, **given}.items()}
        hidden = [name for name, schema in schemas.items() if isinstance(schema, Mapping) and schema.get("hidden")]
        return values | dict.fromkeys(hidden, self._secret)

    def _filled(self, value: Any, template: Mapping[str, Any], values: Mapping[str, Any]) -> Any:
        if isinstance(value, list):
            return [self._filled(inner, template, values) for inner in value]
        if not isinstance(value, Mapping):
            return value
        if len(value) == 1 and (name := value.get("get_param", value.get("Ref"))) is not None:
            whole = name if isinstance(name, str) else name[0]
            if whole in values:
                return {"value": values[whole], "path": [] if isinstance(name, str) else name[1:]}
        filled = {key: self._filled(inner, template, values) for key, inner in value.items()}
        conditions = [value[key] for key in ("condition", "if") if key in value]
        if conditions:
            filled["conditions"] = self._filled(template.get("conditions") or {}, {}, values)
        return filled


@cache
def _parsed(text: str) -> dict[str, Any]:
    found = yaml.safe_load(text)
    return found if isinstance(found, dict) else {}


def _referred(definition: Any, path: str) -> Iterator[tuple[str, str | None]]:
    """Yield the path of each resource that a definition refers to, and to which attribute of it, as _Truth has them.

    The definition is that of the resource at `path`.
    """
    if isinstance(definition, list):
        for inner in definition:
            yield from _referred(inner, path)
    if not isinstance(definition, Mapping):
        return
    scope = path.rpartition("/")[0]
    for key, inner in definition.items():
        name = inner[0] if isinstance(inner, list) and inner else inner
        if key in _REFERENCES and isinstance(name, str):
            resource, _, attribute = name.partition(".")
            if isinstance(inner, list):
                attribute = next(iter(inner[1:]), "")
            told = attribute if isinstance(attribute, str) else ""
            yield f"{scope}/{resource}".removeprefix("/"), told if _REFERENCES[key] else None
        elif key != "depends_on":
            yield from _referred(inner, scope if key == "outer" else path)


def _text(value: Any) -> Any:
    """Return a scalar as text: Heat compares parameters so, whatever they were given as."""
    if value is None or isinstance(value, Mapping | list):
        return value
    return str(value).lower() if isinstance(value, bool) else str(value)
