"""The openstack provider: where hosts go, what may reach them, and what stands before them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import pytest
import yaml
from builders import LOCAL, ROOT, TEMPLATES
from pydantic import ValidationError

from pipeline.environment import Environment, InternalTls, Provider, Role, Tls, list_environments, load
from pipeline.render import render
from pipeline.validation import Catalogue
from pipeline.validation.expressions import Scope
from pipeline.validation.template import Template
from tests.regions import EVERY_WAY, openstack_region, small_region

PROVIDER = TEMPLATES / "providers" / "openstack"
GROUP, RULE = "OS::Neutron::SecurityGroup", "OS::Neutron::SecurityGroupRule"


def _provided(name: str) -> Mapping[str, Any]:
    document: Mapping[str, Any] = yaml.safe_load((PROVIDER / f"{name}.yaml").read_text("utf-8"))
    return document


def _hosts(environment: Environment, role: Role) -> list[Mapping[str, Any]]:
    stacks = {stack.name: stack for stack in render(environment, TEMPLATES)}
    resources = yaml.safe_load(stacks[role.value].template)["resources"]
    return [one["properties"] for one in resources.values() if one["type"] == "Region::Host"]


def _opened(*, clustered: bool = False, together: bool = False) -> set[tuple[str, str, str]]:
    """Return (group, ports, source) of every rule of the network's security groups."""
    found = set()
    for one in _provided("network")["resources"].values():
        if (_among_members(one) and not clustered) or (one.get("condition") == "together" and not together):
            continue
        if one["type"] == RULE:
            rule = one["properties"]
            found.add((rule["security_group"]["get_resource"], *_rule(rule, together=together)))
    return found


def _among_members(resource: Mapping[str, Any]) -> bool:
    return resource.get("condition", "").endswith("_cluster")


def _rule(rule: Mapping[str, Any], *, together: bool) -> tuple[str, str]:
    ends = [rule["port_range_min"], rule["port_range_max"]]
    ports = "-".join(str(one["get_param"] if isinstance(one, dict) else one) for one in dict.fromkeys(map(str, ends)))
    if "remote_ip_prefix" in rule:
        return ports, rule["remote_ip_prefix"]["if"][0]
    source = rule["remote_group"]
    if "if" in source:
        condition, then, otherwise = source["if"]
        assert condition == "together"
        source = then if together else otherwise
    return ports, source["get_resource"]


# --- the network of a region, as Heat would make it


@cache
def _catalogue() -> Catalogue:
    return Catalogue.load()


def _network(environment: Environment) -> tuple[Mapping[str, Any], Scope]:
    """Return the resources of the provider's network, and the scope that a region's stack gives them."""
    stack = next(one for one in render(environment, TEMPLATES) if one.name == "network")
    outer = Template("network", stack.template, _catalogue())
    inner = Template("inner", stack.files[stack.registry["Region::Network"]], _catalogue())
    given = outer.resources["network"]["properties"]
    scope = outer.scope(stack.parameters)
    return inner.resources, inner.scope({key: scope.resolved(value) for key, value in given.items()})


def _made_rules(environment: Environment) -> Iterator[Mapping[str, Any]]:
    """Yield each rule that Neutron would be asked for; where it is not known whether, it counts."""
    resources, scope = _network(environment)
    for one in resources.values():
        if one["type"] == RULE and scope.holds(one.get("condition", True)) is not False:
            yield {key: _plain(value, scope) for key, value in one["properties"].items()}


def _plain(value: Any, scope: Scope) -> Any:
    """Return a value of a rule as Heat would have it; groups, and what others tell, stay as they are asked for."""
    match value:
        case {"if": [condition, then, otherwise]}:
            return _plain(then if scope.holds(condition) else otherwise, scope)
        case {"get_param": _}:
            return scope.resolved(value)
    return value


def _regions() -> Iterator[Environment]:
    """Yield regions of every kind that rules depend on."""
    for network in EVERY_WAY:
        region = openstack_region(**network)
        yield region
        yield from (region.model_copy(update={"tls": Tls(internal=step)}) for step in InternalTls)
    yield small_region()
    for name in list_environments(ROOT / "environments"):
        if (region := load(name, ROOT / "environments")).provider is Provider.OPENSTACK:
            yield region


def test_rules_stand_apart_from_their_groups() -> None:
    groups = [
        one
        for path in TEMPLATES.rglob("providers/*/*.yaml")
        for one in yaml.safe_load(path.read_text("utf-8"))["resources"].values()
        if one["type"] == GROUP
    ]
    assert len(groups) == len(Role) + 1
    assert [one["properties"].keys() for one in groups] == [{"name", "description"}] * len(groups)


def test_no_group_gets_the_same_rule_twice() -> None:
    for region in _regions():
        rules = Counter(str(sorted(rule.items())) for rule in _made_rules(region))
        assert len(rules) > 20
        assert [rule for rule, times in rules.items() if times > 1] == []


def _ssh_from(environment: Environment, port: int) -> set[tuple[str, str]]:
    """Return (group, source) of the rules that open `port` alone."""
    return {
        (rule["security_group"]["get_resource"], rule.get("remote_ip_prefix") or rule["remote_group"]["get_resource"])
        for rule in _made_rules(environment)
        if rule["port_range_min"] == rule["port_range_max"] == port
    }


@pytest.mark.parametrize("port", [22, 2222])
def test_ssh_comes_from_operators_and_over_the_load_balancer_at_the_port_that_the_environment_says(port: int) -> None:
    region = openstack_region(external_network="public", operator_cidr="198.18.1.0/24")
    region = region.model_copy(update={"ssh": region.ssh.model_copy(update={"port": port})})
    behind = {role.value for role in Role} - {"loadbalancer"}
    assert _ssh_from(region, port) == {
        *((role.value, "198.18.1.0/24") for role in Role),
        *((role, "loadbalancer") for role in behind),
    }
    assert [other for other in (22, 2222) if _ssh_from(region, other)] == [port]


def test_engines_let_ssh_in_from_the_machine_that_has_the_address_where_one_has_all_other_roles() -> None:
    found = _ssh_from(small_region(), 22)
    assert {source for group, source in found if group == "engine"} == {"198.18.1.0/24", "control"}
    assert {source for group, source in found if group == "control"} == {"198.18.1.0/24"}


def test_the_port_of_ssh_is_told_to_a_provider_only_where_it_is_another() -> None:
    texts = [stack.template for stack in render(LOCAL, TEMPLATES) if stack.name == "network"]
    assert "ssh_port" not in texts[0]


def test_operators_can_get_into_every_shipped_region_that_has_a_way_out() -> None:
    shipped = [load(name, ROOT / "environments") for name in list_environments(ROOT / "environments")]
    routed = [one for one in shipped if one.network.external_network]
    assert len(routed) == 4
    assert [one.name for one in routed if one.network.operator_cidr is None] == []


# --- the templates themselves


def test_hosts_go_to_the_zones_one_after_the_other() -> None:
    zones = [host["availability_zone"] for host in _hosts(openstack_region(), Role.ENGINE)]
    assert zones == ["one", "two", "one"]


def test_without_zones_the_cloud_chooses() -> None:
    assert not [host for host in _hosts(LOCAL, Role.ENGINE) if "availability_zone" in host or "volume_gb" in host]


def test_each_role_opens_what_it_serves_and_to_whom_it_serves_it() -> None:
    api, cfn, ssh = (f"{{'get_param': '{name}_port'}}" for name in ("api", "cfn", "ssh"))
    messaging = "-".join(f"{{'get_param': ['messaging_ports', '{end}']}}" for end in ("from", "to"))
    spreading = {(to, "32768-60999", giver) for to in ("api", "engine") for giver in ("api", "engine")}
    assert _opened() == {
        *((role.value, ssh, "operators_outside") for role in Role),
        *((role, ssh, "loadbalancer") for role in ("api", "engine", "database", "messaging")),
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
    api, cfn, ssh = (f"{{'get_param': '{name}_port'}}" for name in ("api", "cfn", "ssh"))
    messaging = "-".join(f"{{'get_param': ['messaging_ports', '{end}']}}" for end in ("from", "to"))
    assert _opened(together=True) - _opened() == {
        ("control", ssh, "operators_outside"),
        ("engine", ssh, "control"),
        *(("control", port, "public") for port in (api, cfn)),
        *(("control", port, "engine") for port in ("3306", messaging)),
        ("control", "32768-60999", "engine"),
        ("engine", "32768-60999", "control"),
    }


def test_another_flavor_or_image_replaces_a_server_and_other_user_data_leaves_it_alone() -> None:
    server = _provided("host")["resources"]["server"]["properties"]
    policies = {name: value for name, value in server.items() if name.endswith("_update_policy")}
    assert policies == {
        "image_update_policy": "REPLACE",
        "flavor_update_policy": "REPLACE",
        "user_data_update_policy": "IGNORE",
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
