"""The inventory: hosts come out of stack outputs, in order, with the keys they are pinned to."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pipeline.environment import Role
from pipeline.errors import ConfigurationInvalid
from pipeline.inventory import Host, Inventory, hosts_of

ED25519 = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKfN"
ECDSA = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTY"


def _facts(address: str, *lines: str) -> dict[str, Any]:
    return {"address": address, "signal": json.dumps({"1": "\n".join(lines)})}


def _region() -> Inventory:
    hosts = [Host(f"{role.value}-0", role, "198.18.0.9", (ED25519,)) for role in Role]
    return Inventory("local", (*hosts, Host("engine-1", Role.ENGINE, "198.18.0.10", (ED25519,))))


def test_hosts_come_by_index_and_not_by_letters() -> None:
    output = {f"engine-{index}": _facts(f"198.18.0.{index}", ED25519) for index in (10, 2, 0)}
    assert [host.name for host in hosts_of(Role.ENGINE, output)] == ["engine-0", "engine-2", "engine-10"]


def test_a_host_has_its_address_and_every_key_it_signalled() -> None:
    (host,) = hosts_of(Role.API, {"api-0": _facts("198.18.0.5", f"{ED25519} root@api-0", "", ECDSA)})
    assert host == Host("api-0", Role.API, "198.18.0.5", (ED25519, ECDSA))


def test_a_signal_may_be_a_mapping_already() -> None:
    (host,) = hosts_of(Role.API, {"api-0": {"address": "198.18.0.5", "signal": {"1": ED25519}}})
    assert host.host_keys == (ED25519,)


@pytest.mark.parametrize("signal", ["{}", {}, None, "null", "[]", '{"1": ""}', '{"1": "it failed"}', "not JSON"])
def test_a_host_that_signalled_no_key_has_none(signal: object) -> None:
    (host,) = hosts_of(Role.API, {"api-0": {"address": "198.18.0.5", "signal": signal}})  # type: ignore[dict-item]
    assert host == Host("api-0", Role.API, "198.18.0.5", ())


@pytest.mark.parametrize("facts", [None, {}, {"address": None, "signal": {"1": ED25519}}])
def test_a_host_without_an_address_has_no_key_either(facts: Any) -> None:
    assert hosts_of(Role.API, {"api-0": facts}) == (Host("api-0", Role.API, "", ()),)


def test_hosts_of_several_roles_keep_their_order() -> None:
    names = [host.name for host in _region().of(Role.ENGINE, Role.API)]
    assert names == ["api-0", "engine-0", "engine-1"]


def test_one_returns_the_first_host_of_a_role() -> None:
    assert _region().one(Role.ENGINE).name == "engine-0"


def test_a_role_without_hosts_says_how_to_get_them() -> None:
    with pytest.raises(ConfigurationInvalid, match="has no database host") as caught:
        Inventory("local", ()).one(Role.DATABASE)
    assert caught.value.hint == "inv deploy local --release R"


def test_a_host_is_found_by_name() -> None:
    assert _region().host("engine-1").address == "198.18.0.10"


def test_an_unknown_host_names_those_there_are() -> None:
    with pytest.raises(ConfigurationInvalid, match=r"no host 'engine-7' .*database-0.*engine-1"):
        _region().host("engine-7")
