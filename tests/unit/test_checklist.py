"""The checklist: a host that passes takes one line, and what failed tells expected, found and the likely cause."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO

import pytest
from builders import R26
from rich.console import Console

from pipeline.checklist import checks, watched
from pipeline.checks.result import CheckResult
from pipeline.edges.clock import FakeClock
from pipeline.errors import FleetMixed
from pipeline.verify import VerifyReport

HOSTILE = "[/] [red]no[/red] [link=x]"
API = ("api-0", "api", "local")
ENGINE = ("engine-0", "engine", "local")
DATABASE = ("database-0", "database", "local")
FAILED = CheckResult(
    "files_are_as_rendered", *API, "failed", 0.25, "expected 3 files; found 2", f"3 files {HOSTILE}", "2 files",
    "edited by hand", "--- there\n+++ here\n-a = ***\n+b = 1",
)  # fmt: skip
REPORT = VerifyReport(
    "local",
    R26.id,
    (
        CheckResult("clock_is_right", *DATABASE, "passed", 0.5),
        CheckResult("disk_has_room", *DATABASE, "passed", 0.25),
        CheckResult("clock_is_right", *API, "passed", 0.5),
        FAILED,
        CheckResult("clock_is_right", *ENGINE, "error", 0.0, "could not be checked: engine-0 is gone\n  next: wait"),
    ),
    1.5,
)


@pytest.fixture
def console() -> Console:
    return Console(file=StringIO(), width=200)


def _printed(console: Console) -> list[str]:
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return [line.rstrip() for line in text.splitlines()]


def test_a_host_that_passes_takes_one_line(console: Console) -> None:
    checks(REPORT, console)
    (line,) = (line for line in _printed(console) if "database-0" in line)
    assert line.split() == ["✓", "database-0", "database", "0.75", "s", "2", "passed"]


def test_what_failed_is_told_under_its_host_in_parts(console: Console) -> None:
    checks(REPORT, console)
    printed = _printed(console)
    at = next(number for number, line in enumerate(printed) if "api-0" in line)
    assert printed[at].split() == ["✗", "api-0", "api", "0.75", "s", "1", "passed,", "1", "did", "not"]
    assert [line.strip() for line in printed[at + 1 : at + 9]] == [
        "files_are_as_rendered",
        f"expected  3 files {HOSTILE}",
        "found     2 files",
        "likely    edited by hand",
        "--- there",
        "+++ here",
        "-a = ***",
        "+b = 1",
    ]


def test_what_could_not_be_checked_says_why(console: Console) -> None:
    checks(REPORT, console)
    printed = _printed(console)
    assert "error  could not be checked: engine-0 is gone" in [line.strip() for line in printed]
    assert printed[-1] == "3 checks passed, 2 did not, in 1.5 s"


def test_each_look_of_a_watch_tells_when_it_was(console: Console) -> None:
    watched(REPORT, FakeClock(), console)
    assert _printed(console)[0] == "00:00:00 UTC; Ctrl-C ends it"
    assert _printed(console)[-1].startswith("3 checks passed")


def test_a_look_that_could_not_be_had_says_why(console: Console) -> None:
    watched(FleetMixed("hosts are on 2 releases", hint="finish the upgrade"), FakeClock(), console)
    assert _printed(console)[1:] == ["cannot be checked: hosts are on 2 releases", "  next: finish the upgrade"]


def test_a_terminal_shows_one_look_at_a_time() -> None:
    console = Console(file=StringIO(), width=100, force_terminal=True, color_system=None)
    watched(REPORT, FakeClock(), console)
    assert "\x1b[2J" in console.file.getvalue()  # type: ignore[attr-defined]


def _coloured(result: CheckResult) -> list[str]:
    console = Console(file=StringIO(), width=200, force_terminal=True, color_system="standard")
    checks(VerifyReport("local", R26.id, (result,), 1.0), console)
    return _printed(console)


def test_a_hosts_lines_have_no_power_over_the_terminal_and_keep_their_colours() -> None:
    evil = "\x1b]0;owned\x07\x1b[2Jx = 1\x9b1m"
    lines = _coloured(replace(FAILED, detail=f"-{evil}\n+{evil}", found=f"a file{evil}"))
    spelled = r"\x1b]0;owned\x07\x1b[2Jx = 1\x9b1m"
    assert [line for line in lines if f"{spelled}\x1b[0m" in line] == [
        f"\x1b[31m      -{spelled}\x1b[0m",
        f"\x1b[32m      +{spelled}\x1b[0m",
    ]
    assert [line for line in lines if f"a file{spelled}" in line]
    assert not [char for char in "\x07\x9b" if char in "".join(lines)]


def test_nor_have_the_words_of_a_check_that_could_not_be_made() -> None:
    result = CheckResult("clock_is_right", *ENGINE, "error", 0.0, "could not be checked: \x1b[2J\n  next: \x9bwait")
    text = "\n".join(_coloured(result))
    assert r"could not be checked: \x1b[2J" in text
    assert r"  next: \x9bwait" in text


def test_nor_have_those_of_a_look_that_could_not_be_had(console: Console) -> None:
    watched(FleetMixed("api-0: status 1: \x1b[2J", hint="finish the upgrade"), FakeClock(), console)
    assert _printed(console)[1:] == [r"cannot be checked: api-0: status 1: \x1b[2J", "  next: finish the upgrade"]
