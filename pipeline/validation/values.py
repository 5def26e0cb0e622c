"""One value against one property, by the rules of Heat's own Property and its constraints."""

from __future__ import annotations

import ipaddress
import json
import re
import zoneinfo
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from pipeline.validation.expressions import ABSENT, Either, Scope, Unknown
from pipeline.validation.schemas import Advice, Properties, Property

__all__ = ["Mismatch", "advised", "check", "check_all", "nearest", "refused", "shown"]

_EMPTY: Mapping[str, Any] = {"String": "", "Integer": 0, "Number": 0, "Boolean": False, "Map": {}, "List": []}
_MISFITS = {
    "String": {"list", "map", "json"},
    "Integer": {"list", "map", "json"},
    "Number": {"list", "map", "json"},
    "Boolean": {"list", "map", "json", "number"},
    "Map": {"string", "number", "boolean", "list"},
    "List": {"string", "number", "boolean", "map"},
    "Any": set(),
}
_WORDS = {
    "String": "text",
    "Integer": "a whole number",
    "Number": "a number",
    "Boolean": "true or false",
    "Map": "a mapping",
    "List": "a list",
}
_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")


@dataclass(frozen=True, slots=True)
class Mismatch:
    """What is wrong at `path` (as rules.0.protocol). `advice` is what works today, and Heat advises against."""

    path: str
    expected: str
    found: str
    advice: bool = False


def check_all(given: Mapping[Any, Any], known: Properties, prefix: str, owner: str, scope: Scope) -> Iterator[Mismatch]:
    """Yield what is wrong with values by name: unknown names, missing ones, and each value."""
    for name, value in given.items():
        if name in known:
            yield from check(value, known[name], f"{prefix}{name}", scope)
        else:
            yield Mismatch(f"{prefix}{name}", f"a property of {owner}{nearest(name, known)}", "an unknown one")
    for name in known.required:
        if name not in given:
            yield Mismatch(f"{prefix}{name}", f"a value: {owner} requires it", "none")


def check(value: Any, known: Property, path: str, scope: Scope) -> Iterator[Mismatch]:
    """Yield what is wrong with a value; of an `if`, with either side."""
    value = scope.reduced(value)
    if isinstance(value, Either):
        yield from _check_either(value, known, path, scope)
        return
    if value is ABSENT:
        return
    if known.advice is not None:
        yield advised(path, known.advice)
    if isinstance(value, Unknown):
        allowed = {"string", "list", "json"} if known.loose and known.type in ("Map", "List") else set()
        if value.kind in _MISFITS[known.type] - allowed:
            yield Mismatch(path, _WORDS[known.type], f"a {value.kind}")
        return
    value = _EMPTY.get(known.type) if value is None else value
    if not _fits(value, known):
        yield Mismatch(path, _WORDS[known.type], shown(value))
        return
    if not isinstance(value, Mapping | list) or not _has_function(value, scope):
        for expected in refused(value, known):
            yield Mismatch(path, expected, shown(value))
    if known.keys is not None and isinstance(value, Mapping):
        yield from check_all(value, known.keys, f"{path}.", path, scope)
    elif known.items is not None and isinstance(value, list):
        for index, one in enumerate(value):
            yield from check(one, known.items, f"{path}.{index}", scope)


def _check_either(value: Either, known: Property, path: str, scope: Scope) -> Iterator[Mismatch]:
    """The side that will be taken is checked with what is known; the other as if nothing were."""
    for side, taken in ((value.then, value.holds), (value.otherwise, None if value.holds is None else not value.holds)):
        if side is not ABSENT:
            yield from check(side, known, path, scope.blind if taken is False else scope)
        elif known.required:
            yield Mismatch(path, "a value: it is required", f"none where {value.condition} is false")


def refused(value: Any, known: Property) -> Iterator[str]:
    """Yield what a value of the right type should have been."""
    value = _EMPTY.get(known.type) if value is None else value
    text = str(value) if known.type == "String" else value
    for kind, *limits in known.constraints:
        if told := _RULES[kind](text, known, *limits):
            yield told


def advised(path: str, advice: Advice) -> Mismatch:
    """Return what Heat advises against, and since when."""
    what, since, words = advice
    told = f": {' '.join(words.split())}" if words else ""
    return Mismatch(path, "what Heat advises", f"it is {what}{f' since Heat {since}' if since else ''}{told}", True)


def nearest(name: object, known: Mapping[str, Any]) -> str:
    """Return " (NAME?)" with the known name that is nearest, or ""."""
    near = get_close_matches(str(name), map(str, known), 1)
    return f" ({near[0]}?)" if near else ""


def shown(value: object) -> str:
    """Return a value as findings tell of it."""
    text = value if isinstance(value, str) and value else json.dumps(value, default=str)
    return text if len(text) <= 60 else f"{text[:60]}…"


def _fits(value: Any, known: Property) -> bool:
    if known.type == "String":
        return isinstance(value, str | int)
    if known.type in ("Integer", "Number"):
        try:
            int(value) if known.type == "Integer" else float(value)
        except (ValueError, TypeError, OverflowError):
            return False
        return True
    if known.type == "Boolean":
        return isinstance(value, bool) or (isinstance(value, str) and value.lower() in ("true", "false"))
    if known.type == "List":
        return isinstance(value, list) or (known.loose and isinstance(value, str))
    if known.type == "Map":
        return isinstance(value, Mapping) or (known.loose and isinstance(value, str | list))
    return True


def _has_function(value: Any, scope: Scope) -> bool:
    parts = value.values() if isinstance(value, Mapping) else value
    return any(scope.function_of(one) is not None for one in parts)


def _allowed(value: Any, known: Property, allowed: list[Any]) -> str:
    alike = [str(one) for one in allowed] if known.type == "String" else allowed
    if known.type in ("Integer", "Number") and not isinstance(value, list):
        value = _number(value)
    values = value if isinstance(value, list) else [value]
    return "" if all(one in alike for one in values) else f"one of {', '.join(map(str, allowed))}"


def _number(value: Any) -> Any:
    return float(value) if isinstance(value, str) else value


def _within(number: float, what: str, least: float | None, most: float | None) -> str:
    if (least is None or number >= least) and (most is None or number <= most):
        return ""
    limits = [f"at least {least}"] if least is not None else []
    return f"{what} of {' and '.join([*limits, *([f'at most {most}'] if most is not None else [])])}"


def _custom(value: Any, _: Property, name: str) -> str:
    rule = _CUSTOM.get(name)
    if rule is not None:
        expected, holds = rule
        return "" if all(holds(one) for one in (value if isinstance(value, list) else [value])) else expected
    # What is left are names that a cloud would look up: any will do here, but no empty one.
    return "" if "." not in name or value != "" else f"a name or an id ({name})"


_RULES: Mapping[str, Callable[..., str]] = {
    "allowed": _allowed,
    "pattern": lambda value, _, pattern: "" if re.fullmatch(pattern, str(value)) else f"what matches {pattern}",
    "range": lambda value, _, least, most: _within(_number(value), "a number", least, most),
    "length": lambda value, _, least, most: _within(len(value), "a length", least, most),
    "modulo": lambda value, _, step, offset: (
        "" if _number(value) % step == offset else f"a multiple of {step} and {offset} more"
    ),
    "custom": _custom,
}


def _parses(parse: Callable[[str], object]) -> Callable[[Any], bool]:
    def holds(value: Any) -> bool:
        try:
            parse(value)
        except (ValueError, TypeError, OSError, RecursionError, zoneinfo.ZoneInfoNotFoundError):
            return False
        return isinstance(value, str)

    return holds


_is_address = _parses(ipaddress.ip_address)
_is_network = _parses(ipaddress.ip_network)
_CUSTOM: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "ip_addr": ("an address", _is_address),
    "net_cidr": ("a network, as 198.18.0.0/24", lambda value: "/" in str(value) and _is_network(value)),
    "ip_or_cidr": ("an address or a network", lambda value: _is_address(value) or _is_network(value)),
    "mac_addr": ("a MAC address", lambda value: bool(re.fullmatch(r"(?:[0-9A-Fa-f]{2}[:-]?){6}", str(value)))),
    "timezone": ("a time zone", lambda value: not value or _parses(zoneinfo.ZoneInfo)(value)),
    "json_string": ("JSON", lambda value: not value or _parses(json.loads)(value)),
    "dns_name": ("a DNS name", lambda value: all(map(_LABEL.fullmatch, str(value).removesuffix(".").split(".")))),
}
