"""Templates that are wrong in one way each, and some that are right although they look odd.

`inv validate` and real Heat must agree on them: tests/unit/validation, tests/integration/test_openstack_templates.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["HEADER", "INNER", "RIGHT", "WRONG", "Wrong"]

HEADER = "heat_template_version: 2021-04-16\n"

INNER = f"""{HEADER}
parameters:
  name: {{type: string}}
  ports: {{type: comma_delimited_list, default: ''}}
  facts: {{type: json, default: {{}}}}
resources:
  net: {{type: OS::Neutron::Net, properties: {{name: {{get_param: name}}}}}}
outputs:
  ids: {{value: {{net: {{get_resource: net}}}}}}
"""
"""A template that Region::Inner is made of."""


@dataclass(frozen=True, slots=True)
class Wrong:
    """A template without its header, what Heat says about it, and what `inv validate` says."""

    body: str
    heat: str
    ours: str


WRONG: Mapping[str, Wrong] = {
    "a-misspelt-property": Wrong(
        "resources: {net: {type: OS::Neutron::Net, properties: {nmae: x}}}",
        "Unknown Property nmae",
        "net: properties.nmae: expected a property of OS::Neutron::Net (name?), found an unknown one",
    ),
    "a-misspelt-property-of-a-rule": Wrong(
        "resources: {group: {type: OS::Neutron::SecurityGroup, properties: {rules: [{portocol: tcp}]}}}",
        "Unknown Property portocol",
        "group: properties.rules.0.portocol: expected a property of properties.rules.0 (protocol?)",
    ),
    "a-resource-called-as-a-parameter-is": Wrong(
        "parameters: {net: {type: string, default: x}}\nresources: {net: {type: OS::Neutron::Net}}",
        "Duplicate names {'net'}",
        "net: expected a name that no parameter has, found parameters.net",
    ),
    "a-missing-required-property": Wrong(
        "resources: {range: {type: OS::Neutron::Subnet, properties: {cidr: 198.18.0.0/24}}}",
        "Property network not assigned",
        "range: properties.network: expected a value: OS::Neutron::Subnet requires it, found none",
    ),
    "a-required-property-that-a-condition-takes-away": Wrong(
        "parameters: {extra: {type: string, default: ''}}\n"
        "conditions: {wanted: {not: {equals: [{get_param: extra}, '']}}}\n"
        "resources: {range: {type: OS::Neutron::Subnet,"
        " properties: {cidr: 198.18.0.0/24, network: {if: [wanted, {get_param: extra}]}}}}",
        "Property network not assigned",
        "range: properties.network: expected a value: it is required, found none where wanted is false",
    ),
    "a-wrong-type": Wrong(
        "resources: {net: {type: OS::Neutron::Net, properties: {admin_state_up: [1]}}}",
        "is not a valid boolean",
        "net: properties.admin_state_up: expected true or false, found [1]",
    ),
    "text-for-a-list": Wrong(
        "resources: {port: {type: OS::Neutron::Port, properties: {network: x, security_groups: y}}}",
        "is not a list",
        "port: properties.security_groups: expected a list, found y",
    ),
    "a-parameter-of-the-wrong-type": Wrong(
        "parameters: {groups: {type: string}}\n"
        "resources: {port: {type: OS::Neutron::Port, properties: {network: x, security_groups: {get_param: groups}}}}",
        "is not a list",
        "port: properties.security_groups: expected a list, found a string",
    ),
    "a-list-for-text": Wrong(
        "resources: {net: {type: OS::Neutron::Net, properties: {name: [x]}}}",
        "Value must be a string",
        'net: properties.name: expected text, found ["x"]',
    ),
    "a-word-for-a-number": Wrong(
        "resources: {text: {type: OS::Heat::RandomString, properties: {length: many}}}",
        "is not an integer",
        "text: properties.length: expected a whole number, found many",
    ),
    "a-number-out-of-range": Wrong(
        "resources: {text: {type: OS::Heat::RandomString, properties: {length: 100000}}}",
        "is out of range",
        "text: properties.length: expected a number of at least 1 and at most 512, found 100000",
    ),
    "an-empty-text-where-one-is-asked-for": Wrong(
        "resources: {key: {type: OS::Nova::KeyPair, properties: {name: ''}}}",
        "length (0) is out of range",
        'key: properties.name: expected a length of at least 1 and at most 255, found ""',
    ),
    "a-value-that-is-not-allowed": Wrong(
        "resources: {group: {type: OS::Neutron::SecurityGroup, properties: {rules: [{direction: up}]}}}",
        "is not an allowed value",
        "group: properties.rules.0.direction: expected one of ingress, egress, found up",
    ),
    "a-wrong-value": Wrong(
        "resources: {range: {type: OS::Neutron::Subnet, properties: {network: x, cidr: 198.18.0.0/33}}}",
        "Invalid net cidr",
        "range: properties.cidr: expected a network, as 198.18.0.0/24, found 198.18.0.0/33",
    ),
    "a-wrong-address": Wrong(
        "resources: {port: {type: OS::Neutron::Port,"
        " properties: {network: x, fixed_ips: [{ip_address: 198.18.0.256}]}}}",
        "Invalid IP address",
        "port: properties.fixed_ips.0.ip_address: expected an address, found 198.18.0.256",
    ),
    "an-empty-name": Wrong(
        "resources: {port: {type: OS::Neutron::Port, properties: {network: ''}}}",
        "expected a name or an id",
        'port: properties.network: expected a name or an id (neutron.network), found ""',
    ),
    "an-empty-name-by-default": Wrong(
        "parameters: {network: {type: string, default: ''}}\n"
        "resources: {port: {type: OS::Neutron::Port, properties: {network: {get_param: network}}}}",
        "expected a name or an id",
        'port: properties.network: expected a name or an id (neutron.network), found ""',
    ),
    "an-unknown-type": Wrong(
        "resources: {net: {type: OS::Neutron::Nett}}",
        "The Resource Type (OS::Neutron::Nett) could not be found",
        "net: type: expected a type of resource (OS::Neutron::Net?), found OS::Neutron::Nett",
    ),
    "an-unknown-attribute": Wrong(
        "resources: {net: {type: OS::Neutron::Net}}\noutputs: {out: {value: {get_attr: [net, cidr]}}}",
        "The Referenced Attribute (net cidr) is incorrect",
        "outputs.out.value: expected an attribute of OS::Neutron::Net (admin_state_up, ",
    ),
    "a-hidden-property": Wrong(
        "resources: {port: {type: OS::Neutron::Port, properties: {network: x, fixed_ips: [{subnet_id: y}]}}}",
        "property fixed_ips.subnet_id is hidden",
        "port: properties.fixed_ips.0.subnet_id: expected what Heat advises, found it is hidden since Heat 5.0.0",
    ),
    "a-deprecated-attribute": Wrong(
        "resources: {server: {type: OS::Nova::Server,"
        " properties: {flavor: x, image: y, networks: [{network: z}]}}}\n"
        "outputs: {out: {value: {get_attr: [server, accessIPv4]}}}",
        "attribute accessIPv4 is deprecated",
        "outputs.out.value: expected what Heat advises, found accessIPv4: it is deprecated since Heat 14.0.0",
    ),
    "properties-that-exclude-each-other": Wrong(
        "resources: {rule: {type: OS::Neutron::SecurityGroupRule,"
        " properties: {security_group: x, remote_group: y, remote_ip_prefix: 198.18.0.0/24}}}",
        "Cannot define the following properties at the same time",
        "rule: properties: expected only one of remote_group and remote_ip_prefix: Heat takes not both, found both",
    ),
    "a-mistake-behind-a-condition": Wrong(
        "parameters: {extra: {type: string, default: ''}}\n"
        "conditions: {wanted: {not: {equals: [{get_param: extra}, '']}}}\n"
        "resources: {net: {type: OS::Neutron::Net, condition: wanted, properties: {nmae: x}}}",
        "Unknown Property nmae",
        "net: properties.nmae: expected a property of OS::Neutron::Net (name?)",
    ),
    "a-mistake-in-the-side-of-an-if-that-is-not-taken": Wrong(
        "parameters: {extra: {type: string, default: ''}}\n"
        "conditions: {wanted: {not: {equals: [{get_param: extra}, '']}}}\n"
        "resources: {net: {type: OS::Neutron::Net, properties: {admin_state_up: {if: [wanted, perhaps, true]}}}}",
        "is not a valid boolean",
        "net: properties.admin_state_up: expected true or false, found perhaps",
    ),
    "a-parameter-that-is-not-there": Wrong(
        "resources: {net: {type: OS::Neutron::Net, properties: {name: {get_param: nmae}}}}",
        "The Parameter (nmae) was not provided",
        "net: properties.name: expected a parameter of this template, found nmae",
    ),
    "a-resource-that-is-not-there": Wrong(
        "resources: {port: {type: OS::Neutron::Port, properties: {network: {get_resource: net}}}}",
        'The specified reference "net"',
        "port: properties.network: expected a resource of this template, found net",
    ),
    "a-dependence-on-nothing": Wrong(
        "resources: {net: {type: OS::Neutron::Net, depends_on: nat}}",
        'The specified reference "nat"',
        "net: depends_on: expected a resource of this template (net?), found nat",
    ),
    "a-condition-that-is-not-there": Wrong(
        "resources: {net: {type: OS::Neutron::Net, condition: wanted}}",
        'Invalid condition "wanted"',
        "net: condition: expected a condition of this template, found wanted",
    ),
    "a-condition-in-another-that-is-not-there": Wrong(
        "parameters: {extra: {type: string, default: ''}}\n"
        "conditions:\n"
        "  routed: {not: {equals: [{get_param: extra}, '']}}\n"
        "  public: {and: [routedd, {equals: [{get_param: extra}, x]}]}\n"
        "resources: {net: {type: OS::Neutron::Net, condition: public}}",
        'Invalid condition "routedd"',
        "conditions.public: expected a condition of this template (routed?), found routedd",
    ),
    "the-opposite-of-a-condition-that-is-not-there": Wrong(
        "conditions: {wanted: {not: nope}}\n"
        "resources: {net: {type: OS::Neutron::Net, properties: {name: {if: [wanted, x, y]}}}}",
        'Invalid condition "nope"',
        "conditions.wanted: expected a condition of this template, found nope",
    ),
    "a-condition-of-a-resource-without-a-name-that-is-not-there": Wrong(
        "resources: {net: {type: OS::Neutron::Net, condition: {not: {or: [false, nope]}}}}",
        'Invalid condition "nope"',
        "net: condition: expected a condition of this template, found nope",
    ),
    "a-condition-of-an-output-that-is-not-there": Wrong(
        "resources: {net: {type: OS::Neutron::Net}}\noutputs: {out: {value: x, condition: nope}}",
        'Invalid condition "nope"',
        "outputs.out.condition: expected a condition of this template, found nope",
    ),
    "a-circle-of-conditions": Wrong(
        "conditions: {one: {not: two}, two: {not: one}}\nresources: {net: {type: OS::Neutron::Net, condition: one}}",
        "Circular definition for condition",
        "conditions.one: expected conditions that do not need one another, found one → two → one",
    ),
    "a-condition-that-is-another-by-name": Wrong(
        "conditions: {wanted: true, asked: wanted}\nresources: {net: {type: OS::Neutron::Net}}",
        'The definition of condition "asked" is invalid: wanted',
        "conditions.asked: expected true, false or one of the functions and, contains, equals, get_param, ",
    ),
    "a-condition-made-of-a-function-that-is-for-values": Wrong(
        "conditions: {wanted: {list_join: ['', [a]]}}\nresources: {net: {type: OS::Neutron::Net}}",
        'The function "list_join" is invalid in this context',
        "conditions.wanted: expected true, false or one of the functions and, ",
    ),
    "conditions-that-have-no-names": Wrong(
        "conditions: [true]\nresources: {net: {type: OS::Neutron::Net}}",
        "Condition definitions must be a map",
        "conditions: expected a mapping by name, found list",
    ),
    "a-circle": Wrong(
        "resources:\n"
        "  one: {type: OS::Neutron::Net, properties: {name: {get_resource: two}}}\n"
        "  two: {type: OS::Neutron::Net, properties: {name: {get_resource: one}}}",
        "Circular Dependency Found",
        "expected resources that do not need one another, found ",
    ),
    "an-unknown-section": Wrong(
        "resources: {net: {type: OS::Neutron::Net}}\noutput: {}",
        "The template section is invalid: output",
        "output: expected one of heat_template_version, ",
    ),
    "an-unknown-key-of-a-resource": Wrong(
        "resources: {net: {type: OS::Neutron::Net, propertys: {}}}",
        '"propertys" is not a valid keyword inside a resource definition',
        "resources.net.propertys: expected one of type, properties, ",
    ),
    "a-deletion-policy-that-there-is-not": Wrong(
        "resources: {net: {type: OS::Neutron::Net, deletion_policy: Keep}}",
        "Invalid deletion policy",
        "net: deletion_policy: expected one of Delete, Retain, Snapshot, found Keep",
    ),
    "a-default-that-its-own-constraint-refuses": Wrong(
        "parameters: {count: {type: number, default: 9, constraints: [{range: {max: 3}}]}}\n"
        "resources: {net: {type: OS::Neutron::Net}}",
        "out of range",
        "parameters.count.default: expected a number of at most 3, found 9",
    ),
    "a-misspelt-property-of-our-own-type": Wrong(
        "resources: {inner: {type: Region::Inner, properties: {nmae: x}}}",
        "Unknown Property nmae",
        "inner: properties.nmae: expected a property of Region::Inner (name?)",
    ),
    "an-unknown-attribute-of-our-own-type": Wrong(
        "resources: {inner: {type: Region::Inner, properties: {name: x}}}\n"
        "outputs: {out: {value: {get_attr: [inner, id]}}}",
        "inner: has no attribute id",
        "outputs.out.value: expected an output of templates/inner.yaml (ids), found id",
    ),
    "an-unknown-key-of-an-attribute": Wrong(
        "resources: {inner: {type: Region::Inner, properties: {name: x}}}\n"
        "outputs: {out: {value: {get_attr: [inner, ids, subnet]}}}",
        "attribute ids has no key 'subnet'",
        "outputs.out.value: expected a key of output ids of templates/inner.yaml (net), found subnet",
    ),
    "broken-yaml": Wrong(
        "description: Heat: its network",
        "mapping values are not allowed",
        "rendered line 2: expected YAML, found mapping values are not allowed",
    ),
}

RIGHT: Mapping[str, str] = {
    "numbers-and-truth-as-text": (
        "resources:\n"
        "  text: {type: OS::Heat::RandomString, properties: {length: '16'}}\n"
        "  net: {type: OS::Neutron::Net, properties: {admin_state_up: 'True', name: 7}}"
    ),
    "a-list-from-a-parameter": (
        "parameters: {groups: {type: comma_delimited_list, default: 'a,b'}}\n"
        "resources: {port: {type: OS::Neutron::Port, properties: {network: x, security_groups: {get_param: groups}}}}"
    ),
    "an-optional-value-that-a-condition-takes-away": (
        "parameters: {extra: {type: string, default: ''}}\n"
        "conditions: {wanted: {not: {equals: [{get_param: extra}, '']}}}\n"
        "resources: {port: {type: OS::Neutron::Port,"
        " properties: {network: x, security_groups: {if: [wanted, [{get_param: extra}]]}}}}"
    ),
    "a-resource-that-its-condition-guards": (
        "parameters: {network: {type: string, default: ''}}\n"
        "conditions: {wanted: {not: {equals: [{get_param: network}, '']}}}\n"
        "resources: {port: {type: OS::Neutron::Port, condition: wanted,"
        " properties: {network: {get_param: network}}}}"
    ),
    "a-part-of-a-parameter-behind-a-condition": (
        "parameters: {facts: {type: json, default: {name: any}}}\n"
        "conditions: {named: {not: {equals: [{get_param: [facts, name]}, any]}}}\n"
        "resources: {net: {type: OS::Neutron::Net, condition: named, properties: {name: {get_param: [facts, name]}}}}"
    ),
    "text-for-a-list-and-a-list-for-json-of-our-own-type": (
        "resources: {inner: {type: Region::Inner, properties: {name: x, ports: 'a,b', facts: [{a: 1}]}}}"
    ),
    "a-wait-condition": (
        "resources:\n"
        "  handle: {type: AWS::CloudFormation::WaitConditionHandle}\n"
        "  ready: {type: AWS::CloudFormation::WaitCondition, properties:"
        " {Handle: {get_resource: handle}, Count: '1', Timeout: 60}}\n"
        "outputs: {data: {value: {get_attr: [ready, Data]}}}"
    ),
    "conditions-of-every-kind": (
        "parameters: {flag: {type: boolean, default: true}, names: {type: comma_delimited_list, default: 'a,b'}}\n"
        "conditions:\n"
        "  said: false\n"
        "  asked: {get_param: flag}\n"
        "  among: {contains: [a, {get_param: names}]}\n"
        "  reckoned: {yaql: {expression: '$.data.flag', data: {flag: {get_param: flag}}}}\n"
        "  all: {and: [{not: said}, asked, {or: [among, reckoned]}]}\n"
        "resources:\n"
        "  net: {type: OS::Neutron::Net, condition: all, metadata: {not: nope}}\n"
        "  other: {type: OS::Neutron::Net, condition: {equals: [{get_param: flag}, true]}}\n"
        "outputs: {out: {condition: {or: [said, asked]}, value: x}}"
    ),
    "conditions-that-nobody-asks-for": (
        "conditions: {one: {not: two}, two: {not: one}, three: {and: [nope, true]}}\n"
        "resources: {net: {type: OS::Neutron::Net}}"
    ),
    "functions-within-functions": (
        "parameters: {name: {type: string, default: x}, how-many: {type: number, default: 2}}\n"
        "conditions: {several: {and: [{not: {equals: [{get_param: how-many}, 1]}}, true]}}\n"
        "resources: {net: {type: OS::Neutron::Net, properties: {name: {list_join: ['-', [{get_param: name},"
        " {if: [several, {str_replace: {template: a, params: {a: b}}}, c]}]]},"
        " tags: {repeat: {for_each: {'%a%': [x, y]}, template: '%a%'}}}}}"
    ),
}
