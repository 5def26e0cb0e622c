"""A control host: database, broker, API and load balancer on one machine, each still a host of its own role."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from builders import KEY, R25, SECRETS, TEMPLATES, fleet_on, region
from pydantic import ValidationError

from pipeline import regionstacks
from pipeline.checks.listening import Socket, exposed, role_listens
from pipeline.checks.selection import Selection
from pipeline.edges.ssh.route import Routes
from pipeline.environment import CONTROLLING, Environment, Role, load
from pipeline.errors import ConfigurationInvalid
from pipeline.fanout import chosen
from pipeline.hostfiles import release_files, role_files
from pipeline.inventory import LOOPBACK, Host
from pipeline.plan import Act, Plan
from pipeline.region import region_of
from pipeline.regionstacks import RegionStacks
from pipeline.render import render
from pipeline.scaling import plan_scaling
from tests.regions import small_region

ENVIRONMENTS = Path(__file__).parents[2] / "environments"
SMALL = load("local-small", ENVIRONMENTS)
LOCAL = load("local", ENVIRONMENTS)
REGION = region(SMALL)
ADDRESS = "198.18.7.11"


def _with(**topology: Any) -> dict[str, Any]:
    facts = SMALL.model_dump()
    return facts | {"topology": facts["topology"] | topology}


def _host(role: Role) -> Host:
    return REGION.inventory.one(role)


# --- the environment


@pytest.mark.parametrize(
    ("topology", "said"),
    [
        ({"control": {"count": 2}}, r"control\.count must be 1"),
        ({"control": {"count": 1, "data_volume_gb": 5}}, r"control\.data_volume_gb must be 0"),
        ({"api": {"count": 2}}, r"api\.count must be 1 where there is a control host"),
        ({"database": {"count": 3}}, r"database\.count must be 1 where there is a control host"),
    ],
)
def test_what_one_machine_cannot_have_is_refused(topology: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Environment.model_validate(_with(**topology))


@pytest.mark.parametrize("provider", ["local", "openstack"])
def test_two_stacks_have_the_hosts_and_one_of_them_has_the_address_and_the_passwords(provider: str) -> None:
    stacks = {stack.name: stack for stack in render(small_region(provider), TEMPLATES)}
    assert set(stacks) == {"network", "identity", "control", "engine"}
    control, resources = stacks["control"], yaml.safe_load(stacks["control"].template)["resources"]
    hosts = [name for name, one in resources.items() if one["type"] == "Region::Host"]
    assert hosts == ["control-0"]
    assert {"database_password", "messaging_password"} < set(resources)
    assert control.inputs["address"] == ("network", "address")
    assert control.inputs["security_group"] == ("network", "security_groups", "control")


def test_it_is_as_protected_as_what_it_keeps() -> None:
    assert "control" in SMALL.stacks.protected


# --- the region


def test_outputs_of_its_stack_make_a_host_of_every_role_on_it() -> None:
    identity = REGION.identity
    signal = {"1": KEY}
    outputs: dict[str, dict[str, Any]] = {
        "network": {"public_address": REGION.address},
        "identity": {
            "service_user": identity.service_user,
            "service_project": identity.service_project,
            "stack_domain": identity.stack_domain,
            "stack_domain_admin": identity.stack_domain_admin,
            **SECRETS,
        },
        "control": {
            "hosts": {"control-0": {"address": ADDRESS, "signal": signal}},
            "database_password": SECRETS["database"],
            "messaging_password": SECRETS["messaging"],
        },
        "engine": {
            "hosts": {one.name: {"address": one.address, "signal": signal} for one in REGION.inventory.of(Role.ENGINE)}
        },
    }
    found = region_of(SMALL, outputs, auth_url=identity.auth_url)
    assert found.inventory == REGION.inventory
    assert (found.database_password, found.messaging_password) == (REGION.database_password, REGION.messaging_password)
    assert {(one.machine, one.address) for one in found.inventory.of(*CONTROLLING)} == {("control-0", ADDRESS)}
    del outputs["control"]
    with pytest.raises(ConfigurationInvalid, match="there is no 'control' among"):
        region_of(SMALL, outputs, auth_url=identity.auth_url)


def test_it_is_one_machine_to_log_in_to_by_its_name_or_a_hosts() -> None:
    assert [one.name for one in REGION.inventory.machines] == ["control-0", "engine-0", "engine-1"]
    assert REGION.inventory.host("control-0").address == REGION.inventory.host("api-0").address == ADDRESS
    assert len({Routes(SMALL.ssh).to(_host(role)) for role in CONTROLLING}) == 1


@pytest.mark.parametrize(("roles", "names"), [([], []), (["api", "database", "engine"], [])])
def test_a_command_runs_on_it_once(roles: list[str], names: list[str]) -> None:
    assert [one.name for one in chosen(REGION.inventory, roles, names)] == ["control-0", "engine-0", "engine-1"]


@pytest.mark.parametrize("name", ["control-0", "messaging-0"])
def test_a_command_is_limited_to_it_by_either_name(name: str) -> None:
    assert [one.name for one in chosen(REGION.inventory, [], [name])] == ["control-0"]


def test_checks_are_limited_to_the_machine_or_to_one_role_of_it() -> None:
    on_it = [one.name for one in Selection(names=("control-0",)).hosts(REGION.inventory)]
    assert on_it == ["database-0", "messaging-0", "api-0", "loadbalancer-0"]
    assert [one.name for one in Selection(names=("api-0",)).hosts(REGION.inventory)] == ["api-0"]


# --- what runs on it


def test_the_load_balancer_has_the_address_and_the_api_behind_it_loopback() -> None:
    (balancer,) = [
        one for one in role_files(_host(Role.LOADBALANCER), SMALL, REGION, TEMPLATES) if "haproxy" in one.path
    ]
    assert f"bind {ADDRESS}:8004" in balancer.content
    assert f"server api-0 {LOOPBACK}:8004 check" in balancer.content
    files = release_files(_host(Role.API), SMALL, REGION, R25, "heat-25", TEMPLATES)
    bound = [line for file in files for line in file.content.splitlines() if line.startswith("http-socket")]
    assert bound == [f"http-socket = {LOOPBACK}:8004", f"http-socket = {LOOPBACK}:8000"]


def test_no_two_roles_write_the_same_file() -> None:
    paths = [file.path for role in CONTROLLING for file in role_files(_host(role), SMALL, REGION, TEMPLATES)]
    assert len(paths) == len(set(paths)) > len(CONTROLLING)


def test_ports_of_all_its_roles_may_be_open_and_no_others() -> None:
    pairs = [pair for role in CONTROLLING for pair in role_listens(_host(role), SMALL)]
    assert len(pairs) == len(set(pairs))
    found = tuple(Socket("tcp", address, port, "x") for address, port in pairs)
    more = Socket("tcp", ADDRESS, 4369, "epmd")
    for role in CONTROLLING:
        assert exposed((*found, more), _host(role), SMALL) == (f"epmd on {ADDRESS}:4369/tcp",)
    assert len(exposed(found, _host(Role.ENGINE), SMALL)) == len({one for one in found if not one.on_loopback})


# --- what it does not do


def test_a_role_that_shares_it_does_not_scale_and_engines_do() -> None:
    fleet = fleet_on(R25, SMALL)
    with pytest.raises(ConfigurationInvalid, match="role api does not scale: it is on control-0 with others"):
        plan_scaling(fleet, Role.API, 2)
    assert plan_scaling(fleet, Role.ENGINE, 3).coming == 1


@pytest.mark.parametrize(
    ("environment", "there", "said"),
    [(SMALL, "local-small-database", "it has database"), (LOCAL, "local-control", "it has control")],
)
def test_roles_of_a_region_that_is_there_do_not_move_to_other_machines(
    environment: Environment, there: str, said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    created: Any = SimpleNamespace(name="engine", act=Act.CREATE, resources=())
    monkeypatch.setattr(regionstacks, "survey", lambda *_, **__: Plan(environment.name, "", "", "", (created,)))
    monkeypatch.setattr(RegionStacks, "_given", lambda _: {})
    workspace: Any = SimpleNamespace(key=lambda _: tmp_path / "key", templates=TEMPLATES)
    nobody: Any = None

    def stacks(*names: str) -> RegionStacks:
        cloud: Any = SimpleNamespace(find=lambda name, **_: name if name in names else None)
        return RegionStacks(environment, (), cloud, workspace, nobody, nobody, nobody)

    with pytest.raises(ConfigurationInvalid, match=rf"topology\.control is not what .* \({said}\)"):
        stacks(there).survey("")
    stacks(f"{environment.name}-engine").survey("")
