"""How a check asks a host, and how it says what is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["Unexpected", "answer", "differences", "expect"]


class Unexpected(AssertionError):
    """A check found something other than it expected; its text tells both, and the likely cause."""


def expect(holds: object, *, expected: str, found: object, likely: str) -> None:
    """Pass where `holds` is true. Raises Unexpected, telling what was `expected`, `found`, and the `likely` cause.

    `found` shows in reports: it must hold no secret.
    """
    if not holds:
        shown = " ".join(str(found).split()) or "nothing"
        raise Unexpected(f"expected {expected}; found {shown}\nlikely: {likely}")


def answer(host: Any, command: str, *arguments: str) -> str:
    """Return what `command` prints on testinfra's `host`, with `arguments` quoted into it.

    Raises Unexpected where it fails: no answer must never pass for a good one.
    """
    result = host.run(command, *arguments)
    program = command.split()[0]
    found = result.stderr.strip()[-300:] or f"status {result.rc}"
    expect(result.rc == 0, expected=f"{program} to answer", found=found, likely="its service is down, or it is missing")
    text: str = result.stdout
    return text


def differences(expected: Mapping[str, str], found: Mapping[str, str]) -> str:
    """Return what `found` says otherwise than `expected`, as "key=value" pairs; "" where nothing does."""
    return ", ".join(f"{key}={found.get(key, '')}" for key, value in expected.items() if found.get(key) != value)
