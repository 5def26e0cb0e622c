"""The stories, as far as they go without hosts: what is refused before anything is touched, the order, the records."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import yaml
from builders import (
    ASKS,
    LOCAL,
    R25,
    R26,
    R26_BUILDS,
    Customer,
    Machines,
    ScriptedRemote,
    Services,
    progress,
    region,
    said,
    site,
    stack,
    with_policy,
)
from kept_releases import build_nothing, keep

from pipeline import regionstacks, workflow
from pipeline.checks.result import CheckResult
from pipeline.deploy import Change, Launched
from pipeline.edges.clock import FakeClock
from pipeline.edges.heat import Heat, HeatRefused
from pipeline.edges.lock import Holder, LockLost
from pipeline.edges.ssh import Result
from pipeline.edges.store import who
from pipeline.edges.yamledit import set_value
from pipeline.environment import Environment, InternalTls, Role, Tls
from pipeline.errors import (
    CommandFailed,
    ConfigurationInvalid,
    FailedAndReverted,
    FleetMixed,
    GateRefused,
    HostUnreachable,
    Inconclusive,
    LockHeld,
    PipelineError,
    PlanStale,
    PreflightUnreachable,
    ProtectedRefused,
    StackFailed,
    VerificationFailed,
)
from pipeline.evidence import Operation, Record
from pipeline.inventory import Host
from pipeline.plan import Act, Live, Plan, StackPlan
from pipeline.release import Mode, Release
from pipeline.rollout import vhost_of
from pipeline.site import Site
from pipeline.smoke import RungResult, SmokeReport
from pipeline.stacks import Kind, ResourceChange, Stack
from pipeline.traffic import RequestCounts, StackCounts, TrafficReport
from pipeline.verify import Selection, VerifyReport
from pipeline.workflow import Pipeline
from pipeline.workspace import Workspace

ROOT = Path(__file__).parents[2]
PASSED = CheckResult("clock_is_right", "api-0", "api", "local", "passed", 0.1)
GREEN = VerifyReport("local", R26.id, (PASSED,), 1.0)
CLIMBED = SmokeReport("local", (RungResult("token", "passed", 0.1, ""),))
FELL = SmokeReport("local", (RungResult("token", "failed", 0.1, "401"),))
GOOD = TrafficReport(StackCounts(45, 0, 0), RequestCounts(900, 0, 0.25), (), ())
BAD = TrafficReport(StackCounts(44, 1, 0), RequestCounts(900, 0, 0.25), ("stack a: CREATE_FAILED: no",), ())
STATE = ASKS[0]
ADA = Holder("ada@laptop", "upgrade", "20260101T000000Z-upgrade-0a1b", "laptop", 4711, datetime(2026, 1, 1, tzinfo=UTC))
ORDER = ["engine-0", "api-0", "api-1", "engine-1"]


class Here(Pipeline):
    """The pipeline, with hosts in memory behind every environment; `opened` names those whose hosts were reached.

    `policy` is what differs in every environment's policy.
    """

    remote: ScriptedRemote
    machines: Machines
    opened: list[str]
    policy: dict[str, Any]
    customer: Customer
    gone: set[str]

    def environment(self, name: str) -> Environment:
        return with_policy(super().environment(name), **self.policy)

    @contextmanager
    def site(self, name: str, *, deploying: bool = False) -> Iterator[Site]:
        self.opened.append(name)
        customer: Any = self.customer
        yield replace(site(self.remote, self.environment(name)), progress=self.progress, customer=customer)


def _hosts(remote: ScriptedRemote) -> Machines:
    """Return hosts that run release 25 and do what they are told."""
    remote.on("")  # what is installed and written there is a matter of other tests
    Services(remote, R25)
    return Machines(remote, region().inventory, R25, LOCAL.heat.engine_workers)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Here:
    """Return a pipeline on a cloud that is up, whose hosts run release 25, with both releases built."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    clock = FakeClock()
    build_nothing(monkeypatch)
    monkeypatch.setattr(workflow, "is_deployed", lambda environment, cloud: True)
    monkeypatch.setattr(regionstacks, "survey", _nothing_to_do)
    monkeypatch.setattr(regionstacks, "at_rest", lambda *_, **__: None)
    signals = count()
    monkeypatch.setattr(regionstacks.RegionStacks, "_signal", lambda *_, **__: f"signal {next(signals)}")
    made = Here(Workspace(ROOT, tmp_path / "state"), clock, progress(clock))
    remote = ScriptedRemote()
    given = {"opened": [], "policy": {}, "remote": remote, "machines": _hosts(remote), "customer": Customer()}
    given["gone"] = set()
    for name, value in given.items():
        object.__setattr__(made, name, value)
    for release in (R25, R26):
        keep(made.workspace.cache, release)
    _raise_cloud(made.workspace)
    return made


def _nothing_to_do(
    _cloud: object, environment: Environment, _templates: Path, stacks: Any, _given: object, *, release: str = ""
) -> Plan:
    """Return the plan of a region whose stacks are as they should be."""
    return Plan(environment.name, release, "", "", tuple(_planned(one.name) for one in stacks))


def _planned(name: str, act: Act = Act.NONE, *resources: ResourceChange) -> StackPlan:
    live = Live(f"id-of-{name}", "CREATE_COMPLETE", "", "", "")
    return StackPlan(name, f"local-{name}", act, name == "database", live, "", "", resources, (), ())


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
    asked = sum(len(here.remote.scripts(pattern)) for pattern in (*ASKS, r"^SELECT "))
    return len(here.remote.ran) == asked and not here.remote.copied


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of the stacks that were launched; all were there, unchanged."""
    names: list[str] = []

    def launch_all(stacks: Any, launcher: Any, given: Any) -> dict[str, Launched]:
        names.extend(stack.stack_name for stack in stacks)
        return {stack.name: Launched(stack.name, Change.UNCHANGED, {}) for stack in stacks}

    monkeypatch.setattr(regionstacks, "launch_all", launch_all)
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
    monkeypatch.setattr(workflow, "_on", lambda site, fleet: (R26, vhost_of(R26)))
    here.promote("local-production", "26.0.2")
    operations = [(record.operation, record.passed) for record in here.store.records("local-production")]
    assert sorted(operations) == [("promote", True), ("smoke", True), ("upgrade", True), ("verify", True)]


def test_a_region_that_is_not_to_be_reached_once_it_was_upgraded_was_touched(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: Any, **__: Any) -> SmokeReport:
        raise PreflightUnreachable("api-1: timed out")

    _prove(here, R26)
    _with_traffic(monkeypatch, GOOD)
    monkeypatch.setattr(workflow, "verify", lambda *_, **__: GREEN)
    monkeypatch.setattr(workflow, "climb", gone)
    monkeypatch.setattr(workflow, "_on", lambda site, fleet: (R26, vhost_of(R26)))
    with pytest.raises(FleetMixed, match=f"api-1: timed out; .* local-production is on {R26.id}"):
        here.promote("local-production", "26.0.2")
    promotions = [one.passed for one in here.store.records("local-production") if one.operation == "promote"]
    assert promotions == [False]


def test_checks_that_failed_are_told_though_smoke_could_not_be_had(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: Any, **__: Any) -> SmokeReport:
        raise PreflightUnreachable("api-1: timed out")

    red = VerifyReport("local", R25.id, (replace(PASSED, outcome="failed", message="an hour late"),), 1.0)
    monkeypatch.setattr(workflow, "verify", lambda *_, **__: red)
    monkeypatch.setattr(workflow, "climb", gone)
    monkeypatch.setattr(workflow, "_on", lambda site, fleet: (R25, vhost_of(R25)))
    with pytest.raises(VerificationFailed, match=r"1 checks failed in local: .*an hour late; and smoke could not"):
        here.require_green("local")


def test_what_passed_the_gate_is_what_is_rolled_out(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    _prove(here, R26)
    asked: list[str] = []
    monkeypatch.setattr(Pipeline, "plan", lambda self, name, reference: asked.append(reference))
    here.promote("local-production", "26.0.2", dry_run=True)
    assert asked == [R26.id]


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

    monkeypatch.setattr(regionstacks, "launch_all", fails)
    with pytest.raises(StackFailed):
        here.deploy("local", "25.0.2")
    (record,) = here.store.records("local")
    assert (record.operation, record.passed) == ("deploy", False)
    assert "No valid host" in record.detail


def test_a_host_that_dies_once_stacks_were_changed_is_no_preflight(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    def changes(stacks: Any, *_: Any) -> dict[str, Launched]:
        here.remote.on("", HostUnreachable("api-1: timed out"), host="api-1")
        return {stack.name: Launched(stack.name, Change.UPDATED, {}) for stack in stacks}

    monkeypatch.setattr(regionstacks, "launch_all", changes)
    with pytest.raises(FleetMixed, match="api-1: timed out; done by this run, and kept: stacks changed"):
        here.deploy("local", "25.0.2")
    assert [record.passed for record in here.store.records("local")] == [False]


# --- plan, apply


def _foresee(monkeypatch: pytest.MonkeyPatch, *plans: Plan) -> None:
    """Have the plans that are made be these, the last one for ever."""
    left = list(plans)
    monkeypatch.setattr(regionstacks, "survey", lambda *_, **__: left.pop(0) if len(left) > 1 else left[0])


MACHINE = ResourceChange("engine-1/machine", Kind.REPLACED, "Local::Machine")
ENGINE = ResourceChange("engine-1", Kind.UPDATED, "Region::Host")
DATABASE = ResourceChange("database-0", Kind.REPLACED, "Region::Host")
GONE = Plan("local", R25.id, "", "", (_planned("engine", Act.UPDATE, ENGINE, MACHINE),))
GIVEN_UP = Plan("local", R25.id, "", "", (_planned("engine", Act.UPDATE, replace(ENGINE, kind=Kind.DELETED)),))


def test_a_plan_touches_nothing_and_leaves_no_run(here: Here) -> None:
    assert here.plan_stacks("local").empty
    assert here.opened == []
    assert here.runs.of("local") == ()
    assert not here.workspace.key("local").exists()


@pytest.mark.parametrize("story", ["deploy", "scale", "apply"])
def test_what_would_cut_the_hosts_off_is_refused_before_anything_is_touched(
    here: Here, launched: list[str], monkeypatch: pytest.MonkeyPatch, story: str
) -> None:
    required = LOCAL.model_copy(update={"tls": Tls(internal=InternalTls.REQUIRED)})
    monkeypatch.setattr(Pipeline, "environment", lambda self, name: required)
    plan = Plan("local", "", "", "", (_planned("network", Act.UPDATE),))
    _foresee(monkeypatch, plan)
    change = {
        "deploy": lambda: here.deploy("local", R25.id),
        "scale": lambda: here.scale("local", Role.ENGINE, 3),
        "apply": lambda: here.apply(plan),
    }
    with pytest.raises(ConfigurationInvalid, match="would cut off api-0, api-1, engine-0, engine-1: they come without"):
        change[story]()
    assert launched == []
    assert here.locks("local").status("local") is None


def test_stacks_are_launched_without_a_look_at_hosts_where_the_network_stays(
    here: Here, launched: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = Plan("local", "", "", "", (_planned("network", Act.NONE), _planned("engine", Act.UPDATE)))
    _foresee(monkeypatch, plan)
    here.apply(plan)
    assert len(launched) == 7
    assert here.opened == []


def test_a_plan_of_a_release_is_refused_where_it_would_be_an_upgrade(here: Here) -> None:
    with pytest.raises(ConfigurationInvalid, match="is an upgrade, not a deploy"):
        here.plan_stacks("local", "26.0.2")


def test_a_plan_builds_no_release(here: Here) -> None:
    with pytest.raises(ConfigurationInvalid, match=r"there is no release 27\.0\.1 on this machine"):
        here.plan_stacks("local", "27.0.1")


def test_applying_launches_the_stacks_as_planned_and_leaves_the_plan_in_its_run(
    here: Here, launched: list[str]
) -> None:
    assert here.apply(here.plan_stacks("local")) is False
    assert len(launched) == 7
    (run,) = here.runs.of("local")
    assert json.loads((run.directory / "plan.json").read_text())["environment"] == "local"
    assert here.store.records("local") == ()


def test_applying_a_plan_of_a_release_is_a_deploy(here: Here, launched: list[str]) -> None:
    assert here.apply(here.plan_stacks("local", "25.0.2")) is False
    (record,) = here.store.records("local")
    assert (record.operation, record.release_id, record.passed) == ("deploy", R25.id, True)


def test_a_stale_plan_is_refused_before_anything_is_touched(
    here: Here, launched: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = here.plan_stacks("local")
    _foresee(monkeypatch, replace(plan, settings="others"))
    with pytest.raises(PlanStale, match="the settings of environment local are others now"):
        here.apply(plan)
    assert launched == []


@pytest.mark.parametrize("how", ["deploy", "apply"])
def test_a_protected_host_goes_only_when_it_is_named(
    here: Here, launched: list[str], monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    plan = Plan("local", R25.id, "", "", (_planned("database", Act.UPDATE, DATABASE),))
    _foresee(monkeypatch, plan)

    def go(*allowed: str) -> None:
        here.deploy("local", "25.0.2", allowed=allowed) if how == "deploy" else here.apply(plan, allowed=allowed)

    with pytest.raises(ProtectedRefused, match="database-0 in local"):
        go()
    assert launched == []
    assert here.store.records("local") == ()  # nothing was touched, so it says nothing about the release
    go("database-0")
    assert len(launched) == 7


def test_an_engine_is_drained_before_its_server_goes(
    here: Here, launched: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    retiring = workflow.retire

    def retire(*arguments: Any, **more: Any) -> tuple[str, ...]:
        order.append(f"{len(launched)} launched")
        return retiring(*arguments, **more)

    monkeypatch.setattr(workflow, "retire", retire)
    _foresee(monkeypatch, GONE)
    here.apply(GONE)
    assert order == ["0 launched"]
    assert here.remote.steps(stop="^systemctl stop --no-block heat-")[:1] == ["stop engine-1"]
    assert "  engine-1: out of service" in said(here.progress)


def test_a_heat_that_goes_away_once_an_engine_is_drained_was_touched_all_the_same(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> str:
        raise HeatRefused("Heat did not answer", status=503)

    monkeypatch.setattr(regionstacks.RegionStacks, "_signal", refuse)
    _foresee(monkeypatch, GONE)
    with pytest.raises(FleetMixed, match="Heat did not answer; done by this run, and kept: engine-1 out of service"):
        here.apply(GONE)
    assert [record.passed for record in here.store.records("local")] == [False]


def test_a_plan_of_stacks_alone_drains_nothing(
    here: Here, launched: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = replace(GONE, release="")
    _foresee(monkeypatch, plan)
    here.apply(plan)
    assert here.remote.steps(stop="^systemctl stop --no-block heat-") == []
    assert here.opened == []


def test_two_do_not_apply_at_once(here: Here, launched: list[str]) -> None:
    plan = here.plan_stacks("local")
    here.locks("local").hold("local", ADA)
    for change in (lambda: here.apply(plan), lambda: here.destroy("local"), lambda: here.drift("local")):
        with pytest.raises(LockHeld):
            change()
    assert launched == []


def test_a_cloud_that_seems_empty_costs_no_key(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    forgotten: list[str] = []
    monkeypatch.setattr(regionstacks.RegionStacks, "require_same_machines", lambda self: None)
    monkeypatch.setattr(workflow, "forget", lambda _workspace, name: forgotten.append(name))
    monkeypatch.setattr(workflow, "destroy_all", lambda *_: None)
    there = {"engine": Stack("id", "local-engine", "CREATE_COMPLETE", "", "", {})}
    for found, told in (({}, []), (there, ["local"])):
        monkeypatch.setattr(workflow, "doomed", lambda *_, found=found: found)
        assert here.destroy("local") is bool(found)
        assert forgotten == told


def test_stacks_that_the_environment_has_no_longer_keep_a_region_from_being_destroyed(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = Stack("id", "local-control", "CREATE_COMPLETE", "", "", {})
    monkeypatch.setattr(Heat, "find", lambda _self, name, **_: left if name == left.name else None)
    for act in (lambda: here.doomed("local", ()), lambda: here.destroy("local")):
        with pytest.raises(ConfigurationInvalid, match=r"deployed with \(it has control\)"):
            act()


def test_a_deploy_that_waited_for_the_lock_reads_the_environment_again(
    here: Here, monkeypatch: pytest.MonkeyPatch, launched: list[str]
) -> None:
    read: list[str] = []
    monkeypatch.setattr(Here, "_within_reach", lambda self, name: read.append(name) or self._stacks_of(name))
    hold = Here._changing

    def late(self: Here, *args: Any) -> Any:
        assert len(read) == 1
        return hold(self, *args)

    monkeypatch.setattr(Here, "_changing", late)
    here.deploy("local", R25.id)
    assert len(read) == 2


@pytest.mark.parametrize("release", [R25.id, R26.id, ""])
def test_a_plan_is_done_when_hosts_are_on_its_release_too(here: Here, release: str) -> None:
    assert here.is_done(Plan("local", release, "", "", (_planned("engine"),))) is (release != R26.id)


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
    here.remote.on(STATE, f"{seen}stale heat-engine\n", host="engine-1")
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


@pytest.fixture
def scalable(here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, launched: list[str]) -> Here:
    """Return a pipeline whose environments' files may be changed, and whose region has the hosts that they name."""
    for name in ("environments", "templates"):
        shutil.copytree(ROOT / name, tmp_path / "checkout" / name)
    object.__setattr__(here, "workspace", Workspace(tmp_path / "checkout", here.workspace.state))
    monkeypatch.setattr(Here, "site", _site_of_the_hosts_that_are_there)
    return here


@contextmanager
def _site_of_the_hosts_that_are_there(self: Here, name: str, *, deploying: bool = False) -> Iterator[Site]:
    here = site(self.remote, self.environment(name))
    there = tuple(host for host in region().inventory.hosts if host.name not in self.gone)
    hosts = replace(here.region, inventory=replace(here.region.inventory, hosts=there))
    yield replace(here, region=hosts, progress=self.progress)


def _delete(here: Here, monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Have the launch of the stacks delete hosts, which must hold nothing by then."""

    def launch_all(stacks: Any, launcher: Any, given: Any) -> dict[str, Launched]:
        assert not any(here.machines.running[name] for name in names)
        here.gone.update(names)
        return {}

    monkeypatch.setattr(regionstacks, "launch_all", launch_all)


def test_a_host_that_is_scaled_in_is_drained_before_its_stack_loses_it(
    scalable: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    _delete(scalable, monkeypatch, "engine-1")
    scaling = scalable.scale("local", Role.ENGINE, 1)
    assert [state.host.name for state in scaling.leaving] == ["engine-1"]
    assert scalable.environment("local").topology.engine.count == 1
    assert "engine:\n    count: 1\n" in _file_of_local(scalable)
    (record,) = scalable.store.records("local")
    assert (record.operation, record.passed) == ("scale", True)
    assert "engine-1: out of service, and holds nothing" in said(scalable.progress)


def test_a_drain_without_proof_keeps_the_host_and_the_file(scalable: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    _delete(scalable, monkeypatch, "engine-1")
    scalable.machines.stuck.add("engine-1")
    before = _file_of_local(scalable)
    with pytest.raises(FleetMixed):
        scalable.scale("local", Role.ENGINE, 1)
    assert (scalable.gone, _file_of_local(scalable)) == (set(), before)
    (record,) = scalable.store.records("local")
    assert not record.passed


def test_a_region_in_the_middle_of_an_upgrade_is_not_scaled(scalable: Here, launched: list[str]) -> None:
    scalable.machines.current["engine-0"] = R26.id
    with pytest.raises(FleetMixed):
        scalable.scale("local", Role.ENGINE, 3)
    assert launched == []


def test_more_hosts_are_written_down_and_launched(scalable: Here, launched: list[str]) -> None:
    scaling = scalable.scale("local", Role.API, 4)
    assert scaling.coming == 2
    assert scalable.environment("local").topology.api.count == 4
    assert "local-api" in launched


def test_a_host_that_came_by_a_scale_that_was_interrupted_gets_its_release(scalable: Here, launched: list[str]) -> None:
    scalable.machines.installed["engine-1"].clear()
    scalable.machines.kill("engine-1")
    scalable.scale("local", Role.ENGINE, 2)
    assert scalable.machines.installed["engine-1"] == [R25.id]


def test_no_host_is_drained_where_the_file_could_not_say_so(scalable: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: not str(path).endswith("local.yaml"))
    with pytest.raises(ConfigurationInvalid, match=r"local\.yaml: cannot be written"):
        scalable.scale("local", Role.ENGINE, 1)
    assert scalable.remote.steps(stop="^systemctl stop --no-block heat-") == []


def test_a_deploy_drains_hosts_that_only_the_file_has_given_up(scalable: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    set_value(scalable.workspace.environments / "local.yaml", ("topology", "engine", "count"), 1)
    _foresee(monkeypatch, GIVEN_UP)
    _delete(scalable, monkeypatch, "engine-1")
    scalable.deploy("local", R25.id)
    assert scalable.gone == {"engine-1"}
    assert "  engine-1: out of service, and holds nothing" in said(scalable.progress)


def test_a_deploy_deletes_no_host_whose_drain_is_not_proved(scalable: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    _foresee(monkeypatch, GIVEN_UP)
    _delete(scalable, monkeypatch, "engine-1")
    scalable.machines.stuck.add("engine-1")
    with pytest.raises(FleetMixed, match="engine-1 did not drain"):
        scalable.deploy("local", R25.id)
    assert scalable.gone == set()
    (record,) = scalable.store.records("local")
    assert not record.passed


def test_scaling_drains_what_else_goes_and_loses_nothing_protected(
    scalable: Here, launched: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = _file_of_local(scalable)
    _foresee(monkeypatch, Plan("local", R25.id, "", "", (_planned("database", Act.UPDATE, DATABASE),)))
    with pytest.raises(ProtectedRefused, match="database-0 in local"):
        scalable.scale("local", Role.API, 3)
    assert (launched, _file_of_local(scalable)) == ([], before)
    _foresee(monkeypatch, GONE)
    assert scalable.scale("local", Role.API, 3).leaving == ()
    assert scalable.remote.steps(stop="^systemctl stop --no-block heat-")[:1] == ["stop engine-1"]
    assert len(launched) == 7


def _file_of_local(here: Here) -> str:
    return (here.workspace.environments / "local.yaml").read_text("utf-8")


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
    here.remote.on(STATE, f"current {R25.id}\nvhost heat-a\nrunning {R25.id}\n")
    with pytest.raises(ConfigurationInvalid, match=f"no host has release {R25.id} on disk"):
        here.plan("local", "26.0.2")


# --- what an earlier run's canary left

LEFT = (stack("canary-0a1b2c-waiting-0-1", "CREATE_IN_PROGRESS"), stack("canary-0a1b2c-0-1", "CREATE_COMPLETE"))


def test_stacks_that_an_earlier_runs_canary_left_are_deleted_and_told(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    _with_traffic(monkeypatch, GOOD)
    here.customer.stacks = (*LEFT, stack("canary-0a1b2c-1-1", "CREATE_FAILED"), stack("web", "CREATE_COMPLETE"))
    here.upgrade("local", "26.0.2")
    waiting, idle = (found.identity for found in LEFT)
    acts = [act for act in here.customer.did if act != "list"]
    assert acts == [f"signal handle of {waiting}", f"delete {waiting}", f"delete {idle}"]
    assert "2 stacks that an earlier run's canary left are being deleted" in said(here.progress)


def test_stacks_that_were_left_are_let_go_before_a_canary_of_this_run_makes_any(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    _with_traffic(monkeypatch, GOOD)
    here.customer.stacks = LEFT
    seen: list[list[str]] = []

    class Customers(workflow.Traffic):  # type: ignore[name-defined, misc]
        def __enter__(self) -> Any:
            seen.append(list(here.customer.did))
            return super().__enter__()

    monkeypatch.setattr(workflow, "Traffic", Customers)
    here.upgrade("local", "26.0.2")
    assert seen == [here.customer.did]
    assert len([act for act in here.customer.did if act.startswith("delete")]) == 2


def test_a_region_in_which_nothing_was_left_is_not_told_of_it(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    _with_traffic(monkeypatch, GOOD)
    here.upgrade("local", "26.0.2")
    assert here.customer.did == ["list"]
    assert "canary left" not in said(here.progress)


@pytest.mark.parametrize("act", ["list", "signal", "delete"])
def test_a_heat_that_refuses_to_be_tidied_stops_no_upgrade(
    here: Here, monkeypatch: pytest.MonkeyPatch, act: str
) -> None:
    _with_traffic(monkeypatch, GOOD)
    here.customer.stacks, here.customer.refuses = LEFT, {act}
    here.upgrade("local", "26.0.2")
    assert set(here.machines.current.values()) == {R26.id}
    assert "what earlier canaries left stays: " in said(here.progress)


def test_a_run_that_gets_no_lock_lets_nothing_go(here: Here) -> None:
    here.customer.stacks = LEFT
    with here.locks("local").held("local", ADA), pytest.raises(LockHeld):
        here.upgrade("local", "26.0.2")
    here.plan("local", "26.0.2")
    assert here.customer.did == []


# --- a run that fails


def test_a_migration_that_fails_ends_reverted_and_is_recorded(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    _with_traffic(monkeypatch, GOOD)
    here.remote.on(r"db_sync$", Result(1, "", "Duplicate column"))
    with pytest.raises(FailedAndReverted, match=r"could not be migrated: .*; this run has moved no host") as caught:
        here.upgrade("local", "26.0.2")
    assert caught.value.exit_code == 8
    assert [record.passed for record in here.store.records("local")] == [False]
    assert _left(here, "summary.json")["exit_code"] == 8


def test_a_run_that_lost_its_lock_puts_back_no_host_that_fails(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    _with_traffic(monkeypatch, GOOD)
    lose = (here.workspace.locks / "local.holder.json").unlink

    def fail(on: Host, script: str) -> Result:
        lose()
        return Result(1, "", "Job for heat failed")

    here.remote.on(rf"^ln -sfn \S*{R26.id}", fail, host="engine-0")
    with pytest.raises(FleetMixed, match=r"^halted; done: none; failed: engine-0"):
        here.upgrade("local", "26.0.2")
    assert not here.remote.scripts(rf"^ln -sfn \S*{R25.id}")
    assert "could not be put back: local: the lock of run" in said(here.progress)


# --- back


def test_a_rollback_goes_back_to_the_release_before_and_is_recorded(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    _with_traffic(monkeypatch, GOOD)
    here.upgrade("local", "26.0.2")
    report, plan = here.rollback("local")
    assert (report, plan.target, plan.rollback) == (GOOD, R25, True)
    assert set(here.machines.current.values()) == {R25.id}
    upgrade, rollback = here.store.records("local")
    assert (upgrade.operation, rollback.operation) == ("upgrade", "rollback")
    assert (rollback.release_digest, rollback.passed, rollback.counts["stacks_completed"]) == (R25.digest, True, 45)


def test_a_rollback_may_be_told_where_to(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    _with_traffic(monkeypatch, GOOD)
    here.upgrade("local", "26.0.2")
    assert here.rollback("local", "25.0.2")[1].target == R25


def test_a_rollback_builds_nothing_for_the_hosts_have_it(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    _with_traffic(monkeypatch, GOOD)
    here.upgrade("local", "26.0.2")
    here.wheelhouse.find("25.0.2").archive.unlink()
    here.rollback("local")
    assert set(here.machines.current.values()) == {R25.id}


def test_a_host_that_lacks_the_release_to_go_back_to_gets_it_first(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    _with_traffic(monkeypatch, GOOD)
    here.upgrade("local", "26.0.2")
    here.machines.installed["engine-1"].remove(R25.id)  # as on a host that came since
    here.rollback("local")
    assert set(here.machines.current.values()) == {R25.id}
    assert R25.id in here.machines.installed["engine-1"]


def test_a_region_with_nothing_to_go_back_to_is_left_alone(here: Here) -> None:
    with pytest.raises(ConfigurationInvalid, match=f"no release older than {R25.id}"):
        here.rollback("local")
    with pytest.raises(ConfigurationInvalid, match=f"{R26.id} is newer than {R25.id}"):
        here.rollback("local", "26.0.2")
    assert _only_asked(here)
    assert here.store.records("local") == ()


def test_a_rollback_that_customers_noticed_fails_too(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    _with_traffic(monkeypatch, GOOD)
    here.upgrade("local", "26.0.2")
    _with_traffic(monkeypatch, BAD)
    with pytest.raises(VerificationFailed, match="customers noticed"):
        here.rollback("local")


# --- the canary


@pytest.fixture
def careful(here: Here, monkeypatch: pytest.MonkeyPatch) -> Here:
    """Return the same, where a person must vouch for the canary."""
    _with_traffic(monkeypatch, GOOD)
    here.policy["canary"] = {"soak": 60, "auto_promote": False}
    return here


def test_an_upgrade_pauses_after_its_canary_and_says_what_to_type(careful: Here) -> None:
    with pytest.raises(Inconclusive, match="paused: the canary engine-0 is healthy") as caught:
        careful.upgrade("local", "26.0.2")
    assert caught.value.hint == "inv canary.promote local, or inv rollback local"
    assert _moved(careful) == ["engine-0"]


def test_a_pause_says_what_customers_noticed_until_then(careful: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    _with_traffic(monkeypatch, BAD)
    with pytest.raises(Inconclusive, match=r"paused: .*; customers noticed: stack a: CREATE_FAILED: no"):
        careful.upgrade("local", "26.0.2")
    assert _left(careful, "counts.json")["stacks"]["failed"] == 1
    (record,) = careful.store.records("local")
    assert (record.passed, record.counts["stacks_failed"]) == (False, 1)
    assert "customers noticed" in record.detail


def test_what_customers_lost_before_a_pause_is_not_made_up_for_by_the_rest(
    careful: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workflow, "verify", lambda *_, **__: GREEN)
    monkeypatch.setattr(workflow, "climb", lambda *_, **__: CLIMBED)
    monkeypatch.setattr(workflow, "_on", lambda site, fleet: (R26, vhost_of(R26)))
    _with_traffic(monkeypatch, BAD)
    with pytest.raises(Inconclusive):
        careful.upgrade("local", "26.0.2")
    _with_traffic(monkeypatch, GOOD)
    careful.promote_canary("local")
    careful.require_green("local")
    with pytest.raises(GateRefused, match="customers lost something in the upgrade") as caught:
        careful.promote("local-production", "26.0.2", dry_run=True)
    assert caught.value.hint == f"inv rollback local && inv upgrade local --release {R26.id}"


def test_a_rollout_goes_on_without_its_build_where_every_host_has_the_release(careful: Here) -> None:
    with pytest.raises(Inconclusive):
        careful.upgrade("local", "26.0.2")
    shutil.rmtree(careful.workspace.cache)
    careful.promote_canary("local")
    assert set(careful.machines.current.values()) == {R26.id}


def test_a_promoted_canary_goes_on_to_the_release_it_is_on(careful: Here) -> None:
    with pytest.raises(Inconclusive):
        careful.upgrade("local", "26.0.2")
    report, plan = careful.promote_canary("local")
    assert (report, plan.target) == (GOOD, R26)
    assert set(careful.machines.current.values()) == {R26.id}


@pytest.mark.parametrize("moved", [2, 3])
def test_a_promotion_that_was_cut_off_when_most_hosts_had_moved_goes_on(careful: Here, moved: int) -> None:
    careful.machines.current |= dict.fromkeys(ORDER[:moved], R26.id)
    careful.machines.installed = {name: [R25.id, R26.id] for name in careful.machines.installed}
    careful.promote_canary("local")
    assert _moved(careful) == ORDER


def test_a_paused_canary_can_be_rolled_back(careful: Here) -> None:
    with pytest.raises(Inconclusive):
        careful.upgrade("local", "26.0.2")
    assert [state.host.name for state in careful.rollback("local")[1].moves] == ["engine-0"]
    assert set(careful.machines.current.values()) == {R25.id}


def test_a_region_on_one_release_has_no_canary_to_promote(careful: Here) -> None:
    with pytest.raises(ConfigurationInvalid, match="local has no canary: its hosts are on one release") as caught:
        careful.promote_canary("local")
    assert caught.value.hint == "inv status local"
    assert _only_asked(careful)


@pytest.mark.parametrize("newer", R26_BUILDS, ids=["first by name", "last by name"])
def test_a_canary_of_another_build_of_the_same_heat_is_never_taken_back_by_its_promotion(
    careful: Here, newer: Release
) -> None:
    older = next(one for one in R26_BUILDS if one is not newer)
    careful.machines.current = dict.fromkeys(careful.machines.current, older.id)
    careful.machines.installed = {name: [older.id] for name in careful.machines.installed}
    careful.machines.vhosts = dict.fromkeys((older.id, newer.id), "heat-26")
    for release in R26_BUILDS:
        keep(careful.workspace.cache, release)
    with pytest.raises(Inconclusive, match="paused: the canary engine-0"):
        careful.upgrade("local", newer.id)
    with suppress(ConfigurationInvalid):
        careful.promote_canary("local")
    assert careful.machines.current["engine-0"] == newer.id


# --- one run at a time

STORIES = {
    "deploy": lambda here, **options: here.deploy("local", "25.0.2", **options),
    "upgrade": lambda here, **options: here.upgrade("local", "26.0.2", **options),
    "rollback": lambda here, **options: here.rollback("local", "25.0.2", **options),
}


def _meanwhile(here: Here, act: Callable[[], object], *, host: str = "engine-0") -> None:
    """Let `act` happen when a host moves to release 26, once."""

    def move(on: Host, script: str) -> Result:
        here.remote.on(rf"^ln -sfn \S*{R26.id}", here.machines._act)
        act()
        return here.machines._act(on, script)

    here.remote.on(rf"^ln -sfn \S*{R26.id}", move, host=host)


def _moved(here: Here) -> list[str]:
    return [name for name in ORDER if here.machines.current[name] == R26.id]


@pytest.mark.parametrize("story", STORIES)
def test_a_second_run_is_refused_and_told_who_has_the_lock(here: Here, launched: list[str], story: str) -> None:
    with here.locks("local").held("local", ADA), pytest.raises(LockHeld, match="ada@laptop, whose upgrade") as caught:
        STORIES[story](here)
    assert (caught.value.exit_code, caught.value.hint) == (5, "inv lock.status local")
    assert _only_asked(here)
    assert (launched, here.store.records("local"), here.runs.of("local")) == ([], (), ())


@pytest.mark.parametrize("story", STORIES)
def test_a_run_may_wait_for_the_lock(here: Here, launched: list[str], story: str) -> None:
    began = here.clock.monotonic()
    with here.locks("local").held("local", ADA), pytest.raises(LockHeld):
        STORIES[story](here, lock_wait=300)
    assert here.clock.monotonic() - began == pytest.approx(300, abs=1)


def test_environments_have_a_lock_each(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    _with_traffic(monkeypatch, GOOD)
    with here.locks("local-production").held("local-production", ADA):
        here.upgrade("local", "26.0.2")


def test_a_run_has_the_lock_while_it_goes_on_and_gives_it_back(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    _with_traffic(monkeypatch, GOOD)
    seen: list[Holder | None] = []
    _meanwhile(here, lambda: seen.append(here.locks("local").status("local")))
    here.upgrade("local", "26.0.2")
    (holder,) = seen
    (run,) = here.runs.of("local")
    assert holder is not None
    assert (holder.owner, holder.operation, holder.run_id) == (who(), "upgrade", run.id)
    assert here.locks("local").status("local") is None


def test_a_run_that_fails_gives_the_lock_back_too(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    _with_traffic(monkeypatch, GOOD)
    here.remote.on(r"db_sync$", Result(1, "", "no"))
    with pytest.raises(PipelineError):
        here.upgrade("local", "26.0.2")
    assert here.locks("local").status("local") is None


def test_looking_and_checking_need_no_lock(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workflow, "verify", lambda *_, **__: GREEN)
    monkeypatch.setattr(workflow, "climb", lambda *_, **__: CLIMBED)
    with here.locks("local").held("local", ADA):
        here.status("local")
        here.plan("local", "26.0.2")
        here.require_green("local")


def test_a_person_holds_an_environment_until_they_give_it_back(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    _with_traffic(monkeypatch, GOOD)
    here.hold("local", "a disk is being replaced")
    with pytest.raises(LockHeld, match="a disk is being replaced") as caught:
        here.upgrade("local", "26.0.2")
    assert caught.value.exit_code == 5
    holder = here.locks("local").release("local", who())
    assert holder is not None
    assert (holder.held_by_person, holder.reason) == (True, "a disk is being replaced")
    here.upgrade("local", "26.0.2")


def test_an_environment_that_a_run_has_cannot_be_held(here: Here) -> None:
    with here.locks("local").held("local", ADA), pytest.raises(LockHeld):
        here.hold("local", "a disk is being replaced")


def test_a_run_that_lost_its_lock_begins_with_no_other_host(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    _with_traffic(monkeypatch, GOOD)
    _meanwhile(here, lambda: (here.workspace.locks / "local.holder.json").unlink())
    with pytest.raises(LockLost, match=r"is lost: .*; done: engine-0; failed: none; remaining: api-0") as caught:
        here.upgrade("local", "26.0.2")
    assert caught.value.exit_code == 5
    assert _moved(here) == ["engine-0"]


def test_a_run_that_lost_its_lock_half_way_is_recorded(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    _with_traffic(monkeypatch, GOOD)
    _meanwhile(here, lambda: (here.workspace.locks / "local.holder.json").unlink())
    with pytest.raises(LockLost):
        here.upgrade("local", "26.0.2")
    assert [record.passed for record in here.store.records("local")] == [False]


def test_a_deploy_that_waited_for_an_upgrade_to_end_does_not_undo_it(
    here: Here, launched: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    locks = here.locks("local")

    class Waited:
        @contextmanager
        def held(self, *arguments: Any, **options: Any) -> Iterator[Any]:
            here.machines.current = dict.fromkeys(here.machines.current, R26.id)  # the upgrade that was waited for
            here.machines.installed = {name: [R25.id, R26.id] for name in here.machines.installed}
            with locks.held(*arguments, **options) as lease:
                yield lease

    monkeypatch.setattr(Here, "locks", lambda *_: Waited())
    with pytest.raises(ConfigurationInvalid, match="is an upgrade, not a deploy"):
        here.deploy("local", "25.0.2", lock_wait=300)
    assert set(here.machines.current.values()) == {R26.id}


# --- what is asked of a run under way


@pytest.mark.parametrize(("request_", "error"), [("pause", Inconclusive), ("abort", FleetMixed)])
def test_a_run_that_is_asked_to_stop_finishes_the_host_in_flight_and_says_how_to_go_on(
    here: Here, monkeypatch: pytest.MonkeyPatch, request_: Any, error: type[PipelineError]
) -> None:
    _with_traffic(monkeypatch, GOOD)
    asked: list[Holder] = []
    _meanwhile(here, lambda: asked.append(here.ask_run("local", request_)), host="api-0")
    with pytest.raises(error, match=rf"{request_}e?d by {who()}; done: engine-0, api-0; failed: none; rem") as caught:
        here.upgrade("local", "26.0.2")
    assert caught.value.exit_code == {"pause": 11, "abort": 7}[request_]
    assert "inv rollback local" in caught.value.hint
    assert "the same command again to go on" in caught.value.hint
    assert (_moved(here), asked[0].operation) == (["engine-0", "api-0"], "upgrade")
    assert [record.passed for record in here.store.records("local")] == [False]
    _, plan = here.upgrade("local", "26.0.2")
    assert [state.host.name for state in plan.moves] == ["api-1", "engine-1"]
    assert _moved(here) == ORDER


def test_a_deploy_that_restarts_hosts_can_be_paused_too(here: Here, launched: list[str]) -> None:
    seen = f"current {R25.id}\nvhost {vhost_of(R25)}\ninstalled {R25.id}\nrunning {R25.id}\n"
    for name in ("engine-0", "engine-1"):
        here.remote.on(STATE, f"{seen}stale heat-engine\n", host=name)

    def stop(on: Host, script: str) -> Result:
        here.ask_run("local", "pause")
        return here.machines._act(on, script)

    here.remote.on("^systemctl stop --no-block heat-engine", stop, host="engine-0")
    with pytest.raises(Inconclusive, match="paused by"):
        here.deploy("local", "25.0.2")
    assert here.remote.steps(stop="^systemctl stop --no-block heat-") == ["stop engine-0"]


def test_nothing_can_be_asked_where_no_run_is_under_way(here: Here) -> None:
    with pytest.raises(ConfigurationInvalid, match="no run is under way in local") as caught:
        here.ask_run("local", "pause")
    assert caught.value.hint == "inv status local"
    assert here.runs.asked("local") is None


def test_nothing_can_be_asked_of_a_run_of_another_checkout(here: Here) -> None:
    with here.locks("local").held("local", ADA), pytest.raises(ConfigurationInvalid, match="of another checkout") as it:
        here.ask_run("local", "pause")
    assert it.value.hint == "ask it there: process 4711 of laptop"
    assert here.runs.asked("local") is None


def test_stacks_are_launched_by_a_run_that_may_go_on(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    def launch_all(stacks: Any, launcher: Any, given: Any) -> dict[str, Launched]:
        here.ask_run("local", "abort")
        launcher.gate()
        return {}

    monkeypatch.setattr(regionstacks, "launch_all", launch_all)
    with pytest.raises(FleetMixed, match="aborted by") as caught:
        here.deploy("local", "25.0.2")
    assert caught.value.hint == "type the same command again to go on"


def test_nothing_can_be_asked_of_a_person_who_holds_an_environment(here: Here) -> None:
    here.hold("local", "a disk is being replaced")
    with pytest.raises(ConfigurationInvalid, match="no run is under way in local"):
        here.ask_run("local", "pause")


# --- what a run leaves


def _left(here: Here, name: str) -> Any:
    """Return what the only run left in a file: its values, or its lines."""
    (run,) = here.runs.of("local")
    text = (run.directory / name).read_text("utf-8")
    return json.loads(text) if name.endswith(".json") else [json.loads(line) for line in text.splitlines()]


def test_a_run_leaves_its_plan_events_journal_counts_and_summary(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    _with_traffic(monkeypatch, GOOD)
    here.upgrade("local", "26.0.2")
    assert [batch["hosts"][0]["name"] for batch in _left(here, "plan.json")["batches"]] == ORDER
    assert "begin move engine-0" in [line["said"] for line in _left(here, "events.jsonl")]
    ends = [line for line in _left(here, "journal.jsonl") if line["kind"] == "done"]
    assert [line["host"] for line in ends if line["step"] == "healthy"] == ORDER
    assert _left(here, "counts.json")["stacks"]["completed"] == 45
    summary = _left(here, "summary.json")
    assert (summary["operation"], summary["environment"], summary["by"]) == ("upgrade", "local", who())
    assert (summary["exit_code"], summary["detail"]) == (0, "")
    assert set(summary["timing"]) == {"moves_s", "unavoidable_s", "overhead"}


def test_what_is_said_to_people_is_in_the_runs_events_word_for_word(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    _with_traffic(monkeypatch, GOOD)
    here.upgrade("local", "26.0.2")
    told = said(here.progress)
    for line in _left(here, "events.jsonl"):
        assert line["said"].removeprefix("begin ").removeprefix("end ").split(": ")[0] in told


def test_a_run_that_fails_leaves_its_code_and_why(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    _with_traffic(monkeypatch, GOOD)
    here.remote.on(r"^ln -sfn .*/26", Result(1, "", "no heat.conf"), host="api-1")
    with pytest.raises(FleetMixed):
        here.upgrade("local", "26.0.2")
    summary = _left(here, "summary.json")
    assert (summary["exit_code"], "failed: api-1" in summary["detail"]) == (7, True)
    failed = [line for line in _left(here, "journal.jsonl") if line["kind"] == "failed"]
    assert [(line["step"], line["host"]) for line in failed] == [("start", "api-1")]


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt(), 130), (SystemExit(143), 143)])
def test_a_run_that_is_interrupted_leaves_a_summary(
    here: Here, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int
) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise error

    _with_traffic(monkeypatch, GOOD)
    monkeypatch.setattr(workflow, "roll_out", interrupt)
    with pytest.raises(type(error)):
        here.upgrade("local", "26.0.2")
    assert _left(here, "summary.json")["detail"] == f"ended by {type(error).__name__}"
    assert here.locks("local").status("local") is None


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt(), 130), (SystemExit(143), 143)])
def test_the_summary_of_an_interrupted_run_has_the_code_it_ended_with(
    here: Here, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int
) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise error

    _with_traffic(monkeypatch, GOOD)
    monkeypatch.setattr(workflow, "roll_out", interrupt)
    with pytest.raises(type(error)):
        here.upgrade("local", "26.0.2")
    assert _left(here, "summary.json")["exit_code"] == code


def test_a_deploy_leaves_a_summary_as_well(here: Here, launched: list[str]) -> None:
    here.deploy("local", "25.0.2")
    assert _left(here, "summary.json")["operation"] == "deploy"


# --- status


def test_a_settled_region_has_no_batches_to_come(here: Here) -> None:
    found = {one.host: one for one in here.status("local")}
    assert len(found) == 7
    assert {one.batch for one in found.values()} == {""}
    assert (found["engine-0"].running, found["engine-0"].health) == (R25.id, "2/2 workers")


def test_a_region_in_the_middle_of_an_upgrade_tells_what_is_left_of_it(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    _with_traffic(monkeypatch, GOOD)
    here.remote.on(r"^ln -sfn .*/26", Result(1, "", "no heat.conf"), host="api-1")
    with pytest.raises(FleetMixed):
        here.upgrade("local", "26.0.2")
    batches = {one.host: one.batch for one in here.status("local") if one.batch}
    assert batches == {"api-1": "1", "engine-1": "2"}


def test_looking_at_a_region_changes_nothing_and_leaves_nothing(here: Here) -> None:
    here.status("local")
    assert not here.remote.scripts(r"systemctl (stop --no-block|start) |^ln -sfn|set server")
    assert (here.runs.of("local"), here.store.records("local")) == ((), ())


# --- verify and smoke


def test_checks_are_recorded_for_the_release_that_runs(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workflow, "verify", lambda *_, **__: GREEN)
    assert here.verify("local") is GREEN
    (record,) = here.store.records("local")
    assert (record.operation, record.release_id, record.passed) == ("verify", R25.id, True)
    assert record.counts == {"checks_passed": 1, "checks_failed": 0}


def test_a_look_at_some_hosts_or_checks_is_no_evidence(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(workflow, "verify", lambda *_, selection, **__: asked.append(selection) or GREEN)
    selection = Selection.of(role="engine", expression="clock")
    assert here.verify("local", selection) is GREEN
    assert (asked, here.store.records("local")) == ([selection], ())


def test_hosts_that_are_gone_do_not_keep_the_others_from_being_checked(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workflow, "verify", lambda *_, **__: GREEN)
    here.remote.on(STATE, HostUnreachable("engine-0 is gone"), host="engine-0")
    assert here.verify("local") is GREEN
    here.remote.on(STATE, HostUnreachable("all are gone"))
    with pytest.raises(PreflightUnreachable, match="all are gone"):
        here.verify("local")


@pytest.mark.parametrize("error", [ConfigurationInvalid("no sudo"), CommandFailed("no end within 30 s", status=-1)])
def test_hosts_that_let_nobody_look_do_not_keep_the_others_from_being_checked(
    here: Here, monkeypatch: pytest.MonkeyPatch, error: PipelineError
) -> None:
    monkeypatch.setattr(workflow, "verify", lambda *_, **__: GREEN)
    here.remote.on(STATE, error, host="engine-0")
    assert here.verify("local") is GREEN
    assert next(here.watch("local")) is GREEN


def test_a_watch_looks_again_also_after_a_look_that_could_not_be_had(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends: list[Any] = [GREEN, Inconclusive("the database is away"), GREEN]

    def looked(*_: Any, **__: Any) -> VerifyReport:
        end = ends.pop(0)
        if isinstance(end, Exception):
            raise end
        assert isinstance(end, VerifyReport)
        return end

    monkeypatch.setattr(workflow, "verify", looked)
    watch = here.watch("local")
    assert [str(next(watch)) for _ in range(3)] == [str(GREEN), "the database is away", str(GREEN)]
    assert here.clock.monotonic() == 10
    assert (here.opened, here.store.records("local")) == (["local"], ())


def test_a_watch_of_nothing_ends_at_once(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> VerifyReport:
        raise ConfigurationInvalid("no check fits")

    monkeypatch.setattr(workflow, "verify", refuse)
    with pytest.raises(ConfigurationInvalid, match="no check fits"):
        next(here.watch("local", Selection.of(expression="x")))


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
    monkeypatch.setattr(workflow, "verify", lambda *_, **__: GREEN)
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
    here.remote.on(STATE, "running \n")
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


# --- secrets kept elsewhere

KEPT = {
    "database_password": "kept-elsewhere-database",
    "messaging_password": "kept-elsewhere-messaging",
    "encryption_key": "kept-elsewhere-".ljust(32, "k"),
    "service_password": "kept-elsewhere-service",
    "stack_domain_password": "kept-elsewhere-domain",
    "canary_password": "kept-elsewhere-canary",
}


@pytest.fixture
def keeping(here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Here:
    """Return the pipeline where all secrets of `local` are in variables."""
    shutil.copytree(ROOT / "environments", tmp_path / "environments")
    (tmp_path / "templates").symlink_to(ROOT / "templates")
    with (tmp_path / "environments/local.yaml").open("a") as stream:
        stream.write("secrets:\n" + "".join(f"  {key}: env:{key.upper()}\n" for key in KEPT))
    for key, text in KEPT.items():
        monkeypatch.setenv(key.upper(), text)
    made = Here(replace(here.workspace, root=tmp_path), here.clock, here.progress)
    for name in Here.__annotations__:
        object.__setattr__(made, name, getattr(here, name))
    return made


@pytest.mark.parametrize(
    "run",
    [
        lambda it: it.deploy("local", "25.0.2"),
        lambda it: it.upgrade("local", "26.0.2"),
        lambda it: it.rollback("local", "25.0.2"),
        lambda it: it.plan("local", "26.0.2"),
    ],
    ids=["deploy", "upgrade", "rollback", "plan"],
)
def test_a_secret_that_cannot_be_read_stops_a_run_before_anything_is_done(
    keeping: Here, launched: list[str], monkeypatch: pytest.MonkeyPatch, run: Callable[[Pipeline], object]
) -> None:
    monkeypatch.delenv("CANARY_PASSWORD")
    with pytest.raises(ConfigurationInvalid) as caught:
        run(keeping)
    lines = (keeping.workspace.environments / "local.yaml").read_text().splitlines()
    line = lines.index("  canary_password: env:CANARY_PASSWORD") + 1
    assert f"local.yaml:{line}: secrets.canary_password: env:CANARY_PASSWORD: the var" in caught.value.message
    assert (launched, keeping.remote.ran, keeping.progress.stages) == ([], [], [])
    assert keeping.store.records("local") == ()
    assert not [path for path in (keeping.workspace.runs, keeping.workspace.locks) if path.exists()]


def test_secrets_kept_elsewhere_are_in_nothing_that_a_run_leaves_or_says(
    keeping: Here, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    given: list[dict[str, Any]] = []

    def launch_all(stacks: Any, launcher: Any, values: Any) -> dict[str, Launched]:
        given.append(values)
        return {stack.name: Launched(stack.name, Change.UNCHANGED, {}) for stack in stacks}

    @contextmanager
    def site_of(name: str, *, deploying: bool = False) -> Iterator[Site]:
        secrets = keeping.lookup.region(keeping.environment(name), lambda: pytest.fail("no cloud is needed"))
        made = site(keeping.remote, keeping.environment(name))
        identity = replace(
            made.region.identity,
            **{key: secret for key, secret in secrets.items() if hasattr(made.region.identity, key)},
        )
        shared = {key: secret for key, secret in secrets.items() if hasattr(made.region, key)}
        customer: Any = keeping.customer
        yield replace(
            made,
            region=replace(made.region, identity=identity, **shared),
            progress=keeping.progress,
            customer=customer,
        )

    caplog.set_level("DEBUG")
    monkeypatch.setattr(regionstacks, "launch_all", launch_all)
    object.__setattr__(keeping, "site", site_of)
    _with_traffic(monkeypatch, GOOD)
    keeping.deploy("local", "25.0.2")
    keeping.plan("local", "26.0.2")
    keeping.upgrade("local", "26.0.2")
    keeping.remote.on(r"^ln -sfn .*/25", Result(1, "", "no heat.conf"), host="engine-0")
    with suppress(PipelineError):
        keeping.rollback("local")

    written = "\n".join(script for _, script in keeping.remote.ran)
    assert KEPT["database_password"] in written  # they did reach the hosts, over the connection
    assert str(given[0]["service_password"]) == "***"
    left = {path: path.read_text("utf-8", "replace") for path in keeping.workspace.state.rglob("*") if path.is_file()}
    assert {path.name for path in left} >= {"plan.json", "summary.json", "events.jsonl", "journal.jsonl"}
    said_anywhere = [
        said(keeping.progress),
        *capfd.readouterr(),
        caplog.text,
        repr(keeping),
        repr(given),
        *left.values(),
    ]
    assert not [text for text in said_anywhere for secret in KEPT.values() if secret in text]


def test_a_lock_whose_url_is_a_secret_is_the_one_that_is_held(
    keeping: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (keeping.workspace.environments / "local.yaml").open("a") as stream:
        stream.write("  lock_url: env:LOCK_URL\n")
    monkeypatch.setenv("LOCK_URL", f"file://{tmp_path}/team")
    keeping.hold("local", "disk swap")
    assert list((tmp_path / "team").iterdir())
    assert not keeping.workspace.locks.exists()
