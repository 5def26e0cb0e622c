"""Scaling a role out and in: which hosts come, and which go."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.environment import Environment, Role
from pipeline.errors import ConfigurationInvalid
from pipeline.fleet import Fleet, HostState

__all__ = ["SCALABLE", "Scaling", "plan_scaling"]

SCALABLE = (Role.ENGINE, Role.API)


@dataclass(frozen=True, slots=True)
class Scaling:
    """What it takes to have `count` hosts of `role`: how many come, and which go. A role's hosts go from the last."""

    role: Role
    count: int
    coming: int
    leaving: tuple[HostState, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the hosts that go."""
        return tuple(state.host.name for state in self.leaving)

    def of(self, environment: Environment) -> Environment:
        """Return `environment` with so many hosts of the role."""
        topology, role = environment.topology, self.role.value
        group = topology.of(self.role).model_copy(update={"count": self.count})
        return environment.model_copy(update={"topology": topology.model_copy(update={role: group})})


def plan_scaling(fleet: Fleet, role: Role, count: int) -> Scaling:
    """Return what it takes to have `count` hosts of `role`, of a `fleet` as it is.

    Raises ConfigurationInvalid for a role that does not scale or shares its machine, and where no host that runs would
    be left.
    """
    if role not in SCALABLE:
        raise ConfigurationInvalid(
            f"role {role} does not scale (those that do: {', '.join(SCALABLE)})", hint="inv scale ENV --role engine"
        )
    states = fleet.of(role)
    if states and states[0].host.shared:
        raise ConfigurationInvalid(
            f"role {role} does not scale: it is on {states[0].host.machine} with others",
            hint="give each role hosts of its own (no topology.control) in a new region",
        )
    staying = tuple(state for state in states if state.host.index < count)
    leaving = tuple(state for state in states if state.host.index >= count)
    if not any(state.running for state in staying):
        raise ConfigurationInvalid(
            f"with {count} hosts of role {role}, none that runs would be left", hint="inv status ENV"
        )
    return Scaling(role, count, count - len(staying), leaving)
