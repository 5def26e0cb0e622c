"""The terminal: what hosts wrote is shown on it, and never obeyed; where its reader went away, a command ends."""

from __future__ import annotations

import io
import os
import re
import select
import sys
from contextlib import suppress
from typing import NoReturn, TextIO

from rich.console import Console

__all__ = ["UNREAD", "Screen", "end_unread", "harmless", "harmless_lines", "is_unread"]

UNREAD = 141
"""The exit code of a command whose reader went away: what shells make of SIGPIPE."""

_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]")


def harmless(line: str) -> str:
    r"""Return `line` with its control characters, but for tabs, spelled out: an escape is \x1b."""
    return _CONTROL.sub(lambda found: repr(found[0])[1:-1], line)


def harmless_lines(text: str) -> str:
    """Return `text` made harmless line by line: its line ends stay."""
    return "\n".join(map(harmless, text.split("\n")))


class Screen(Console):
    """A console whose process ends with UNREAD, quietly, once its reader went away, as `| head` does."""

    def on_broken_pipe(self) -> None:
        """End this process."""
        end_unread()


def is_unread(stream: TextIO) -> bool:
    """Whether the reader of `stream` went away; what is no pipe has none."""
    with suppress(io.UnsupportedOperation):
        poll = select.poll()
        poll.register(stream, 0)
        return any(event & select.POLLERR for _, event in poll.poll(0))
    return False


def end_unread() -> NoReturn:
    """End this process with UNREAD, quietly: what was not written yet goes nowhere, or Python would tell of it."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in filter(is_unread, (sys.stdout, sys.stderr)):
        os.dup2(nowhere, stream.fileno())
    raise SystemExit(UNREAD)
