"""The constraints of a parameter, as its template says them: those that Heat takes, and what is wrong with others."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

__all__ = ["Constraint", "read_constraints", "wrong_constraints"]

Constraint = tuple[Any, ...]
"""As in the schemas: its kind there, and its limits."""

Wrong = tuple[str, str, object]
"""Where below `constraints` (".0"), what was expected there, and what was found."""

_TEXTS = ("string", "comma_delimited_list", "json")
_LISTED = ("string", "number", "boolean", "comma_delimited_list")


def read_constraints(given: Any, kind: str) -> tuple[Constraint, ...]:
    """Return the constraints of a parameter of type `kind`, without the wrong ones."""
    return tuple(read for _, _, read in _each(given, kind) if isinstance(read, tuple))


def wrong_constraints(given: Any, kind: str) -> Iterator[Wrong]:
    """Yield what Heat would refuse among the constraints of a parameter of type `kind`."""
    yield from ((place, read, entry) for place, entry, read in _each(given, kind) if isinstance(read, str))


def _each(given: Any, kind: str) -> Iterator[tuple[str, object, Constraint | str]]:
    """Yield each constraint: where it is, as it is, and as it is read, or what was expected instead."""
    if not isinstance(given, list | None):
        yield "", given, "a list"
        return
    for index, entry in enumerate(given or ()):
        name = next((key for key in _READERS if key in entry), None) if isinstance(entry, dict) else None
        if name is None:
            yield f".{index}", entry, f"one of {', '.join(_READERS)}"
            continue
        kinds, read = _READERS[name]
        if kind not in kinds:
            yield f".{index}", name, f"{name} for a parameter of type {' or '.join(kinds)} only"
        else:
            yield f".{index}.{name}", entry[name], read(entry[name])


def _limits(kind: str, *numbers: type[float]) -> Callable[[Any], Constraint | str]:
    def read(value: Any) -> Constraint | str:
        limits = [_number(value.get(key)) for key in ("min", "max")] if isinstance(value, dict) else []
        told = [limit for limit in limits if limit is not None]
        if not told or not all(isinstance(limit, numbers) for limit in told):
            return f"min, max or both, as {'numbers' if float in numbers else 'whole numbers'}"
        return kind, *limits

    return read


def _modulo(value: Any) -> Constraint | str:
    step, offset = (_number(value.get(key)) for key in ("step", "offset")) if isinstance(value, dict) else (None, None)
    if isinstance(step, int) and isinstance(offset, int) and abs(offset) < abs(step) and step * offset >= 0:
        return "modulo", step, offset
    return "a step that is not 0, and an offset that is smaller, as whole numbers of one sign"


def _pattern(value: Any) -> Constraint | str:
    if not isinstance(value, str):
        return "a regular expression"
    try:
        re.compile(value)
    except (re.error, OverflowError, RecursionError) as error:
        return f"a regular expression ({error})"
    return "pattern", value


def _number(value: Any) -> Any:
    """Return text as the number that Heat reads of it, anything else as it is."""
    for kind in (int, float):
        try:
            return kind(value) if isinstance(value, str) else value
        except ValueError:
            continue
    return value


_READERS: Mapping[str, tuple[tuple[str, ...], Callable[[Any], Constraint | str]]] = {
    "range": (("number",), _limits("range", int, float)),
    "length": (_TEXTS, _limits("length", int)),
    "modulo": (("number",), _modulo),
    "allowed_values": (_LISTED, lambda value: ("allowed", value) if isinstance(value, list) else "a list"),
    "allowed_pattern": (("string",), _pattern),
    "custom_constraint": (_LISTED, lambda value: ("custom", value) if isinstance(value, str) else "a name"),
}
