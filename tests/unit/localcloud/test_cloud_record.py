from __future__ import annotations

import json
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from pipeline.errors import ConfigurationInvalid
from pipeline.localcloud import cloud as records
from pipeline.localcloud.cloud import LocalCloud


def made(directory: Path) -> LocalCloud:
    cloud = LocalCloud(directory.resolve(), IPv4Network("198.19.7.0/24"))
    records.save(cloud)
    return cloud


def test_a_saved_cloud_is_loaded_as_it_was(tmp_path: Path) -> None:
    assert records.load(tmp_path) is None
    cloud = made(tmp_path)
    assert records.load(tmp_path) == cloud


def test_every_address_follows_from_the_network(tmp_path: Path) -> None:
    cloud = made(tmp_path)
    assert cloud.gateway == "198.19.7.1"
    assert cloud.loopback == "127.19.7.1"
    assert cloud.keystone_url == "http://198.19.7.1:5000/v3"
    assert cloud.heat_url == "http://198.19.7.1:8004/v1/%(tenant_id)s"


def test_two_checkouts_have_different_names_that_fit_an_interface(tmp_path: Path) -> None:
    one, other = LocalCloud(tmp_path / "a", records.TEST_RANGE), LocalCloud(tmp_path / "b", records.TEST_RANGE)
    assert one.name != other.name
    assert len(one.bridge) <= 15


def test_the_socket_path_is_short_however_deep_the_checkout_is(tmp_path: Path) -> None:
    deep = LocalCloud(tmp_path / ("x" * 100) / ("y" * 100), records.TEST_RANGE)
    assert len(str(deep.database_socket)) < 108


def test_a_network_that_is_taken_is_passed_over(tmp_path: Path) -> None:
    first, second = list(records.candidates(tmp_path))[:2]
    assert records.choose(tmp_path, [first, IPv4Network("10.0.0.0/8")]).network == second


def test_every_network_is_a_candidate_once(tmp_path: Path) -> None:
    found = list(records.candidates(tmp_path))
    assert len(found) == len(set(found)) == 512


def test_no_free_network_is_an_error_not_a_loop(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationInvalid, match="is in use"):
        records.choose(tmp_path, [records.TEST_RANGE])


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"subnet": "x", "name": "y"}'])
def test_a_damaged_record_names_the_file_and_what_to_do(tmp_path: Path, text: str) -> None:
    (tmp_path / records.RECORD).write_text(text)
    with pytest.raises(ConfigurationInvalid) as caught:
        records.load(tmp_path)
    assert str(tmp_path) in caught.value.message
    assert caught.value.hint == "inv local.down"


def test_a_moved_directory_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    made(tmp_path / "old")
    (tmp_path / "old").rename(tmp_path / "new")
    with pytest.raises(ConfigurationInvalid, match="another path"):
        records.load(tmp_path / "new")


def test_the_record_holds_no_secret(tmp_path: Path) -> None:
    made(tmp_path)
    assert "password" not in json.dumps(json.loads((tmp_path / records.RECORD).read_text()))
