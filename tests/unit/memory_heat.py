"""A Heat in memory that keeps statuses, events and what each stack was sent, and foresees updates, as Heat does."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any

import yaml

from pipeline.edges.clock import FakeClock
from pipeline.edges.heat import HeatRefused
from pipeline.render import RenderedStack
from pipeline.stacks import Content, Event, Kind, Resource, ResourceChange, Stack

ANEW = ("image", "name")  # properties that no resource can change in place


@dataclass
class Kept:
    """One stack as Heat keeps it: `due` is when the action under way ends."""

    id: str
    name: str
    body: Mapping[str, Any]
    before: Mapping[str, Any] | None = None
    status: str = ""
    reason: str = ""
    due: float = inf
    end: str = "COMPLETE"
    events: list[Event] = field(default_factory=list)
    outputs: dict[str, Any] = field(default_factory=dict)
    updated: str = ""

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
        self.legacy = False  # without convergence, a stack that is rolled back never has an event of its failure
        self.nested: dict[str, tuple[ResourceChange, ...]] = {}  # what a preview tells beyond a stack's own resources
        self.done: list[str] = []
        self._lock = threading.RLock()
        self._ids = 0

    def find(self, name: str, *, outputs: bool = True) -> Stack | None:
        with self._lock:
            self._pass_time()
            one = self.kept.get(name.partition("/")[0])
            if one is None:
                return None
            return Stack(one.id, one.name, one.status, one.reason, one.updated, dict(one.outputs), one.tags)

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

    def validate(self, **body: Any) -> Mapping[str, Any]:
        self._did("validate", "")
        return {}

    def preview_update(self, stack_id: str, **body: Any) -> tuple[ResourceChange, ...]:
        one = self._by_id(stack_id)
        found = set(self.nested.get(one.name, ()))
        old, new = _definitions(one.body), _definitions(body)
        failed = {resource.path for resource in self.failed if resource.failed and resource.stack == one.name}
        for name in old.keys() | new.keys():
            was, now = old.get(name), new.get(name)
            kind = Kind.REPLACED if name in failed else _kind(was, now)
            found.add(ResourceChange(name, kind, (now or was or ("", {}))[0]))
        if not old and not new:
            same = all(one.body[key] == body[key] for key in ("template", "files", "environment"))
            found.add(ResourceChange("host", Kind.UNCHANGED if same else Kind.UPDATED, "Region::Host"))
        return tuple(sorted(found))

    def list(self, *, name: Any = ()) -> tuple[Stack, ...]:
        return tuple(found for one in tuple(self.kept) if one in name and (found := self.find(one)))

    def content(self, stack_id: str) -> Content:
        body = self._by_id(stack_id).body
        template = yaml.safe_load(body["template"]) or {}
        hidden = {key for key, one in (template.get("parameters") or {}).items() if one.get("hidden")}
        sent = body["environment"]
        values = {key: "******" if key in hidden else value for key, value in sent["parameters"].items()}
        return Content(template, dict(body["files"]), {**sent, "parameters": values})

    def disable_domain(self, domain_id: str) -> None:
        self.done.append(f"disable {domain_id}")

    def check(self, stack_id: str) -> None:
        with self._lock:
            self._begin(self._by_id(stack_id), "CHECK")

    def update(self, stack_id: str, **body: Any) -> None:
        with self._lock:
            one = self._by_id(stack_id)
            if one.status.endswith("_IN_PROGRESS"):
                raise HeatRefused(f"Stack {one.name} already has an action ({one.status}) in progress.", status=409)
            one.before, one.body = one.body, body
            one.updated = f"{len(one.events)} events later"
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
            if one.id == stack_id.rpartition("/")[2]:
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
                rolled = action in ("CREATE", "UPDATE") and not one.body.get("disable_rollback", True)
                back = one.end == "FAILED" and rolled
                reason = "it says why" if one.end == "FAILED" else ""
                self._happens(one, f"{action}_{one.end}", reason, stack_too=not (back and self.legacy))
                if back:
                    one.body = one.before or one.body
                    self._begin(one, "ROLLBACK")

    def _happens(self, one: Kept, status: str, reason: str = "", *, stack_too: bool = True) -> None:
        one.status, one.reason = status, reason
        # A resource's own end comes before that of its stack, and is none of the stack's.
        for resource in ("host", one.name) if stack_too else ("host",):
            number = f"{one.id}-{len(one.events)}"
            one.events.append(Event(number, one.id, resource, status, reason, "2026-01-01T00:00:00Z"))


def _parts(stack: RenderedStack) -> dict[str, Any]:
    return {"template": stack.template, "files": dict(stack.files), "environment": stack.heat_environment()}


def _definitions(body: Mapping[str, Any]) -> dict[str, tuple[str, Any]]:
    """Return {name: (type, properties)} of a template, with the values of its parameters in place."""
    template = yaml.safe_load(body["template"])
    defaults = {key: one.get("default") for key, one in (template.get("parameters") or {}).items()}
    values = {**defaults, **body["environment"]["parameters"]}
    found = (template.get("resources") or {}).items()
    files = body["files"]
    types = body["environment"]["resource_registry"]
    return {
        name: (one["type"], (dict(_filled(one.get("properties") or {}, values)), files.get(types.get(one["type"]))))
        for name, one in found
    }


def _filled(properties: Mapping[str, Any], values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in properties.items():
        yield key, str(values[value["get_param"]] if isinstance(value, dict) else value)


def _kind(was: Any, now: Any) -> Kind:
    if was is None:
        return Kind.ADDED
    if now is None:
        return Kind.DELETED
    if was == now:
        return Kind.UNCHANGED
    anew = was[0] != now[0] or any(was[1][0].get(key) != now[1][0].get(key) for key in ANEW)
    return Kind.REPLACED if anew else Kind.UPDATED
