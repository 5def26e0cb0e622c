"""A region's stacks: a launch ends when every host that was made anew has signalled keys of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from builders import LOCAL, progress, said

from pipeline import regionstacks
from pipeline.edges.clock import FakeClock
from pipeline.edges.heat import HeatRefused
from pipeline.errors import Inconclusive, PipelineError, PreflightUnreachable
from pipeline.plan import Act, Live, Plan, StackPlan
from pipeline.regionstacks import RegionStacks
from pipeline.stacks import Kind, ResourceChange, Stack
from pipeline.workspace import Workspace

HOST = ResourceChange("engine-1", Kind.UPDATED, "Region::Host")
SERVER = ResourceChange("engine-1/server", Kind.REPLACED, "OS::Nova::Server")


class Cloud:
    """A cloud whose stack of engines tells what `signal` returns for engine-1, and what it was asked."""

    def __init__(self, signal: Callable[[], str | None]) -> None:
        self.signal = signal
        self.asked: list[str] = []

    def find(self, name: str) -> Stack:
        self.asked.append(name)
        hosts = {"engine-1": {"address": "198.18.7.15", "signal": self.signal()}}
        return Stack("id", name, "UPDATE_COMPLETE", "", "", {"hosts": hosts})


def _launch(
    cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *resources: ResourceChange
) -> tuple[FakeClock, str]:
    """Launch a plan of `resources` of the engines; return the clock it took, and what was said."""
    clock, anything = FakeClock(), Any
    told, nobody, heat = progress(clock), object(), cloud
    monkeypatch.setattr(regionstacks, "launch_all", lambda *_: {})
    monkeypatch.setattr(RegionStacks, "_given", lambda _: {})
    live = Live("id", "CREATE_COMPLETE", "", "", "")
    planned = StackPlan("engine", "local-engine", Act.UPDATE, False, live, "", "", resources, (), ())
    rendered: anything = (planned,)
    unused: anything = nobody
    seed: anything = heat
    stacks = RegionStacks(LOCAL, rendered, seed, Workspace(tmp_path, tmp_path / "state"), unused, clock, told)
    run: anything = type("Run", (), {"log": type("Log", (), {"id": "run"}), "gate": staticmethod(lambda: None)})
    stacks.launch(Plan("local", "", "", "", (planned,)), run, ())
    return clock, said(told)


def test_a_host_that_is_made_anew_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    signals = iter(["old", "old", None, "", "new"])
    clock, told = _launch(Cloud(lambda: next(signals)), tmp_path, monkeypatch, HOST, SERVER)
    assert "engine-1: made anew, and has signalled" in told
    assert clock.monotonic() > 0
    assert list(signals) == []


def test_a_host_that_stays_is_not_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cloud = Cloud(lambda: "old")
    _launch(cloud, tmp_path, monkeypatch, HOST)
    assert cloud.asked == []


def test_a_host_that_never_signals_ends_the_launch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Inconclusive, match="for engine-1, which was made anew, to signal its SSH keys") as caught:
        _launch(Cloud(lambda: "old"), tmp_path, monkeypatch, HOST, SERVER)
    assert "the console of local-engine-1" in caught.value.hint


@pytest.mark.parametrize(("status", "goes_on"), [(0, True), (503, True), (403, False)])
def test_a_heat_that_is_away_meanwhile_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, goes_on: bool
) -> None:
    answers: list[str | PipelineError] = ["old", HeatRefused("away", status=status), "new"]

    def signal() -> str:
        answer = answers.pop(0)
        if isinstance(answer, PipelineError):
            raise answer
        return answer

    if goes_on:
        _launch(Cloud(signal), tmp_path, monkeypatch, HOST, SERVER)
    else:
        with pytest.raises(HeatRefused):
            _launch(Cloud(signal), tmp_path, monkeypatch, HOST, SERVER)


def test_a_heat_that_is_away_before_anything_is_changed_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def signal() -> str:
        raise HeatRefused("away")

    with pytest.raises(PreflightUnreachable):
        _launch(Cloud(signal), tmp_path, monkeypatch, HOST, SERVER)
