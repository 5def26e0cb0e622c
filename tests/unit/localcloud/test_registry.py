from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from pipeline.errors import PipelineError
from pipeline.localcloud import machines
from pipeline.localcloud.cloud import LocalCloud
from pipeline.localcloud.hosts import Host
from pipeline.localcloud.registry import POOL, Conflict, Invalid, NotFound, Registry

ONE = "00000000-0000-4000-8000-000000000001"
TWO = "00000000-0000-4000-8000-000000000002"


@dataclass
class HostsInMemory:
    """Hosts as the registry sees them, without containers; the integration tests have real ones."""

    cloud: LocalCloud
    made: dict[str, Host] = field(default_factory=dict)
    on: set[str] = field(default_factory=set)
    broken: bool = False

    def all(self) -> tuple[Host, ...]:
        return tuple(self.made.values())

    def create(self, host: Host) -> None:
        self.made[host.name] = host
        if self.broken:
            raise PipelineError("no power")
        self.on.add(host.name)

    def boot(self, host: Host) -> None:
        if host.name == "broken":
            raise PipelineError("no power")
        self.on.add(host.name)

    def destroy(self, name: str) -> None:
        self.made.pop(name, None)
        self.on.discard(name)

    def running(self, name: str) -> bool:
        return name in self.on


@pytest.fixture
def hosts(tmp_path: Path) -> HostsInMemory:
    return HostsInMemory(LocalCloud(tmp_path, IPv4Network("198.18.5.0/24")))


@pytest.fixture
def registry(hosts: HostsInMemory) -> Registry:
    return Registry(hosts)


def test_a_machine_gets_the_first_free_address(registry: Registry) -> None:
    assert registry.create(ONE, "a", None, "") == {
        "id": ONE, "name": "a", "address": "198.18.5.10", "state": "running",
    }  # fmt: skip
    assert registry.create(TWO, "b", None, "")["address"] == "198.18.5.11"


def test_a_reserved_address_is_for_who_asks_for_it(registry: Registry) -> None:
    reserved = registry.reserve(ONE, "front")
    assert registry.create(TWO, "other", None, "")["address"] != reserved["address"]
    assert registry.create(ONE, "front", reserved["address"], "")["address"] == reserved["address"]


def test_reserving_again_gives_the_same_address(registry: Registry) -> None:
    assert registry.reserve(ONE, "front") == registry.reserve(ONE, "front") == registry.address(ONE)


def test_a_reserved_name_is_not_shared_with_another_holder(registry: Registry) -> None:
    registry.reserve(ONE, "front")
    with pytest.raises(Conflict, match="front"):
        registry.reserve(TWO, "front")


def test_a_released_address_is_free_again(registry: Registry) -> None:
    first = registry.reserve(ONE, "front")
    registry.release(ONE)
    registry.release(ONE)
    assert registry.reserve(TWO, "back")["address"] == first["address"]
    with pytest.raises(NotFound):
        registry.address(ONE)


@pytest.mark.parametrize(("identity", "name"), [(TWO, "a"), (ONE, "b")])
def test_a_name_and_an_id_are_used_once(registry: Registry, identity: str, name: str) -> None:
    registry.create(ONE, "a", None, "")
    with pytest.raises(Conflict):
        registry.create(identity, name, None, "")


def test_an_address_in_use_is_refused(registry: Registry) -> None:
    registry.create(ONE, "a", "198.18.5.20", "")
    with pytest.raises(Conflict, match=r"198\.18\.5\.20"):
        registry.create(TWO, "b", "198.18.5.20", "")


@pytest.mark.parametrize("address", ["10.0.0.1", "198.18.5.1", "198.18.5.255", "x", "198.18.5.300"])
def test_an_address_outside_of_the_pool_is_refused(registry: Registry, address: str) -> None:
    with pytest.raises(Invalid):
        registry.create(ONE, "a", address, "")


@pytest.mark.parametrize("name", ["", "A", "-a", "a-", "a/b", "..", "a" * 43, "a b"])
def test_a_name_that_no_host_can_have_is_refused(registry: Registry, name: str) -> None:
    with pytest.raises(Invalid):
        registry.create(ONE, name, None, "")


def test_an_id_that_is_no_uuid_is_refused(registry: Registry) -> None:
    with pytest.raises(Invalid):
        registry.create("../../etc", "a", None, "")


def test_a_machine_that_fails_to_start_leaves_nothing(registry: Registry, hosts: HostsInMemory) -> None:
    hosts.broken = True
    with pytest.raises(PipelineError):
        registry.create(ONE, "a", None, "")
    hosts.broken = False
    assert registry.machines() == []
    assert registry.create(TWO, "a", None, "")["address"] == "198.18.5.10"


def test_deleting_twice_is_well(registry: Registry) -> None:
    registry.create(ONE, "a", None, "")
    registry.delete(ONE)
    registry.delete(ONE)
    assert registry.machines() == []


def test_what_was_off_is_booted_and_one_failure_keeps_no_other_from_it(
    registry: Registry, hosts: HostsInMemory
) -> None:
    for identity, name in ((ONE, "broken"), (TWO, "well")):
        hosts.made[name] = Host(identity, name, "198.18.5.10", "")
    (failure,) = registry.resume()
    assert failure.startswith("broken: ")
    assert hosts.on == {"well"}


def test_a_full_network_is_a_conflict(registry: Registry, hosts: HostsInMemory) -> None:
    for number in POOL:
        hosts.made[str(number)] = Host(str(number), str(number), f"198.18.5.{number}", "")
    with pytest.raises(Conflict, match="every address"):
        registry.reserve(ONE, "one-too-many")


def test_the_service_answers_with_the_status_that_fits(registry: Registry, hosts: HostsInMemory) -> None:
    def ask(method: str, path: str, **body: object) -> int:
        return machines.answer(registry, method, path, body)[0]

    assert ask("GET", "/network") == 200
    assert ask("POST", "/machines", id=ONE, name="a") == 201
    assert ask("POST", "/machines", id=TWO, name="a") == 409
    assert ask("POST", "/machines", id=TWO, name=7) == 400
    assert ask("POST", "/machines", id=TWO) == 400
    assert ask("GET", f"/machines/{ONE}") == 200
    assert ask("POST", f"/machines/{ONE}/reboot") == 202
    assert ask("DELETE", f"/machines/{ONE}") == 204
    assert ask("GET", f"/machines/{ONE}") == 404
    assert ask("GET", "/nothing") == 404
    assert ask("POST", "/addresses", id=ONE, name="a") == 201
    assert ask("GET", f"/addresses/{ONE}") == 200
    assert ask("DELETE", f"/addresses/{ONE}") == 204
    hosts.broken = True
    assert machines.answer(registry, "POST", "/machines", {"id": ONE, "name": "a"}) == (500, {"error": "no power"})
