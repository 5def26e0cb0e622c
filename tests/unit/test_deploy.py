"""Launching stacks, against a Heat in memory that keeps statuses and events as Heat does."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import replace
from math import inf
from typing import Any

import pytest
from memory_heat import MemoryHeat

from pipeline.deploy import Change, Launched, Launcher, launch_all
from pipeline.edges.clock import FakeClock
from pipeline.edges.heat import HeatRefused
from pipeline.edges.stackwait import failures
from pipeline.errors import (
    ConfigurationInvalid,
    FailedAndReverted,
    Inconclusive,
    OutcomeUnknown,
    PipelineError,
    StackFailed,
)
from pipeline.render import RenderedStack
from pipeline.secrets import Secret
from pipeline.stackrules import StackRules
from pipeline.stacks import Resource

GIVEN = {"ssh_public_key": "ssh-ed25519 AAAA", "identity_url": "http://keystone.test/v3"}


def stack(name: str, template: str = "a: 1", **inputs: str) -> RenderedStack:
    paths = {key: tuple(path.split(".")) for key, path in inputs.items()}
    return RenderedStack(name, f"local-{name}", template, {}, {}, {}, paths)


def tag_of(one: RenderedStack) -> str:
    return f"content-{one.digest(one.parameters)}"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def heat(clock: FakeClock) -> MemoryHeat:
    return MemoryHeat(clock)


@pytest.fixture
def heard() -> list[str]:
    return []


@pytest.fixture
def launcher(heat: MemoryHeat, clock: FakeClock, heard: list[str]) -> Launcher:
    anything: Any = heat
    return Launcher(anything, clock, 60, lambda name, event: heard.append(f"{name} {event.resource} {event.status}"))


# --- one stack


def test_a_stack_that_is_not_there_is_previewed_and_created(heat: MemoryHeat, launcher: Launcher) -> None:
    heat.outputs["local-api"] = {"vip": "198.18.7.10"}
    assert launcher.launch(stack("api"), {}) == Launched("api", Change.CREATED, {"vip": "198.18.7.10"})
    assert heat.done == ["preview local-api", "create local-api"]


def test_a_stack_is_sent_with_its_content_as_a_tag_and_its_deadline(heat: MemoryHeat, launcher: Launcher) -> None:
    one = replace(stack("api"), files={"host.yaml": "b: 2"}, registry={"Region::Host": "host.yaml"})
    launcher.launch(replace(one, parameters={"flavor": "small"}), {})
    body = heat.kept["local-api"].body
    assert body["files"] == {"host.yaml": "b: 2"}
    assert body["environment"] == {
        "resource_registry": {"Region::Host": "host.yaml"},
        "parameters": {"flavor": "small"},
    }
    assert body["tags"].startswith("heat-deploys-heat,content-")
    assert body["timeout_mins"] == 1


def test_the_same_content_again_changes_nothing_and_asks_for_nothing(heat: MemoryHeat, launcher: Launcher) -> None:
    launcher.launch(stack("api"), {})
    heat.done.clear()
    assert launcher.launch(stack("api"), {}).change is Change.UNCHANGED
    assert heat.done == []


def test_other_content_updates(heat: MemoryHeat, launcher: Launcher) -> None:
    launcher.launch(stack("api"), {})
    heat.outputs["local-api"] = {"vip": "198.18.7.11"}
    changed = launcher.launch(stack("api", "a: 2"), {})
    assert (changed.change, changed.outputs) == (Change.UPDATED, {"vip": "198.18.7.11"})
    assert heat.done[-1] == "update local-api"


def test_another_input_is_other_content(heat: MemoryHeat, launcher: Launcher) -> None:
    one = stack("api", subnet="network.subnet")
    launcher.launch(one, {"network": {"subnet": "a"}})
    assert launcher.launch(one, {"network": {"subnet": "a"}}).change is Change.UNCHANGED
    assert launcher.launch(one, {"network": {"subnet": "b"}}).change is Change.UPDATED


def test_an_update_that_touches_no_resource_is_told_as_unchanged(heat: MemoryHeat, launcher: Launcher) -> None:
    heat.left_by_an_earlier_run(stack("api"), "UPDATE_COMPLETE", tag="content-of-an-older-pipeline")
    assert launcher.launch(stack("api"), {}).change is Change.UNCHANGED
    assert tag_of(stack("api")) in heat.kept["local-api"].tags


def test_every_event_of_the_action_is_told_once_and_none_of_an_earlier_one(
    heat: MemoryHeat, launcher: Launcher, heard: list[str]
) -> None:
    heat.left_by_an_earlier_run(stack("api"), "CREATE_COMPLETE")
    launcher.launch(stack("api", "a: 2"), {})
    ends = [f"api {resource} UPDATE_{end}" for end in ("IN_PROGRESS", "COMPLETE") for resource in ("host", "local-api")]
    assert heard == ends


# --- what an earlier run left


@pytest.mark.parametrize("action", ["CREATE", "UPDATE"])
def test_an_action_still_under_way_is_waited_for(heat: MemoryHeat, launcher: Launcher, action: str) -> None:
    one = stack("api")
    heat.left_by_an_earlier_run(one, f"{action}_IN_PROGRESS", tag=tag_of(one), due=20)
    assert launcher.launch(one, {}).change is Change.UNCHANGED
    assert heat.done == []
    assert heat.clock.monotonic() >= 20


def test_an_action_under_way_is_waited_for_before_an_update(heat: MemoryHeat, launcher: Launcher) -> None:
    heat.left_by_an_earlier_run(stack("api"), "UPDATE_IN_PROGRESS", tag="content-other", due=20)
    assert launcher.launch(stack("api", "a: 2"), {}).change is Change.UPDATED


def test_a_creation_under_way_that_fails_is_begun_again(heat: MemoryHeat, launcher: Launcher) -> None:
    heat.left_by_an_earlier_run(stack("api"), "CREATE_IN_PROGRESS", due=20).end = "FAILED"
    assert launcher.launch(stack("api"), {}).change is Change.CREATED
    assert heat.done == ["delete local-api", "preview local-api", "create local-api"]


@pytest.mark.parametrize("status", ["CREATE_FAILED", "DELETE_FAILED"])
def test_what_never_worked_is_deleted_and_created_again(heat: MemoryHeat, launcher: Launcher, status: str) -> None:
    heat.left_by_an_earlier_run(stack("api"), status, tag=tag_of(stack("api")))
    assert launcher.launch(stack("api"), {}).change is Change.CREATED
    assert heat.done == ["delete local-api", "preview local-api", "create local-api"]


def test_what_is_being_deleted_is_created_when_it_is_gone(heat: MemoryHeat, launcher: Launcher) -> None:
    heat.left_by_an_earlier_run(stack("api"), "DELETE_IN_PROGRESS", due=20)
    assert launcher.launch(stack("api"), {}).change is Change.CREATED
    assert heat.done == ["preview local-api", "create local-api"]


def test_what_cannot_be_deleted_is_told(heat: MemoryHeat, launcher: Launcher) -> None:
    heat.left_by_an_earlier_run(stack("api"), "CREATE_FAILED")
    heat.ends["local-api"] = ["FAILED"]
    with pytest.raises(StackFailed, match="stack local-api is DELETE_FAILED: it says why"):
        launcher.launch(stack("api"), {})


def test_a_failed_update_is_updated_and_never_deleted(heat: MemoryHeat, launcher: Launcher) -> None:
    heat.left_by_an_earlier_run(stack("api"), "UPDATE_FAILED", tag=tag_of(stack("api")))
    launcher.launch(stack("api"), {})
    assert heat.done == ["update local-api"]
    assert heat.kept["local-api"].status == "UPDATE_COMPLETE"


# --- the end that is waited for


def test_the_end_of_an_earlier_action_is_not_taken_for_this_ones(heat: MemoryHeat, launcher: Launcher) -> None:
    heat.left_by_an_earlier_run(stack("api"), "UPDATE_COMPLETE")
    heat.ends["local-api"] = ["FAILED"]
    with pytest.raises(StackFailed, match="stack local-api is UPDATE_FAILED"):
        launcher.launch(stack("api", "a: 2"), {})


def test_the_end_of_a_resource_is_not_that_of_its_stack(heat: MemoryHeat, launcher: Launcher) -> None:
    heat.seconds["local-api"] = 30
    launcher.launch(stack("api"), {})
    assert heat.clock.monotonic() >= 30


def test_a_failure_names_the_deepest_resource_with_its_reason(heat: MemoryHeat, launcher: Launcher) -> None:
    heat.ends["local-api"] = ["FAILED"]
    heat.failed = (
        Resource("hosts", "OS::Heat::ResourceGroup", "CREATE_FAILED", "resources.hosts: No valid host", "s2", "s1"),
        Resource("hosts/1/server", "OS::Nova::Server", "CREATE_FAILED", "No valid host was found", "", "s3"),
        Resource("hosts/2/all/port", "OS::Neutron::Port", "CREATE_COMPLETE", "", "", "s4"),
        Resource("hosts/1", "Region::Host", "CREATE_FAILED", "resources.server: No valid host", "s3", "s2"),
    )
    with pytest.raises(StackFailed) as caught:
        launcher.launch(stack("api"), {})
    assert caught.value.message == (
        "stack local-api is CREATE_FAILED: hosts/1/server (OS::Nova::Server): No valid host was found"
    )
    assert caught.value.hint
    assert caught.value.exit_code == 7


def test_a_failure_that_no_resource_keeps_is_told_by_its_event(heat: MemoryHeat, launcher: Launcher) -> None:
    heat.ends["local-api"] = ["FAILED"]
    with pytest.raises(StackFailed, match="stack local-api is CREATE_FAILED: host: it says why"):
        launcher.launch(stack("api"), {})


def test_there_is_no_failure_where_nothing_failed() -> None:
    assert failures([Resource("a/b/c/d", "T", "CREATE_COMPLETE", "", "", "s")]) == ()


def test_a_stack_that_never_ends_is_inconclusive(heat: MemoryHeat, launcher: Launcher) -> None:
    heat.seconds["local-api"] = inf
    with pytest.raises(Inconclusive, match="stack local-api did not end within 60 s") as caught:
        launcher.launch(stack("api"), {})
    assert caught.value.hint == "openstack stack event list local-api"
    assert 60 <= heat.clock.monotonic() < 65


def test_an_action_of_an_earlier_run_that_never_ends_is_inconclusive(heat: MemoryHeat, launcher: Launcher) -> None:
    heat.left_by_an_earlier_run(stack("api"), "UPDATE_IN_PROGRESS")
    with pytest.raises(Inconclusive, match="stack local-api to settle"):
        launcher.launch(stack("api"), {})
    assert heat.done == []


# --- several stacks


def test_outputs_flow_to_the_stacks_that_need_them(heat: MemoryHeat, launcher: Launcher) -> None:
    heat.outputs["local-network"] = {"security_groups": {"api": "sg-1"}}
    api = stack("api", group="network.security_groups.api", key="given.ssh_public_key")
    done = launch_all([api, stack("network")], launcher, GIVEN)
    assert {name: one.change for name, one in done.items()} == {"network": Change.CREATED, "api": Change.CREATED}
    assert heat.kept["local-api"].body["environment"]["parameters"] == {"group": "sg-1", "key": "ssh-ed25519 AAAA"}
    assert heat.done.index("create local-network") < heat.done.index("preview local-api")


def test_an_output_that_is_missing_is_named(heat: MemoryHeat, launcher: Launcher) -> None:
    heat.outputs["local-network"] = {"subnet": "s"}
    with pytest.raises(StackFailed, match=r"stack network has no output security_groups\.api"):
        launch_all([stack("network"), stack("api", group="network.security_groups.api")], launcher, GIVEN)
    assert "local-api" not in heat.kept


def test_stacks_that_do_not_need_each_other_are_launched_side_by_side(heat: MemoryHeat, launcher: Launcher) -> None:
    both = threading.Barrier(2, timeout=5)  # passed only if the second comes while the first is here
    preview = heat.preview

    def together(name: str, **body: Any) -> tuple[str, ...]:
        both.wait()
        return preview(name, **body)

    heat.preview = together  # type: ignore[method-assign]
    assert set(launch_all([stack("database"), stack("messaging")], launcher, GIVEN)) == {"database", "messaging"}


def test_after_a_failure_what_is_under_way_ends_and_nothing_else_begins(
    heat: MemoryHeat, launcher: Launcher, clock: FakeClock
) -> None:
    heat.ends["local-bad"] = ["FAILED"]
    heat.seconds["local-slow"] = inf
    read = heat.resources

    def failure_is_read(stack_id: str, *, depth: int = 3) -> tuple[Resource, ...]:
        heat.kept["local-slow"].due = clock.monotonic()  # the slow one ends after the bad one failed
        return read(stack_id)

    heat.resources = failure_is_read  # type: ignore[method-assign]
    waits: Any = replace(launcher, timeout=1e9)
    with pytest.raises(StackFailed, match="local-bad is CREATE_FAILED"):
        launch_all([stack("bad"), stack("slow"), stack("later", x="slow.y")], _once_all_began(waits, heat), GIVEN)
    assert heat.kept["local-slow"].status == "CREATE_COMPLETE"
    assert "local-later" not in heat.kept


def _once_all_began(launcher: Launcher, heat: MemoryHeat) -> Launcher:
    """Return a launcher whose waits begin when both stacks were created: no thread runs ahead of the other."""
    both, create = threading.Barrier(2, timeout=5), heat.create

    def together(name: str, **body: Any) -> str:
        made = create(name, **body)
        both.wait()
        return made

    heat.create = together  # type: ignore[method-assign]
    return launcher


def test_what_a_failed_run_left_is_finished_by_the_next(heat: MemoryHeat, launcher: Launcher) -> None:
    heat.ends["local-api"] = ["FAILED"]
    stacks = [stack("network"), stack("api", key="given.ssh_public_key", net="network.net")]
    heat.outputs["local-network"] = {"net": "n"}
    with pytest.raises(StackFailed):
        launch_all(stacks, launcher, GIVEN)
    done = launch_all(stacks, launcher, GIVEN)
    assert {name: one.change for name, one in done.items()} == {"network": Change.UNCHANGED, "api": Change.CREATED}
    assert {one.change for one in launch_all(stacks, launcher, GIVEN).values()} == {Change.UNCHANGED}


def test_no_stack_is_no_work(launcher: Launcher) -> None:
    assert launch_all([], launcher, GIVEN) == {}


# --- secrets


def test_a_secret_is_revealed_to_heat_alone_and_its_tag_does_not_hold_it(heat: MemoryHeat, launcher: Launcher) -> None:
    text = "s3cret-service"
    one = stack("identity", service_password="given.service_password")
    launch_all([one], launcher, {"service_password": Secret(text)})
    body = heat.kept["local-identity"].body
    assert body["environment"]["parameters"] == {"service_password": text}
    assert text not in body["tags"]
    assert hashlib.sha256(text.encode()).hexdigest()[:16] not in body["tags"]


def test_a_secret_that_stays_changes_nothing_and_another_updates(heat: MemoryHeat, launcher: Launcher) -> None:
    one = stack("identity", service_password="given.service_password")
    changes = [
        launch_all([one], launcher, {"service_password": Secret(text)})["identity"].change for text in ("a", "a", "b")
    ]
    assert changes == [Change.CREATED, Change.UNCHANGED, Change.UPDATED]


# --- what becomes of a failure


def _ruled(launcher: Launcher, **rules: Any) -> Launcher:
    return replace(launcher, rules=StackRules.model_validate(rules))


@pytest.fixture
def back(launcher: Launcher) -> Launcher:
    return _ruled(launcher, on_failure="rollback")


def test_heat_is_told_whether_to_roll_back(heat: MemoryHeat, launcher: Launcher, back: Launcher) -> None:
    launcher.launch(stack("api"), {})
    back.launch(stack("engine"), {})
    assert [heat.kept[name].body["disable_rollback"] for name in ("local-api", "local-engine")] == [True, False]


@pytest.mark.parametrize("legacy", [False, True])
def test_a_new_stack_that_failed_is_rolled_back_and_deleted(heat: MemoryHeat, back: Launcher, legacy: bool) -> None:
    heat.ends["local-api"], heat.legacy = ["FAILED"], legacy
    status = "ROLLBACK_COMPLETE" if legacy else "CREATE_FAILED"
    with pytest.raises(FailedAndReverted, match=f"local-api is {status}: host: it says why; it is deleted") as caught:
        launch_all([stack("api")], back, GIVEN)
    assert caught.value.exit_code == 8
    assert heat.kept == {}


@pytest.mark.parametrize("legacy", [False, True])
def test_an_update_that_failed_goes_back_and_is_done_again_by_the_next_run(
    heat: MemoryHeat, back: Launcher, legacy: bool
) -> None:
    heat.outputs["local-api"] = {"vip": "198.18.7.10"}
    back.launch(stack("api"), {})
    heat.ends["local-api"], heat.legacy = ["FAILED"], legacy
    with pytest.raises(FailedAndReverted, match=r"local-api is \w+: host: it says why; it was rolled back"):
        back.launch(stack("api", "a: 2"), {})
    assert (heat.kept["local-api"].status, heat.kept["local-api"].body["template"]) == ("ROLLBACK_COMPLETE", "a: 1")
    assert back.launch(stack("api", "a: 2"), {}).change is Change.UPDATED


def test_the_tag_of_a_stack_that_was_rolled_back_proves_nothing(heat: MemoryHeat, launcher: Launcher) -> None:
    heat.outputs["local-api"] = {"vip": "198.18.7.10"}
    heat.left_by_an_earlier_run(stack("api"), "ROLLBACK_COMPLETE", tag=tag_of(stack("api")))
    launcher.launch(stack("api"), {})
    assert heat.done == ["update local-api"]


@pytest.mark.parametrize("status", ["ROLLBACK_COMPLETE", "ROLLBACK_FAILED"])
def test_a_creation_that_was_rolled_back_by_a_killed_run_is_made_anew(
    heat: MemoryHeat, launcher: Launcher, status: str
) -> None:
    heat.left_by_an_earlier_run(stack("api"), status, tag=tag_of(stack("api")))
    assert launcher.launch(stack("api"), {}).change is Change.CREATED
    assert heat.done == ["delete local-api", "preview local-api", "create local-api"]


def test_a_rollback_that_fails_as_well_is_told(heat: MemoryHeat, back: Launcher) -> None:
    heat.ends["local-api"] = ["FAILED", "FAILED"]
    with pytest.raises(StackFailed, match="and it could not be rolled back: it says why"):
        launch_all([stack("api")], back, GIVEN)


@pytest.mark.parametrize(("status", "told"), [(500, FailedAndReverted), (0, FailedAndReverted), (403, OutcomeUnknown)])
def test_a_heat_that_errs_while_a_stack_goes_back_is_asked_again(
    heat: MemoryHeat, back: Launcher, monkeypatch: pytest.MonkeyPatch, status: int, told: type[PipelineError]
) -> None:
    heat.ends["local-api"], find, errs = ["FAILED"], heat.find, [True]

    def once(name: str, **more: Any) -> Any:
        if "local-api" in heat.kept and more.get("outputs", True) and errs:
            errs.clear()
            raise HeatRefused("asking for it", status=status)
        return find(name, **more)

    monkeypatch.setattr(heat, "find", once)
    with pytest.raises(told):
        launch_all([stack("api")], back, GIVEN)
    assert not errs


def test_what_else_was_changed_stays_and_is_named(heat: MemoryHeat, back: Launcher) -> None:
    heat.outputs["local-network"] = {"net": "n"}
    heat.ends["local-api"] = ["FAILED"]
    with pytest.raises(StackFailed, match="it is deleted again; changed by this run, and kept: network") as caught:
        launch_all([stack("network"), stack("api", net="network.net")], back, GIVEN)
    assert caught.value.exit_code == 7


def test_every_failed_resource_is_named_and_none_that_repeats_another(heat: MemoryHeat, launcher: Launcher) -> None:
    heat.ends["local-api"] = ["FAILED"]
    hosts = [
        Resource(f"api-{n}", "Region::Host", "CREATE_FAILED", "resources.server: quota", f"s{n}", "s") for n in (1, 2)
    ]
    kind = "OS::Nova::Server"
    servers = [Resource(f"api-{n}/server", kind, "CREATE_FAILED", f"Quota {n}", "", f"s{n}") for n in (1, 2)]
    heat.failed = (*hosts, *servers)
    with pytest.raises(StackFailed) as caught:
        launcher.launch(stack("api"), {})
    assert caught.value.message.endswith(f": api-1/server ({kind}): Quota 1; api-2/server ({kind}): Quota 2")


def test_of_many_failures_a_few_are_named_and_the_others_counted(heat: MemoryHeat, launcher: Launcher) -> None:
    heat.ends["local-api"] = ["FAILED"]
    heat.failed = tuple(Resource(f"r{n}", "T", "CREATE_FAILED", "no", "", "s") for n in range(9))
    with pytest.raises(StackFailed, match=r"r4 \(T\): no; and 4 more"):
        launcher.launch(stack("api"), {})


def test_all_that_failed_side_by_side_are_told(heat: MemoryHeat, launcher: Launcher) -> None:
    heat.ends = {"local-a": ["FAILED"], "local-b": ["FAILED"]}
    with pytest.raises(StackFailed) as caught:
        launch_all([stack("a"), stack("b")], _once_all_began(launcher, heat), GIVEN)
    assert {f"stack local-{name} is CREATE_FAILED" in caught.value.message for name in "ab"} == {True}


# --- rules and tags


def test_a_stack_may_have_more_time_than_the_others(heat: MemoryHeat, launcher: Launcher) -> None:
    ruled = _ruled(launcher, each={"api": {"timeout": "5m"}})
    heat.seconds = {"local-api": 200, "local-engine": 200}
    ruled.launch(stack("api"), {})
    assert heat.kept["local-api"].body["timeout_mins"] == 5
    with pytest.raises(Inconclusive):
        ruled.launch(stack("engine"), {})


def test_tags_name_release_and_run_and_are_no_reason_to_update(heat: MemoryHeat, launcher: Launcher) -> None:
    first = replace(launcher, labels=("release-26.0.2-abc", "run-1"))
    first.launch(stack("api"), {})
    assert heat.kept["local-api"].tags == (
        "heat-deploys-heat", tag_of(stack("api")), "release-26.0.2-abc", "run-1",
    )  # fmt: skip
    assert replace(launcher, labels=("run-2",)).launch(stack("api"), {}).change is Change.UNCHANGED
    assert heat.kept["local-api"].tags[-1] == "run-1"


# --- a cloud that goes away


def _refusing(heat: MemoryHeat, method: str, *refusals: HeatRefused) -> None:
    """Have `method` answer with `refusals` first."""
    left, real = list(refusals), getattr(heat, method)

    def answer(*arguments: Any, **body: Any) -> Any:
        if left:
            raise left.pop(0)
        return real(*arguments, **body)

    setattr(heat, method, answer)


def test_a_heat_that_is_away_while_it_works_is_asked_again(heat: MemoryHeat, launcher: Launcher) -> None:
    _refusing(heat, "events", HeatRefused("refused"), HeatRefused("Internal Server Error", status=500))
    assert launcher.launch(stack("api"), {}).change is Change.CREATED


def test_a_heat_that_stays_away_is_inconclusive_and_says_why(heat: MemoryHeat, launcher: Launcher) -> None:
    _refusing(heat, "events", *[HeatRefused("Connection refused")] * 99)
    with pytest.raises(Inconclusive, match="did not end within 60 s: Connection refused"):
        launcher.launch(stack("api"), {})


@pytest.mark.parametrize("status", [0, 500, 504])
def test_a_stack_that_may_have_begun_is_an_unknown_outcome(heat: MemoryHeat, launcher: Launcher, status: int) -> None:
    _refusing(heat, "create", HeatRefused("creating stack local-api: no answer in time", status=status))
    with pytest.raises(OutcomeUnknown, match="whether it began is not known") as caught:
        launch_all([stack("api")], launcher, GIVEN)
    assert caught.value.exit_code == 12


def test_a_quota_is_told_before_anything_is_touched(heat: MemoryHeat, launcher: Launcher) -> None:
    quota = HeatRefused("You have reached the maximum stacks per tenant, 512.", status=403)
    _refusing(heat, "create", quota)
    with pytest.raises(ConfigurationInvalid, match="maximum stacks per tenant") as caught:
        launch_all([stack("api")], launcher, GIVEN)
    assert "quota" in caught.value.hint
    assert heat.kept == {}


def test_a_quota_half_way_names_what_was_done(heat: MemoryHeat, launcher: Launcher) -> None:
    heat.outputs["local-network"] = {"net": "n"}
    create = heat.create

    def full(name: str, **body: Any) -> str:
        if name == "local-api":
            raise HeatRefused("You have reached the maximum stacks per tenant, 1.", status=403)
        return create(name, **body)

    heat.create = full  # type: ignore[method-assign]
    with pytest.raises(StackFailed, match=r"per tenant, 1\.; changed by this run, and kept: network"):
        launch_all([stack("network"), stack("api", net="network.net")], launcher, GIVEN)


def test_a_stack_that_vanishes_while_it_is_made_is_a_failure(heat: MemoryHeat, launcher: Launcher) -> None:
    _refusing(heat, "events", HeatRefused("not found", status=404))
    with pytest.raises(StackFailed, match="stack local-api is GONE"):
        launcher.launch(stack("api"), {})


# --- whether the run may go on


@pytest.mark.parametrize("status", ["", "CREATE_FAILED", "CREATE_COMPLETE"])
def test_a_run_that_may_not_go_on_changes_no_stack(heat: MemoryHeat, launcher: Launcher, status: str) -> None:
    if status:
        heat.left_by_an_earlier_run(stack("api"), status)

    def gate() -> None:
        raise Inconclusive("paused by ada")

    with pytest.raises(Inconclusive, match="paused by ada"):
        replace(launcher, gate=gate).launch(stack("api", "a: 2"), {})
    assert [done for done in heat.done if not done.startswith("preview")] == []


def test_a_stack_that_never_worked_is_deleted_though_it_made_a_domain(heat: MemoryHeat, launcher: Launcher) -> None:
    heat.left_by_an_earlier_run(stack("identity"), "CREATE_FAILED")
    heat.failed = (Resource("stack-domain", "OS::Keystone::Domain", "CREATE_COMPLETE", "", "d1", "s"),)
    launcher.launch(stack("identity"), {})
    assert heat.done == ["disable d1", "delete local-identity", "preview local-identity", "create local-identity"]
