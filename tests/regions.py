"""Regions for tests of templates, with all that the openstack provider offers."""

from __future__ import annotations

from pathlib import Path

from pipeline.environment import Environment, Role, load

__all__ = ["EVERY_WAY", "openstack_region", "small_region"]

_ENVIRONMENTS = Path(__file__).parents[1] / "environments"
_ROUTED = {
    "external_network": "public",
    "cidr": "198.18.0.0/24",
    "operator_cidr": "198.18.1.0/24",
    "dns": ["198.18.2.1"],
}
_SIZE = {"flavor": "m1.small", "image": "debian-12"}
EVERY_WAY = (
    {"endpoints": "none"},
    {"endpoints": "octavia"},
    {**_ROUTED, "endpoints": "floating_ip"},
    {**_ROUTED, "endpoints": "octavia"},
    {**_ROUTED, "endpoints": "none"},
)
"""Networks of regions: without a way out and with one, and what customers may reach them at."""


def openstack_region(**network: object) -> Environment:
    """Return a region with all that hosts may have: zones, volumes to boot from and for data, hosts kept apart."""
    hosts = {**_SIZE, "count": 3, "availability_zones": ["one", "two"], "volume_gb": 20, "placement": "anti-affinity"}
    one = {**hosts, "count": 1}
    topology = {
        Role.DATABASE: {**one, "data_volume_gb": 50},
        Role.MESSAGING: {**one, "data_volume_gb": 5},
        Role.API: hosts,
        Role.ENGINE: hosts,
        Role.LOADBALANCER: {**one, "placement": "any"},
    }
    facts = load("local", _ENVIRONMENTS).model_dump()
    return Environment.model_validate(facts | {"provider": "openstack", "topology": topology, "network": network})


def small_region(provider: str = "openstack") -> Environment:
    """Return a region whose roles but the engines share one machine, on a real cloud or on the local one."""
    facts = load("local-small", _ENVIRONMENTS).model_dump() | {"provider": provider}
    if provider == "local":
        return Environment.model_validate(facts)
    topology = {name: hosts and hosts | _SIZE for name, hosts in facts["topology"].items()}
    network = {**_ROUTED, "endpoints": "floating_ip"}
    return Environment.model_validate(facts | {"topology": topology, "network": network})
