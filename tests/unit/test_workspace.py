"""The workspace: state stays in the checkout, caches are the user's, and nothing is where others look."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.environment import Provider, load
from pipeline.workspace import Workspace

ROOT = Path(__file__).parents[2]
HERE = Workspace(Path("/checkout"), Path("/checkout/.state"))


def test_inputs_are_read_from_the_checkout() -> None:
    assert (HERE.environments, HERE.templates) == (Path("/checkout/environments"), Path("/checkout/templates"))


def test_all_that_a_run_leaves_is_below_the_state() -> None:
    paths = (HERE.cloud, HERE.records, HERE.key("local"), HERE.known_hosts("local"), HERE.customer_clouds("local"))
    assert all(path.is_relative_to(HERE.state) for path in paths)
    assert len(set(paths)) == len(paths)


def test_environments_share_no_file() -> None:
    for kind in (HERE.key, HERE.known_hosts, HERE.customer_clouds):
        assert kind("local") != kind("staging")


def test_caches_are_where_the_user_keeps_caches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert HERE.cache == tmp_path / "heat-deploys-heat"


@pytest.mark.parametrize("unset", [True, False])
def test_caches_are_in_the_home_where_nobody_says_otherwise(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, unset: bool
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    if unset:
        monkeypatch.delenv("XDG_CACHE_HOME")
    assert HERE.cache == tmp_path / ".cache" / "heat-deploys-heat"


def test_uv_is_the_one_that_was_installed_with_us() -> None:
    assert os.access(HERE.uv, os.X_OK)


def test_the_local_cloud_has_a_clouds_file_of_its_own_and_others_are_in_the_users() -> None:
    local = load("local", ROOT / "environments")
    elsewhere = local.model_copy(update={"provider": Provider.OPENSTACK})
    assert HERE.clouds(local) == Path("/checkout/.state/cloud/clouds.yaml")
    assert HERE.clouds(elsewhere) is None
