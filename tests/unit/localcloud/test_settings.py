from __future__ import annotations

import configparser
import stat
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from pipeline.errors import ConfigurationInvalid
from pipeline.localcloud import credentials, settings
from pipeline.localcloud.cloud import LocalCloud
from pipeline.localcloud.credentials import Secrets

SECRETS = Secrets("admin-pw", "heat-pw", "domain-pw", "token", "k" * 32)


@pytest.fixture
def cloud(tmp_path: Path) -> LocalCloud:
    return LocalCloud(tmp_path, IPv4Network("198.18.5.0/24"))


def parsed(text: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(text)
    return parser


def test_the_seed_authenticates_ec2_tokens_at_an_endpoint_without_version(cloud: LocalCloud) -> None:
    heat = parsed(settings.text(settings.heat(cloud, Path("/venv"), SECRETS)))
    assert heat["ec2authtoken"]["endpoint_override"] == "http://198.18.5.1:5000"
    assert heat["ec2authtoken"]["auth_type"] == "password"


def test_hosts_are_told_to_signal_to_the_gateway(cloud: LocalCloud) -> None:
    heat = parsed(settings.text(settings.heat(cloud, Path("/venv"), SECRETS)))
    assert heat["DEFAULT"]["heat_waitcondition_server_url"] == "http://198.18.5.1:8000/v1/waitcondition"


def test_the_encryption_key_has_the_length_heat_wants(tmp_path: Path) -> None:
    assert len(credentials.ensure(tmp_path).encryption_key) == 32


def test_a_dollar_is_not_for_oslo_config_to_substitute() -> None:
    assert settings.text({"a": {"b": "x$y"}}) == "[a]\nb = x$$y\n"


def test_configuration_and_secrets_are_for_root_only(cloud: LocalCloud) -> None:
    settings.write(cloud.directory / "heat.conf", settings.heat(cloud, Path("/venv"), SECRETS))
    credentials.ensure(cloud.directory)
    for name in ("heat.conf", credentials.NAME):
        assert stat.S_IMODE((cloud.directory / name).stat().st_mode) == 0o600


def test_secrets_stay_the_same_and_differ_between_clouds(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    one = credentials.ensure(tmp_path / "a")
    assert credentials.ensure(tmp_path / "a") == one
    assert credentials.ensure(tmp_path / "b") != one


def test_secrets_do_not_show_in_a_traceback() -> None:
    assert "pw" not in repr(SECRETS)


def test_damaged_secrets_are_told(tmp_path: Path) -> None:
    (tmp_path / credentials.NAME).write_text("{}")
    with pytest.raises(ConfigurationInvalid, match="secrets"):
        credentials.load(tmp_path)
