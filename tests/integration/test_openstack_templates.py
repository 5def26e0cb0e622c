"""Templates for real clouds hold against the property schemas of real Heat.

The check itself runs inside a Heat: see validate_with_heat.py.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from pipeline import environment, render
from pipeline.localcloud.venv import ensure_venv

REPOSITORY = Path(__file__).resolve().parents[2]
TEMPLATES = REPOSITORY / "templates"
PROVIDERS = TEMPLATES / "providers"
VALIDATOR = Path(__file__).with_name("validate_with_heat.py")
HEADER = "heat_template_version: 2021-04-16\n"

INNER = """
parameters:
  name: {type: string}
resources:
  net: {type: OS::Neutron::Net, properties: {name: {get_param: name}}}
outputs:
  ids: {value: {net: {get_resource: net}}}
"""

# name of a template that is wrong in one way -> (its body, what Heat says about it)
WRONG: Mapping[str, tuple[str, str]] = {
    "a-misspelt-property": (
        "resources: {net: {type: OS::Neutron::Net, properties: {nmae: x}}}",
        "Unknown Property nmae",
    ),
    "a-misspelt-property-of-a-rule": (
        "resources: {group: {type: OS::Neutron::SecurityGroup, properties: {rules: [{portocol: tcp}]}}}",
        "Unknown Property portocol",
    ),
    "a-missing-required-property": (
        "resources: {range: {type: OS::Neutron::Subnet, properties: {cidr: 198.18.0.0/24}}}",
        "Property network not assigned",
    ),
    "a-wrong-type": (
        "resources: {net: {type: OS::Neutron::Net, properties: {admin_state_up: [1]}}}",
        "is not a valid boolean",
    ),
    "a-wrong-value": (
        "resources: {range: {type: OS::Neutron::Subnet, properties: {network: x, cidr: 198.18.0.0/33}}}",
        "Invalid net cidr",
    ),
    "an-empty-name": (
        "resources: {port: {type: OS::Neutron::Port, properties: {network: ''}}}",
        "expected a name or an id",
    ),
    "an-unknown-type": (
        "resources: {net: {type: OS::Neutron::Nett}}",
        "The Resource Type (OS::Neutron::Nett) could not be found",
    ),
    "an-unknown-attribute": (
        "resources: {net: {type: OS::Neutron::Net}}\noutputs: {out: {value: {get_attr: [net, cidr]}}}",
        "The Referenced Attribute (net cidr) is incorrect",
    ),
    "a-hidden-property": (
        "resources: {port: {type: OS::Neutron::Port, properties: {network: x, fixed_ips: [{subnet_id: y}]}}}",
        "property fixed_ips.subnet_id is hidden",
    ),
    "properties-that-exclude-each-other": (
        "resources: {rule: {type: OS::Neutron::SecurityGroupRule,"
        " properties: {security_group: x, remote_group: y, remote_ip_prefix: 198.18.0.0/24}}}",
        "Cannot define the following properties at the same time",
    ),
    "a-mistake-behind-a-condition": (
        "parameters: {extra: {type: string, default: ''}}\n"
        "conditions: {wanted: {not: {equals: [{get_param: extra}, '']}}}\n"
        "resources: {net: {type: OS::Neutron::Net, condition: wanted, properties: {nmae: x}}}",
        "Unknown Property nmae",
    ),
    "a-misspelt-property-of-our-own-type": (
        "resources: {inner: {type: Region::Inner, properties: {nmae: x}}}",
        "Unknown Property nmae",
    ),
    "an-unknown-attribute-of-our-own-type": (
        "resources: {inner: {type: Region::Inner, properties: {name: x}}}\n"
        "outputs: {out: {value: {get_attr: [inner, id]}}}",
        "inner: has no attribute id",
    ),
    "an-unknown-key-of-an-attribute": (
        "resources: {inner: {type: Region::Inner, properties: {name: x}}}\n"
        "outputs: {out: {value: {get_attr: [inner, ids, subnet]}}}",
        "attribute ids has no key 'subnet'",
    ),
    "broken-yaml": ("description: Heat: its network", "mapping values are not allowed here"),
}


def heat_python() -> Path:
    """Return the python of a venv with openstack-heat: HDH_HEAT_PYTHON, or the local cloud's own."""
    given = os.environ.get("HDH_HEAT_PYTHON")
    return Path(given) if given else ensure_venv(print) / "bin" / "python"


def validate(*paths: Path, plugins: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Return how validate_with_heat.py judges templates or directories of them; its problems are in stdout."""
    extra = ["--plugins", str(plugins)] if plugins else []
    command = [str(heat_python()), str(VALIDATOR), *extra, *map(str, paths)]
    return subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)


@dataclass(frozen=True)
class Verdict:
    """What Heat said about directories of templates: how many it saw, and its words on those it refused."""

    templates: int
    problems: Mapping[Path, str]

    def of(self, directory: Path) -> dict[str, str]:
        """Return the problems of templates in `directory`, by the template's name."""
        return {path.stem: problem for path, problem in self.problems.items() if path.parent == directory}


@pytest.fixture(scope="module")
def wrong(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory of templates that are wrong in one way each, and a right one that some of them use."""
    directory = tmp_path_factory.mktemp("wrong")
    for name, (body, _) in WRONG.items():
        (directory / f"{name}.yaml").write_text(f"{HEADER}{body}\n", encoding="utf-8")
    (directory / "inner.yaml").write_text(HEADER + INNER, encoding="utf-8")
    (directory / "heat_environment.yaml").write_text("resource_registry: {'Region::Inner': inner.yaml}\n")
    return directory


@pytest.fixture(scope="module")
def regions(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    """Return two regions rendered for a real cloud: one without a way out, one with all that is optional."""
    local = environment.load("local", REPOSITORY / "environments")
    routed = {
        "external_network": "public",
        "cidr": "198.18.0.0/24",
        "operator_cidr": "198.18.1.0/24",
        "dns": ["198.18.2.1"],
    }
    rendered = []
    for network in ({}, routed):
        facts = local.model_dump() | {"provider": "openstack", "network": network}
        stacks = render.render(environment.Environment.model_validate(facts), TEMPLATES)
        rendered.append(tmp_path_factory.mktemp("region"))
        render.write(stacks, rendered[-1])
    return tuple(rendered)


@pytest.fixture(scope="module")
def verdict(wrong: Path, regions: tuple[Path, ...]) -> Verdict:
    """Return what Heat says about all of them; loading Heat takes most of the time, so it is loaded once."""
    judged = validate(wrong, PROVIDERS / "openstack", *regions)
    assert judged.returncode == 1, judged.stderr
    *lines, last = judged.stdout.splitlines()
    problems: dict[Path, str] = {}
    for line in lines:
        path, _, problem = line.partition(": ")
        problems[Path(path)] = f"{problems.get(Path(path), '')}{problem}\n"
    return Verdict(int(last.split()[0]), problems)


def test_templates_for_real_clouds_hold_against_heats_own_schemas(verdict: Verdict) -> None:
    assert verdict.of(PROVIDERS / "openstack") == {}


def test_every_stack_of_a_region_on_a_real_cloud_holds(verdict: Verdict, regions: tuple[Path, ...]) -> None:
    assert [verdict.of(region) for region in regions] == [{}, {}]


def test_no_template_is_overlooked(verdict: Verdict, wrong: Path, regions: tuple[Path, ...]) -> None:
    directories = (wrong, PROVIDERS / "openstack", *regions)
    hot = [path for one in directories for path in one.glob("*.yaml") if "heat_template" in path.read_text()]
    assert verdict.templates == len(hot)


@pytest.mark.parametrize("name", WRONG)
def test_a_template_with_one_mistake_is_refused_for_that_mistake(name: str, verdict: Verdict, wrong: Path) -> None:
    assert WRONG[name][1] in verdict.of(wrong)[name]


def test_a_right_template_beside_wrong_ones_is_not_blamed(verdict: Verdict, wrong: Path) -> None:
    assert "inner" not in verdict.of(wrong)


@pytest.mark.parametrize("name", ["network", "address", "host"])
def test_both_providers_offer_the_same_parameters_and_outputs(name: str) -> None:
    local, openstack = (_interface(PROVIDERS / provider / f"{name}.yaml") for provider in ("local", "openstack"))
    assert local == openstack


def _interface(path: Path) -> dict[str, object]:
    """Return the names, types and defaults of a template's parameters, and the names of its outputs."""
    hot = yaml.safe_load(path.read_text(encoding="utf-8"))
    parameters = {name: (one["type"], one.get("default")) for name, one in hot["parameters"].items()}
    return {"parameters": parameters, "outputs": set(hot["outputs"])}
