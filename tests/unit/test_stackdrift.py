"""Drift of stacks on a Heat in memory: what its check finds, and what is not as it is rendered."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from plans import Small
from rich.console import Console

from pipeline.plantext import show_drift
from pipeline.stackdrift import Drift, HostDrift, StackDrift, check_stacks
from pipeline.stacks import Resource

MACHINE = Resource("engine-1/machine", "Local::Machine", "CHECK_FAILED", "it is off", "", "n")


@pytest.fixture
def small(tmp_path: Path) -> Small:
    made = Small(tmp_path)
    made.launch()
    made.heat.done.clear()
    return made


def _checked(small: Small) -> dict[str, StackDrift]:
    heat: Any = small.heat
    plan = small.plan()
    found = check_stacks(heat, small.clock, plan, {one.name: 60.0 for one in plan.stacks}, lambda *_: None)
    return {one.stack: one for one in found}


def test_a_region_as_it_was_launched_has_not_drifted(small: Small) -> None:
    found = _checked(small)
    assert {one.status for one in found.values()} == {"CHECK_COMPLETE"}
    assert Drift("local", tuple(found.values())).found == 0
    assert sorted(small.heat.done) == ["check local-database", "check local-engine", "check local-network"]
    assert small.plan().empty


def test_a_resource_that_changed_behind_heats_back_is_named_with_heats_reason(small: Small) -> None:
    small.heat.ends["local-engine"] = ["FAILED"]
    small.heat.failed = (MACHINE,)
    found = _checked(small)["local-engine"]
    assert (found.status, found.changed) == ("CHECK_FAILED", ("engine-1/machine (Local::Machine): it is off",))
    assert Drift("local", (found,)).found == 1
    assert not small.plan().empty


def test_a_template_that_moved_on_is_drift_too(small: Small) -> None:
    small.give("engine", flavor="big")
    found = _checked(small)
    assert (found["local-engine"].rendered, found["local-network"].rendered) == ("to update", "")


def test_a_stack_that_is_gone_is_drift(small: Small) -> None:
    del small.heat.kept["local-engine"]
    found = _checked(small)["local-engine"]
    assert (found.status, found.rendered, found.found) == ("there is none", "to create", True)


def test_drift_is_printed_with_what_hosts_have_and_as_plain_values() -> None:
    stack = StackDrift(
        "local-engine", "CHECK_FAILED", ("machine (Local::Machine): it is [red]off",), "to update", ("-a",)
    )
    drift = Drift("local", (stack,), (HostDrift("api-0", "files as rendered", "one\ntwo"),), "no way")
    out = StringIO()
    show_drift(drift, Console(file=out, width=80))
    for text in (
        "! local-engine: CHECK_FAILED",
        "it is [red]off",
        "to update",
        "-a",
        "api-0",
        "two",
        "no way",
        "2 stacks",
    ):
        assert text in out.getvalue()
    assert drift.to_json()["found"] == 2


@pytest.mark.parametrize("status", ["CREATE_FAILED", "UPDATE_FAILED", "ROLLBACK_COMPLETE", "DELETE_FAILED"])
def test_a_stack_that_is_not_right_is_told_and_not_checked_for_that_would_make_it_seem_right(
    small: Small, status: str
) -> None:
    small.heat.kept["local-engine"].status = status
    found = _checked(small)["local-engine"]
    assert (found.status, found.found) == (status, True)
    assert found.changed[-1] == f"not checked, for it is {status}: inv deploy first"
    assert "check local-engine" not in small.heat.done
    assert small.heat.kept["local-engine"].status == status


def test_a_stack_whose_check_failed_may_be_checked_again(small: Small) -> None:
    small.heat.kept["local-engine"].status = "CHECK_FAILED"
    assert _checked(small)["local-engine"].status == "CHECK_COMPLETE"
