"""Launching stacks, against a Heat in memory that keeps statuses and events as Heat does."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import inf
from typing import Any

import pytest

from pipeline.deploy import Change, Launched, Launcher, deepest_failure, launch_all
from pipeline.edges.clock import FakeClock
from pipeline.edges.heat import HeatRefused
from pipeline.errors import Inconclusive, StackFailed
from pipeline.render import RenderedStack
from pipeline.secrets import Secret
from pipeline.stacks import Event, Resource, Stack

KINDS = ("added", "updated", "replaced", "deleted", "unchanged")
GIVEN = {"ssh_public_key": "ssh-ed25519 AAAA", "identity_url": "http://keystone.test/v3"}


@dataclass
class Kept:
    """One stack as Heat keeps it: `due` is when the action under way ends."""

    id: str
    name: str
    body: Mapping[str, Any]
    status: str = ""
    reason: str = ""
    due: float = inf
    end: str = "COMPLETE"
    events: list[Event] = field(default_factory=list)
    outputs: dict[str, Any] = field(default_factory=dict)

    @property
    def tags(self) -> tuple[str, ...]:
        return tuple(self.body["tags"].split(",")) if self.body.get("tags") else ()


class MemoryHeat:
    """Heat of one project. An action takes `seconds` and ends as `ends` says: {"local-api": ["FAILED", "COMPLETE"]}."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.kept: dict[str, Kept] = {}
        self.seconds: dict[str, float] = {}
        self.ends: dict[str, list[str]] = {}
        self.outputs: dict[str, dict[str, Any]] = {}
        self.failed: tuple[Resource, ...] = ()
        self.done: list[str] = []
        self._lock = threading.RLock()
        self._ids = 0

    def find(self, name: str, *, outputs: bool = True) -> Stack | None:
        with self._lock:
            self._pass_time()
            one = self.kept.get(name)
            if one is None:
                return None
            return Stack(one.id, one.name, one.status, one.reason, "", dict(one.outputs), one.tags)

    def preview(self, name: str, **body: Any) -> tuple[str, ...]:
        self._did("preview", name)
        return ("host",)

    def create(self, name: str, **body: Any) -> str:
        with self._lock:
            if name in self.kept:
                raise HeatRefused(f"The Stack ({name}) already exists.", status=409)
            self._ids += 1
            self.kept[name] = Kept(f"id-{self._ids}", name, body)
            self._begin(self.kept[name], "CREATE")
            return self.kept[name].id

    def preview_update(self, stack_id: str, **body: Any) -> dict[str, tuple[str, ...]]:
        one = self._by_id(stack_id)
        same = all(one.body[key] == body[key] for key in ("template", "files", "environment"))
        return {**dict.fromkeys(KINDS, ()), "unchanged" if same else "updated": ("host",)}

    def update(self, stack_id: str, **body: Any) -> None:
        with self._lock:
            one = self._by_id(stack_id)
            if one.status.endswith("_IN_PROGRESS"):
                raise HeatRefused(f"Stack {one.name} already has an action ({one.status}) in progress.", status=409)
            one.body = body
            self._begin(one, "UPDATE")

    def delete(self, stack_id: str) -> None:
        with self._lock:
            self._begin(self._by_id(stack_id), "DELETE")

    def events(self, stack_id: str, *, depth: int = 3) -> tuple[Event, ...]:
        with self._lock:
            self._pass_time()
            return tuple(self._by_id(stack_id).events)

    def resources(self, stack_id: str, *, depth: int = 3) -> tuple[Resource, ...]:
        return self.failed

    def left_by_an_earlier_run(self, stack: RenderedStack, status: str, *, tag: str = "", due: float = inf) -> Kept:
        """Put a stack there as it was when a run was killed, with the events of all it went through."""
        body = {**_parts(stack), "tags": f"heat-deploys-heat,{tag}"}
        one = self.kept[stack.stack_name] = Kept("id-0", stack.stack_name, body, due=due)
        one.outputs = dict(self.outputs.get(stack.stack_name, {}))
        for past in ("CREATE_IN_PROGRESS", "CREATE_COMPLETE", status):
            self._happens(one, past)
        return one

    def _by_id(self, stack_id: str) -> Kept:
        for one in self.kept.values():
            if one.id == stack_id:
                return one
        raise HeatRefused(f"The Stack ({stack_id}) could not be found.", status=404)

    def _did(self, what: str, name: str) -> None:
        with self._lock:
            self.done.append(f"{what} {name}")

    def _begin(self, one: Kept, action: str) -> None:
        self._did(action.lower(), one.name)
        ends = self.ends.get(one.name, [])
        one.end = ends.pop(0) if ends else "COMPLETE"
        one.due = self.clock.monotonic() + self.seconds.get(one.name, 3)
        self._happens(one, f"{action}_IN_PROGRESS")

    def _pass_time(self) -> None:
        for one in tuple(self.kept.values()):
            if one.due <= self.clock.monotonic():
                one.due = inf
                action = one.status.partition("_")[0]
                if one.end == "COMPLETE" and action == "DELETE":
                    del self.kept[one.name]
                    continue
                if one.end == "COMPLETE":
                    one.outputs = dict(self.outputs.get(one.name, {}))
                self._happens(one, f"{action}_{one.end}", "it says why" if one.end == "FAILED" else "")

    def _happens(self, one: Kept, status: str, reason: str = "") -> None:
        one.status, one.reason = status, reason
        # A resource's own end comes before that of its stack, and is none of the stack's.
        for resource in ("host", one.name):
            number = f"{one.id}-{len(one.events)}"
            one.events.append(Event(number, one.id, resource, status, reason, "2026-01-01T00:00:00Z"))


def _parts(stack: RenderedStack) -> dict[str, Any]:
    return {"template": stack.template, "files": dict(stack.files), "environment": stack.heat_environment()}


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
        Resource("hosts", "OS::Heat::ResourceGroup", "CREATE_FAILED", "resources.hosts: No valid host", "", "s1", 0),
        Resource("server", "OS::Nova::Server", "CREATE_FAILED", "No valid host was found", "", "s3", 2),
        Resource("port", "OS::Neutron::Port", "CREATE_COMPLETE", "", "", "s4", 3),
        Resource("1", "Region::Host", "CREATE_FAILED", "resources.server: No valid host", "", "s2", 1),
    )
    with pytest.raises(StackFailed) as caught:
        launcher.launch(stack("api"), {})
    assert caught.value.message == (
        "stack local-api is CREATE_FAILED: server (OS::Nova::Server): No valid host was found"
    )
    assert caught.value.hint
    assert caught.value.exit_code == 7


def test_a_failure_of_no_resource_is_told_in_the_stacks_own_words(heat: MemoryHeat, launcher: Launcher) -> None:
    heat.ends["local-api"] = ["FAILED"]
    with pytest.raises(StackFailed, match="stack local-api is CREATE_FAILED: it says why"):
        launcher.launch(stack("api"), {})


def test_nothing_is_deepest_where_nothing_failed() -> None:
    assert deepest_failure([Resource("a", "T", "CREATE_COMPLETE", "", "", "s", 4)]) is None


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
