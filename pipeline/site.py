"""What every stage on a deployed region works with: its values, and the edges to its hosts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from pipeline.edges.balancer import LoadBalancer
from pipeline.edges.broker import Broker
from pipeline.edges.clock import Clock
from pipeline.edges.database import Database
from pipeline.edges.heat import Heat
from pipeline.edges.members import Members
from pipeline.edges.ssh import Remote, Result
from pipeline.edges.steps import run_step
from pipeline.environment import Environment, Role
from pipeline.errors import HostUnreachable, Unanswered
from pipeline.inventory import Host
from pipeline.progress import Progress
from pipeline.region import Region

__all__ = ["Site"]

T = TypeVar("T")
_AGAIN = 2.0  # seconds until what is away is asked again


@dataclass(frozen=True, slots=True)
class Site:
    """A deployed region and the ways to reach it. `customer` is its Heat as the canary sees it."""

    environment: Environment
    region: Region
    templates: Path
    remote: Remote
    customer: Heat
    clock: Clock
    progress: Progress
    _members: dict[Role, Members] = field(default_factory=dict, init=False, repr=False, compare=False)

    def login(self, host: Host) -> str:
        """Return what to type to log in to `host`."""
        name = self.environment.name
        return f"inv local.ssh {host.name}" + ("" if name == "local" else f" --environment {name}")

    def step(self, host: Host, name: str, script: str, *, timeout: float) -> Result:
        """Run a long script on `host` apart from the connection; see pipeline.edges.steps.run_step."""
        return run_step(self.remote, self.clock, host, name, script, timeout=timeout, report=self.progress.say)

    def insist(self, ask: Callable[[], T]) -> T:
        """Return what `ask` gives; where a host, database, broker or load balancer is away, ask again until it is back.

        For what may be asked, or done, again. Raises HostUnreachable or Unanswered health.healthy_deadline after the
        first time that it was away.
        """
        patience, lost = self.environment.policies.health.healthy_deadline, None
        told = ""
        while True:
            try:
                return ask()
            except (HostUnreachable, Unanswered) as error:
                lost = self.clock.monotonic() if lost is None else lost
                if self.clock.monotonic() - lost >= patience:
                    raise
                if error.message != told:
                    self.progress.say(f"{error.message}: trying again")
                    told = error.message
                self.clock.sleep(_AGAIN)

    @property
    def database(self) -> Database:
        """Heat's database."""
        return Database(self.remote, self._known(Role.DATABASE))

    @property
    def broker(self) -> Broker:
        """Heat's broker."""
        return Broker(self.remote, self._known(Role.MESSAGING))

    @property
    def balancer(self) -> LoadBalancer:
        """The load balancer in front of the APIs."""
        return LoadBalancer(self.remote, self.region.inventory.one(Role.LOADBALANCER), self.clock)

    def _known(self, role: Role) -> Members:
        if role not in self._members:
            self._members[role] = Members(self.region.inventory.of(role))
        return self._members[role]
