"""The journal: an intent before each step and its end after it, so that a step that was cut off can be told."""

from __future__ import annotations

import json
from typing import Any

import pytest
from builders import Kept

from pipeline.edges.clock import FakeClock
from pipeline.errors import HostUnreachable
from pipeline.journal import Journal


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def kept() -> Kept:
    return Kept()


@pytest.fixture
def journal(clock: FakeClock, kept: Kept) -> Journal:
    return Journal(clock, kept)


def test_a_step_is_kept_before_it_begins_and_after_it_ended(journal: Journal, kept: Kept, clock: FakeClock) -> None:
    clock.sleep(10)
    with journal.step("drain", "engine-0"):
        assert [line["kind"] for line in kept.lines] == ["intent"]
        clock.sleep(2.5)
    intent, done = kept.lines
    assert intent == {
        "at": "2026-01-01T00:00:10.000+00:00",
        "kind": "intent",
        "step": "drain",
        "host": "engine-0",
        "started_s": 10.0,
    }
    assert (done["kind"], done["step"], done["host"]) == ("done", "drain", "engine-0")
    assert (done["started_s"], done["ended_s"], done["seconds"]) == (10.0, 12.5, 2.5)
    assert done["at"] == "2026-01-01T00:00:12.500+00:00"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (HostUnreachable("engine-0 is gone", hint="h"), "HostUnreachable: engine-0 is gone"),
        (ValueError("first\nsecond"), "ValueError: first"),
        (KeyboardInterrupt(), "KeyboardInterrupt: "),
        (SystemExit(143), "SystemExit: 143"),
    ],
    ids=["ours", "another", "interrupt", "TERM"],
)
def test_a_step_that_fails_is_kept_with_why_in_one_line_and_fails_on(
    journal: Journal, kept: Kept, clock: FakeClock, error: BaseException, told: str
) -> None:
    def fail() -> None:
        with journal.step("start", "engine-0"):
            clock.sleep(1)
            raise error

    with pytest.raises(type(error)) as caught:
        fail()
    assert caught.value is error
    failed = kept.lines[-1]
    assert (failed["kind"], failed["error"], failed["seconds"]) == ("failed", told, 1.0)


def test_a_step_that_was_cut_off_has_no_end(journal: Journal, kept: Kept) -> None:
    killed = journal.step("stop", "engine-0")
    killed.__enter__()
    assert [line["kind"] for line in kept.lines] == ["intent"]


def test_steps_within_a_step_end_in_their_order(journal: Journal, kept: Kept) -> None:
    with journal.step("move", "engine-0"), journal.step("drain", "engine-0"):
        pass
    assert kept.steps("intent") == ["move engine-0", "drain engine-0"]
    assert kept.steps("done") == ["drain engine-0", "move engine-0"]


def test_what_was_seen_is_kept_with_its_facts(journal: Journal, kept: Kept) -> None:
    journal.note("drained", host="engine-0", engines=["a", "b"], held=0)
    (line,) = kept.lines
    assert line == {
        "at": "2026-01-01T00:00:00.000+00:00",
        "kind": "seen",
        "step": "drained",
        "host": "engine-0",
        "engines": ["a", "b"],
        "held": 0,
    }


def test_every_line_can_be_written_as_json(journal: Journal, kept: Kept) -> None:
    with journal.step("start", "engine-0"):
        journal.note("idle", vhosts=["heat-25"], polls=3)
    lines: list[dict[str, Any]] = json.loads(json.dumps(kept.lines))
    assert lines == kept.lines
