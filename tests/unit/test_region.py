"""The region: read from the outputs of stacks, or refused naming what is missing; its secrets never show."""

from __future__ import annotations

from typing import Any

import pytest
from builders import KEY, LOCAL, SECRETS, region

from pipeline.environment import Role
from pipeline.errors import ConfigurationInvalid
from pipeline.region import Region, inventory_of, region_of
from pipeline.secrets import Secret

AUTH = "http://198.18.7.1:5000/v3"


def _outputs() -> dict[str, dict[str, Any]]:
    """Return outputs as the stacks of the local environment have them."""
    known = region()
    outputs: dict[str, dict[str, Any]] = {
        role.value: {"hosts": {h.name: {"address": h.address, "signal": {"1": KEY}} for h in known.inventory.of(role)}}
        for role in Role
    }
    outputs["database"]["password"] = SECRETS["database"]
    outputs["messaging"]["password"] = SECRETS["messaging"]
    outputs["network"] = {"public_address": known.address}
    outputs["identity"] = {
        "service_user": "local-heat",
        "service_project": "local-heat-service",
        "stack_domain": known.identity.stack_domain,
        "stack_domain_admin": known.identity.stack_domain_admin,
        **{key: SECRETS[key] for key in SECRETS if key not in ("database", "messaging")},
    }
    return outputs


def _read(outputs: dict[str, dict[str, Any]]) -> Region:
    return region_of(LOCAL, outputs, auth_url=AUTH)


def test_outputs_of_all_stacks_make_a_region() -> None:
    assert _read(_outputs()) == region()


def test_a_region_lists_its_hosts_by_role() -> None:
    names = [host.name for host in _read(_outputs()).inventory.hosts]
    assert names == ["database-0", "messaging-0", "api-0", "api-1", "engine-0", "engine-1", "loadbalancer-0"]


@pytest.mark.parametrize("stack", ["network", "identity", *(role.value for role in Role)])
def test_a_missing_stack_is_named(stack: str) -> None:
    outputs = _outputs()
    del outputs[stack]
    with pytest.raises(ConfigurationInvalid, match=f"local is not deployed: there is no '{stack}'") as caught:
        _read(outputs)
    assert caught.value.hint == "inv deploy local --release R"


@pytest.mark.parametrize(
    ("stack", "key"),
    [(stack, key) for stack, keys in _outputs().items() for key in keys],
)
def test_a_missing_output_is_named(stack: str, key: str) -> None:
    outputs = _outputs()
    del outputs[stack][key]
    with pytest.raises(ConfigurationInvalid, match=f"there is no '{key}'"):
        _read(outputs)


def test_secrets_print_as_stars() -> None:
    text = f"{_read(_outputs())!r} {_read(_outputs())}"
    assert text.count("=***") >= len(SECRETS)
    assert not [secret for secret in SECRETS.values() if secret in text]


@pytest.mark.parametrize(
    ("key", "stack", "output"),
    [
        ("database_password", "database", "password"),
        ("messaging_password", "messaging", "password"),
        *((key, "identity", key) for key in ("encryption_key", "service_password", "canary_password")),
        ("stack_domain_password", "identity", "stack_domain_password"),
    ],
)
def test_a_secret_kept_elsewhere_is_no_output_of_a_stack(key: str, stack: str, output: str) -> None:
    outputs = _outputs()
    del outputs[stack][output]
    found = region_of(LOCAL, outputs, auth_url=AUTH, secrets={key: Secret("kept-elsewhere")})
    assert [text for text in found.secrets if text not in SECRETS.values()] == ["kept-elsewhere"]


def test_hosts_are_known_without_any_secret() -> None:
    outputs = {stack: {key: value for key, value in one.items() if key == "hosts"} for stack, one in _outputs().items()}
    assert inventory_of(LOCAL, outputs) == region().inventory


def test_a_host_that_did_not_come_up_locks_nobody_out_of_the_others() -> None:
    outputs = _outputs()
    outputs["engine"]["hosts"]["engine-2"] = {"address": None, "signal": None}
    inventory = _read(outputs).inventory
    assert inventory.hosts == region().inventory.hosts
    assert [host.name for host in inventory.absent] == ["engine-2"]
