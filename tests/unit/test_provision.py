"""Provisioning: hosts become what their role says, what is right already is left alone, and the first start's order."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from pathlib import Path

import pytest
from builders import (
    FETCH,
    GIVE,
    LOCAL,
    R25,
    R26,
    SECRETS,
    Kept,
    Machines,
    Receivers,
    ScriptedRemote,
    fleet_on,
    journal,
    said,
    site,
)

from pipeline import provision
from pipeline.edges.lock import LockLost
from pipeline.edges.ssh import Result
from pipeline.edges.wheelhouse import Built
from pipeline.environment import Environment, InternalTls, Role, Tls
from pipeline.errors import CommandFailed, ConfigurationInvalid, FleetMixed, HostUnreachable
from pipeline.fleet import PLAIN, TLS, Fleet
from pipeline.health import Unhealthy
from pipeline.hostfiles import UNITS
from pipeline.inventory import Host
from pipeline.provision import (
    BACKING,
    bring_up,
    configure_release,
    configure_services,
    first_start,
    install_release,
    require_deployed,
    require_heard,
    require_trusted,
)
from pipeline.site import Site


def _secured(level: str) -> Environment:
    return LOCAL.model_copy(update={"tls": Tls(internal=InternalTls(level)) if level else None})


@pytest.mark.parametrize(
    ("level", "encrypted", "words"),
    [
        ("required", (False, True), "required would cut off api-0, api-1: they come without TLS"),
        ("", (True, False), "none would cut off api-0, api-1: they come over TLS"),
    ],
)
def test_what_would_cut_hosts_off_is_refused_with_the_step_to_take_first(
    level: str, encrypted: tuple[bool, bool], words: str
) -> None:
    apis, engines = encrypted
    states = fleet_on(R26).states
    fleet = Fleet(tuple(replace(one, encrypted=apis if one.host.role is Role.API else engines) for one in states))
    with pytest.raises(ConfigurationInvalid, match=words) as caught:
        require_heard(_secured(level), fleet)
    assert "inv deploy" in caught.value.hint
    down = Fleet(tuple(replace(one, running="") for one in fleet.states))
    require_heard(_secured(level), down)


@pytest.mark.parametrize(("level", "encrypted", "connected"), [("required", True, PLAIN), ("", False, TLS)])
def test_a_unit_that_drains_or_has_not_read_its_settings_is_not_cut_off_either(
    level: str, encrypted: bool, connected: str
) -> None:
    states = [replace(one, encrypted=encrypted) for one in fleet_on(R26).states]
    states[0] = replace(states[0], running="", draining=True, connected=frozenset({connected}))
    with pytest.raises(ConfigurationInvalid, match=f"would cut off {states[0].host.name}: they come"):
        require_heard(_secured(level), Fleet(tuple(states)))


def test_another_authority_than_hosts_trust_changes_nothing(remote: ScriptedRemote) -> None:
    here = site(remote, _secured("used"))
    here = replace(here, region=replace(here.region, authority="PEM"))
    ours = hashlib.sha256(b"PEM").hexdigest()
    for trusts in ("", ours):
        require_trusted(here, Fleet(tuple(replace(one, trusts=trusts) for one in fleet_on(R26).states)))
    with pytest.raises(ConfigurationInvalid, match=r"api-0, .* trust another authority") as caught:
        require_trusted(here, Fleet(tuple(replace(one, trusts="5eed") for one in fleet_on(R26).states)))
    assert ".state/environments/local/authority" in caught.value.hint


def test_a_rollout_is_refused_where_only_a_deploy_can_bring_its_settings_about(remote: ScriptedRemote) -> None:
    fleet = fleet_on(R26)
    require_deployed(site(remote), fleet)
    with pytest.raises(ConfigurationInvalid, match=r"tls.internal: api-0, .* would come otherwise than now") as caught:
        require_deployed(site(remote, _secured("used")), fleet)
    assert "inv deploy local" in caught.value.hint
    topology = LOCAL.topology.model_copy(update={"messaging": LOCAL.topology.messaging.model_copy(update={"count": 3})})
    here = replace(site(remote), environment=LOCAL.model_copy(update={"topology": topology}))
    with pytest.raises(ConfigurationInvalid, match=r"messaging.count: the region has 1, the environment 3"):
        require_deployed(here, fleet)


@pytest.mark.parametrize("encrypted", [True, False])
@pytest.mark.parametrize("level", ["offered", "used"])
def test_while_both_are_taken_nobody_is_cut_off(level: str, encrypted: bool) -> None:
    states = tuple(replace(one, encrypted=encrypted) for one in fleet_on(R26).states)
    require_heard(_secured(level), Fleet(states))
    require_heard(_secured("required" if encrypted else ""), Fleet(states))


SERVICES = (*BACKING, Role.LOADBALANCER)
ALL = ["api-0", "api-1", "engine-0", "engine-1"]


@pytest.fixture
def built(tmp_path: Path) -> Built:
    (tmp_path / "heat.tar").write_text("of few bytes", "utf-8")
    (tmp_path / "archive.sha256").write_text("5eed heat.tar\n", "utf-8")
    return Built(R26, tmp_path / "heat.tar")


@pytest.fixture
def services(remote: ScriptedRemote) -> ScriptedRemote:
    """Return hosts whose services are as they should be."""
    remote.on("systemctl")
    remote.on(r"^put ")
    remote.on("CREATE DATABASE|add_user")
    Receivers(remote)
    return remote


# --- services


def test_services_that_are_right_are_told_as_unchanged(services: ScriptedRemote, here: Site) -> None:
    assert configure_services(here, *SERVICES) == ()


def test_a_service_is_written_and_restarted_by_one_script_that_no_kill_can_part(
    services: ScriptedRemote, here: Site
) -> None:
    configure_services(here, *SERVICES)
    for host in here.region.inventory.of(Role.DATABASE, Role.MESSAGING, Role.LOADBALANCER):
        (script,) = [script for name, script in services.ran if name == host.name and "put " in script]
        (unit,) = UNITS[host.role]
        assert script.index("put ") < script.index(f"systemctl reload-or-restart {unit}")
        assert script.rindex(f"systemctl start {unit}") > script.index(f"systemctl reload-or-restart {unit}")
    assert len(services.scripts("systemctl")) == 3


def test_only_the_brokers_port_mapper_is_bound_anew(services: ScriptedRemote, here: Site) -> None:
    configure_services(here, *SERVICES)
    assert services.steps(bind="stop epmd.socket epmd.service") == ["bind messaging-0"]


def test_what_changed_is_told_by_host_and_path(services: ScriptedRemote, here: Site) -> None:
    services.on(r"^put ", "/etc/haproxy/haproxy.cfg\n", host="loadbalancer-0")
    assert configure_services(here, *SERVICES) == ("loadbalancer-0:/etc/haproxy/haproxy.cfg",)


def test_a_service_is_started_before_its_user_is_made(services: ScriptedRemote, here: Site) -> None:
    configure_services(here, *SERVICES)
    steps = services.steps(start="systemctl start", user="add_user", data="CREATE DATABASE")
    assert [step for step in steps if "messaging" in step] == ["start messaging-0", "user messaging-0"]
    assert [step for step in steps if "database" in step] == ["start database-0", "data database-0"]


def test_each_service_gets_its_own_secret_only(services: ScriptedRemote, here: Site) -> None:
    configure_services(here, *SERVICES)
    for role in ("database", "messaging"):
        assert {name for name, script in services.ran if SECRETS[role] in script} == {f"{role}-0"}


# --- releases


def test_a_release_is_installed_only_where_it_is_missing(services: ScriptedRemote, here: Site, built: Built) -> None:
    services.on("^archive=")
    fleet = fleet_on(R25)
    there = replace(fleet.states[0], installed=(R25.id, R26.id))
    hosts = install_release(here, Fleet((there, *fleet.states[1:])), built, journal(here.clock))
    assert [host.name for host in hosts] == ALL[1:]
    home = f"/home/{LOCAL.ssh.user}/heat.tar"
    assert sorted(services.copied) == [(name, built.archive, home) for name in ALL[1:]]
    assert sorted(services.steps(install="^archive=")) == [f"install {name}" for name in ALL[1:]]
    assert all(f"archive={home}" in script and "5eed" in script for script in services.scripts("^archive="))


def test_of_many_hosts_one_gets_a_release_from_here_and_gives_it_to_the_others(
    services: ScriptedRemote, here: Site, built: Built, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provision, "_FEW", len(ALL) - 1)
    services.on("^archive=")
    install_release(here, fleet_on(R25), built, journal(here.clock))
    home = f"/home/{LOCAL.ssh.user}/heat.tar"
    assert services.copied == [("api-0", built.archive, home)]
    assert sorted(services.steps(fetch=FETCH)) == ["fetch api-1", "fetch engine-0", "fetch engine-1"]
    assert sorted(services.steps(install="^archive=")) == [f"install {name}" for name in ALL]
    assert re.search(r"engine-1 was given it by \w+-\d", said(here.progress))


def test_few_hosts_get_a_release_from_here(services: ScriptedRemote, here: Site, built: Built) -> None:
    services.on("^archive=")
    install_release(here, Fleet(fleet_on(R25).states[:3]), built, journal(here.clock))
    assert [name for name, _, _ in sorted(services.copied)] == ALL[:3]
    assert services.scripts(f"{GIVE}|{FETCH}") == []


def test_with_a_release_url_even_few_hosts_fetch_it_there(services: ScriptedRemote, built: Built) -> None:
    services.on("^archive=")
    ssh = LOCAL.ssh.model_copy(update={"release_url": "https://releases.example.org/heat/{archive}"})
    there = site(services, LOCAL.model_copy(update={"ssh": ssh}))
    install_release(there, Fleet(fleet_on(R25).states[:2]), built, journal(there.clock))
    assert all("https://releases.example.org/heat/heat.tar " in script for script in services.scripts(FETCH))
    assert sorted(services.steps(fetch=FETCH, install="^archive=")) == [
        f"{word} {name}" for word in ("fetch", "install") for name in ALL[:2]
    ]
    assert services.copied == []


def test_a_host_that_does_not_get_a_release_keeps_no_other_from_it(
    services: ScriptedRemote, here: Site, built: Built
) -> None:
    services.on("^archive=")
    services.on(FETCH, CommandFailed("curl ended with 23", status=1), host="engine-0")
    services.cut["engine-0"] = 10_000
    kept = Kept()
    with pytest.raises(HostUnreachable, match=r"engine-0: copying heat\.tar"):
        install_release(here, fleet_on(R25), built, journal(here.clock, kept))
    assert sorted(services.steps(install="^archive=")) == [f"install {name}" for name in ALL if name != "engine-0"]
    assert sorted(kept.steps("done")) == [f"install {name}" for name in ALL if name != "engine-0"]


def test_an_installation_touches_no_service(services: ScriptedRemote, here: Site, built: Built) -> None:
    services.on("^archive=")
    install_release(here, fleet_on(R25), built, journal(here.clock))
    assert not services.scripts(r"systemctl \w+ (?!heat-pipeline-spread)")


def test_a_damaged_archive_is_told_when_every_host_has_ended(
    services: ScriptedRemote, here: Site, built: Built
) -> None:
    services.on("^archive=")
    services.on("^archive=", Result(1, "", "the archive is damaged"), host="api-1")
    with pytest.raises(CommandFailed, match=r"api-1: .*the archive is damaged"):
        install_release(here, fleet_on(R25), built, journal(here.clock))
    assert len(services.scripts("^archive=")) == 4


def test_an_upload_whose_connection_is_lost_is_sent_again(services: ScriptedRemote, here: Site, built: Built) -> None:
    services.on("^archive=")
    services.cut["api-1"] = 2
    install_release(here, fleet_on(R25), built, journal(here.clock))
    assert sorted(name for name, _, _ in services.copied) == ALL
    assert sorted(services.steps(install="^archive=")) == [f"install {name}" for name in ALL]
    assert said(here.progress).count("api-1: copying heat.tar: it is gone: trying again") == 1


def test_an_upload_that_is_never_whole_is_told_and_nothing_is_installed_there(
    services: ScriptedRemote, here: Site, built: Built
) -> None:
    services.on("^archive=")
    services.cut["api-1"] = 10**6
    with pytest.raises(HostUnreachable, match="api-1: copying heat"):
        install_release(here, fleet_on(R25), built, journal(here.clock))
    assert sorted(services.steps(install="^archive=")) == ["install api-0", "install engine-0", "install engine-1"]
    assert here.clock.monotonic() == pytest.approx(here.environment.policies.health.healthy_deadline, abs=3)


def test_what_is_to_be_installed_on_each_host_is_in_the_journal_before_it_is_sent(
    services: ScriptedRemote, here: Site, built: Built
) -> None:
    kept = Kept()
    services.on("^archive=")
    services.on("^archive=", Result(1, "", "the archive is damaged"), host="api-1")
    services.cut["engine-0"] = 10**6
    with pytest.raises((CommandFailed, HostUnreachable)):
        install_release(here, fleet_on(R25), built, journal(here.clock, kept))
    assert sorted(kept.steps("intent")) == [f"install {name}" for name in ALL]
    assert sorted(kept.steps("done")) == ["install api-0", "install engine-1"]
    assert sorted(kept.steps("failed")) == ["install api-1", "install engine-0"]


def test_settings_are_written_again_where_the_connection_was_lost(services: ScriptedRemote, here: Site) -> None:
    path = "/etc/systemd/system/heat-engine.service"
    services.on(r"^put ", HostUnreachable("engine-1 is gone"), f"{path}\n", host="engine-1")
    assert configure_release(here, R26, "heat-v") == (f"engine-1:{path}",)


def test_files_of_a_release_are_written_on_every_host_that_runs_heat(services: ScriptedRemote, here: Site) -> None:
    services.on(r"^put ", "/etc/systemd/system/heat-engine.service\n", host="engine-1")
    written = configure_release(here, R26, "heat-v")
    assert written == ("engine-1:/etc/systemd/system/heat-engine.service",)
    assert sorted(services.steps(write="^put ")) == [f"write {name}" for name in ALL]
    for script in services.scripts("^put "):
        assert f"/opt/heat/releases/{R26.id}/etc/heat.conf" in script
        assert "/etc/systemd/system/heat-" in script


def test_configuring_a_release_restarts_nothing(services: ScriptedRemote, here: Site) -> None:
    configure_release(here, R26, "heat-v")
    assert not services.scripts("systemctl")


def test_the_first_start_makes_the_schema_once_then_starts_engines_then_apis(
    services: ScriptedRemote, here: Site
) -> None:
    services.on("db_sync")
    first_start(here, fleet_on(R26), R26)
    steps = services.steps(sync="db_sync", start="systemctl enable")
    assert steps[0] == "sync engine-0"
    assert sorted(steps[1:3]) == ["start engine-0", "start engine-1"]
    assert sorted(steps[3:]) == ["start api-0", "start api-1"]
    started = services.scripts("systemctl enable")
    assert all(script.index("ln -sfn") < script.index("systemctl enable") for script in started)


def _after_a_rollback(machines: Machines, remote: ScriptedRemote, head: str) -> Fleet:
    """Return a fleet on release 25 whose first hosts have release 26 too, with a schema at `head`, one host down."""
    machines.running["engine-1"] = False
    remote.on("db_sync")
    remote.on("information_schema", "1\n")
    remote.on("version_num", f"{head}\n")
    down, both = "engine-1", (R25.id, R26.id)
    return Fleet(
        tuple(
            replace(state, running="") if state.host.name == down else replace(state, installed=both)
            for state in machines.fleet(R25).states
        )
    )


def test_a_schema_that_a_newer_release_left_behind_is_not_synced_by_the_older_one(
    machines: Machines, remote: ScriptedRemote, here: Site
) -> None:
    fleet = _after_a_rollback(machines, remote, R26.alembic_head)
    assert bring_up(here, fleet, R25, journal(here.clock))
    assert all(machines.running.values())
    assert not remote.scripts("db_sync")


@pytest.mark.parametrize("head", [R25.alembic_head, "0123456789ab"], ids=["its own", "nobody's"])
def test_a_schema_that_no_newer_release_made_is_synced_though_one_is_on_disk(
    machines: Machines, remote: ScriptedRemote, here: Site, head: str
) -> None:
    fleet = _after_a_rollback(machines, remote, head)
    assert bring_up(here, fleet, R25, journal(here.clock))
    assert remote.steps(sync="db_sync") == ["sync engine-0"]


def test_nothing_starts_where_the_schema_could_not_be_made(services: ScriptedRemote, here: Site) -> None:
    services.on("db_sync", Result(1, "", "access denied"))
    with pytest.raises(CommandFailed, match="access denied"):
        first_start(here, fleet_on(R26), R26)
    assert not services.scripts("systemctl")


def test_a_region_that_never_ran_comes_up_whole_and_into_rotation(
    machines: Machines, remote: ScriptedRemote, here: Site
) -> None:
    machines.empty()
    remote.on("db_sync")
    fleet = Fleet(tuple(replace(state, current="", running="") for state in fleet_on(R26).states))
    assert bring_up(here, fleet, R26, journal(here.clock))
    assert set(machines.current.values()) == {R26.id}
    assert sorted(set(remote.steps(ask="build_info"))) == ["ask api-0", "ask api-1"]
    assert len(remote.scripts("state ready")) == 2


def test_the_load_balancer_hears_of_new_hosts_once_they_are_healthy(
    machines: Machines, remote: ScriptedRemote, here: Site
) -> None:
    machines.running["api-1"] = False
    remote.on("db_sync")
    fleet = Fleet(
        tuple(
            replace(state, current="", running="") if state.host.name == "api-1" else state
            for state in fleet_on(R26).states
        )
    )
    machines.current = dict.fromkeys(machines.current, R26.id)
    assert bring_up(here, fleet, R26, journal(here.clock))
    steps = remote.steps(ask="build_info", balance="^put ", admit="state ready")
    assert steps.index("balance loadbalancer-0") > steps.index("ask api-1")
    assert steps[-1] == "admit loadbalancer-0"


def test_whether_a_run_may_go_on_is_asked_before_a_first_start(
    machines: Machines, remote: ScriptedRemote, here: Site
) -> None:
    def gate() -> None:
        raise LockLost("local: the lock of run r is lost", hint="inv lock.status local")

    machines.empty()
    fleet = Fleet(tuple(replace(state, current="", running="") for state in fleet_on(R26).states))
    with pytest.raises(LockLost):
        bring_up(here, fleet, R26, journal(here.clock), gate=gate)
    assert remote.ran == []


def test_a_region_that_does_not_come_up_is_told_at_the_deadline(
    machines: Machines, remote: ScriptedRemote, here: Site
) -> None:
    machines.broken.add(R26.id)
    machines.empty()
    remote.on("db_sync")
    fleet = Fleet(tuple(replace(state, current="", running="") for state in fleet_on(R26).states))
    with pytest.raises(Unhealthy, match="engine-0 was not healthy"):
        bring_up(here, fleet, R26, journal(here.clock))


def _stale(machines: Machines, *names: str) -> Fleet:
    """Return the fleet of hosts on release 25, where those of `names` run with older settings than they have."""
    states = machines.fleet(R25).states
    return Fleet(tuple(replace(state, stale=state.host.name in names) for state in states))


def test_a_region_that_is_up_with_the_settings_it_has_is_left_alone(
    machines: Machines, remote: ScriptedRemote, here: Site
) -> None:
    assert not bring_up(here, _stale(machines), R25, journal(here.clock))
    assert remote.steps(look="show stat", write="^put ") == ["write loadbalancer-0", "look loadbalancer-0"]
    assert len(remote.ran) == 2


@pytest.mark.parametrize("name", ["engine-1", "api-0"])
def test_only_the_host_with_new_settings_is_restarted(
    machines: Machines, remote: ScriptedRemote, here: Site, name: str
) -> None:
    assert bring_up(here, _stale(machines, name), R25, journal(here.clock))
    assert remote.steps(stop="^systemctl stop --no-block heat-", start="^systemctl start heat-") == [
        f"stop {name}",
        f"start {name}",
    ]
    assert not remote.scripts("db_sync")
    assert set(machines.rotation.values()) == {"ready"}


def test_new_settings_restart_a_running_region_host_by_host_engines_first(
    machines: Machines, remote: ScriptedRemote, here: Site
) -> None:
    assert bring_up(here, _stale(machines, *ALL), R25, journal(here.clock))
    steps = remote.steps(stop="^systemctl stop --no-block heat-", start="^systemctl start heat-")
    order = ["engine-0", "engine-1", "api-0", "api-1"]
    assert steps == [f"{step} {name}" for name in order for step in ("stop", "start")]
    assert not remote.scripts("db_sync")


def test_a_host_that_was_down_is_started_before_a_stale_one_is_restarted(
    machines: Machines, remote: ScriptedRemote, here: Site
) -> None:
    machines.running["api-1"] = False
    remote.on("db_sync")
    assert bring_up(here, _stale(machines, "api-0"), R25, journal(here.clock))
    steps = remote.steps(stop="^systemctl stop --no-block heat-", start="^systemctl start heat-")
    assert steps.index("start api-1") < steps.index("stop api-0")
    assert [step for step in steps if "stop" in step] == ["stop api-0"]
    assert all(machines.running.values())


def test_what_a_restart_did_to_each_host_is_in_the_journal(machines: Machines, here: Site) -> None:
    kept = Kept()
    bring_up(here, _stale(machines, "engine-1"), R25, journal(here.clock, kept))
    assert kept.steps() == ["drain engine-1", "start engine-1", "healthy engine-1"]


def test_a_host_with_new_settings_is_not_started_where_the_lock_was_lost_in_its_drain(
    machines: Machines, remote: ScriptedRemote, here: Site
) -> None:
    def owned() -> None:
        raise LockLost("local: the lock of run r is lost", hint="inv lock.status local")

    with pytest.raises(LockLost, match=r"failed: engine-0 .*; remaining: engine-1, "):
        bring_up(here, _stale(machines, *ALL), R25, journal(here.clock), owned=owned)
    assert remote.steps(stop="^systemctl stop --no-block heat-", start="^systemctl start heat-") == ["stop engine-0"]


def test_a_host_that_does_not_come_back_stops_the_restarts(
    machines: Machines, remote: ScriptedRemote, here: Site
) -> None:
    machines.broken.add(R25.id)
    with pytest.raises(FleetMixed, match=r"halted; done: none; failed: engine-0 .*; remaining: engine-1, api-0, api-1"):
        bring_up(here, _stale(machines, *ALL), R25, journal(here.clock))
    assert remote.steps(stop="^systemctl stop --no-block heat-") == ["stop engine-0"]


def test_an_api_that_a_killed_restart_left_out_of_rotation_is_let_back_in(machines: Machines, here: Site) -> None:
    machines.rotation["api-0"] = "drain"
    bring_up(here, _stale(machines), R25, journal(here.clock))
    assert machines.rotation["api-0"] == "ready"


def test_a_host_of_every_role_is_provisioned_by_one_of_the_steps(services: ScriptedRemote, here: Site) -> None:
    services.on("db_sync")
    configure_services(here, *SERVICES)
    first_start(here, fleet_on(R26), R26)
    assert {name for name, _ in services.ran} == {host.name for host in here.region.inventory.of(*Role)}


def test_a_rollout_is_refused_where_a_host_has_not_come_up(remote: ScriptedRemote) -> None:
    here = site(remote)
    absent = (Host("engine-2", Role.ENGINE, "", ()),)
    region_ = replace(here.region, inventory=replace(here.region.inventory, absent=absent))
    with pytest.raises(ConfigurationInvalid, match="local: not come up yet: engine-2") as caught:
        require_deployed(replace(here, region=region_), fleet_on(R26))
    assert caught.value.hint.startswith("openstack stack failures list local-engine; then inv deploy local")
