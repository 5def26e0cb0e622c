"""Listening: what ss prints becomes sockets, and those that others reach and should not are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline import environment
from pipeline.checks.listening import Socket, exposed, parse, role_listens
from pipeline.environment import Role
from pipeline.inventory import Host

LOCAL = environment.load("local", Path(__file__).parents[3] / "environments")
LISTING = """\
udp UNCONN 0 0 127.0.0.54:53 0.0.0.0:* users:(("systemd-resolve",pid=4,fd=1))
tcp LISTEN 0 128 0.0.0.0:22 0.0.0.0:* users:(("sshd",pid=55,fd=3))
tcp LISTEN 0 128 [::]:22 [::]:* users:(("sshd",pid=55,fd=4))
tcp LISTEN 0 80 198.18.1.4:3306 0.0.0.0:* users:(("mariadbd",pid=70,fd=20))
tcp LISTEN 0 128 [::1]:25672 [::]:*
tcp LISTEN 0 128 *:4369 *:* users:(("epmd",pid=9,fd=3))
udp UNCONN 0 0 198.18.1.4%host0:68 0.0.0.0:* users:(("dhclient",pid=9,fd=3))
"""


def _host(role: Role) -> Host:
    return Host(f"{role.value}-0", role, "198.18.1.4", ())


def test_addresses_ports_and_programs_are_read() -> None:
    found = parse(LISTING)
    assert found[1] == Socket("tcp", "*", 22, "sshd")
    assert found[2].address == "*"
    assert found[3] == Socket("tcp", "198.18.1.4", 3306, "mariadbd")
    assert found[4] == Socket("tcp", "::1", 25672, "?")
    assert found[6].address == "198.18.1.4"


def test_loopback_ssh_dhcp_and_the_roles_own_ports_may_be_open() -> None:
    assert exposed(parse(LISTING), _host(Role.DATABASE), LOCAL) == ("epmd on *:4369/tcp",)


def test_another_roles_port_may_not() -> None:
    found = exposed(parse(LISTING), _host(Role.ENGINE), LOCAL)
    assert found == ("epmd on *:4369/tcp", "mariadbd on 198.18.1.4:3306/tcp")


def test_the_roles_port_on_every_address_is_too_much() -> None:
    everywhere = (Socket("tcp", "*", 5672, "beam.smp"),)
    assert exposed(everywhere, _host(Role.MESSAGING), LOCAL) == ("beam.smp on *:5672/tcp",)


@pytest.mark.parametrize("role", Role)
def test_every_role_knows_its_ports(role: Role) -> None:
    assert all(address == "198.18.1.4" for address, _ in role_listens(_host(role), LOCAL))


RESOLVED = """\
udp UNCONN 0 0 0.0.0.0:5355 0.0.0.0:* users:(("systemd-resolve",pid=4,fd=11))
tcp LISTEN 0 4096 0.0.0.0:5355 0.0.0.0:* users:(("systemd-resolve",pid=4,fd=12))
tcp LISTEN 0 4096 [::]:5355 [::]:* users:(("systemd-resolved",pid=4,fd=14))
udp UNCONN 0 0 [::]:5353 [::]:* users:(("systemd-resolve",pid=4,fd=16))
"""


@pytest.mark.parametrize("role", Role)
def test_the_stock_images_resolver_may_be_open_on_its_own_ports(role: Role) -> None:
    assert exposed(parse(RESOLVED), _host(role), LOCAL) == ()


def test_another_program_on_the_resolvers_ports_may_not_nor_the_resolver_on_others() -> None:
    listing = RESOLVED.replace("systemd-resolve", "nc", 1).replace("[::]:5353", "[::]:53")
    assert exposed(parse(listing), _host(Role.ENGINE), LOCAL) == ("nc on *:5355/udp", "systemd-resolve on *:53/udp")


def test_multicast_dns_is_no_matter_of_tcp() -> None:
    found = (Socket("tcp", "*", 5353, "systemd-resolve"),)
    assert exposed(found, _host(Role.ENGINE), LOCAL) == ("systemd-resolve on *:5353/tcp",)
