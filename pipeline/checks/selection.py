"""The selection: which hosts are checked, and by which checks."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from pipeline.environment import Role
from pipeline.errors import ConfigurationInvalid
from pipeline.inventory import Host, Inventory

__all__ = ["Selection"]


@dataclass(frozen=True, slots=True)
class Selection:
    """Hosts of `roles` (none: of every role) among those `names` (none: all), by checks that `expression` fits.

    `expression` is what pytest's -k takes: words of a check's id, "check_clock_is_right[local.engine.engine-0]", with
    and, or, not.
    """

    roles: tuple[Role, ...] = ()
    names: tuple[str, ...] = ()
    expression: str = ""

    @classmethod
    def of(cls, role: str = "", limit: str = "", expression: str = "") -> Selection:
        """Return what a person typed: lists with commas. Raises ConfigurationInvalid for a role that there is not."""
        known = [one.value for one in Role]
        roles = _words(role)
        if unknown := [word for word in roles if word not in known]:
            raise ConfigurationInvalid(
                f"there is no role {unknown[0]!r} (there are: {', '.join(known)})", hint="the same with --help"
            )
        return cls(tuple(map(Role, roles)), _words(limit), expression.strip())

    @property
    def everything(self) -> bool:
        """Whether nothing is left out: only then is a region that passes known to be well."""
        return self == Selection()

    def hosts(self, inventory: Inventory) -> tuple[Host, ...]:
        """Return the hosts to check, in the inventory's order; a machine's name stands for all that are on it.

        Raises ConfigurationInvalid for a name that there is not, and where none of those named has one of the roles.
        """
        named = {inventory.host(name).name for name in self.names}  # refuses those there are not
        found = self._of(inventory.hosts, named)
        if inventory.hosts and not found:
            roles = " or ".join(role.value for role in self.roles)
            what = f"none of {', '.join(self.names)} is a host of role {roles}" if self.names else f"no {roles} host"
            raise ConfigurationInvalid(what, hint=f"inv status {inventory.environment}")
        return found

    def absent(self, inventory: Inventory) -> tuple[Host, ...]:
        """Return the hosts that would be checked, had they come up."""
        return self._of(inventory.absent, self.names)

    def _of(self, hosts: Iterable[Host], named: Collection[str]) -> tuple[Host, ...]:
        return tuple(
            host
            for host in hosts
            if (not named or {host.name, host.machine} & {*named}) and (not self.roles or host.role in self.roles)
        )


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())
