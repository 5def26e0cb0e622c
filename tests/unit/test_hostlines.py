"""The lines of many hosts: whose each is, in what colour, and what a host cannot do to the terminal."""

from __future__ import annotations

import os
import re
from io import StringIO

import pytest
from builders import region

from pipeline.fanout import HostResult, Outcome
from pipeline.hostlines import HostLines

DATABASE, ENGINE = region().inventory.hosts[0], region().inventory.host("engine-0")


def _told(*results: HostResult, colour: bool = False, line: str = "it is up", stream: str = "stdout") -> list[str]:
    out = StringIO()
    with HostLines(out, out if stream == "stdout" else StringIO(), colour=colour) as lines:
        lines.begin([DATABASE, ENGINE])
        lines.heard(ENGINE, stream, line)
        for result in results:
            lines.ended(result)
    return out.getvalue().splitlines()


def test_a_line_has_its_hosts_name_in_one_column() -> None:
    assert _told()[0] == "engine-0   | it is up"


def test_what_is_said_on_stderr_goes_to_stderr() -> None:
    assert not [line for line in _told(stream="stderr") if "it is up" in line]


def test_a_terminal_sees_each_host_in_a_colour_of_its_own() -> None:
    out = StringIO()
    lines = HostLines(out, out, colour=True)
    lines.begin([DATABASE, ENGINE])
    for host in (DATABASE, ENGINE):
        lines.heard(host, "stdout", "up")
    assert len(set(re.findall(r"^\x1b\[(\d+)m\S+ +\|\x1b\[0m up$", out.getvalue(), re.MULTILINE))) == 2


@pytest.mark.parametrize(
    ("line", "shown"),
    [("\x1b[2Jgone", r"\x1b[2Jgone"), ("10%\r20%\r", r"10%\r20%"), ("a\tb é", "a\tb é"), ("\x9b31m", r"\x9b31m")],
)
def test_a_host_has_no_power_over_the_terminal(line: str, shown: str) -> None:
    assert _told(line=line)[0] == f"engine-0   | {shown}"


def test_at_the_end_there_is_a_line_for_each_host() -> None:
    done = HostResult("database-0", Outcome.DONE, 0, seconds=0.31)
    failed = HostResult("engine-0", Outcome.FAILED, 3, seconds=1.26)
    assert _told(done, failed)[1:] == ["database-0   done, 0.3 s", "engine-0     failed (3), 1.3 s"]


def test_a_host_that_is_not_done_says_why() -> None:
    gone = HostResult("database-0", Outcome.UNREACHABLE, reached=False, detail="it is gone", seconds=20)
    late = HostResult("engine-0", Outcome.FAILED, detail="no end within 5 s", seconds=5)
    assert _told(gone, late)[1:] == [
        "database-0   unreachable, 20.0 s: it is gone",
        "engine-0     failed, 5.0 s: no end within 5 s",
    ]


def test_an_interrupt_tells_who_had_not_ended() -> None:
    told = _told(HostResult("engine-0", Outcome.DONE, 0))
    assert "database-0   not ended" in told[1]


def test_a_reader_that_goes_away_stops_no_host() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w", encoding="utf-8") as out, HostLines(out, out, colour=False) as lines:
        lines.begin([ENGINE])
        for _ in range(3):
            lines.heard(ENGINE, "stdout", "x")


def test_nor_has_the_reason_why_a_host_is_not_done() -> None:
    refused = HostResult("engine-0", Outcome.UNREACHABLE, reached=False, detail="sudo said \x1b[2J\nand more")
    assert _told(refused)[-1] == r"engine-0     unreachable, 0.0 s: sudo said \x1b[2J\nand more"
