"""Progress: what people are told, and the stages kept for the proof."""

from __future__ import annotations

from contextlib import suppress
from io import StringIO

import pytest
from builders import progress, said
from rich.console import Console

from pipeline.edges.clock import FakeClock
from pipeline.progress import Progress


def test_a_stage_is_announced_and_kept_with_its_seconds() -> None:
    clock = FakeClock()
    told = progress(clock)
    with told.stage("install"):
        clock.sleep(2.5)
    assert told.stages == [("install", 2.5)]
    assert "▶ install" in said(told)
    assert "✓ install 2.5 s" in said(told)


def test_a_stage_that_fails_is_not_kept() -> None:
    told = progress(FakeClock())
    with pytest.raises(ValueError, match="no"), told.stage("install"):
        raise ValueError("no")
    assert told.stages == []
    assert "✓" not in said(told)


def test_every_line_begins_with_the_seconds_since_the_beginning() -> None:
    clock = FakeClock()
    told = progress(clock)
    clock.sleep(61)
    told.say("there")
    assert said(told) == "  61.0   there\n"


def test_what_others_wrote_is_never_read_as_markup() -> None:
    told = progress(FakeClock())
    told.say("reason: [/] [red]no[/red]")
    with told.stage("release [/]"):
        pass
    assert "reason: [/] [red]no[/red]" in said(told)
    assert "✓ release [/]" in said(told)


def test_a_listener_hears_every_line_as_plain_text_while_it_listens() -> None:
    clock, heard = FakeClock(), []
    told = progress(clock)
    told.say("before")
    with told.heard(heard.append), told.stage("install [/]"):
        told.say("reason: [/]")
        clock.sleep(2)
    told.say("after")
    assert heard == ["begin install [/]", "reason: [/]", "end install [/]: 2.0 s"]


def test_a_listener_is_forgotten_however_the_body_ends() -> None:
    told, heard = progress(FakeClock()), []
    with suppress(ValueError), told.heard(heard.append):
        raise ValueError("no")
    told.say("after")
    assert heard == []


def test_several_listeners_hear_the_same() -> None:
    told, one, two = progress(FakeClock()), [], []
    with told.heard(one.append), told.heard(two.append):
        told.say("there")
    assert one == two == ["there"]


def test_a_long_line_is_not_folded() -> None:
    clock = FakeClock()
    told = Progress(Console(file=StringIO(), width=40), clock)
    told.say("x" * 200)
    assert said(told).count("\n") == 1


def test_what_a_host_wrote_is_shown_and_not_obeyed() -> None:
    told = progress(FakeClock())
    told.say("engine-0: \x1b]0;owned\x07\x1b[2J")
    with told.stage("move \x1b[1m"):
        pass
    assert r"engine-0: \x1b]0;owned\x07\x1b[2J" in said(told)
    assert "\x1b" not in said(told)
