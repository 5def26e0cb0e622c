"""One template as it is read: its parameters, conditions, resources and outputs, and whether its sections are sound."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import yaml

from pipeline.hot import parse
from pipeline.validation.constraints import read_constraints, wrong_constraints
from pipeline.validation.expressions import Parameter, Scope
from pipeline.validation.schemas import Catalogue, Properties, Property
from pipeline.validation.values import Mismatch, check, nearest, refused, shown

__all__ = ["Finding", "Template"]

_SECTIONS = (
    "heat_template_version", "description", "parameter_groups", "parameters", "conditions", "resources", "outputs",
)  # fmt: skip
_PARAMETER_KEYS = ("type", "label", "description", "default", "hidden", "constraints", "immutable", "tags")
_RESOURCE_KEYS = (
    "type", "properties", "metadata", "depends_on", "deletion_policy", "update_policy", "description", "external_id",
    "condition",
)  # fmt: skip
_OUTPUT_KEYS = ("description", "value", "condition")
_POLICIES = ("Delete", "Retain", "Snapshot")
_AS_PROPERTY = {
    "string": "String", "number": "Number", "boolean": "Boolean", "comma_delimited_list": "List", "json": "Map",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong in `file`, in `resource` ("" where in none) at `path`; `advice` is what only might be better."""

    file: str
    resource: str
    path: str
    expected: str
    found: str
    advice: bool = False

    def __str__(self) -> str:
        place = ": ".join(str(part) for part in (self.file, self.resource, self.path) if part != "")
        return f"{place}: expected {self.expected}, found {self.found}"


class Template:
    """A template: `file` is what findings call it. Raises Unreadable where its text is no YAML or no mapping."""

    def __init__(self, file: str, text: str, catalogue: Catalogue) -> None:
        self.file = file
        self._catalogue = catalogue
        try:
            document = parse(text)
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else 0
            raise Unreadable(Finding(file, "", f"rendered line {line}", "YAML", str(error.problem))) from error
        if not isinstance(document, dict):
            raise Unreadable(Finding(file, "", "", "a mapping of sections", type(document).__name__))
        self.document: Mapping[str, Any] = document
        self.version = str(document.get("heat_template_version", "none"))

    def section(self, name: str) -> Mapping[str, Any]:
        """Return a section, without those of its entries that are no mappings (`unsound` tells of them)."""
        entries = self.document.get(name)
        entries = entries if isinstance(entries, dict) else {}
        return entries if name == "conditions" else {k: one for k, one in entries.items() if isinstance(one, dict)}

    @cached_property
    def resources(self) -> Mapping[str, Any]:
        """The resources by name."""
        return self.section("resources")

    @cached_property
    def outputs(self) -> Mapping[str, Any]:
        """The outputs by name."""
        return self.section("outputs")

    @cached_property
    def parameters(self) -> Mapping[str, Parameter]:
        """The parameters by name."""
        return {name: _parameter(one) for name, one in self.section("parameters").items()}

    @cached_property
    def properties(self) -> Properties:
        """The parameters as the properties that this template has as a type of resource."""
        return Properties((name, _as_property(one)) for name, one in self.parameters.items())

    @cached_property
    def functions(self) -> frozenset[str]:
        """The functions and conditions of this version of HOT."""
        known = self._catalogue.versions.get(self.version, {})
        return self.condition_functions.union(known.get("functions", ()))

    @cached_property
    def condition_functions(self) -> frozenset[str]:
        """The functions that conditions are made of in this version of HOT."""
        return frozenset(self._catalogue.versions.get(self.version, {}).get("conditions", ()))

    def scope(self, given: Mapping[str, Any]) -> Scope:
        """Return the scope of values in which parameters are as `given`, or else as they are by default."""
        values = {
            name: one.read(given.get(name, one.default))
            for name, one in self.parameters.items()
            if name in given or one.has_default
        }
        return Scope(self.parameters, values, self.section("conditions"), self.functions)

    @cached_property
    def unsound(self) -> tuple[Finding, ...]:
        """What is wrong with the sections themselves."""
        return tuple(self._unsound())

    def _unsound(self) -> Iterator[Finding]:
        versions = self._catalogue.versions
        if self.version not in versions:
            known = ", ".join(versions)
            yield Finding(self.file, "", "heat_template_version", f"one of {known}", self.version)
        yield from self._unknown(self.document, _SECTIONS, "")
        for section, keys, needed in (
            ("parameters", _PARAMETER_KEYS, "type"),
            ("resources", _RESOURCE_KEYS, "type"),
            ("outputs", _OUTPUT_KEYS, "value"),
        ):
            entries = self.document.get(section) or {}
            if not isinstance(entries, dict):
                yield Finding(self.file, "", section, "a mapping by name", type(entries).__name__)
                continue
            for name, one in entries.items():
                if not isinstance(one, dict):
                    yield Finding(self.file, "", f"{section}.{name}", "a mapping", type(one).__name__)
                    continue
                yield from self._unknown(one, keys, f"{section}.{name}.")
                if needed not in one:
                    yield Finding(self.file, "", f"{section}.{name}", f"a {needed}", "none")
        yield from self._unsound_parameters()
        for name in self.parameters:
            if name in self.resources:
                yield Finding(self.file, name, "", "a name that no parameter has", f"parameters.{name}")
        for name, one in self.resources.items():
            policy = one.get("deletion_policy", "Delete")
            if isinstance(policy, str) and policy.capitalize() not in _POLICIES:
                yield Finding(self.file, name, "deletion_policy", f"one of {', '.join(_POLICIES)}", policy)

    def _unsound_parameters(self) -> Iterator[Finding]:
        for name, one in self.parameters.items():
            if one.type not in _AS_PROPERTY:
                yield Finding(self.file, "", f"parameters.{name}.type", f"one of {', '.join(_AS_PROPERTY)}", one.type)
                continue
            given = self.section("parameters")[name].get("constraints")
            for place, expected, found in wrong_constraints(given, one.type):
                yield Finding(self.file, "", f"parameters.{name}.constraints{place}", expected, shown(found))
            if one.default not in (None, ""):
                yield from self.misread(name, one.default, f"parameters.{name}.default")

    def misread(self, name: str, value: Any, path: str) -> Iterator[Finding]:
        """Yield what is wrong with a value that parameter `name` is given."""
        one = self.parameters[name]
        known = self.properties[name]
        plain = Property(known.type, constraints=(), loose=known.loose)
        scope = Scope({}, {}, {}, frozenset())
        wrong: list[Mismatch] = list(check(one.read(value), plain, path, scope))
        if not wrong:
            wrong = [Mismatch(path, expected, str(value)) for expected in refused(one.read(value), known)]
        for mismatch in wrong:
            yield Finding(self.file, "", mismatch.path, mismatch.expected, mismatch.found)

    def _unknown(self, entries: Mapping[Any, Any], keys: tuple[str, ...], prefix: str) -> Iterator[Finding]:
        for key in entries:
            if key not in keys:
                near = nearest(key, dict.fromkeys(keys))
                yield Finding(self.file, "", f"{prefix}{key}", f"one of {', '.join(keys)}{near}", "an unknown key")


class Unreadable(Exception):
    """A template that cannot be read at all; carries the Finding."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(str(finding))
        self.finding = finding


def _as_property(one: Parameter) -> Property:
    loose = one.type in ("json", "comma_delimited_list")
    return Property(_AS_PROPERTY.get(one.type, "Any"), not one.has_default, one.constraints, loose=loose)


def _parameter(one: Mapping[str, Any]) -> Parameter:
    kind = str(one.get("type"))
    return Parameter(kind, read_constraints(one.get("constraints"), kind), "default" in one, one.get("default"))
