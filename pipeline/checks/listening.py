"""Which sockets of a host listen, and which of them should."""

from __future__ import annotations

from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import Any

from pipeline.checks.expectation import answer
from pipeline.checks.questions import SOCKETS
from pipeline.environment import Environment, Role
from pipeline.inventory import Host

__all__ = ["Socket", "exposed", "parse", "role_listens", "sockets"]

# Galera's replication, and whether a member may be written to; Erlang's port mapper, and its nodes.
_AMONG_MEMBERS = {Role.DATABASE: (4567, 9200), Role.MESSAGING: (4369, 25672)}
_DHCP_CLIENT = {("udp", 68), ("udp", 546)}
# LLMNR and multicast DNS: the stock image has them so, and security groups let nobody in. The kernel cuts names at 15.
_RESOLVERS = ("systemd-resolve", "systemd-resolved")
_RESOLVED = {("tcp", 5355), ("udp", 5355), ("udp", 5353)}


@dataclass(frozen=True, slots=True)
class Socket:
    """A socket that listens: "tcp" or "udp", its address ("*" for every one), its port, and the program's name."""

    protocol: str
    address: str
    port: int
    program: str

    @property
    def on_loopback(self) -> bool:
        """Whether only the host itself reaches it."""
        return self.address != "*" and ip_address(self.address).is_loopback

    @property
    def comes_with_the_image(self) -> bool:
        """Whether every host of the stock image has it, whatever its role."""
        port = (self.protocol, self.port)
        return port in _DHCP_CLIENT or (self.program in _RESOLVERS and port in _RESOLVED)


def sockets(host: Any) -> tuple[Socket, ...]:
    """Return the sockets that listen on testinfra's `host`."""
    return parse(answer(host, *SOCKETS))


def parse(listing: str) -> tuple[Socket, ...]:
    """Return the sockets in what `ss -Hlntup` prints."""
    found = []
    for fields in (line.split() for line in listing.splitlines()):
        address, _, port = fields[4].rpartition(":")
        address = address.strip("[]").partition("%")[0].strip("[]")
        everywhere = address in ("*", "0.0.0.0", "::")  # noqa: S104 (compared, never bound)
        program = fields[6].split('"')[1] if len(fields) > 6 and '"' in fields[6] else "?"
        found.append(Socket(fields[0], "*" if everywhere else address, int(port), program))
    return tuple(found)


def role_listens(target: Host, environment: Environment) -> tuple[tuple[str, int], ...]:
    """Return the (address, port) pairs that a host of this role must listen on, ssh left out."""
    web = (environment.heat.api_port, environment.heat.cfn_port)
    broker = environment.messaging_ports
    ports = {Role.DATABASE: (3306,), Role.MESSAGING: broker, Role.API: web, Role.LOADBALANCER: web, Role.ENGINE: ()}
    among = _AMONG_MEMBERS[target.role] if environment.topology.is_cluster(target.role) else ()
    return tuple((target.serves, port) for port in (*ports[target.role], *among))


def exposed(found: tuple[Socket, ...], target: Host, environment: Environment) -> tuple[str, ...]:
    """Return "program on address:port" for those of `found` that others can reach and should not, sorted."""
    roles = environment.topology.beside(target.role)
    allowed = {pair for role in roles for pair in role_listens(replace(target, role=role), environment)}
    own_ssh = {("*", environment.ssh.port), (target.address, environment.ssh.port)}
    wrong = {
        f"{one.program} on {one.address}:{one.port}/{one.protocol}"
        for one in found
        if not one.on_loopback
        and not one.comes_with_the_image
        and (one.protocol != "tcp" or (one.address, one.port) not in allowed | own_ssh)
    }
    return tuple(sorted(wrong))
