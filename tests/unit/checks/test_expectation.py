"""Expectations: a failure tells what was expected, what was found and the likely cause; no answer is no success."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from pipeline.checks.expectation import Unexpected, answer, differences, expect


def test_what_holds_says_nothing() -> None:
    expect(True, expected="a", found="b", likely="c")


def test_what_does_not_tells_all_three_in_two_lines() -> None:
    with pytest.raises(Unexpected) as caught:
        expect(False, expected="two workers", found="one\n worker ", likely="it died")
    assert str(caught.value) == "expected two workers; found one worker\nlikely: it died"


def test_nothing_found_is_said_to_be_nothing() -> None:
    with pytest.raises(Unexpected, match="found nothing"):
        expect(False, expected="a", found="", likely="c")


def test_a_command_that_fails_is_no_answer() -> None:
    host = SimpleNamespace(run=lambda *_: SimpleNamespace(rc=1, stdout="", stderr="no bus\n"))
    with pytest.raises(Unexpected, match="expected systemctl to answer; found no bus"):
        answer(host, "systemctl list-units")


def test_differences_name_what_was_found() -> None:
    assert differences({"User": "heat", "KillMode": "mixed"}, {"User": "root"}) == "User=root, KillMode="
    assert differences({"User": "heat"}, {"User": "heat", "Group": "x"}) == ""
