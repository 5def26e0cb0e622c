"""Templates for real clouds hold against the property schemas of real Heats; so does what is kept of those schemas.

The check itself runs inside a Heat: see validate_with_heat.py. What `inv validate` says of the same wrong and right
templates is in tests/unit/validation.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from pipeline import render
from pipeline.edges.heatcode import schemas_of, unpack
from pipeline.edges.wheelhouse import Wheelhouse
from pipeline.localcloud.settings import PLUGINS
from pipeline.validation import WRITER, path_of
from pipeline.workspace import Workspace
from tests.regions import EVERY_WAY, openstack_region, small_region
from tests.wrong_templates import HEADER, INNER, RIGHT, WRONG

REPOSITORY = Path(__file__).resolve().parents[2]
TEMPLATES = REPOSITORY / "templates"
PROVIDERS = TEMPLATES / "providers"
RELEASES = ("25.0.2", "26.0.2", "27.0.1")
VALIDATOR = Path(__file__).with_name("validate_with_heat.py")


@pytest.fixture(scope="session", params=RELEASES)
def heat_python(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a Python in which a real Heat can be imported, of each release in turn: as hosts get it."""
    workspace = Workspace(REPOSITORY, REPOSITORY / ".state" / "test")
    built = Wheelhouse(workspace.cache, uv=workspace.uv).ensure(request.param, report=print)
    return unpack(built, tmp_path_factory.mktemp(f"heat-{request.param}"))


def validate_with_heat(python: Path, *paths: Path) -> subprocess.CompletedProcess[str]:
    """Return how validate_with_heat.py judges templates or directories of them; its problems are in stdout."""
    command = [str(python), "-W", "ignore", str(VALIDATOR), *map(str, paths)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


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
    """Return a directory of templates that are wrong in one way each, of right ones, and of one for some of them."""
    directory = tmp_path_factory.mktemp("wrong")
    bodies = {name: one.body for name, one in WRONG.items()} | RIGHT
    for name, body in bodies.items():
        (directory / f"{name}.yaml").write_text(f"{HEADER}{body}\n", encoding="utf-8")
    (directory / "inner.yaml").write_text(INNER, encoding="utf-8")
    (directory / "heat_environment.yaml").write_text("resource_registry: {'Region::Inner': inner.yaml}\n")
    return directory


@pytest.fixture(scope="module")
def regions(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    """Return regions rendered for a real cloud: each way that customers may come, and one with a control host."""
    rendered = []
    for region in (*(openstack_region(**network) for network in EVERY_WAY), small_region()):
        rendered.append(tmp_path_factory.mktemp("region"))
        render.write(render.render(region, TEMPLATES), rendered[-1])
    return tuple(rendered)


@pytest.fixture(scope="module")
def verdict(heat_python: Path, wrong: Path, regions: tuple[Path, ...]) -> Verdict:
    """Return what Heat says about all of them; loading Heat takes most of the time, so it is loaded once."""
    judged = validate_with_heat(heat_python, wrong, PROVIDERS / "openstack", *regions)
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
    assert [verdict.of(region) for region in regions] == [{}] * (len(EVERY_WAY) + 1)


def test_no_template_is_overlooked(verdict: Verdict, wrong: Path, regions: tuple[Path, ...]) -> None:
    directories = (wrong, PROVIDERS / "openstack", *regions)
    hot = [path for one in directories for path in one.glob("*.yaml") if "heat_template" in path.read_text()]
    assert verdict.templates == len(hot)


@pytest.mark.parametrize("name", WRONG)
def test_a_template_with_one_mistake_is_refused_for_that_mistake(name: str, verdict: Verdict, wrong: Path) -> None:
    assert WRONG[name].heat in verdict.of(wrong)[name]


def test_right_templates_beside_wrong_ones_are_not_blamed(verdict: Verdict, wrong: Path) -> None:
    assert set(verdict.of(wrong)) == set(WRONG)


def test_the_schemas_kept_here_are_what_this_heat_says(heat_python: Path) -> None:
    said = schemas_of(heat_python, WRITER, PLUGINS)
    assert path_of(json.loads(said)["heat"]).read_text(encoding="utf-8") == said


@pytest.mark.parametrize("name", ["network", "address", "host"])
def test_both_providers_offer_the_same_parameters_and_outputs(name: str) -> None:
    local, openstack = (_interface(PROVIDERS / provider / f"{name}.yaml") for provider in ("local", "openstack"))
    assert local == openstack


def _interface(path: Path) -> dict[str, object]:
    """Return the names, types and defaults of a template's parameters, and the names of its outputs."""
    hot = yaml.safe_load(path.read_text(encoding="utf-8"))
    parameters = {name: (one["type"], one.get("default")) for name, one in hot["parameters"].items()}
    return {"parameters": parameters, "outputs": set(hot["outputs"])}
