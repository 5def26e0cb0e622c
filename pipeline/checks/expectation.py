"""How a check says what is wrong."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["differences", "expect"]


def expect(holds: object, *, expected: str, found: object, likely: str) -> None:
    """Pass where `holds` is true; else fail, telling what was `expected`, what was `found`, and the `likely` cause.

    `found` shows in reports: it must hold no secret.
    """
    __tracebackhide__ = True
    if not holds:
        shown = str(found).strip() or "nothing"
        raise AssertionError(f"expected {expected}; found {shown}\nlikely: {likely}")


def differences(expected: Mapping[str, str], found: Mapping[str, str]) -> str:
    """Return what `found` says otherwise than `expected`, as "key=value" pairs; "" where nothing does."""
    return ", ".join(f"{key}={found.get(key, '')}" for key, value in expected.items() if found.get(key) != value)
