"""The terminal: what hosts wrote is shown on it, and never obeyed; where its reader went away, a command ends."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from io import StringIO
from typing import TextIO

import pytest

from pipeline.terminal import harmless, harmless_lines, is_unread


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("\x1b[2Jgone", r"\x1b[2Jgone"),
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("10%\r20%", r"10%\r20%"),
        ("\x9b31m", r"\x9b31m"),
        ("one\ntwo", r"one\ntwo"),
        ("\x7f\x00", r"\x7f\x00"),
    ],
)
def test_control_characters_are_spelled_out(line: str, shown: str) -> None:
    assert harmless(line) == shown


@pytest.mark.parametrize("line", ["", "a\tb é 漢 \\x1b", "+ key = 'value'"])
def test_all_else_stays_as_it_is(line: str) -> None:
    assert harmless(line) == line


def test_line_ends_of_a_text_stay() -> None:
    assert harmless_lines("one\x1b[2J\n  next: two\r\n") == "one\\x1b[2J\n  next: two\\r\n"


@pytest.fixture
def pipe() -> Iterator[tuple[TextIO, TextIO]]:
    """Return both ends of a pipe, the one to read from first."""
    to_read, to_write = os.pipe()
    with os.fdopen(to_read) as reader, os.fdopen(to_write, "w") as writer:
        yield reader, writer


def test_a_pipe_is_unread_once_its_reader_went_away(pipe: tuple[TextIO, TextIO]) -> None:
    reader, writer = pipe
    assert not is_unread(writer)
    reader.close()
    assert is_unread(writer)


def test_what_is_no_pipe_is_never_unread() -> None:
    assert not is_unread(StringIO())
    with open(os.devnull, "w", encoding="utf-8") as nowhere:  # noqa: PTH123 (as TextIO)
        assert not is_unread(nowhere)


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_console_without_a_reader_ends_its_process_quietly(stream: str, pipe: tuple[TextIO, TextIO]) -> None:
    reader, writer = pipe
    reader.close()
    script = f"from pipeline.terminal import Screen; Screen(stderr={stream == 'stderr'}).print('a'); print('too far')"
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, stream: writer}
    done = subprocess.run([sys.executable, "-c", script], **streams, check=False, text=True)  # type: ignore[call-overload]
    assert (done.returncode, done.stdout or "", done.stderr or "") == (141, "", "")
