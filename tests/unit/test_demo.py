"""The demo's proof: its form is documented, and it holds only where nothing at all speaks against it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from builders import LOCAL, R25, R26, progress, said

from pipeline import demo
from pipeline.checks.result import CheckResult
from pipeline.demo import Proof, demonstrate, farewell, revisions
from pipeline.edges.clock import FakeClock
from pipeline.edges.store import FakeStore
from pipeline.edges.wheelhouse import Built
from pipeline.errors import ConfigurationInvalid, VerificationFailed
from pipeline.recorder import recorded
from pipeline.release import Mode
from pipeline.rollout import RolloutPlan
from pipeline.smoke import RungResult, SmokeReport
from pipeline.traffic import Noticed, RequestCounts, StackCounts, TrafficReport
from pipeline.verify import VerifyReport
from pipeline.workspace import Workspace

PASSED = CheckResult("clock_is_right", "api-0", "api", "local", "passed", 0.1)
FAILED = replace(PASSED, outcome="failed", message="no")
VERIFY = VerifyReport("local", R26.id, (PASSED, PASSED), 1.0)
SMOKE = SmokeReport("local", (RungResult("token", "passed", 0.1, ""), RungResult("services", "skipped", 0.1, "")))
TRAFFIC = TrafficReport(StackCounts(45, 0, 0), RequestCounts(900, 0, 0.25), (), ((R25.id, R25.id),))
OLD = {"api": [R25.id], "engine": [R25.id]}
NEW = {"api": [R26.id], "engine": [R26.id]}
PROOF = Proof((("install", 12.5), ("tidy", 0.1)), TRAFFIC, OLD, NEW, VERIFY, SMOKE, R26.id)


def test_the_proof_has_exactly_the_form_that_is_documented() -> None:
    assert json.loads(json.dumps(PROOF.to_json())) == {
        "stages": [{"name": "install", "seconds": 12.5}, {"name": "tidy", "seconds": 0.1}],
        "stacks": {"completed": 45, "failed": 0, "stuck": 0},
        "requests": {"total": 900, "errors": 0, "longest_gap_s": 0.25},
        "revisions": {"before": OLD, "after": NEW},
        "verify": {"passed": 2, "failed": 0},
        "smoke": {"passed": 1, "failed": 0, "skipped": 1},
        "resumed": False,
    }


def test_a_proof_that_nothing_speaks_against_holds() -> None:
    assert PROOF.faults() == ()


@pytest.mark.parametrize(
    ("proof", "fault"),
    [
        (replace(PROOF, traffic=replace(TRAFFIC, stacks=StackCounts(45, 1, 0))), "stacks or requests"),
        (replace(PROOF, traffic=replace(TRAFFIC, stacks=StackCounts(45, 0, 1))), "stacks or requests"),
        (replace(PROOF, traffic=replace(TRAFFIC, requests=RequestCounts(900, 1, 0.25))), "stacks or requests"),
        (replace(PROOF, after={**NEW, "engine": [R25.id, R26.id]}), f"from {R26.id}"),
        (replace(PROOF, after={**NEW, "api": [R25.id]}), f"from {R26.id}"),
        (replace(PROOF, after={**NEW, "api": []}), f"from {R26.id}"),
        (replace(PROOF, verify=replace(VERIFY, results=(PASSED, FAILED))), f"checks failed: {FAILED}"),
        (replace(PROOF, verify=replace(VERIFY, results=())), "checks failed: none was made"),
        (replace(PROOF, smoke=SmokeReport("local", (RungResult("token", "failed", 0.1, ""),))), "smoke rungs failed"),
    ],
)
def test_each_thing_that_speaks_against_the_upgrade_is_a_fault(proof: Proof, fault: str) -> None:
    (found,) = proof.faults()
    assert fault in found


def test_people_read_who_answered_and_what_was_checked() -> None:
    assert PROOF.answers() == {"api revisions": f"{R25.id} → {R26.id}", "engine revisions": f"{R25.id} → {R26.id}"}
    assert PROOF.results() == {
        "checks passed / failed": "2 / 0",
        "smoke rungs passed / failed / skipped": "1 / 0 / 1",
    }


class Answering:
    """A Heat whose APIs and engines answer in turn."""

    def __init__(self, apis: list[str], engines: list[str]) -> None:
        self.asked = 0
        self._apis, self._engines = apis, engines

    def build_info(self) -> Mapping[str, Any]:
        self.asked += 1
        api, engine = self._apis[self.asked % len(self._apis)], self._engines[self.asked % len(self._engines)]
        return {"api": {"revision": api}, "engine": {"revision": engine}}


def test_revisions_are_asked_until_everyone_has_answered() -> None:
    heat: Any = Answering(["b", "a", "b"], ["d", "c"])
    assert revisions(heat) == {"api": ["a", "b"], "engine": ["c", "d"]}
    assert heat.asked >= 20


def test_at_the_end_the_next_commands_are_told(tmp_path: Path) -> None:
    told = farewell(Workspace(tmp_path, tmp_path / "state"), LOCAL)
    assert f"OS_CLIENT_CONFIG_FILE={tmp_path}/state/environments/local/clouds.yaml OS_CLOUD=local" in told
    assert "openstack stack list" in told
    assert "./inv local.ssh engine-0" in told
    assert "./inv local.down" in told


class Story:
    """A pipeline that keeps the order of what it was asked, and ends as it is told to."""

    def __init__(self, workspace: Workspace, smoke: SmokeReport) -> None:
        self.workspace = workspace
        self.progress = progress(FakeClock())
        self.told: list[str] = []
        self._smoke = smoke
        self.there: frozenset[str] = frozenset()
        self.store = FakeStore()
        self.noticed: TrafficReport | None = None

    def build(self, version: str) -> Built:
        self.told.append(f"build {version}")
        return Built({"25.0.2": R25, "26.0.2": R26}[version], Path("heat.tar"))

    def releases_on(self, name: str) -> frozenset[str]:
        return self.there

    def deploy(self, name: str, version: str) -> bool:
        self.told.append(f"deploy {version}")
        return True

    def verify(self, name: str) -> VerifyReport:
        self.told.append("verify")
        return VERIFY

    def smoke(self, name: str) -> SmokeReport:
        self.told.append("smoke")
        return self._smoke

    def upgrade(self, name: str, version: str) -> tuple[TrafficReport, RolloutPlan]:
        self.told.append(f"upgrade {version}")
        if self.noticed:
            raise Noticed("the rollout ended, but customers noticed: stack a", report=self.noticed)
        return TRAFFIC, RolloutPlan(Mode.VHOST_CUTOVER, "", R26, "heat-26", (), (), (), ())


@pytest.fixture
def workspace(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Workspace:
    """Return a workspace on which no cloud is raised, and whose Heat answers with the old release, then the new."""
    answers: Iterator[Any] = iter([Answering([R25.id], [R25.id]), Answering([R26.id], [R26.id])])
    monkeypatch.setattr(demo, "up", lambda directory, report: report("up"))
    monkeypatch.setattr(demo, "connect", lambda name, clouds: None)
    monkeypatch.setattr(demo, "revisions", lambda _: revisions(next(answers)))
    return Workspace(tmp_path, tmp_path / "state")


def test_the_story_goes_in_order_and_saves_its_proof(workspace: Workspace, tmp_path: Path) -> None:
    story: Any = Story(workspace, SMOKE)
    proof = demonstrate(story, "local", old="25.0.2", new="26.0.2", report=tmp_path / "out" / "proof.json")
    assert story.told == [
        "build 25.0.2", "build 26.0.2", f"deploy {R25.id}", "verify", f"upgrade {R26.id}", "verify", "smoke",
    ]  # fmt: skip
    saved = json.loads((tmp_path / "out" / "proof.json").read_text())
    assert saved == json.loads(json.dumps(proof.to_json()))
    assert saved["revisions"] == {"before": OLD, "after": NEW}
    assert "What was seen" in said(story.progress)


def test_a_proof_that_does_not_hold_is_shown_and_saved_and_then_an_error(workspace: Workspace, tmp_path: Path) -> None:
    story: Any = Story(workspace, SmokeReport("local", (RungResult("token", "failed", 0.1, ""),)))
    with pytest.raises(VerificationFailed, match="the proof does not hold: smoke rungs failed") as caught:
        demonstrate(story, "local", old="25.0.2", new="26.0.2", report=tmp_path / "proof.json")
    assert caught.value.exit_code == 10
    assert json.loads((tmp_path / "proof.json").read_text())["smoke"]["failed"] == 1
    assert "What was seen" in said(story.progress)


@pytest.mark.parametrize("there", [{R25.id, R26.id}, {R26.id}], ids=["half-way", "before its checks"])
def test_a_demo_that_was_killed_in_its_upgrade_goes_on_from_there_and_says_so(
    workspace: Workspace, there: set[str]
) -> None:
    story: Any = Story(workspace, SMOKE)
    story.there = frozenset(there)
    proof = demonstrate(story, "local", old="25.0.2", new="26.0.2", report=None)
    assert story.told == ["build 25.0.2", "build 26.0.2", f"upgrade {R26.id}", "verify", "smoke"]
    assert proof.to_json()["resumed"] is True
    assert "its customers are not counted here" in said(story.progress)


def test_what_customers_lost_is_shown_and_saved_as_all_of_the_proof_is(workspace: Workspace, tmp_path: Path) -> None:
    story: Any = Story(workspace, SMOKE)
    story.noticed = replace(TRAFFIC, stacks=StackCounts(44, 1, 0))
    with pytest.raises(VerificationFailed, match="does not hold: customers lost stacks or requests"):
        demonstrate(story, "local", old="25.0.2", new="26.0.2", report=tmp_path / "proof.json")
    assert json.loads((tmp_path / "proof.json").read_text())["stacks"]["failed"] == 1
    assert "What was seen" in said(story.progress)


def test_from_a_release_to_itself_is_no_demo(workspace: Workspace) -> None:
    story: Any = Story(workspace, SMOKE)
    with pytest.raises(ConfigurationInvalid, match=r"from 26\.0\.2 to 26\.0\.2 is no upgrade"):
        demonstrate(story, "local", old="26.0.2", new="26.0.2", report=None)
    assert story.told == []


def test_a_demo_that_was_run_is_told_how_to_run_it_again(workspace: Workspace) -> None:
    story: Any = Story(workspace, SMOKE)
    story.there = frozenset({R26.id})
    clock = FakeClock()
    with recorded(story.store, clock, "smoke", "local", R26):
        pass
    with pytest.raises(ConfigurationInvalid, match="the demo was run") as caught:
        demonstrate(story, "local", old="25.0.2", new="26.0.2", report=None)
    assert "inv local.down" in caught.value.hint


def test_a_proof_that_can_no_longer_be_saved_is_shown_and_hides_no_fault(workspace: Workspace, tmp_path: Path) -> None:
    story: Any = Story(workspace, SmokeReport("local", (RungResult("token", "failed", 0.1, ""),)))
    with pytest.raises(VerificationFailed, match=r"not hold: .* \(.*: cannot be written: Is a directory\)"):
        demonstrate(story, "local", old="25.0.2", new="26.0.2", report=tmp_path)
    assert "What was seen" in said(story.progress)
