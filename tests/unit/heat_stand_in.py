"""A Heat in memory for tests of waiting, counting and reporting; what real Heat does, integration tests show."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline import chain
from pipeline.edges.heat import HeatRefused
from pipeline.stacks import Answer, Resource, Service, Stack

ENDPOINTS = {"orchestration": "http://heat.test:8004/v1/project", "cloudformation": "http://heat.test:8000/v1"}
SIGNAL = "http://heat.test:8000/v1/waitcondition/arn?Signature=secret"


@dataclass
class StandInHeat:
    """Every action ends at the second look. `ends` says how: {"CREATE": "CREATE_FAILED"}; "" is never."""

    region: str = "test"
    ends: dict[str, str] = field(default_factory=dict)
    refuse: dict[str, list[HeatRefused]] = field(default_factory=dict)  # method → answers to give first
    answers: dict[str, Answer | HeatRefused] = field(default_factory=dict)  # address prefix → answer of send
    hosts: tuple[str, ...] = ("engine-0", "engine-1")
    stacks: dict[str, dict[str, Any]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def watched(self, observer: object) -> StandInHeat:
        return self

    def hang_up(self) -> None:
        self.asked.append("hang_up")

    def endpoint(self, service_type: str = "orchestration") -> str:
        self._ask("endpoint")
        return ENDPOINTS[service_type]

    def root(self, service_type: str = "orchestration") -> str:
        return ENDPOINTS[service_type].split("/v1")[0] + "/"

    def send(self, method: str, url: str, *, token: bool = False, **more: Any) -> Answer:
        self._ask(f"{method} {url}")
        for prefix, answer in self.answers.items():
            if url.startswith(prefix):
                if isinstance(answer, HeatRefused):
                    raise answer
                return answer
        if method == "PUT":
            for stack in self.stacks.values():
                stack["signalled"] = True
            return Answer(200, "{}")
        if "Action=" in url:
            return Answer(400, "<ErrorResponse><Error><Code>IncompleteSignature</Code></Error></ErrorResponse>")
        if "smoke-asks" in url:
            return Answer(404 if token else 401, "")
        return Answer(300, json.dumps({"versions": [{"id": "v1.0"}]}))

    def create(self, name: str, **body: Any) -> str:
        self._ask("create")
        if name in self.stacks:
            raise HeatRefused(f"The Stack ({name}) already exists.", status=409)
        self.stacks[name] = {"action": "CREATE", "looks": 0, "body": body, "signalled": False}
        return f"id-of-{name}"

    def update(self, stack_id: str, **body: Any) -> None:
        self._ask("update")
        self.stacks[_name(stack_id)].update(action="UPDATE", looks=0, body=body)

    def delete(self, stack_id: str) -> None:
        self._ask("delete")
        if _name(stack_id) in self.stacks:
            self.stacks[_name(stack_id)].update(action="DELETE", looks=0)

    def find(self, name: str, *, outputs: bool = True) -> Stack | None:
        self._ask("find")
        found = self.stacks.get(_name(name))
        if found is None:
            return None
        found["looks"] += 1
        stack = self._stack(_name(name), found)
        if stack.status == "DELETE_COMPLETE":
            del self.stacks[_name(name)]
            return None
        return stack

    def list(self) -> tuple[Stack, ...]:
        self._ask("list")
        for name in tuple(self.stacks):
            if self.stacks[name]["action"] == "DELETE":
                self.find(name)
        return tuple(self._stack(name, found) for name, found in self.stacks.items())

    def preview(self, name: str, **body: Any) -> tuple[str, ...]:
        self._ask("preview")
        return tuple(body["template"]["resources"])

    def resources(self, stack_id: str, *, depth: int = 3) -> tuple[Resource, ...]:
        body = self.stacks.get(_name(stack_id), {}).get("body")
        if body and chain.CONDITION in body["template"]["resources"] and "CREATE" not in self.ends:
            kind = "AWS::CloudFormation::WaitCondition"
            return (Resource(chain.CONDITION, kind, "CREATE_IN_PROGRESS", "", "", "w"),)
        reason = "MessagingTimeout: no answer"
        inner = Resource("part/inner", "OS::Heat::TestResource", "CREATE_COMPLETE", "", "", "nested")
        bad = Resource("left", "OS::Heat::TestResource", "CREATE_FAILED", reason, "", "chain")
        return (bad,) if "CREATE" in self.ends else (inner,)

    def build_info(self) -> Mapping[str, Any]:
        self._ask("build_info")
        return {"api": {"revision": "r1"}, "engine": {"revision": "r2"}}

    def services(self) -> tuple[Service, ...]:
        self._ask("services")
        return tuple(Service(f"id-{host}", host, "up") for host in self.hosts)

    def _ask(self, method: str) -> None:
        self.asked.append(method)
        if self.refuse.get(method):
            raise self.refuse[method].pop(0)

    def _stack(self, name: str, found: dict[str, Any]) -> Stack:
        action, body = found["action"], found["body"]
        waits = "handle" in body["template"]["resources"] and action == "CREATE" and not found["signalled"]
        end = self.ends.get(action, f"{action}_COMPLETE")
        status = f"{action}_IN_PROGRESS" if found["looks"] < 2 or waits or not end else end
        return Stack(f"id-of-{name}", name, status, "it says why", "", _outputs(body))


def _outputs(body: Mapping[str, Any]) -> dict[str, Any]:
    word = body.get("parameters", {}).get("word")
    if "child.yaml" in body.get("files", {}):
        return {"word": body["template"]["resources"]["nested"]["properties"]["word"]}
    if frozenset(body["template"]["resources"]) == chain.RESOURCES:
        return {"secret": "s3", "result": f"{word}-s3.left+{word}-s3.right"}
    return {"url": SIGNAL, "data": json.dumps({"smoke": "signalled"})}


def _name(identity: str) -> str:
    return identity.partition("/")[0].removeprefix("id-of-")
