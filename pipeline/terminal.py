"""The terminal: what hosts wrote is shown on it, and never obeyed."""

from __future__ import annotations

import re

__all__ = ["harmless"]

_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]")


def harmless(line: str) -> str:
    r"""Return `line` with its control characters, but for tabs, spelled out: an escape is \x1b."""
    return _CONTROL.sub(lambda found: repr(found[0])[1:-1], line)
