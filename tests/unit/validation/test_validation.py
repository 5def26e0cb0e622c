"""Validation: wrong templates are refused for their mistake, right ones are not blamed, and each environment holds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from builders import LOCAL, ROOT, TEMPLATES

from pipeline.environment import Provider, list_environments, load
from pipeline.errors import ConfigurationInvalid
from pipeline.render import RenderedStack, render
from pipeline.validation import Catalogue, Problem, path_of, validate
from tests.regions import EVERY_WAY, openstack_region, small_region
from tests.wrong_templates import HEADER, INNER, RIGHT, WRONG

ALL = ("25.0.2", "26.0.2", "27.0.1")


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return Catalogue.load()


def _stack(body: str, name: str = "one", parameters: Mapping[str, Any] | None = None, **inputs: str) -> RenderedStack:
    taken = {key: tuple(path.split(".")) for key, path in inputs.items()}
    registry = {"Region::Inner": "inner.yaml"}
    return RenderedStack(name, f"x-{name}", HEADER + body, {"inner.yaml": INNER}, registry, parameters or {}, taken)


def _told(problems: tuple[Problem, ...]) -> list[str]:
    return [str(problem.finding) for problem in problems]


# --- templates by themselves


@pytest.mark.parametrize("name", WRONG)
def test_a_template_with_one_mistake_is_refused_for_that_mistake(name: str, catalogue: Catalogue) -> None:
    problems = validate("x", [_stack(WRONG[name].body)], catalogue)
    wanted = [problem for problem in problems if WRONG[name].ours in str(problem.finding)]
    assert wanted, _told(problems)
    assert wanted[0].finding.file == "templates/one.yaml.j2"


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_template_is_not_blamed(name: str, catalogue: Catalogue) -> None:
    assert _told(validate("x", [_stack(RIGHT[name])], catalogue)) == []


@pytest.mark.parametrize("name", ["a-hidden-property", "a-deprecated-attribute"])
def test_what_heat_only_advises_against_is_a_warning(name: str, catalogue: Catalogue) -> None:
    problems = validate("x", [_stack(WRONG[name].body)], catalogue)
    assert [problem.is_error for problem in problems] == [False]


def test_a_mistake_in_a_nested_template_names_its_file_and_the_way_to_it(catalogue: Catalogue) -> None:
    stack = _stack("resources: {outer: {type: Region::Inner, properties: {name: [x]}}}")
    inner = INNER.replace("{name: {get_param: name}}", "{name: {get_param: name}, mtu: 9}")
    told = _told(validate("x", [replace(stack, files={"inner.yaml": inner})], catalogue))
    assert told[0] == 'templates/one.yaml.j2: outer: properties.name: expected text, found ["x"]'
    assert told[1] == 'templates/inner.yaml: outer > net: properties.name: expected text, found ["x"]'
    assert told[2].startswith("templates/inner.yaml: outer > net: properties.mtu: expected a property of ")


def test_templates_that_contain_themselves_are_told(catalogue: Catalogue) -> None:
    stack = _stack("resources: {outer: {type: Region::Inner, properties: {name: x}}}")
    inner = INNER.replace("OS::Neutron::Net, properties", "Region::Inner, properties")
    (problem,) = validate("x", [replace(stack, files={"inner.yaml": inner})], catalogue)
    assert "templates that do not contain themselves" in str(problem.finding)


def test_a_type_without_its_template_is_told(catalogue: Catalogue) -> None:
    stack = replace(_stack("resources: {net: {type: OS::Neutron::Net}}"), files={})
    assert _told(validate("x", [stack], catalogue)) == [
        "templates/inner.yaml: expected a template, for Region::Inner is made of it, found none"
    ]


WRONG_CONSTRAINTS = {
    "type: string, constraints: 5": ": expected a list, found 5",
    "type: string, constraints: [5]": ".0: expected one of range, length, ",
    "type: string, constraints: [{description: x}]": ".0: expected one of range, length, ",
    "type: string, constraints: [{allowed_pattern: '['}]": ".0.allowed_pattern: expected a regular expression (",
    "type: string, constraints: [{allowed_pattern: 5}]": ".0.allowed_pattern: expected a regular expression, found 5",
    "type: string, constraints: [{allowed_values: 5}]": ".0.allowed_values: expected a list, found 5",
    "type: string, constraints: [{custom_constraint: []}]": ".0.custom_constraint: expected a name, found []",
    "type: string, constraints: [{range: {min: 1}}]": ".0: expected range for a parameter of type number only",
    "type: number, constraints: [{length: {min: 1}}]": ".0: expected length for a parameter of type string or ",
    "type: number, constraints: [{range: {min: x}}]": ".0.range: expected min, max or both, as numbers",
    "type: number, constraints: [{range: 5}]": ".0.range: expected min, max or both, as numbers, found 5",
    "type: string, constraints: [{length: {max: 1.5}}]": ".0.length: expected min, max or both, as whole numbers",
    "type: number, constraints: [{modulo: {step: 0, offset: 0}}]": ".0.modulo: expected a step that is not 0",
}


@pytest.mark.parametrize("facts", WRONG_CONSTRAINTS)
def test_a_constraint_that_heat_does_not_take_is_told(facts: str, catalogue: Catalogue) -> None:
    body = f"parameters: {{one: {{default: '12', {facts}}}}}\nresources: {{}}"
    (told,) = _told(validate("x", [_stack(body)], catalogue))
    expected = f"templates/one.yaml.j2: parameters.one.constraints{WRONG_CONSTRAINTS[facts]}"
    assert told.startswith(expected)


@pytest.mark.parametrize(
    "facts",
    [
        "type: number, constraints: [{range: {min: '3', max: 1e3}}, {modulo: {step: 4, offset: 0}}]",
        "type: string, constraints: [{length: {max: 2}}, {allowed_pattern: '[0-9]+'}, {allowed_values: [12]}]",
        "type: comma_delimited_list, constraints: [{length: {min: 1}, description: some}]",
    ],
)
def test_constraints_that_heat_takes_are_not_blamed(facts: str, catalogue: Catalogue) -> None:
    body = f"parameters: {{one: {{default: '12', {facts}}}}}\nresources: {{}}"
    assert _told(validate("x", [_stack(body)], catalogue)) == []


def test_a_number_beyond_all_others_is_told(catalogue: Catalogue) -> None:
    body = f"resources: {{text: {{type: OS::Heat::RandomString, properties: {{length: {10**400}}}}}}}"
    (problem,) = validate("x", [_stack(body)], catalogue)
    assert problem.finding.expected == "a number of at least 1 and at most 512"


def test_a_part_of_a_list_that_is_not_there_is_empty_from_either_end(catalogue: Catalogue) -> None:
    for index in (9, -9):
        body = (
            "parameters: {networks: {type: comma_delimited_list, default: 'a,b'}}\n"
            "resources: {port: {type: OS::Neutron::Port,"
            f" properties: {{network: {{get_param: [networks, {index}]}}}}}}}}"
        )
        (told,) = _told(validate("x", [_stack(body)], catalogue))
        assert told.endswith('properties.network: expected a name or an id (neutron.network), found ""')


ODD = {
    "a-parameter-that-holds-what-looks-like-itself": (
        "parameters: {one: {type: json, default: {a: {get_param: one}}}}\n"
        "resources: {inner: {type: Region::Inner, properties: {name: x, facts: {get_param: one}}}}"
    ),
    "a-parameter-by-no-name": "resources: {net: {type: OS::Neutron::Net, properties: {name: {get_param: [{a: b}]}}}}",
}


@pytest.mark.parametrize("name", ODD)
def test_what_is_odd_is_looked_at_all_the_same(name: str, catalogue: Catalogue) -> None:
    assert _told(validate("x", [_stack(ODD[name])], catalogue)) == []


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("resources: {net: {type: OS::Neutron::Net, depends_on: [[a]]}}", "net: depends_on: expected a resource"),
        ("resources: {1: {}}", "1: expected a type, and properties by name, found None"),
        (
            "resources: {net: {type: [a]}}\noutputs: {out: {value: {get_attr: [net, show]}}}",
            "net: expected a type, and properties by name, found ['a']",
        ),
        (
            "resources: {inner: {type: Region::Inner, properties: {name: x}}}\n"
            "outputs: {1: {value: {get_attr: [inner, id]}}}",
            "outputs.1.value: expected an output of templates/inner.yaml (ids), found id",
        ),
        ("description: \x07", "rendered line 2: expected YAML, found character #x0007 is not allowed"),
    ],
)
def test_a_template_of_odd_shapes_is_told_about(body: str, told: str, catalogue: Catalogue) -> None:
    assert told in "\n".join(_told(validate("x", [_stack(body)], catalogue)))


# --- what differs between Heats


def test_a_problem_names_the_heats_that_have_it(catalogue: Catalogue) -> None:
    body = "resources: {group: {type: OS::Neutron::SecurityGroup, properties: {rules: [{description: x}]}}}"
    (problem,) = validate("x", [_stack(body)], catalogue)
    assert problem.releases == ("25.0.2", "26.0.2")  # Heat 27 brought it
    assert validate("x", [_stack(body)], Catalogue.load(["27"])) == ()


def test_a_type_that_a_heat_is_about_to_drop_is_a_warning_with_the_version() -> None:
    body = "resources: {one: {type: OS::Vitrage::Template, properties: {template_file: a, template_params: {}}}}"
    (problem,) = validate("x", [_stack(body)], Catalogue.load(["26.0.2"]))
    assert not problem.is_error
    assert "it is deprecated since Heat 26.0.0" in problem.finding.found


def test_the_schemas_of_three_heats_are_kept_here(catalogue: Catalogue) -> None:
    assert catalogue.releases == set(ALL)
    assert all(json.loads(path_of(one).read_text("utf-8"))["heat"] == one for one in ALL)


def test_a_heat_whose_schemas_are_not_here_is_told() -> None:
    with pytest.raises(ConfigurationInvalid, match=r"no schemas of Heat '9' \(there are: 25\.0\.2"):
        Catalogue.load(["9"])


def test_schemas_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    path_of("26.0.2", tmp_path).write_text("{", "utf-8")
    with pytest.raises(ConfigurationInvalid, match=r"heat-26\.0\.2\.json: cannot be read") as caught:
        Catalogue.load(directory=tmp_path)
    assert caught.value.hint == "inv release.schemas --heat 26.0.2"


# --- stacks together


def test_a_parameter_that_the_template_does_not_have_is_told(catalogue: Catalogue) -> None:
    (problem,) = validate("x", [_stack("resources: {}", parameters={"size": 1})], catalogue)
    assert str(problem.finding) == (
        "templates/stacks.yaml.j2: one: size: expected a parameter of templates/one.yaml.j2, found an unknown one"
    )


def test_a_parameter_without_a_value_is_told(catalogue: Catalogue) -> None:
    (problem,) = validate("x", [_stack("parameters: {size: {type: number}}\nresources: {}")], catalogue)
    assert problem.finding.expected == "a value: templates/one.yaml.j2 requires it"


def test_a_value_that_its_parameter_refuses_is_told(catalogue: Catalogue) -> None:
    body = "parameters: {size: {type: number, constraints: [{range: {min: 3}}]}}\nresources: {}"
    problems = validate("x", [_stack(body, parameters={"size": "2"})], catalogue)
    assert _told(problems) == ["templates/stacks.yaml.j2: one: size: expected a number of at least 3, found 2"]


def test_a_value_is_followed_into_the_properties_that_it_becomes(catalogue: Catalogue) -> None:
    body = (
        "parameters: {cidr: {type: string}}\n"
        "resources: {range: {type: OS::Neutron::Subnet, properties: {network: x, cidr: {get_param: cidr}}}}"
    )
    problems = validate("x", [_stack(body, parameters={"cidr": "198.18.0.0/33"})], catalogue)
    assert [problem.finding.path for problem in problems] == ["properties.cidr"]


def test_an_output_that_another_stack_does_not_have_is_told(catalogue: Catalogue) -> None:
    network = _stack("resources: {}\noutputs: {id: {value: x}}", "network")
    user = _stack("parameters: {net: {type: string}}\nresources: {}", "user", net="network.idd")
    (problem,) = validate("x", [network, user], catalogue)
    assert str(problem.finding).endswith("user: net: expected an output of stack network (id), found idd")


def test_what_the_pipeline_gives_needs_no_stack(catalogue: Catalogue) -> None:
    user = _stack("parameters: {key: {type: string}}\nresources: {}", "user", key="given.ssh_public_key")
    assert validate("x", [user], catalogue) == ()


# --- the project's own


@pytest.mark.parametrize("name", list_environments(ROOT / "environments"))
def test_every_environment_is_valid_for_every_heat(name: str, catalogue: Catalogue) -> None:
    assert _told(validate(name, render(load(name, ROOT / "environments"), TEMPLATES), catalogue)) == []


@pytest.mark.parametrize("provider", list(Provider))
def test_every_provider_is_valid_for_every_heat(provider: Provider, catalogue: Catalogue) -> None:
    stacks = render(LOCAL.model_copy(update={"provider": provider}), TEMPLATES)
    assert _told(validate("local", stacks, catalogue)) == []


@pytest.mark.parametrize("network", EVERY_WAY, ids=lambda network: "-".join([network["endpoints"], *network][:3]))
def test_a_region_with_all_that_a_real_cloud_offers_is_valid(network: dict[str, object], catalogue: Catalogue) -> None:
    assert _told(validate("local", render(openstack_region(**network), TEMPLATES), catalogue)) == []


def test_a_region_with_a_control_host_on_a_real_cloud_is_valid(catalogue: Catalogue) -> None:
    assert _told(validate("small", render(small_region(), TEMPLATES), catalogue)) == []


def test_a_region_with_ssh_at_another_port_on_a_real_cloud_is_valid(catalogue: Catalogue) -> None:
    region = openstack_region()
    elsewhere = region.model_copy(update={"ssh": region.ssh.model_copy(update={"port": 2222})})
    assert _told(validate("local", render(elsewhere, TEMPLATES), catalogue)) == []


def test_machines_read_a_problem_as_plain_values(catalogue: Catalogue) -> None:
    (problem,) = validate("x", [_stack(WRONG["a-wrong-type"].body)], catalogue)
    assert problem.to_json() == {
        "environment": "x",
        "severity": "error",
        "file": "templates/one.yaml.j2",
        "resource": "net",
        "path": "properties.admin_state_up",
        "expected": "true or false",
        "found": "[1]",
        "releases": list(ALL),
    }
