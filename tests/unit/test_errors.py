"""The tree of errors: what is drawn is what is there, and every exit code means what operators were told."""

from __future__ import annotations

import re

import pytest

from pipeline import errors
from pipeline.errors import CommandFailed, ConfigurationInvalid, PipelineError

PROMISED = {
    1: PipelineError,
    3: errors.ConfigurationInvalid,
    4: errors.GateRefused,
    5: errors.LockHeld,
    6: errors.PlanStale,
    7: errors.FleetMixed,
    8: errors.FailedAndReverted,
    9: errors.PreflightUnreachable,
    10: errors.VerificationFailed,
    11: errors.Inconclusive,
    12: errors.OutcomeUnknown,
}


def _drawn() -> dict[str, int]:
    lines = re.findall(r"^(?:[├└│ ]+── )?(\w+) +(\d+) {2,}\S", errors.__doc__ or "", re.MULTILINE)
    return {name: int(code) for name, code in lines}


def test_the_drawn_tree_names_every_error() -> None:
    assert set(_drawn()) == set(errors.__all__)


@pytest.mark.parametrize("name", errors.__all__)
def test_the_drawn_exit_code_is_the_classs_own(name: str) -> None:
    assert getattr(errors, name).exit_code == _drawn()[name]


@pytest.mark.parametrize(("code", "kind"), PROMISED.items())
def test_every_promised_exit_code_has_its_error(code: int, kind: type[PipelineError]) -> None:
    assert kind.exit_code == code


@pytest.mark.parametrize("name", errors.__all__)
def test_no_error_ends_in_success_or_in_changes_pending(name: str) -> None:
    assert getattr(errors, name).exit_code not in (0, 2)


def test_an_error_names_the_next_command() -> None:
    error = ConfigurationInvalid("no such environment", hint="inv env.list")
    assert str(error) == "no such environment\n  next: inv env.list"


def test_an_error_without_a_hint_is_one_line() -> None:
    assert str(ConfigurationInvalid("no such environment")) == "no such environment"


def test_a_failed_command_carries_its_result() -> None:
    error = CommandFailed("engine-0: status 2", status=2, stdout="out", stderr="err", hint="inv local.logs")
    assert (error.status, error.stdout, error.stderr, error.hint) == (2, "out", "err", "inv local.logs")
