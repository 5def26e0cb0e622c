"""What a value of a template may become: literals as they are, functions as far as they can be known without a cloud.

A scope knows some parameters and not others. What is not known has a kind at least; of an `if` both sides are looked
at, the one that is not taken with nothing known.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

__all__ = ["ABSENT", "PSEUDO", "Either", "Parameter", "Scope", "Unknown"]

PSEUDO = ("OS::stack_id", "OS::stack_name", "OS::project_id", "OS::project_name")

_RESULTS = {
    **dict.fromkeys(("get_resource", "get_file", "list_join", "digest", "resource_facade", "make_url"), "string"),
    **dict.fromkeys(("str_replace", "str_replace_strict", "str_replace_vstrict"), "string"),
    **dict.fromkeys(("str_split", "list_concat", "list_concat_unique", "repeat", "filter"), "list"),
    **dict.fromkeys(("map_merge", "map_replace"), "map"),
    **dict.fromkeys(("contains", "equals", "not", "and", "or"), "boolean"),
}
_KINDS = {"string": "string", "number": "number", "boolean": "boolean", "comma_delimited_list": "list", "json": "json"}


@dataclass(frozen=True, slots=True)
class Unknown:
    """A value that is known when the stack is made: a string, number, boolean, list, map, json (list or map), any."""

    kind: str


@dataclass(frozen=True, slots=True)
class _Absent:
    """What `if` without an else leaves where it is false: no value at all."""


ABSENT = _Absent()


@dataclass(frozen=True, slots=True)
class Either:
    """An `if`: `holds` is None where it is not known which side will be taken."""

    condition: str
    holds: bool | None
    then: Any
    otherwise: Any


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a template, as its section says."""

    type: str
    constraints: tuple[tuple[Any, ...], ...] = ()
    has_default: bool = False
    default: Any = None

    def read(self, value: Any) -> Any:
        """Return `value` as Heat reads one of this type; as it is where it cannot be read so."""
        try:
            return _READERS[self.type](value)
        except (ValueError, TypeError, KeyError, RecursionError):
            return value


@dataclass(frozen=True)
class Scope:
    """The parameters of a template, the values that are known, its conditions, and the functions it may use."""

    parameters: Mapping[str, Parameter]
    values: Mapping[str, Any]
    conditions: Mapping[str, Any]
    functions: frozenset[str]
    _held: dict[str, bool | None] = field(default_factory=dict, compare=False)

    @cached_property
    def blind(self) -> Scope:
        """The same, with no value known."""
        return replace(self, values={}, _held={}) if self.values else self

    def function_of(self, node: Any) -> str | None:
        """Return the function that `node` calls, None where it calls none."""
        if isinstance(node, dict) and len(node) == 1:
            name = next(iter(node))
            if name in self.functions:
                return str(name)
        return None

    def reduced(self, node: Any) -> Any:
        """Return `node` itself, or where it calls a function: its value, an Unknown, or an Either."""
        name = self.function_of(node)
        if name is None:
            return node
        argument = node[name]
        if name == "get_param":
            return self._parameter(argument)
        if name == "if" and isinstance(argument, list) and len(argument) in (2, 3):
            told = argument[0] if isinstance(argument[0], str) else json.dumps(argument[0], default=str)
            otherwise = argument[2] if len(argument) == 3 else ABSENT
            return Either(told, self.holds(argument[0]), argument[1], otherwise)
        return Unknown(_RESULTS.get(name, "any"))

    def resolved(self, node: Any) -> Any:
        """Return `node` with every function in it replaced by its value or an Unknown."""
        value = self.reduced(node)
        if isinstance(value, Either):
            if value.holds is None:
                return Unknown("any")
            return self.resolved(value.then if value.holds else value.otherwise)
        if value is not node:
            return value  # of a parameter, whose value is data: what looks like a function there is none
        if isinstance(value, dict):
            return {key: self.resolved(one) for key, one in value.items()}
        if isinstance(value, list):
            return [one for one in map(self.resolved, value) if one is not ABSENT]
        return value

    def holds(self, condition: Any) -> bool | None:
        """Return whether a condition holds, None where that is not known."""
        if isinstance(condition, str):
            if condition not in self._held:
                self._held[condition] = None  # of a condition that asks for itself nothing is known
                self._held[condition] = self.holds(self.conditions.get(condition))
            return self._held[condition]
        if isinstance(condition, bool):
            return condition
        name = self.function_of(condition)
        return None if name is None else self._judged(name, condition[name])

    def _judged(self, name: str, argument: Any) -> bool | None:
        if name == "not":
            held = self.holds(argument)
            return None if held is None else not held
        if name in ("and", "or") and isinstance(argument, list):
            held_all = [self.holds(one) for one in argument]
            decisive = name == "or"
            return decisive if decisive in held_all else None if None in held_all else not decisive
        if name == "equals" and isinstance(argument, list) and len(argument) == 2:
            one, other = map(self.resolved, argument)
            return None if _unknown(one) or _unknown(other) else bool(one == other)
        value = self.reduced({name: argument})
        return value if isinstance(value, bool) else None

    def _parameter(self, argument: Any) -> Any:
        name, *path = argument if isinstance(argument, list) and argument else [argument]
        if not isinstance(name, str):
            return Unknown("any")
        if name not in self.values:
            known = None if path else self.parameters.get(name)
            return Unknown("string" if name in PSEUDO else _KINDS.get(known.type, "any") if known else "any")
        value = self.values[name]
        for step in path:
            step = self.resolved(step)
            if isinstance(value, Mapping) and isinstance(step, str) and step in value:
                value = value[step]
            elif isinstance(value, Sequence) and isinstance(step, int) and not isinstance(value, str):
                value = value[step] if -len(value) <= step < len(value) else ""
            else:
                return Unknown("any") if _unknown(value) or _unknown(step) else ""
        return Unknown("any") if path and _unknown(value) else value


def _unknown(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_unknown, value.values()))
    return any(map(_unknown, value)) if isinstance(value, list) else isinstance(value, Unknown | Either)


def _read_string(value: Any) -> Any:
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _read_number(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    number = float(value)
    return int(number) if number.is_integer() else number


def _read_boolean(value: Any) -> Any:
    known = {**dict.fromkeys(("true", "t", "yes", "y", "on", "1"), True)}
    known |= dict.fromkeys(("false", "f", "no", "n", "off", "0"), False)
    return known[str(value).strip().lower()] if isinstance(value, str | int) else value


def _read_list(value: Any) -> Any:
    return [part.strip() for part in value.split(",")] if isinstance(value, str) and value else value or []


def _read_json(value: Any) -> Any:
    return json.loads(value or "{}") if isinstance(value, str) else value


_READERS = {
    "string": _read_string,
    "number": _read_number,
    "boolean": _read_boolean,
    "comma_delimited_list": _read_list,
    "json": _read_json,
}
