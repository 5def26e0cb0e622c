"""What is wrong with a file, in one line: the place, the key, what was expected and what was found."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pydantic import ValidationError

from pipeline.layers import Layered, Place
from pipeline.quantities import WrongKey

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

__all__ = ["told"]

_PASSWORD = re.compile(r"(?<=://)\S*@")
_HIDDEN = "secrets"  # what stands there by mistake may be a secret itself
_QUOTED = 100  # characters of what was found: a line is to be read
_WORDS = {  # by pydantic's types, whose own words are of Python
    "extra_forbidden": "unknown key",
    "missing": "is required",
    "model_type": "expected a mapping of keys to values",
    "mapping_type": "expected a mapping of keys to values",
    "tuple_type": "expected a list",
    "string_type": "expected text",
    "bool_type": "expected true or false",
    "path_type": "expected a path",
    "ip_v4_network": "expected an IPv4 network",
}
_SHORTER = (
    (re.compile(r"^Value error, "), ""),
    (re.compile(r"^Input should be "), "expected "),
    (re.compile(r"^Input is not "), "expected "),
    (re.compile(r"^String should match pattern "), "expected text that fits "),
    (re.compile(r"^Tuple should have (.*) items? after validation, not \d+$"), r"expected \1 in the list"),
)


def told(error: ValidationError, layered: Layered) -> tuple[Place, str]:
    """Return where the first mistake of `error` is, and as KEY: EXPECTED what it is, and how many more there are."""
    first = error.errors()[0]
    key = tuple(str(part) for part in first["loc"])
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return layered.nearest((*key, *_below(first))), f"{'.'.join(key) or '(whole file)'}: {_mistake(first, key)}{more}"


def _below(first: ErrorDetails) -> tuple[str, ...]:
    """Return the key below the one that did not validate, where the mistake is about that."""
    cause = first.get("ctx", {}).get("error")
    return cause.key if isinstance(cause, WrongKey) else ()


def _mistake(first: ErrorDetails, key: tuple[str, ...]) -> str:
    expected = _expected(first)
    if first["type"] in ("extra_forbidden", "missing") or _HIDDEN in key or isinstance(first["input"], Mapping):
        return expected
    found = _PASSWORD.sub("***@", repr(first["input"]))
    return f"{expected}, found {found:.{_QUOTED}}"


def _expected(first: ErrorDetails) -> str:
    if words := _WORDS.get(first["type"]):
        return words
    message = first["msg"]
    for pattern, words in _SHORTER:
        message = pattern.sub(words, message)
    return message
