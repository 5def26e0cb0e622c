"""How a check asks a host, and how it says what is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["Unexpected", "answer", "differences", "expect"]


class Unexpected(AssertionError):
    """A check found something other than it expected; its text tells both, the likely cause, and what more there is."""

    def __init__(self, expected: str, found: str, likely: str, detail: str = "") -> None:
        super().__init__(f"expected {expected}; found {found}\nlikely: {likely}" + (f"\n{detail}" if detail else ""))
        self.expected = expected
        self.found = found
        self.likely = likely
        self.detail = detail


def expect(holds: object, *, expected: str, found: object, likely: str, detail: str = "") -> None:
    """Pass where `holds` is true. Raises Unexpected, telling what was `expected`, `found`, and the `likely` cause.

    `detail` are more lines, as a diff. All of it shows in reports: it must hold no secret.
    """
    if not holds:
        raise Unexpected(expected, " ".join(str(found).split()) or "nothing", likely, detail)


def answer(host: Any, command: str, *arguments: str, program: str = "") -> str:
    """Return what `command` prints on testinfra's `host`, with `arguments` quoted into it.

    Raises Unexpected where it fails, naming the `program`: no answer must never pass for a good one.
    """
    result = host.run(command, *arguments)
    if result.rc != 0:
        program = program or command.split()[0]
        late = "no end in time" if result.rc == 124 else f"status {result.rc}"
        found = result.stderr.strip()[-300:] or late
        expect(False, expected=f"{program} to answer", found=found, likely="its service is down, or it is missing")
    text: str = result.stdout
    return text


def differences(expected: Mapping[str, str], found: Mapping[str, str]) -> str:
    """Return what `found` says otherwise than `expected`, as "key=value" pairs; "" where nothing does."""
    return ", ".join(f"{key}={found.get(key, '')}" for key, value in expected.items() if found.get(key) != value)
