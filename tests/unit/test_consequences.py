"""What a plan means for hosts, in words."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.consequences import (
    consequences,
    hosts_leaving,
    hosts_made_anew,
    losses,
    require_same_members,
    require_same_volumes,
)
from pipeline.errors import ConfigurationInvalid
from pipeline.plan import Act, Parameter, ParameterChange, Plan, StackPlan
from pipeline.stacks import Kind, ResourceChange


def _host(name: str, kind: Kind = Kind.UPDATED) -> ResourceChange:
    return ResourceChange(name, kind, "Region::Host")


def _server(name: str, kind: Kind = Kind.REPLACED) -> ResourceChange:
    return ResourceChange(f"{name}/server", kind, "OS::Nova::Server")


def _plan(name: str, *resources: ResourceChange, release: str = "26.0.2-a", protected: bool = False) -> Plan:
    stack = StackPlan(name, f"local-{name}", Act.UPDATE, protected, None, "", "", resources, (), ())
    return Plan("local", release, "", "", (stack,))


def test_an_engine_whose_server_is_made_anew_is_drained_first() -> None:
    plan = _plan("engine", _host("engine-0", Kind.UNCHANGED), _host("engine-1"), _server("engine-1"))
    assert consequences(plan)["engine"] == (
        "engine-1: its server is made anew: it is drained first, its releases and logs go",
    )
    assert hosts_leaving(plan) == ("engine-1",)


def test_a_plan_without_a_release_drains_nothing_and_says_so() -> None:
    (line,) = consequences(_plan("engine", _host("engine-0", Kind.UNCHANGED), _host("engine-1"), _server("engine-1"),
                                 release=""))["engine"]  # fmt: skip
    assert "it is not drained first, unless the plan is of a --release" in line


@pytest.mark.parametrize(
    ("role", "said"),
    [
        ("database", "goes with its data"),
        ("messaging", "queues"),
        ("loadbalancer", "no customer is answered"),
        ("control", "goes with its data, unless a backup keeps it, and no customer is answered"),
    ],
)
def test_what_a_host_keeps_is_named(role: str, said: str) -> None:
    plan = _plan(role, _host(f"{role}-0"), _server(f"{role}-0"))
    assert said in consequences(plan)[role][0]
    assert hosts_leaving(plan) == ()


def test_an_api_leaves_the_load_balancer_first() -> None:
    plan = _plan("api", _host("api-0"), _host("api-1", Kind.DELETED))
    assert consequences(plan)["api"] == (
        "api-1: its server goes for good: it is taken out of the load balancer first, its releases and logs go",
    )
    assert hosts_leaving(plan) == ("api-1",)


def test_all_engines_at_once_is_a_gap_that_is_told() -> None:
    plan = _plan("engine", _host("engine-0"), _server("engine-0"), _host("engine-1", Kind.REPLACED))
    assert (
        consequences(plan)["engine"][-1] == "every engine goes at once: customers are not served until new ones are up"
    )


def test_a_port_that_is_made_anew_is_no_server() -> None:
    port = ResourceChange("engine-0/own-port", Kind.REPLACED, "OS::Neutron::Port")
    plan = _plan("engine", _host("engine-0"), port)
    assert consequences(plan)["engine"] == ("engine-0: its port is made anew: its address may change",)
    assert hosts_leaving(plan) == ()


def test_what_is_kept_beside_hosts_is_named_where_it_is_protected() -> None:
    key = ResourceChange("encryption-key", Kind.REPLACED, "OS::Heat::RandomString")
    assert consequences(_plan("identity", key, protected=True))["identity"] == (
        "encryption-key: is made anew, and what is kept in it goes",
    )
    assert consequences(_plan("identity", key)) == {}


def test_new_hosts_and_changed_ones_mean_nothing() -> None:
    assert consequences(_plan("engine", _host("engine-0"), _host("engine-2", Kind.ADDED))) == {}


def test_no_parameter_is_dropped_silently() -> None:
    dropped = Parameter("old", ParameterChange.DROPPED, "1", "")
    default = Parameter("size", ParameterChange.DEFAULT, "big", "small")
    changed = Parameter("image", ParameterChange.CHANGED, "a", "b")
    plan = _plan("engine")
    plan = replace(plan, stacks=(replace(plan.stacks[0], parameters=(dropped, default, changed)),))
    assert losses(plan) == (
        "engine: parameter old is no longer given: it was 1",
        "engine: parameter size is no longer given: it was big, and is now the template's small",
    )


@pytest.mark.parametrize("role", ["database", "messaging"])
@pytest.mark.parametrize("kind", [Kind.ADDED, Kind.DELETED])
def test_a_running_database_or_broker_gets_no_other_number_of_hosts(role: str, kind: Kind) -> None:
    plan = _plan(role, _host(f"{role}-0", Kind.UNCHANGED), _host(f"{role}-1", kind))
    with pytest.raises(ConfigurationInvalid, match=rf"topology\.{role}\.count is not what .* \({role}-1 would"):
        require_same_members(plan)


def test_new_ones_may_have_any_number_and_others_may_change() -> None:
    (stack,) = _plan("database", _host("database-0", Kind.ADDED)).stacks
    require_same_members(replace(_plan("database"), stacks=(replace(stack, act=Act.CREATE),)))
    require_same_members(_plan("database", _host("database-0", Kind.REPLACED), _host("database-1")))
    require_same_members(_plan("engine", _host("engine-1", Kind.ADDED)))


def _of_volume(name: str, kind: Kind, type_: str = "OS::Cinder::Volume") -> ResourceChange:
    return ResourceChange(f"{name}/kept-volume", kind, type_)


@pytest.mark.parametrize("kind", [Kind.UPDATED, Kind.ADDED, Kind.REPLACED, Kind.DELETED])
def test_a_host_that_stays_keeps_its_volume_as_it_is(kind: Kind) -> None:
    plan = _plan("database", _host("database-0"), _of_volume("database-0", kind))
    with pytest.raises(
        ConfigurationInvalid, match=r"topology.database.data_volume_gb .* volume of database-0"
    ) as caught:
        require_same_volumes(plan)
    assert "set it back" in caught.value.hint
    assert (hosts_made_anew(plan), hosts_leaving(plan)) == ((), ())


def test_a_host_that_is_made_anew_may_get_the_volume_it_is_given() -> None:
    attached = _of_volume("database-0", Kind.REPLACED, "OS::Cinder::VolumeAttachment")
    require_same_volumes(_plan("database", _host("database-0"), _server("database-0"), attached))
    require_same_volumes(_plan("database", _host("database-0", Kind.ADDED), _of_volume("database-0", Kind.ADDED)))


def test_hosts_that_are_made_anew_are_named_with_their_stack() -> None:
    hosts = (_host("engine-0"), _server("engine-0"), _host("engine-1", Kind.DELETED), _host("engine-2", Kind.ADDED))
    assert hosts_made_anew(_plan("engine", *hosts)) == (("engine", "engine-0"),)
    assert hosts_made_anew(_plan("database", _host("database-0", Kind.UNCHANGED))) == ()
