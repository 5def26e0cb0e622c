"""Quantities that people write in environments: spans of time, and shares of a role's hosts."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

__all__ = ["Seconds", "Share", "hosts_in"]

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def _seconds(value: object) -> object:
    """Turn "30s", "5m" or "2h" into seconds; numbers pass."""
    if isinstance(value, str) and (match := re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([smhd])", value)):
        return float(match[1]) * _UNITS[match[2]]
    return value


Seconds = Annotated[
    float,
    BeforeValidator(_seconds),
    Field(ge=0, allow_inf_nan=False, description='seconds, or text such as "5m"'),
    WithJsonSchema(
        {"anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?( *[smhd])?$"}]}
    ),
]
"""A span of time. As text it has a unit: s, m, h or d."""


def _share(value: int | str) -> int | str:
    if isinstance(value, int) and value >= 1:
        return value
    if isinstance(value, str) and (match := re.fullmatch(r"([0-9]{1,3})%", value)) and 1 <= int(match[1]) <= 100:
        return value
    raise ValueError('expected a number of hosts, 1 or more, or a share of them such as "25%"')


Share = Annotated[
    int | str,
    AfterValidator(_share),
    WithJsonSchema(
        {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string", "pattern": r"^([1-9][0-9]?|100)%$"}]}
    ),
]
"""A number of hosts, or a percentage of a role's."""


def hosts_in(share: int | str, total: int) -> int:
    """Return how many of `total` hosts a share is: percentages round down, and one host is the least.

    Source: Kubernetes rounds maxUnavailable down; Ansible's serial takes at least one host.
    """
    count = total * int(share[:-1]) // 100 if isinstance(share, str) else share
    return max(1, min(count, total))
