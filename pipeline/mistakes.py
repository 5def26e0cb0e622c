"""What is wrong with a file, in one line: the place, the key, what was expected and what was found."""

from __future__ import annotations

import re

from pydantic import ValidationError

from pipeline.layers import Layered

__all__ = ["told"]

_PASSWORD = re.compile(r"(?<=://)\S*@")
_HIDDEN = "secrets"  # what stands there by mistake may be a secret itself


def told(error: ValidationError, layered: Layered) -> str:
    """Return the first mistake of `error` as FILE:LINE: KEY: EXPECTED, and how many more there are."""
    first = error.errors()[0]
    key = tuple(str(part) for part in first["loc"])
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    expected = _expected(first["type"], first["msg"])
    found = "" if first["type"] in ("extra_forbidden", "missing") or _HIDDEN in key else _found(first["input"])
    return f"{layered.nearest(key)}: {'.'.join(key) or '(whole file)'}: {expected}{found}{more}"


def _expected(kind: str, message: str) -> str:
    if kind == "extra_forbidden":
        return "unknown key"
    if kind == "missing":
        return "is required"
    expected = message.removeprefix("Value error, ").removeprefix("Input should be ")
    return f"expected {expected}" if message.startswith("Input") else expected


def _found(value: object) -> str:
    return f", found {_PASSWORD.sub('***@', repr(value))}"
