"""Plans, comparisons and drift on a console: nothing that a host or a Heat wrote is obeyed."""

from __future__ import annotations

from builders import printed
from rich.console import Console

from pipeline.comparison import Comparison, Difference
from pipeline.plan import Act, Live, Parameter, ParameterChange, Plan, StackPlan
from pipeline.plantext import show_comparison, show_drift, show_plan
from pipeline.stackdrift import Drift, HostDrift, StackDrift

ESCAPE, SHOWN = "a\x1b[2Jb\x07", r"a\x1b[2Jb\x07"


def test_what_a_heat_says_in_a_plan_is_shown_and_not_obeyed(console: Console) -> None:
    parameters = (Parameter("flavor", ParameterChange.CHANGED, ESCAPE, "big"),)
    live = Live("id-1", ESCAPE, "", "", "")
    stack = StackPlan("engine", "local-engine", Act.UPDATE, False, live, "", "", (), parameters, (f"-{ESCAPE}",))
    show_plan(Plan("local", "", "", "", (stack,)), console)
    assert f"(it is {SHOWN})" in printed(console)
    assert f"parameter flavor: {SHOWN} → big" in printed(console)
    assert f"        -{SHOWN}" in printed(console)
    assert "\x1b" not in printed(console)


def test_what_hosts_say_of_drift_is_shown_line_by_line_and_not_obeyed(console: Console) -> None:
    stack = StackDrift("local-engine", ESCAPE, (ESCAPE,), ESCAPE, ())
    show_drift(Drift("local", (stack,), (HostDrift("api-0", "a check", f"{ESCAPE}\nmore"),), ESCAPE), console)
    lines = printed(console).splitlines()
    assert lines[0] == f"! local-engine: {SHOWN}"
    assert [f"        {SHOWN}", "        more"] == lines[4:6]
    assert f"? hosts were not looked at: {SHOWN}" in lines
    assert "\x1b" not in printed(console)


def test_what_differs_is_shown_and_not_obeyed(console: Console) -> None:
    found = Comparison("a", "b", (Difference("settings", "key", ESCAPE, "c"),), {"engine": (f"+{ESCAPE}",)})
    show_comparison(found, console)
    assert f"│ {SHOWN} │" in printed(console)
    assert f"        +{SHOWN}" in printed(console)
    assert "\x1b" not in printed(console)
