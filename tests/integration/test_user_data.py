"""User data holds against cloud-init's own schema, as Debian packs it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline import render
from pipeline.environment import Environment, load
from tests.regions import openstack_region, small_region

REPOSITORY = Path(__file__).resolve().parents[2]
jsonschema = pytest.importorskip("jsonschema")


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return the schema of cloud-config in Debian's cloud-init, which is unpacked and not installed."""
    directory = tmp_path_factory.mktemp("cloud-init")
    apt = ["apt-get", "-qq", "-o", "APT::Sandbox::User=root"]
    if subprocess.run([*apt, "download", "cloud-init"], cwd=directory, check=False).returncode:
        subprocess.run([*apt, "update"], check=True)  # a new machine has no lists yet
        subprocess.run([*apt, "download", "cloud-init"], cwd=directory, check=True)
    (package,) = directory.glob("*.deb")
    subprocess.run(["dpkg-deb", "-x", package, directory / "root"], check=True)
    (found,) = directory.glob("root/**/schema-cloud-config-v1.json")
    return json.loads(found.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "environment", [openstack_region(), small_region(), load("local", REPOSITORY / "environments")]
)
def test_user_data_is_what_cloud_init_understands(environment: Environment, schema: Any) -> None:
    validator = jsonschema.Draft4Validator(schema)
    for stack in render.render(environment, REPOSITORY / "templates"):
        for name, one in yaml.safe_load(stack.template)["resources"].items():
            if one["type"] == "Region::Host":
                content = yaml.safe_load(one["properties"]["user_data"]["str_replace"]["template"])
                assert [f"{name}: {error.message}" for error in validator.iter_errors(content)] == []
