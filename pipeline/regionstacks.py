"""A region's stacks: what is rendered for an environment, beside what its cloud has, launched there as planned."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

from pipeline.access import identity_url
from pipeline.changing import Changing
from pipeline.consequences import consequences, hosts_made_anew, losses, require_same_members, require_same_volumes
from pipeline.deploy import Change, Launcher, launch_all
from pipeline.edges.clock import Clock, wait_until
from pipeline.edges.heat import Event, Heat, HeatRefused
from pipeline.edges.refusals import untouched
from pipeline.edges.ssh import generate_key
from pipeline.environment import CONTROL, CONTROLLING, Environment
from pipeline.errors import ConfigurationInvalid
from pipeline.lookup import Lookup
from pipeline.plan import Act, Plan
from pipeline.planning import at_rest, survey
from pipeline.progress import Progress
from pipeline.render import RenderedStack
from pipeline.workspace import Workspace

__all__ = ["RegionStacks"]


@dataclass(frozen=True, slots=True)
class RegionStacks:
    """The stacks of one environment, as `rendered`, in its cloud. `lookup` finds the secrets that they are given."""

    environment: Environment
    rendered: tuple[RenderedStack, ...]
    cloud: Heat
    workspace: Workspace
    lookup: Lookup
    clock: Clock
    progress: Progress

    @property
    def timeouts(self) -> Mapping[str, float]:
        """How many seconds an action on each stack may take."""
        rules, default = self.environment.stacks, self.environment.deadlines.stack
        return {one.name: rules.of(one.name).timeout or default for one in self.rendered}

    def await_rest(self) -> None:
        """Return when no action is under way on any of them. Raises Inconclusive where one does not end in time."""
        at_rest(self.cloud, self.rendered, self.clock, timeout=self.environment.deadlines.stack)

    def survey(self, release: str) -> Plan:
        """Return the plan of launching them, and of bringing hosts up on `release` ("" for not); nothing is changed.

        Raises what pipeline.planning.survey raises; and ConfigurationInvalid where the roles of a region that is there
        would move to other machines, or its clusters or volumes for data get another size.
        """
        key = self.workspace.key(self.environment.name)
        given = self._given() | ({"ssh_public_key": generate_key(key)} if key.exists() else {})
        templates = self.workspace.templates
        plan = survey(self.cloud, self.environment, templates, self.rendered, given, release=release)
        require_same_members(plan)
        require_same_volumes(plan)
        if any(stack.act is Act.CREATE for stack in plan.stacks):
            self.require_same_machines()
        return plan

    def require_same_machines(self) -> None:
        """Refuse to leave stacks behind that the environment no longer has: what they keep would be forgotten.

        Raises ConfigurationInvalid, and what pipeline.edges.refusals.untouched does.
        """
        name = self.environment.name
        others = sorted({CONTROL, *CONTROLLING} - {*self.environment.topology.stacks})
        with untouched():
            left = [one for one in others if self.cloud.find(f"{name}-{one}", outputs=False)]
        if left:
            raise ConfigurationInvalid(
                f"{name}: topology.control is not what the region was deployed with (it has {', '.join(left)})",
                hint="set it back; roles change machines in a new region only",
            )

    def tell(self, plan: Plan) -> None:
        """Say what hosts would lose by a plan, and what else comes of it."""
        for line in (*losses(plan), *chain.from_iterable(consequences(plan).values())):
            self.progress.say(line)

    def launch(self, plan: Plan, run: Changing, allowed: Collection[str]) -> bool:
        """Launch them as planned; return whether anything changed. Each gets tags that name the release and the run.

        Returns once every host that is made anew has signalled. Raises what pipeline.deploy.launch_all and `run.gate`
        raise, and Inconclusive where one does not signal in time.
        """
        with untouched():
            signals = {name: self._signal(*name) for name in hosts_made_anew(plan)}
        key = generate_key(self.workspace.key(self.environment.name))
        launcher = Launcher(
            self.cloud,
            self.clock,
            self.environment.deadlines.stack,
            self.heard,
            rules=self.environment.stacks,
            foreseen=plan.by_name,
            allowed=frozenset(allowed),
            labels=(*([f"release-{plan.release}"] if plan.release else []), f"run-{run.log.id}"),
            gate=run.gate,
        )
        with self.progress.stage("stacks"):
            launched = launch_all(self.rendered, launcher, {"ssh_public_key": key, **self._given()})
            for stack in launched.values():
                self.progress.say(f"{stack.name}: {stack.change}")
            for name, before in signals.items():
                self._await_signal(*name, before)
        return any(stack.change is not Change.UNCHANGED for stack in launched.values())

    def _await_signal(self, stack: str, host: str, before: str) -> None:
        """Return when `host` signals other keys than `before`: its stack is complete with the signal that was there."""
        wait_until(
            lambda: self._signal(stack, host, begun=True) not in ("", before),
            self.clock,
            timeout=self.timeouts[stack],
            what=f"{host}, which was made anew, to signal its SSH keys",
            hint=f"what does the console of {self.environment.name}-{host} say? then the same command again",
        )
        self.progress.say(f"{host}: made anew, and has signalled")

    def _signal(self, stack: str, host: str, *, begun: bool = False) -> str:
        """Return what `host` signalled last, as its stack tells it: "" for nothing.

        Where a launch has `begun`, a Heat that is away meanwhile tells nothing either.
        """
        try:
            found = self.cloud.find(f"{self.environment.name}-{stack}")
        except HeatRefused as refused:
            if not begun or 0 < refused.status < 500:
                raise
            return ""
        hosts = (found.outputs if found else {}).get("hosts") or {}
        return str((hosts.get(host) or {}).get("signal") or "")

    def heard(self, stack: str, event: Event) -> None:
        """Say that an action on a resource of `stack` has ended."""
        if event.status.endswith(("_FAILED", "_COMPLETE")):
            self.progress.say(f"{stack}: {event.resource} {event.status} {event.reason}".rstrip()[:160])

    def _given(self) -> dict[str, Any]:
        """Return what stacks take from no other stack, but for the key, which is made when they are launched."""
        secrets = self.lookup.region(self.environment, lambda: self.cloud)
        return {"identity_url": identity_url(self.cloud), **secrets}
