"""What people write in environments as text or numbers: spans of time, shares of a role's hosts, networks, names.

Each is one pattern, by which the loader reads it and editors check it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, WithJsonSchema
from pydantic_core import CoreSchema, core_schema

__all__ = ["Address", "Cidr", "Lease", "Seconds", "Share", "Written", "WrongKey", "hosts_in"]

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_LONGEST = 1_000_000_000  # seconds, some 30 years: what every clock and date can be told
_DIGITS = {"s": 9, "m": 7, "h": 5, "d": 4}  # before the point: none comes to more than _LONGEST
_SPAN = "|".join(rf"[0-9]{{1,{most}}}(\.[0-9]+)?( *{unit}){'?' * (unit == 's')}" for unit, most in _DIGITS.items())
_PERCENT = r"([1-9][0-9]?|100)%"
_BYTE = r"(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_ADDRESS = rf"{_BYTE}(\.{_BYTE}){{3}}"
_CIDR = rf"{_ADDRESS}(/(3[0-2]|[12]?[0-9]))?"


class WrongKey(ValueError):
    """What is wrong with one `key` below a mapping ("engine.count"), as a sentence that begins with it."""

    def __init__(self, key: str, what: str) -> None:
        super().__init__(f"{key} {what}")
        self.key = tuple(key.split("."))


@dataclass(frozen=True, slots=True)
class Written:
    """Marks text that `pattern` fits from end to end; any other is refused with what was `expected`."""

    pattern: str
    expected: str

    def fits(self, text: str) -> bool:
        """Whether `text` is as it is to be written."""
        return re.fullmatch(self.pattern, text) is not None

    @property
    def json_schema(self) -> dict[str, Any]:
        """The same as JSON Schema says it."""
        return {"type": "string", "pattern": _whole(self.pattern)}

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._fitting, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(schema), **self.json_schema}

    def _fitting(self, text: str) -> str:
        if not self.fits(text):
            raise ValueError(f"expected {self.expected}")
        return text


def _whole(pattern: str) -> str:
    """Return a pattern for JSON Schema that must fit from end to end."""
    return rf"^({pattern})$(?!\n)"  # for Python, unlike JavaScript, an end is before a last newline too


def _seconds(value: object) -> object:
    """Turn "30s", "5m" or "2h" into seconds; numbers pass."""
    if isinstance(value, str) and re.fullmatch(_SPAN, value):
        number = value.rstrip("smhd ")
        return float(number) * _UNITS[value[-1] if value[-1] in _UNITS else "s"]
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return value
    raise ValueError(f'expected a valid number of seconds, or text such as "5m", {_DIGITS["d"] * "9"}d at most')


def _span(least: int, pattern: str = _SPAN) -> WithJsonSchema:
    number = {"type": "number", "minimum": least, "maximum": _LONGEST}
    return WithJsonSchema({"anyOf": [number, {"type": "string", "pattern": _whole(pattern)}]})


Seconds = Annotated[
    float,
    BeforeValidator(_seconds),
    Field(ge=0, le=_LONGEST, allow_inf_nan=False, description='seconds, or text such as "5m"'),
    _span(0),
]
"""A span of time. As text it has a unit: s, m, h or d."""

Lease = Annotated[
    float,
    BeforeValidator(_seconds),
    Field(ge=1, le=_LONGEST, allow_inf_nan=False, description='seconds, or text such as "5m"; one at least'),
    _span(1, rf"(?![0.]+[^0-9]*$)({_SPAN})"),
]
"""A span of time that does not end at once."""


def _share(value: object) -> object:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return value
    if isinstance(value, str) and re.fullmatch(_PERCENT, value):
        return value
    raise ValueError('expected a number of hosts, 1 or more, or a share of them such as "25%"')


Share = Annotated[
    int | str,
    BeforeValidator(_share),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string", "pattern": _whole(_PERCENT)}]}),
]
"""A number of hosts, or a percentage of a role's."""


def _network(value: object) -> object:
    if isinstance(value, IPv4Network):
        return value
    if not isinstance(value, str) or not re.fullmatch(_CIDR, value):
        raise ValueError("expected an IPv4 network such as 10.20.0.0/24")
    network = IPv4Network(value, strict=False)
    if IPv4Address(value.partition("/")[0]) != network.network_address:
        raise ValueError(f"expected the first address of a network, as {network}")
    return network


Cidr = Annotated[IPv4Network, BeforeValidator(_network), WithJsonSchema({"type": "string", "pattern": _whole(_CIDR)})]
"""An IPv4 network, as 10.20.0.0/24; one address is a network too."""

Address = Annotated[str, Written(_ADDRESS, "an IPv4 address such as 9.9.9.9")]


def hosts_in(share: int | str, total: int) -> int:
    """Return how many of `total` hosts a share is: percentages round down, and one host is the least.

    Source: Kubernetes rounds maxUnavailable down; Ansible's serial takes at least one host.
    """
    count = total * int(share[:-1]) // 100 if isinstance(share, str) else share
    return max(1, min(count, total))
