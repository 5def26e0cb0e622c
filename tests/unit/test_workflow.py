"""The stories, as far as they go without hosts: what is refused before anything is touched, the order, the records."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from builders import LOCAL, R25, R26, Machines, ScriptedRemote, progress, region, said, site
from kept_releases import build_nothing, keep

from pipeline import workflow
from pipeline.checks.result import CheckResult
from pipeline.deploy import Change, Launched
from pipeline.edges.clock import FakeClock
from pipeline.edges.ssh import Result
from pipeline.environment import Role
from pipeline.errors import (
    ConfigurationInvalid,
    FleetMixed,
    GateRefused,
    PipelineError,
    StackFailed,
    VerificationFailed,
)
from pipeline.evidence import Operation, Record
from pipeline.inventory import Host
from pipeline.release import Mode, Release
from pipeline.rollout import vhost_of
from pipeline.site import Site
from pipeline.smoke import RungResult, SmokeReport
from pipeline.traffic import RequestCounts, StackCounts, TrafficReport
from pipeline.verify import VerifyReport
from pipeline.workflow import Pipeline
from pipeline.workspace import Workspace

ROOT = Path(__file__).parents[2]
PASSED = CheckResult("clock_is_right", "api-0", "api", "local", "passed", 0.1)
GREEN = VerifyReport("local", R26.id, (PASSED,), 1.0)
CLIMBED = SmokeReport("local", (RungResult("token", "passed", 0.1, ""),))
FELL = SmokeReport("local", (RungResult("token", "failed", 0.1, "401"),))
GOOD = TrafficReport(StackCounts(45, 0, 0), RequestCounts(900, 0, 0.25), (), ())
BAD = TrafficReport(StackCounts(44, 1, 0), RequestCounts(900, 0, 0.25), ("stack a: CREATE_FAILED: no",), ())
ASKS = (r"^\[ -L /opt/heat/current", r"^cat /opt/heat/releases/\S+/manifest\.json$", r"^SELECT ")


class Here(Pipeline):
    """The pipeline, with hosts in memory behind every environment; `opened` names those whose hosts were reached."""

    remote: ScriptedRemote
    opened: list[str]

    @contextmanager
    def site(self, name: str) -> Iterator[Site]:
        self.opened.append(name)
        yield replace(site(self.remote, self.environment(name)), progress=self.progress)


def _hosts() -> ScriptedRemote:
    """Return hosts that run release 25 and do what they are told."""
    remote = ScriptedRemote()
    remote.on("")  # what is installed and written there is a matter of other tests
    machines = Machines(remote, region().inventory, R25, LOCAL.heat.engine_workers)
    known = {R25.id: R25, R26.id: R26}

    def facts(host: Host, script: str) -> str:
        current = machines.current[host.name]
        running = current if machines.running[host.name] else ""
        return f"current {current}\nvhost {vhost_of(known[current])}\ninstalled {R25.id}\nrunning {running}\n"

    remote.on(ASKS[0], facts)
    remote.on(ASKS[1], lambda host, script: known[script.split("/")[4]].to_json())
    for question, answer in {
        "DATEDIFF": "0\n",
        "information_schema": "1\n",
        "version_num": f"{R26.alembic_head}\n",
        "list_policies": "[]",
        "list_vhosts": "[]",
    }.items():
        remote.on(question, answer)
    return remote


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Here:
    """Return a pipeline on a cloud that is up, whose hosts run release 25, with both releases built."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    clock = FakeClock()
    build_nothing(monkeypatch)
    monkeypatch.setattr(workflow, "is_deployed", lambda environment, cloud: True)
    made = Here(Workspace(ROOT, tmp_path / "state"), clock, progress(clock))
    object.__setattr__(made, "opened", [])
    object.__setattr__(made, "remote", _hosts())
    for release in (R25, R26):
        keep(made.workspace.cache, release)
    _raise_cloud(made.workspace)
    return made


def _raise_cloud(workspace: Workspace) -> None:
    auth = {"auth_url": "http://127.0.0.1:9/v3", "username": "a", "password": "b", "project_name": "p"}
    workspace.cloud.mkdir(parents=True)
    (workspace.cloud / "clouds.yaml").write_text(yaml.safe_dump({"clouds": {"seed": {"auth": auth}}}))


def _prove(here: Pipeline, release: Release, *, passed: bool = True) -> None:
    """Leave the records of a release that went through `local`."""
    operations: tuple[Operation, ...] = ("upgrade", "verify", "smoke")
    for operation in operations:
        started = here.clock.now()
        here.clock.sleep(60)
        ended = started + timedelta(seconds=30)
        good = passed or operation != "smoke"
        here.store.save(
            Record(operation, "local", release.id, release.digest, good, {}, started, ended, "ada@laptop", "0.1.0")
        )


def _only_asked(here: Here) -> bool:
    """Whether the hosts were asked, and nothing was changed on them."""
    asked = sum(len(here.remote.scripts(pattern)) for pattern in ASKS)
    return len(here.remote.ran) == asked and not here.remote.copied


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of the stacks that were launched; all were there, unchanged."""
    names: list[str] = []

    def launch_all(stacks: Any, launcher: Any, given: Any) -> dict[str, Launched]:
        names.extend(stack.stack_name for stack in stacks)
        return {stack.name: Launched(stack.name, Change.UNCHANGED, {}) for stack in stacks}

    monkeypatch.setattr(workflow, "launch_all", launch_all)
    return names


# --- promote


def test_the_gate_refuses_before_anything_is_touched(here: Here) -> None:
    with pytest.raises(GateRefused, match=f"{R26.id} may not go from local to local-production") as caught:
        here.promote("local-production", "26.0.2")
    assert caught.value.exit_code == 4
    assert here.opened == []
    assert here.store.records("local-production") == ()


def test_the_gate_needs_no_cloud_to_refuse(here: Here) -> None:
    (here.workspace.cloud / "clouds.yaml").unlink()
    with pytest.raises(GateRefused):
        here.promote("local-production", "26.0.2", dry_run=True)


def test_evidence_of_another_release_is_none(here: Here) -> None:
    _prove(here, R25)
    with pytest.raises(GateRefused):
        here.promote("local-production", "26.0.2")


def test_a_failed_smoke_test_keeps_the_gate_shut(here: Here) -> None:
    _prove(here, R26, passed=False)
    with pytest.raises(GateRefused):
        here.promote("local-production", "26.0.2")


def test_a_dry_run_passes_the_gate_and_plans_and_touches_nothing(here: Here) -> None:
    _prove(here, R26)
    plan = here.promote("local-production", "26.0.2", dry_run=True)
    assert plan.mode is Mode.VHOST_CUTOVER
    assert [state.host.role for state in plan.moves] == [Role.ENGINE, Role.API, Role.API, Role.ENGINE]
    assert here.opened == ["local-production"]
    assert _only_asked(here)
    assert here.store.records("local-production") == ()


def test_only_what_was_built_can_be_promoted(here: Here) -> None:
    with pytest.raises(ConfigurationInvalid, match=r"there is no release 27\.0\.1 on this machine") as caught:
        here.promote("local-production", "27.0.1")
    assert caught.value.hint == "inv release.build --heat 27.0.1"


def test_a_promotion_upgrades_and_verifies_and_smokes_and_is_recorded(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    _prove(here, R26)
    _with_traffic(monkeypatch, GOOD)
    monkeypatch.setattr(workflow, "verify", lambda *_, **__: GREEN)
    monkeypatch.setattr(workflow, "climb", lambda *_, **__: CLIMBED)
    monkeypatch.setattr(Here, "_running", lambda self, site: (R26, vhost_of(R26)))
    here.promote("local-production", "26.0.2")
    operations = [(record.operation, record.passed) for record in here.store.records("local-production")]
    assert sorted(operations) == [("promote", True), ("smoke", True), ("upgrade", True), ("verify", True)]


# --- deploy


def test_a_deploy_to_no_cloud_says_how_to_raise_it_and_builds_nothing(here: Here, launched: list[str]) -> None:
    (here.workspace.cloud / "clouds.yaml").unlink()
    with pytest.raises(ConfigurationInvalid, match="the local cloud is not up") as caught:
        here.deploy("local", "99.0.0")
    assert caught.value.hint == "inv local.up"
    assert here.progress.stages == []
    assert launched == []


def test_a_release_that_does_not_exist_leaves_no_half_region(here: Here, launched: list[str]) -> None:
    with pytest.raises(ConfigurationInvalid, match=r"there is no release 26\.0\.2-nowhere"):
        here.deploy("local", "26.0.2-nowhere")
    assert launched == []
    assert here.store.records("local") == ()


def test_a_damaged_archive_is_found_before_anything_is_touched(here: Here, launched: list[str]) -> None:
    here.wheelhouse.find("25.0.2").archive.write_bytes(b"half")
    with pytest.raises(ConfigurationInvalid, match=f"the archive of release {R25.id} is damaged"):
        here.deploy("local", "25.0.2")
    assert launched == []


def test_a_region_on_another_release_is_to_be_upgraded(here: Here, launched: list[str]) -> None:
    with pytest.raises(ConfigurationInvalid, match=f"local runs {R25.id}: going to {R26.id} is an upgrade") as caught:
        here.deploy("local", "26.0.2")
    assert caught.value.hint == "inv upgrade local --release 26.0.2"
    assert _only_asked(here)
    assert here.store.records("local") == ()


def test_a_deploy_that_finds_all_as_it_should_be_changes_nothing(here: Here, launched: list[str]) -> None:
    assert here.deploy("local", "25.0.2") is False
    assert launched[0] == "local-network"
    assert len(launched) == 7
    assert not here.remote.copied
    (record,) = here.store.records("local")
    assert (record.operation, record.passed, record.counts) == ("deploy", True, {"hosts": 7, "files_written": 0})


def test_a_stack_that_fails_is_evidence_against_the_release(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> None:
        raise StackFailed("stack local-api is CREATE_FAILED: server: No valid host")

    monkeypatch.setattr(workflow, "launch_all", fails)
    with pytest.raises(StackFailed):
        here.deploy("local", "25.0.2")
    (record,) = here.store.records("local")
    assert (record.operation, record.passed) == ("deploy", False)
    assert "No valid host" in record.detail


# --- upgrade


def _with_traffic(monkeypatch: pytest.MonkeyPatch, report: TrafficReport) -> None:
    class Customers:
        def __init__(self, *_: Any, **__: Any) -> None: ...

        def __enter__(self) -> Customers:
            return self

        def __exit__(self, *_: object) -> None: ...

        def report(self) -> TrafficReport:
            return report

    monkeypatch.setattr(workflow, "Traffic", Customers)


def test_an_upgrade_goes_engine_apis_idle_engine_and_is_recorded(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    _with_traffic(monkeypatch, GOOD)
    report, plan = here.upgrade("local", "26.0.2")
    stages = [name for name, _ in here.progress.stages]
    assert stages == [
        "release 26.0.2", "install", "database", "vhost", "move engine-0", "move api-0", "move api-1",
        "old vhost idle", "move engine-1", "tidy", "rollout",
    ]  # fmt: skip
    assert (report, plan.target) == (GOOD, R26)
    (record,) = here.store.records("local")
    assert (record.operation, record.release_digest, record.passed) == ("upgrade", R26.digest, True)
    assert record.counts["stacks_completed"] == 45
    assert f"mode: {Mode.VHOST_CUTOVER}" in said(here.progress)


def test_an_upgrade_taken_up_again_knows_that_others_moved_before(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    _with_traffic(monkeypatch, GOOD)
    here.remote.on(r"^ln -sfn .*/26", Result(1, "", "no heat.conf"), host="api-1")
    with pytest.raises(FleetMixed, match=f"api-1 is back on {R25.id}; done: engine-0, api-0; failed: api-1"):
        here.upgrade("local", "26.0.2")
    # engine-0 and api-0 are there; this run moves none, and still must not say that all is as it was.
    with pytest.raises(FleetMixed, match=f"api-1 is back on {R25.id}; done: none; failed: api-1"):
        here.upgrade("local", "26.0.2")
    assert [record.passed for record in here.store.records("local")] == [False, False]


def test_settings_that_no_service_read_are_read_at_the_next_deploy(here: Here, launched: list[str]) -> None:
    seen = f"current {R25.id}\nvhost {vhost_of(R25)}\ninstalled {R25.id}\nrunning {R25.id}\n"
    here.remote.on(ASKS[0], f"{seen}stale heat-engine\n", host="engine-1")
    assert here.deploy("local", "25.0.2") is True
    assert here.remote.steps(stop="^systemctl stop --no-block heat-") == ["stop engine-1"]


def test_an_upgrade_that_customers_noticed_fails_and_says_what_they_saw(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    _with_traffic(monkeypatch, BAD)
    with pytest.raises(VerificationFailed, match="customers noticed: stack a: CREATE_FAILED: no") as caught:
        here.upgrade("local", "26.0.2")
    assert caught.value.exit_code == 10
    (record,) = here.store.records("local")
    assert (record.passed, record.counts["stacks_failed"]) == (False, 1)


def test_a_region_that_is_there_is_not_moved(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    _with_traffic(monkeypatch, GOOD)
    here.upgrade("local", "25.0.2")
    assert [name for name, _ in here.progress.stages] == ["release 25.0.2", "install", "tidy", "rollout"]
    assert here.remote.scripts(r"systemctl (stop --no-block|start) heat-") == []


def test_a_plan_touches_nothing_and_leaves_no_record(here: Here) -> None:
    assert here.plan("local", "26.0.2").target == R26
    assert _only_asked(here)
    assert here.store.records("local") == ()
    assert "batch 1: engine-0 (canary)" in said(here.progress)


@pytest.mark.parametrize("story", ["upgrade", "plan"])
def test_an_upgrade_on_no_cloud_builds_nothing(here: Here, story: str) -> None:
    (here.workspace.cloud / "clouds.yaml").unlink()
    with pytest.raises(ConfigurationInvalid, match="the local cloud is not up"):
        getattr(here, story)("local", "99.0.0")
    assert here.progress.stages == []


def test_a_release_that_no_host_has_cannot_be_described(here: Here) -> None:
    here.remote.on(ASKS[0], f"current {R25.id}\nvhost heat-a\nrunning {R25.id}\n")
    with pytest.raises(ConfigurationInvalid, match=f"no host has release {R25.id} on disk"):
        here.plan("local", "26.0.2")


# --- verify and smoke


def test_checks_are_recorded_for_the_release_that_runs(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workflow, "verify", lambda site, release, vhost, report: GREEN)
    assert here.verify("local") is GREEN
    (record,) = here.store.records("local")
    assert (record.operation, record.release_id, record.passed) == ("verify", R25.id, True)
    assert record.counts == {"checks_passed": 1, "checks_failed": 0}


def test_rungs_are_recorded_with_how_they_ended(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    def climb(heat: Any, clock: Any, *, report: Any, expect_engines: int, engines: Any) -> SmokeReport:
        assert expect_engines == 2
        report(FELL.rungs[0])
        return FELL

    monkeypatch.setattr(workflow, "climb", climb)
    assert here.smoke("local") is FELL
    (record,) = here.store.records("local")
    assert (record.operation, record.passed) == ("smoke", False)
    assert record.counts == {"rungs_passed": 0, "rungs_failed": 1, "rungs_skipped": 0}
    assert "failed: token: 401" in said(here.progress)


def test_what_is_not_green_is_an_error_of_its_own(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workflow, "verify", lambda site, release, vhost, report: GREEN)
    monkeypatch.setattr(workflow, "climb", lambda *_, **__: FELL)
    with pytest.raises(VerificationFailed, match="0 checks and 1 rungs failed in local"):
        here.require_green("local")


def test_any_heat_of_the_users_clouds_can_be_smoked_and_leaves_no_record(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str | None]] = []
    monkeypatch.setattr(workflow, "connect", lambda cloud, region: asked.append((cloud, region)))
    monkeypatch.setattr(workflow, "climb", lambda *_, **__: CLIMBED)
    assert here.smoke_cloud("mycloud", None) is CLIMBED
    assert asked == [("mycloud", None)]
    assert not here.workspace.records.exists()


def test_a_region_that_is_not_deployed_says_so(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    here.remote.on(ASKS[0], "running \n")
    for story in (here.verify, here.smoke):
        with pytest.raises(PipelineError, match="no host runs Heat yet"):
            story("local")


# --- what a name means


def test_stacks_are_rendered_those_first_that_others_need(here: Here) -> None:
    assert next(stack.name for stack in here.render("local")) == "network"


def test_an_unknown_environment_is_refused(here: Here) -> None:
    with pytest.raises(ConfigurationInvalid, match="no such environment"):
        here.deploy("nope", "25.0.2")


def test_a_release_is_found_by_version_id_and_digest(here: Here) -> None:
    assert {here.build(name).release for name in ("26.0.2", R26.id, R26.digest[:8])} == {R26}
