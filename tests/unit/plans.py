"""A small region to plan: a network, and hosts that take its subnet, on a Heat in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from builders import LOCAL
from memory_heat import MemoryHeat

from pipeline.deploy import Launched, Launcher, launch_all
from pipeline.edges.clock import FakeClock
from pipeline.environment import Environment
from pipeline.plan import Plan
from pipeline.planning import survey
from pipeline.render import RenderedStack
from pipeline.stackrules import StackRules

GIVEN = {"ssh_public_key": "ssh-ed25519 AAAA", "identity_url": "http://keystone.test/v3"}
NETWORK = """\
heat_template_version: 2021-04-16
parameters:
  cidr: {type: string, default: 10.0.0.0/24}
resources:
  net: {type: Region::Network, properties: {cidr: {get_param: cidr}}}
"""
HOSTS = """\
heat_template_version: 2021-04-16
parameters:
  image: {type: string}
  flavor: {type: string, default: small}
  subnet: {type: string}
  secret: {type: string, hidden: true, default: ''}
resources:
  ROLE-0: {type: Region::Host, properties: {image: {get_param: image}, flavor: {get_param: flavor}}}
  ROLE-1: {type: Region::Host, properties: {image: {get_param: image}, key: {get_param: secret}}}
  wait: {type: AWS::CloudFormation::WaitCondition, properties: {name: {get_param: subnet}}}
"""


def network(**parameters: Any) -> RenderedStack:
    """Return the network's stack."""
    return RenderedStack("network", "local-network", NETWORK, {}, {}, parameters, {})


def hosts(role: str = "engine", template: str = "", **parameters: Any) -> RenderedStack:
    """Return the stack of two hosts of a role, with an image and a secret unless others are given."""
    values = {"image": "debian", "secret": "s3cret-value", **parameters}
    text = (template or HOSTS).replace("ROLE", role)
    files, registry = {"host.yaml": "resources: {}\n"}, {"Region::Host": "host.yaml"}
    return RenderedStack(role, f"local-{role}", text, files, registry, values, {"subnet": ("network", "subnet")})


@dataclass
class Small:
    """The region, on a clock that stands still; `stacks` is what is rendered."""

    templates: Path
    stacks: list[RenderedStack] = field(default_factory=lambda: [network(), hosts("database"), hosts("engine")])
    environment: Environment = LOCAL
    given: Mapping[str, Any] = field(default_factory=lambda: GIVEN)

    def __post_init__(self) -> None:
        self.clock = FakeClock()
        self.heat = MemoryHeat(self.clock)
        self.heat.outputs = {"local-network": {"subnet": "s1"}}
        self.heat.outputs |= {f"local-{role}": {"hosts": {}} for role in ("database", "engine")}
        self.heard: list[str] = []

    def plan(self, release: str = "") -> Plan:
        heat: Any = self.heat
        return survey(heat, self.environment, self.templates, self.stacks, self.given, release=release)

    def launch(self, plan: Plan | None = None, **more: Any) -> dict[str, Launched]:
        heat: Any = self.heat
        foreseen = plan.by_name if plan else {}
        rules = self.environment.stacks
        launcher = Launcher(heat, self.clock, 60, self._hear, foreseen=foreseen, rules=rules, **more)
        return launch_all(self.stacks, launcher, self.given)

    def change(self, name: str, **changes: Any) -> None:
        """Render stack `name` otherwise."""
        self.stacks = [replace(one, **changes) if one.name == name else one for one in self.stacks]

    def give(self, name: str, **parameters: Any) -> None:
        """Give stack `name` other parameters; None takes one away."""
        (one,) = (one for one in self.stacks if one.name == name)
        merged = {**one.parameters, **parameters}
        self.change(name, parameters={key: value for key, value in merged.items() if value is not None})

    def rule(self, **rules: Any) -> None:
        """Have other rules for stacks."""
        stacks = StackRules.model_validate(rules)
        self.environment = self.environment.model_copy(update={"stacks": stacks})

    def _hear(self, stack: str, event: Any) -> None:
        self.heard.append(f"{stack} {event.resource} {event.status}")
