"""The inventory: which hosts a region has, where they answer, and the SSH keys they are pinned to."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pipeline.environment import CONTROL, Role
from pipeline.errors import ConfigurationInvalid

__all__ = ["LOOPBACK", "Host", "Inventory", "hosts_of", "machines_of"]

LOOPBACK = "127.0.0.1"
_KEY_TYPES = ("ssh-", "ecdsa-sha2-")  # a line that starts otherwise is a message, and pins nothing


@dataclass(frozen=True, slots=True)
class Host:
    """One machine of the region, or what a role has of it where others share it: then `shared` is the machine's name.

    `name` is role and index ("engine-0"); `host_keys` are OpenSSH public keys.
    """

    name: str
    role: Role
    address: str
    host_keys: tuple[str, ...]
    shared: str = ""

    @property
    def index(self) -> int:
        """Its number among the hosts of its role, from 0."""
        return int(self.name.rpartition("-")[2])

    @property
    def machine(self) -> str:
        """The name of the machine: the host's own, unless it is shared."""
        return self.shared or self.name

    @property
    def serves(self) -> str:
        """The address that the role's service has: an API beside its load balancer leaves it the one of the machine."""
        return LOOPBACK if self.shared and self.role is Role.API else self.address


@dataclass(frozen=True, slots=True)
class Inventory:
    """All hosts of one environment, sorted by role and index.

    `absent` are those that its stacks name and that have not signalled: without their keys nobody may log in to them.
    """

    environment: str
    hosts: tuple[Host, ...]
    absent: tuple[Host, ...] = ()

    def of(self, *roles: Role) -> tuple[Host, ...]:
        """Return the hosts that have one of `roles`, in order."""
        return tuple(host for host in self.hosts if host.role in roles)

    def one(self, role: Role) -> Host:
        """Return the first host of `role`. Raises ConfigurationInvalid where there is none."""
        found = self.of(role)
        if not found:
            raise ConfigurationInvalid(
                f"environment {self.environment} has no {role.value} host",
                hint=f"inv deploy {self.environment} --release R",
            )
        return found[0]

    @property
    def machines(self) -> tuple[Host, ...]:
        """A host for each machine, called as that is."""
        return machines_of(self.hosts)

    def host(self, name: str) -> Host:
        """Return the host or the machine called `name`. Raises ConfigurationInvalid, naming those there are."""
        for host in (*self.hosts, *self.machines):
            if host.name == name:
                return host
        known = ", ".join(host.name for host in self.hosts)
        raise ConfigurationInvalid(
            f"environment {self.environment} has no host {name!r} (there are: {known})",
            hint=f"inv status {self.environment}",
        )


def machines_of(hosts: Iterable[Host]) -> tuple[Host, ...]:
    """Return a host for each machine that `hosts` are on, called as that is, in their order."""
    found: dict[str, Host] = {}
    for host in hosts:
        found.setdefault(host.machine, replace(host, name=host.machine))
    return tuple(found.values())


def hosts_of(role: Role, output: Mapping[str, Mapping[str, Any]]) -> tuple[Host, ...]:
    """Return the hosts that `role` has in a stack's output `hosts`: {name: {address, signal}}, by index.

    `signal` is the data of the host's wait condition: a JSON object {signal id: its public host keys, a line each},
    or null where it did not come to that. A host that signalled no key has none: it could not be told from an impostor.
    """
    hosts = (_host(role, name, facts or {}) for name, facts in output.items())
    return tuple(sorted(hosts, key=lambda host: host.index))


def _host(role: Role, machine: str, facts: Mapping[str, Any]) -> Host:
    kind, _, index = machine.rpartition("-")
    shared = machine if kind == CONTROL else ""
    address = facts.get("address") or ""
    return Host(f"{role.value}-{index}", role, address, _keys(facts.get("signal")) if address else (), shared)


def _keys(signal: str | Mapping[str, str] | None) -> tuple[str, ...]:
    try:
        signals = json.loads(signal) if isinstance(signal, str) else signal
    except ValueError:
        signals = None
    texts = signals.values() if isinstance(signals, Mapping) else ()
    lines = (line.split() for text in texts for line in str(text).splitlines())
    return tuple(" ".join(words[:2]) for words in lines if len(words) >= 2 and words[0].startswith(_KEY_TYPES))
