"""The openstack provider: where hosts go, what may reach them, and what stands before them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import yaml
from builders import LOCAL, TEMPLATES
from pydantic import ValidationError

from pipeline.environment import Environment, Role
from pipeline.render import render
from tests.regions import openstack_region

PROVIDER = TEMPLATES / "providers" / "openstack"


def _provided(name: str) -> Mapping[str, Any]:
    document: Mapping[str, Any] = yaml.safe_load((PROVIDER / f"{name}.yaml").read_text("utf-8"))
    return document


def _hosts(environment: Environment, role: Role) -> list[Mapping[str, Any]]:
    stacks = {stack.name: stack for stack in render(environment, TEMPLATES)}
    resources = yaml.safe_load(stacks[role.value].template)["resources"]
    return [one["properties"] for one in resources.values() if one["type"] == "Region::Host"]


def _opened(*, clustered: bool = False, together: bool = False) -> set[tuple[str, str, str]]:
    """Return (group, ports, source) of every rule of the network's security groups."""
    resources = _provided("network")["resources"]
    found = set()
    for name, one in resources.items():
        if (_among_members(one) and not clustered) or (one.get("condition") == "together" and not together):
            continue
        if one["type"] == "OS::Neutron::SecurityGroup":
            found |= {(name, *_rule(rule)) for rule in one["properties"]["rules"]}
        elif one["type"] == "OS::Neutron::SecurityGroupRule":
            rule = one["properties"]
            found.add((rule["security_group"]["get_resource"], *_rule(rule)))
    return found


def _among_members(resource: Mapping[str, Any]) -> bool:
    return resource.get("condition", "").endswith("_cluster")


def _rule(rule: Mapping[str, Any]) -> tuple[str, str]:
    ends = [rule["port_range_min"], rule["port_range_max"]]
    ports = "-".join(str(one["get_param"] if isinstance(one, dict) else one) for one in dict.fromkeys(map(str, ends)))
    source = rule.get("remote_group_id") or rule.get("remote_group") or rule["remote_ip_prefix"]
    return ports, source.get("get_resource") or source["if"][0]


def test_hosts_go_to_the_zones_one_after_the_other() -> None:
    zones = [host["availability_zone"] for host in _hosts(openstack_region(), Role.ENGINE)]
    assert zones == ["one", "two", "one"]


def test_without_zones_the_cloud_chooses() -> None:
    assert not [host for host in _hosts(LOCAL, Role.ENGINE) if "availability_zone" in host or "volume_gb" in host]


def test_each_role_opens_what_it_serves_and_to_whom_it_serves_it() -> None:
    api, cfn, ssh = "{'get_param': 'api_port'}", "{'get_param': 'cfn_port'}", "22"
    messaging = "-".join(f"{{'get_param': ['messaging_ports', '{end}']}}" for end in ("from", "to"))
    spreading = {(to, "32768-60999", giver) for to in ("api", "engine") for giver in ("api", "engine")}
    assert _opened() == {
        *((role.value, ssh, "operators_outside") for role in Role),
        *(("loadbalancer", port, "public") for port in (api, cfn)),
        *(("api", port, "loadbalancer") for port in (api, cfn)),
        *(("database", "3306", role) for role in ("api", "engine")),
        *(("messaging", messaging, role) for role in ("api", "engine")),
        *spreading,
    }


def test_members_of_a_cluster_reach_one_another_and_only_there() -> None:
    assert _opened(clustered=True) - _opened() == {
        ("database", "4567-4568", "database"),
        ("database", "4444", "database"),
        ("database", "9200", "api"),
        ("database", "9200", "engine"),
        ("messaging", "4369", "messaging"),
        ("messaging", "25672", "messaging"),
    }
    conditions = {one["condition"] for one in _provided("network")["resources"].values() if _among_members(one)}
    assert conditions == {"database_cluster", "messaging_cluster"}


def test_one_machine_for_all_but_engines_opens_what_customers_and_engines_need() -> None:
    api, cfn = "{'get_param': 'api_port'}", "{'get_param': 'cfn_port'}"
    messaging = "-".join(f"{{'get_param': ['messaging_ports', '{end}']}}" for end in ("from", "to"))
    assert _opened(together=True) - _opened() == {
        ("control", "22", "operators_outside"),
        *(("control", port, "public") for port in (api, cfn)),
        *(("control", port, "engine") for port in ("3306", messaging)),
        ("control", "32768-60999", "engine"),
        ("engine", "32768-60999", "control"),
    }


def test_octavia_stands_before_the_reserved_port_and_passes_connections_on() -> None:
    resources = _provided("address")["resources"]
    members = [one["properties"] for one in resources.values() if one["type"] == "OS::Octavia::PoolMember"]
    assert [member["address"] for member in members] == 2 * [{"get_attr": ["port", "fixed_ips", 0, "ip_address"]}]
    listeners = [one["properties"] for one in resources.values() if one["type"] == "OS::Octavia::Listener"]
    assert [listener["protocol"] for listener in listeners] == ["TCP", "TCP"]


def test_what_a_database_keeps_outlives_its_stack_and_what_a_broker_keeps_does_not() -> None:
    resources = _provided("host")["resources"]
    policies = {
        one["condition"]: one.get("deletion_policy", "Delete") for name, one in resources.items() if "volume" in name
    }
    assert policies == {"data_kept": "Retain", "data_dropped": "Delete"}
    kept = {role: _hosts(openstack_region(), role)[0]["data_volume_kept"] for role in (Role.DATABASE, Role.MESSAGING)}
    assert kept == {Role.DATABASE: True, Role.MESSAGING: False}


@pytest.mark.parametrize("role", ["api", "engine", "loadbalancer"])
def test_a_data_volume_for_a_role_that_keeps_no_data_is_refused(role: str) -> None:
    facts = LOCAL.model_dump()
    facts["topology"][role]["data_volume_gb"] = 1
    with pytest.raises(ValidationError, match=rf"{role}\.data_volume_gb must be 0"):
        Environment.model_validate(facts)
