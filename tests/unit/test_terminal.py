"""The terminal: what hosts wrote is shown on it, and never obeyed."""

from __future__ import annotations

import pytest

from pipeline.terminal import harmless


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
