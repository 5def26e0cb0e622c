"""Plans, drift, rollback and destroying for real: what Heat foresees, what it does, and that nothing else is done."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pipeline.access import cloud_of
from pipeline.consequences import consequences, hosts_leaving
from pipeline.demo import Proof
from pipeline.deploy import Launcher
from pipeline.edges.clock import wait_until
from pipeline.edges.heat import Heat
from pipeline.environment import Environment
from pipeline.errors import FailedAndReverted, PlanStale, ProtectedRefused
from pipeline.localcloud import status
from pipeline.plan import Act, Plan, from_json, to_json
from pipeline.render import RenderedStack
from pipeline.stackrules import StackRules
from pipeline.stacks import Kind
from pipeline.workflow import Pipeline
from tests.integration.conftest import NEW

FAILS = """\
heat_template_version: 2021-04-16
parameters:
  fails: {type: boolean, default: false}
  word: {type: string, default: one}
resources:
  left: {type: OS::Heat::TestResource, properties: {value: {get_param: word}, fail: {get_param: fails}}}
outputs:
  word: {value: {get_attr: [left, output]}}
"""


@dataclass(frozen=True, slots=True)
class Changed(Pipeline):
    """The pipeline, with another environment behind the name."""

    change: Callable[[Environment], Environment] = lambda found: found

    def environment(self, name: str) -> Environment:
        return self.change(Pipeline.environment(self, name))


def _with(pipeline: Pipeline, change: Callable[[Environment], Environment]) -> Changed:
    return Changed(pipeline.workspace, pipeline.clock, pipeline.progress, change)


def _engines(count: int) -> Callable[[Environment], Environment]:
    def change(found: Environment) -> Environment:
        engine = found.topology.engine.model_copy(update={"count": count})
        return found.model_copy(update={"topology": found.topology.model_copy(update={"engine": engine})})

    return change


def _flavor(found: Environment) -> Environment:
    engine = found.topology.engine.model_copy(update={"flavor": "other"})
    return found.model_copy(update={"topology": found.topology.model_copy(update={"engine": engine})})


def _other_user(found: Environment) -> Environment:
    """Another name to log in by: other user data, and so other machines."""
    return found.model_copy(update={"ssh": found.ssh.model_copy(update={"user": "other"})})


def _changes(plan: Plan, stack: str) -> dict[str, Kind]:
    return {one.path: one.kind for one in plan.by_name[stack].changes}


@pytest.fixture
def seed(story: Proof, pipeline: Pipeline) -> Heat:
    return cloud_of(pipeline.workspace, pipeline.environment("local"))


def test_a_plan_of_a_region_as_it_should_be_is_empty(story: Proof, pipeline: Pipeline) -> None:
    plan = pipeline.plan_stacks("local")
    assert plan.empty, to_json(plan)
    assert {len(stack.resources) > 0 for stack in plan.stacks} == {True}


def test_a_plan_names_what_is_nested_in_hosts_and_what_is_lost_with_it(story: Proof, pipeline: Pipeline) -> None:
    plan = _with(pipeline, _other_user).plan_stacks("local")  # of a release, hosts would be asked as that user
    assert _changes(plan, "engine")["engine-1/machine"] is Kind.REPLACED
    assert _changes(plan, "database")["database-0/machine"] is Kind.REPLACED
    assert "engine-1: its server is made anew: it is not drained first" in consequences(plan)["engine"][1]
    with pytest.raises(ProtectedRefused, match="database-0"):
        plan.require(())


def test_no_secret_of_the_region_is_in_a_plan(story: Proof, pipeline: Pipeline) -> None:
    with pipeline.site("local") as site:
        secrets = site.region.secrets
    text = to_json(_with(pipeline, _other_user).plan_stacks("local"))
    assert not [secret for secret in secrets if secret in text]


def test_what_was_planned_is_applied_and_the_same_plan_is_stale_afterwards(story: Proof, pipeline: Pipeline) -> None:
    other = _with(pipeline, _flavor)
    plan = from_json(to_json(other.plan_stacks("local")), "file")
    assert [stack.name for stack in plan.stacks if stack.act is not Act.NONE] == ["engine"]
    assert Kind.REPLACED not in _changes(plan, "engine").values()
    assert other.apply(plan) is True
    assert other.plan_stacks("local").empty
    with pytest.raises(PlanStale, match="local-engine was changed since"):
        other.apply(plan)
    assert pipeline.apply(pipeline.plan_stacks("local")) is True
    assert pipeline.plan_stacks("local").empty


@contextmanager
def _unhealthy(seed: Heat, host: str) -> Iterator[None]:
    """Have an engine's machine marked unhealthy, as an operator does it; taken back where it was not replaced."""
    found = next(one for one in seed.resources("local-engine") if one.path == f"{host}/machine")
    nested = seed.find(found.stack)
    assert nested is not None

    def mark(unhealthy: bool) -> int:
        url = f"{seed.endpoint()}/stacks/{nested.identity}/resources/machine"
        body = json.dumps({"mark_unhealthy": unhealthy, "resource_status_reason": "it smokes"}).encode()
        return seed.send("PATCH", url, body=body, token=True, headers={"Content-Type": "application/json"}).status

    assert mark(True) == 200
    try:
        yield
    finally:
        mark(False)


def test_a_machine_that_was_marked_unhealthy_is_replaced_and_no_other(
    story: Proof, pipeline: Pipeline, seed: Heat
) -> None:
    with _unhealthy(seed, "engine-1"):
        stack = seed.find("local-engine")
        assert stack is not None
        assert stack.complete
        plan = pipeline.plan_stacks("local", NEW)
        assert [one.name for one in plan.stacks if one.act is not Act.NONE] == ["engine"]
        assert _changes(plan, "engine") == {"engine-1": Kind.UPDATED, "engine-1/machine": Kind.REPLACED}
        assert hosts_leaving(plan) == ("engine-1",)
    assert pipeline.plan_stacks("local").empty


@pytest.mark.long
def test_a_deploy_replaces_a_machine_that_was_marked_unhealthy_drained(
    story: Proof, pipeline: Pipeline, seed: Heat
) -> None:
    with _unhealthy(seed, "engine-1"):
        assert pipeline.deploy("local", NEW) is True
        journal = (pipeline.runs.of("local")[-1].directory / "journal.jsonl").read_text()
        assert '"drained"' in journal
        assert '"engine-0"' not in "".join(line for line in journal.splitlines() if '"drained"' in line)
    assert pipeline.deploy("local", NEW) is False
    assert pipeline.verify("local").ok


@pytest.mark.long
def test_an_engine_goes_drained_and_comes_back_on_the_release(story: Proof, pipeline: Pipeline) -> None:
    fewer = _with(pipeline, _engines(1))
    plan = fewer.plan_stacks("local", NEW)
    assert _changes(plan, "engine")["engine-1"] is Kind.DELETED
    fewer.apply(plan)
    journal = (pipeline.runs.of("local")[-1].directory / "journal.jsonl").read_text()
    assert '"drained"' in journal
    assert fewer.plan_stacks("local").empty
    back = pipeline.plan_stacks("local")  # with a release it would ask hosts that are not there
    assert _changes(back, "engine")["engine-1"] is Kind.ADDED
    pipeline.apply(back)
    assert pipeline.deploy("local", NEW) is True
    assert pipeline.deploy("local", NEW) is False
    assert pipeline.verify("local").ok


def _is_off(pipeline: Pipeline, machine: str) -> bool:
    return {one.name: one.state for one in status(pipeline.workspace.cloud).hosts}[machine] == "stopped"


@pytest.mark.long
def test_drift_of_a_machine_and_of_a_file_is_found_and_mended(story: Proof, pipeline: Pipeline) -> None:
    assert pipeline.drift("local").found == 0
    with pipeline.site("local") as site:
        host = site.region.inventory.host("api-1")
        site.remote.run(host, "echo '# by hand' >>/etc/systemd/system/heat-api.service")
        engine = site.region.inventory.host("engine-1")
        site.remote.run(engine, "systemctl poweroff --no-block", check=False)
    wait_until(lambda: _is_off(pipeline, "local-engine-1"), pipeline.clock, timeout=120, what="engine-1 to be off")
    found = pipeline.drift("local")
    assert {one.stack: one.status for one in found.stacks if one.found} == {"local-engine": "CHECK_FAILED"}
    assert any("Local::Machine" in text for one in found.stacks for text in one.changed)
    assert "api-1" in {one.host for one in found.hosts}
    plan = pipeline.plan_stacks("local")
    assert {path.partition("/")[0] for path in _changes(plan, "engine")} == {"engine-1"}
    assert Kind.REPLACED in _changes(plan, "engine").values()
    pipeline.apply(plan)
    assert pipeline.deploy("local", NEW) is True
    assert pipeline.drift("local").found == 0
    assert pipeline.deploy("local", NEW) is False


@contextmanager
def _launcher(pipeline: Pipeline, heat: Heat, name: str) -> Iterator[Launcher]:
    rules = StackRules.model_validate({"on_failure": "rollback"})
    try:
        yield Launcher(heat, pipeline.clock, 60, lambda *_: None, rules=rules)
    finally:
        if found := heat.find(name):
            heat.delete(found.id)


def _stack(name: str, **parameters: Any) -> RenderedStack:
    return RenderedStack(name, f"rollback-{name}", FAILS, {}, {}, parameters, {})


def test_a_new_stack_that_fails_is_rolled_back_by_heat_and_gone(seed: Heat, pipeline: Pipeline) -> None:
    with _launcher(pipeline, seed, "rollback-new") as launcher:
        with pytest.raises(FailedAndReverted, match=r"left \(OS::Heat::TestResource\)|left: "):
            launcher.launch(_stack("new", fails=True), {})
        assert seed.find("rollback-new") is None


def test_an_update_that_fails_is_rolled_back_by_heat_and_works_as_before(seed: Heat, pipeline: Pipeline) -> None:
    with _launcher(pipeline, seed, "rollback-old") as launcher:
        launcher.launch(_stack("old"), {})
        with pytest.raises(FailedAndReverted, match="it was rolled back"):
            launcher.launch(_stack("old", fails=True, word="two"), {})
        found = seed.find("rollback-old")
        assert found is not None
        assert (found.status, found.outputs["word"]) == ("ROLLBACK_COMPLETE", "one")


@pytest.mark.long
def test_a_second_region_is_launched_by_a_plan_and_destroyed_in_reverse(
    story: Proof, pipeline: Pipeline, tmp_path: Path
) -> None:
    name = "local-production"
    assert not pipeline.workspace.key(name).exists(), "tests that keep that region come after this one"
    plan = pipeline.plan_stacks(name)
    assert {stack.act for stack in plan.stacks} == {Act.CREATE}
    pipeline.apply(plan)
    assert pipeline.plan_stacks(name).empty
    with pytest.raises(ProtectedRefused):
        pipeline.destroy(name)
    assert pipeline.destroy(name, allowed=("network", "identity", "database", "messaging")) is True
    assert pipeline.destroy(name) is False
    assert {stack.act for stack in pipeline.plan_stacks(name).stacks} == {Act.CREATE}
