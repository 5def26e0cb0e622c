"""Settling what Heat's preview only seems to change, on the real templates of the local cloud and of OpenStack."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import yaml
from builders import LOCAL, ROOT, TEMPLATES

from pipeline.edges.heatanswers import changes_of
from pipeline.environment import Environment, load
from pipeline.render import RenderedStack, render
from pipeline.settling import Sent, settled
from pipeline.stacks import Kind, ResourceChange

MACHINE, HOST = "Local::Machine", "Region::Host"
STAGING = load("staging", ROOT / "environments")


def _stack(name: str, of: Environment = LOCAL) -> RenderedStack:
    return next(one for one in render(of, TEMPLATES) if one.name == name)


def _sent(stack: RenderedStack, **values: Any) -> Sent:
    taken = dict.fromkeys(stack.inputs, "x")
    parameters = {**stack.parameters, **taken, **values}
    return Sent(yaml.safe_load(stack.template), stack.files, stack.registry, parameters)


def _seeming(*hosts: str, type: str = MACHINE, inner: str = "machine") -> list[ResourceChange]:
    """Return what Heat says of hosts whatever is sent: each is updated, and its server replaced."""
    pairs = [((host, Kind.UPDATED, HOST), (f"{host}/{inner}", Kind.REPLACED, type)) for host in hosts]
    return [ResourceChange(*one) for pair in pairs for one in pair]


def _told(found: tuple[ResourceChange, ...]) -> dict[str, str]:
    return {one.path: one.kind.value for one in found if one.kind is not Kind.UNCHANGED}


ENGINES = _seeming("engine-0", "engine-1")


def test_what_is_defined_as_before_stays_whatever_heat_says() -> None:
    stack = _stack("engine")
    found = settled(ENGINES, _sent(stack), _sent(stack))
    assert _told(found) == {}
    assert len(found) == 4


def test_numbers_and_texts_of_the_same_value_are_the_same() -> None:
    stack = _stack("engine")
    assert _told(settled(ENGINES, _sent(stack, boot_timeout="300"), _sent(stack, boot_timeout=300))) == {}


def test_a_value_that_only_the_host_takes_leaves_its_machine() -> None:
    stack = _stack("engine")
    found = settled(ENGINES, _sent(stack), _sent(stack, flavor="big"))
    assert _told(found) == {"engine-0": "updated", "engine-1": "updated"}


def test_a_value_that_reaches_the_machine_replaces_it() -> None:
    stack = _stack("engine")
    found = settled(ENGINES, _sent(stack), _sent(stack, ssh_public_key="other"))
    assert _told(found) == {
        "engine-0": "updated", "engine-0/machine": "replaced", "engine-1": "updated", "engine-1/machine": "replaced",
    }  # fmt: skip


def test_a_resource_whose_reference_is_made_anew_is_as_heat_says() -> None:
    stack = _stack("engine")
    signal = ResourceChange("engine-1-signal", Kind.REPLACED, "AWS::CloudFormation::WaitConditionHandle")
    text = stack.template.replace("engine-1-signal:\n    type:", "engine-1-signal:\n    metadata: {a: 1}\n    type:")
    found = settled([*ENGINES, signal], _sent(stack), _sent(replace(stack, template=text)))
    assert _told(found) == {"engine-1-signal": "replaced", "engine-1": "updated", "engine-1/machine": "replaced"}


def test_a_file_of_the_provider_that_changed_changes_what_is_in_the_hosts() -> None:
    stack = _stack("engine")
    path = "providers/local/host.yaml"
    text = stack.files[path].replace("address: {get_param: address}", "address: ''")
    found = settled(ENGINES, _sent(stack), _sent(replace(stack, files={**stack.files, path: text})))
    assert _told(found)["engine-0/machine"] == "replaced"
    assert _told(found)["engine-0"] == "updated"


def test_what_failed_a_check_is_replaced_though_nothing_else_changed() -> None:
    stack = _stack("engine")
    found = settled(ENGINES, _sent(stack), _sent(stack), failed=["engine-1/machine"])
    assert _told(found) == {"engine-1": "updated", "engine-1/machine": "replaced"}  # and not of another engine


def test_what_is_added_and_deleted_is_told_as_heat_tells_it() -> None:
    stack = _stack("engine")
    changes = [ResourceChange("engine-2", Kind.ADDED, HOST), ResourceChange("engine-1", Kind.DELETED, HOST)]
    assert _told(settled(changes, _sent(stack), _sent(stack))) == {"engine-2": "added", "engine-1": "deleted"}


def test_what_is_nested_in_a_replacement_that_only_seems_to_be_vanishes() -> None:
    stack = _stack("engine")
    changes = [
        ResourceChange("engine-0", Kind.REPLACED, HOST),
        ResourceChange("engine-0/machine", Kind.DELETED, MACHINE),
        ResourceChange("engine-0/machine", Kind.ADDED, MACHINE),
    ]
    assert [(one.path, one.kind.value) for one in settled(changes, _sent(stack), _sent(stack))] == [
        ("engine-0", "unchanged")
    ]
    moved = settled(changes, _sent(stack), _sent(stack, flavor="big"))
    assert [(one.path, one.kind.value) for one in moved] == [
        ("engine-0", "replaced"), ("engine-0/machine", "added"), ("engine-0/machine", "deleted"),
    ]  # fmt: skip


def test_what_heat_says_stays_is_never_told_otherwise() -> None:
    stack = _stack("engine")
    changes = [replace(one, kind=Kind.UNCHANGED) for one in ENGINES]
    assert _told(settled(changes, _sent(stack), _sent(stack, flavor="big"))) == {}


def test_what_takes_a_hidden_value_that_may_differ_is_as_heat_says() -> None:
    template = {
        "parameters": {"key": {"type": "string", "hidden": True}, "size": {"type": "string"}},
        "resources": {
            "a": {"type": "T", "properties": {"key": {"get_param": "key"}}},
            "b": {"type": "T", "properties": {"size": {"get_param": "size"}}},
        },
    }
    changes = [ResourceChange(name, Kind.REPLACED, "T") for name in "ab"]
    before, after = (Sent(template, {}, {}, {"key": key, "size": "1"}) for key in ("******", "s3cret"))
    assert _told(settled(changes, before, before)) == {}
    assert _told(settled(changes, before, after, hidden=True)) == {"a": "replaced"}
    assert _told(settled(changes, before, after)) == {}


def test_the_passwords_of_identity_stay_and_so_does_who_has_them() -> None:
    stack = _stack("identity")
    names = list(_sent(stack).template["resources"])
    changes = [ResourceChange(name, Kind.REPLACED, "any") for name in names]
    assert _told(settled(changes, _sent(stack), _sent(stack))) == {}
    found = _told(settled(changes, _sent(stack), _sent(stack, api_address="198.18.0.9")))
    assert found
    assert all(name.startswith("heat") for name in found)


def test_a_port_of_a_server_that_is_made_anew_takes_the_server_with_it_and_conditions_are_heeded() -> None:
    stack = _stack("database", STAGING)
    changes = [
        *_seeming("database-0", type="OS::Nova::Server", inner="server"),
        ResourceChange("database-0/own-port", Kind.UPDATED, "OS::Neutron::Port"),
    ]
    assert _told(settled(changes, _sent(stack), _sent(stack))) == {}
    # A group where there was none turns a condition, on which each resource of the host may depend.
    found = _told(settled(changes, _sent(stack, security_group=""), _sent(stack, security_group="g")))
    assert found["database-0/own-port"] == "updated"


@pytest.mark.parametrize("environment", [LOCAL, STAGING], ids=lambda one: one.name)
def test_every_stack_rendered_twice_settles_to_nothing(environment: Environment) -> None:
    for stack in render(environment, TEMPLATES):
        sent = _sent(stack)
        top = [ResourceChange(name, Kind.REPLACED, one["type"]) for name, one in sent.template["resources"].items()]
        nested = [
            ResourceChange(f"{one.path}/{name}", Kind.REPLACED, inner["type"])
            for one in top
            if (text := stack.files.get(stack.registry.get(one.type, "")))
            for name, inner in yaml.safe_load(text)["resources"].items()
        ]
        assert _told(settled([*top, *nested], sent, _sent(stack))) == {}


# --- what is read of a nested template


def _read(
    inner: str = "Inner", *, deeper: str = "{get_resource: n}", told: str = "n", attribute: str = "network"
) -> Sent:
    files = {
        "inner": f"resources: {{n: {{type: T}}, m: {{type: T}}}}\n"
        f"outputs: {{network: {{value: {{get_resource: {told}}}}}, cidr: {{value: c, description: {told}}}}}",
        "outer": f"resources: {{in: {{type: Inner}}, n: {{type: T}}}}\noutputs: {{network: {{value: {deeper}}}}}",
    }
    resources = {
        "network": {"type": inner},
        "reads": {"type": "T", "properties": {"of": {"get_attr": ["network", attribute]}}},
        "names": {"type": "T", "properties": {"of": {"get_resource": "network"}}},
    }
    return Sent({"resources": resources}, files, {"Inner": "inner", "Outer": "outer"}, {})


READ = [ResourceChange(name, Kind.REPLACED, "T") for name in ("network", "reads", "names")]


def test_what_reads_an_output_that_changed_is_as_heat_says() -> None:
    assert _told(settled(READ, _read(), _read())) == {}
    assert _told(settled(READ, _read(), _read(told="m"))) == {"network": "updated", "reads": "replaced"}


def test_what_reads_another_output_stays_and_so_does_what_reads_one_that_is_described_otherwise() -> None:
    assert _told(settled(READ, _read(attribute="cidr"), _read(attribute="cidr", told="m"))) == {"network": "updated"}


def test_what_reads_no_output_by_name_reads_them_all() -> None:
    before, after = (_read(attribute="resource.n", told=told) for told in "nm")
    assert _told(settled(READ, before, after)) == {"network": "updated", "reads": "replaced"}


def test_an_output_that_hands_on_one_of_a_template_further_in_changes_with_it() -> None:
    changes = [*READ, ResourceChange("network/in", Kind.UPDATED, "Inner")]
    before, after = (_read("Outer", deeper="{get_attr: [in, network]}", told=told) for told in "nm")
    found = {"network": "updated", "network/in": "updated", "reads": "replaced"}
    assert _told(settled(changes, before, after)) == found
    before, after = (_read("Outer", told=told) for told in "nm")
    assert _told(settled(changes, before, after)) == {"network": "updated", "network/in": "updated"}


def test_an_output_of_the_network_of_openstack_that_changed_moves_what_reads_it() -> None:
    stack = _stack("network", STAGING)
    sent = _sent(stack)
    path = "providers/openstack/network.yaml"
    text = stack.files[path].replace("value: {get_resource: net}", "value: {get_resource: range}")
    after = replace(sent, files={**stack.files, path: text})
    changes = [ResourceChange(name, Kind.REPLACED, one["type"]) for name, one in sent.template["resources"].items()]
    assert _told(settled(changes, sent, after)) == {"network": "updated", "address": "replaced"}


# --- what a real Heat says: 26.0.2's engine, asked to preview updates of a stack of this template that it had created

NESTED = """\
heat_template_version: 2021-04-16
parameters: {flavor: {type: string}, user_data: {type: string}}
resources:
  machine: {type: OS::Heat::RandomString, properties: {salt: {get_param: user_data}}}
outputs: {id: {value: {get_resource: machine}}}
"""
OUTER = """\
heat_template_version: 2021-04-16
parameters:
  flavor: {type: string}
  key: {type: string}
resources:
  signal: {type: OS::Heat::RandomString, properties: {length: 8}}
  ready:
    type: OS::Heat::TestResource
    depends_on: host
    properties: {value: {get_attr: [signal, value]}}
  host:
    type: Region::Host
    properties:
      flavor: {get_param: flavor}
      user_data: {str_replace: {template: "K S", params: {K: {get_param: key}, S: {get_attr: [signal, value]}}}}
"""
IDENTITY = {"stack_name": "s-host-adugh4mhritj", "stack_id": "1", "tenant": "t", "path": ""}
ANSWERED = {  # the same, whichever parameter is changed, and where none is
    "unchanged": [{"resource_name": "signal", "resource_type": "OS::Heat::RandomString", "stack_name": "s"}],
    "updated": [
        {"resource_name": "ready", "resource_type": "OS::Heat::TestResource", "stack_name": "s"},
        {"resource_name": "host", "resource_type": HOST, "stack_name": "s", "nested_stack_id": IDENTITY},
    ],
    "replaced": [
        {"resource_name": "machine", "resource_type": "OS::Heat::RandomString", "stack_name": "s-host",
         "parent_resource": "host"}
    ],
    "added": [],
    "deleted": [],
}  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({}, {}),
        ({"flavor": "b"}, {"host": "updated"}),
        ({"key": "k2"}, {"host": "updated", "host/machine": "replaced"}),
    ],
)
def test_what_heat_26_answers_settles_to_what_an_update_does(changed: dict[str, str], told: dict[str, str]) -> None:
    before = Sent(yaml.safe_load(OUTER), {"host.yaml": NESTED}, {HOST: "host.yaml"}, {"flavor": "a", "key": "k1"})
    after = replace(before, parameters={**before.parameters, **changed})
    assert _told(settled(changes_of(ANSWERED), before, after)) == told
