"""Clusters of databases and brokers: what their members are told, in which order, and how Heat finds them."""

from __future__ import annotations

import configparser
import json
import os
import re
import subprocess
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from builders import LOCAL, R26, TEMPLATES, ScriptedRemote, environment, host, region, said, site

from pipeline.certificate import Certificate
from pipeline.checks import check_database, check_messaging, questions
from pipeline.checks.brokerfacts import broker_facts
from pipeline.checks.expectation import Unexpected
from pipeline.environment import InternalTls, Role, Tls
from pipeline.errors import CommandFailed
from pipeline.hostfiles import release_files, role_files
from pipeline.provision import configure_release, configure_services
from pipeline.render import render
from pipeline.secrets import Secret
from pipeline.site import Site
from tests.regions import openstack_region

CLUSTERED = environment(database=3, messaging=3)
HERE = region(CLUSTERED)
MEMBERS = ["0", "1", "2"]
NOBODY = "00000000-0000-0000-0000-000000000000"
ASK, STOP, BEGIN, JOIN = (
    r"\Aif said=\$\(mariadb .*wsrep_cluster_status",
    "^timeout .* stop mariadb",
    "galera_new_cluster$",
    "^until ",
)


def _files(role: Role, index: int = 0, of: str = "role") -> dict[str, str]:
    here = host(role, index, CLUSTERED)
    files = (
        role_files(here, CLUSTERED, HERE, TEMPLATES)
        if of == "role"
        else release_files(here, CLUSTERED, HERE, R26, "heat-v", TEMPLATES)
    )
    return {file.path.rpartition("/")[2]: file.content for file in files}


def _ini(text: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(
        interpolation=None, default_section="none", delimiters=("=",), allow_no_value=True
    )
    parser.read_string(text)
    return parser


def _addresses(role: Role) -> list[str]:
    return [one.address for one in HERE.inventory.of(role)]


# --- what members are told


@pytest.mark.parametrize("index", range(3))
def test_every_member_of_a_database_knows_all_and_says_who_it_is_itself(index: int) -> None:
    own = host(Role.DATABASE, index, CLUSTERED).address
    server = _ini(_files(Role.DATABASE, index)["90-heat.cnf"])["mariadbd"]
    assert server["wsrep_cluster_address"] == f"gcomm://{','.join(_addresses(Role.DATABASE))}"
    assert server["wsrep_node_address"] == server["bind-address"] == own
    assert f"gmcast.listen_addr=tcp://{own}:4567" in server["wsrep_provider_options"]
    assert server["wsrep_sync_wait"] == "1"


@pytest.mark.parametrize("index", range(3))
def test_every_member_of_a_broker_knows_all_and_says_who_it_is_itself(index: int) -> None:
    own = host(Role.MESSAGING, index, CLUSTERED).address
    files = _files(Role.MESSAGING, index)
    known = re.findall(r"^cluster_formation\.classic_config\.nodes\.\d = rabbit@(.*)$", files["rabbitmq.conf"], re.M)
    assert known == _addresses(Role.MESSAGING)
    assert f"NODENAME=rabbit@{own}\n" in files["rabbitmq-env.conf"]
    assert f"inet_dist_use_interface {{{own.replace('.', ',')}}}" in files["rabbitmq-env.conf"]
    assert f"ListenStream={own}:4369\n" in files["loopback.conf"]


def test_members_of_a_broker_share_a_secret_that_its_service_alone_reads() -> None:
    (cookie,) = (
        file
        for file in role_files(host(Role.MESSAGING, 1, CLUSTERED), CLUSTERED, HERE, TEMPLATES)
        if file.path == "/var/lib/rabbitmq/.erlang.cookie"
    )
    assert (cookie.content, cookie.mode, cookie.owner) == ("erlang-cookie", "0400", "rabbitmq:rabbitmq")
    assert "erlang-cookie" in HERE.secrets
    assert "erlang-cookie" not in f"{HERE} {cookie}"


def test_one_host_alone_is_told_nothing_of_clusters() -> None:
    texts = [file.content for role in Role for file in role_files(host(role), LOCAL, region(), TEMPLATES)] + [
        file.content
        for role in (Role.API, Role.ENGINE)
        for file in release_files(host(role), LOCAL, region(), R26, "heat-v", TEMPLATES)
    ]
    assert not [text for text in texts if re.search("wsrep|gcomm|cluster|quorum|9200|127.0.0.1/heat", text)]


# --- how Heat finds its way


@pytest.mark.parametrize("role", [Role.ENGINE, Role.API])
def test_heat_asks_the_proxy_of_its_host_which_writes_to_one_member_at_a_time(role: Role) -> None:
    assert "@127.0.0.1/heat?" in _ini(_files(role, of="release")["heat.conf"])["database"]["connection"]
    proxy = _files(role)["heat-database-proxy.cfg"]
    servers = re.findall(r"^    server (\S+) (\S+):3306(?: (backup))?$", proxy, re.M)
    assert [address for _, address, _ in servers] == _addresses(Role.DATABASE)
    assert [backup for _, _, backup in servers] == ["", "backup", "backup"]
    assert "bind 127.0.0.1:3306\n" in proxy


@pytest.mark.parametrize("role", [Role.ENGINE, Role.API])
def test_heat_knows_every_broker_and_has_its_queues_kept_by_a_majority(role: Role) -> None:
    heat = _ini(_files(role, of="release")["heat.conf"])
    brokers = ",".join(f"heat:s3cret-messaging@{address}:5672" for address in _addresses(Role.MESSAGING))
    assert heat["DEFAULT"]["transport_url"] == f"rabbit://{brokers}/heat-v"
    rabbit = heat["oslo_messaging_rabbit"]
    assert rabbit["rabbit_quorum_queue"] == rabbit["rabbit_transient_quorum_queue"] == "true"
    assert ("use_queue_manager" in rabbit) is (role is Role.ENGINE)


def test_the_proxy_s_retries_outlast_the_checks_of_a_member_that_went() -> None:
    proxy = _files(Role.ENGINE)["heat-database-proxy.cfg"]
    check = re.search(r"check inter (\d+)s fall (\d+)", proxy)
    retries = re.search(r"^    retries (\d+)$", proxy, re.M)
    assert check
    assert retries
    assert int(retries[1]) > int(check[1]) * int(check[2]), "seconds, as HAProxy waits one before each"
    assert "    option redispatch 1\n" in proxy


def test_however_many_ask_a_member_its_socket_does_not_fail() -> None:
    assert _ini(_files(Role.DATABASE)["heat-database-watch.socket"])["Socket"]["TriggerLimitIntervalSec"] == "0"


def test_a_cluster_of_one_kind_leaves_the_other_as_it_is() -> None:
    of = environment(database=3)
    (heat,) = (
        file.content
        for file in release_files(host(Role.ENGINE, 0, of), of, region(of), R26, "v", TEMPLATES)
        if file.path.endswith("heat.conf")
    )
    assert "quorum" not in heat
    assert "@127.0.0.1/heat?" in heat


def test_over_tls_the_proxy_is_known_by_the_certificate_of_each_member() -> None:
    of = CLUSTERED.model_copy(update={"tls": Tls(internal=InternalTls.REQUIRED)})
    shown = Certificate("-----BEGIN CERTIFICATE-----\n", Secret("k3y"))
    here = replace(HERE, internal={one.name: shown for one in HERE.inventory.of(Role.DATABASE)}, authority="ca\n")
    files = release_files(host(Role.ENGINE, 0, of), of, here, R26, "v", TEMPLATES)
    (heat,) = (_ini(file.content) for file in files if file.path.endswith("heat.conf"))
    assert "@127.0.0.1/heat?" in heat["database"]["connection"]
    assert "ssl_check_hostname=true" in heat["database"]["connection"]
    assert heat["DEFAULT"]["transport_url"].count(":5671") == 3


# --- forming them


@pytest.fixture
def here(remote: ScriptedRemote) -> Site:
    """Return a clustered region, whose hosts do whatever they are told."""
    remote.on(r"^put |CREATE DATABASE|add_user|systemctl|rabbitmqctl")
    remote.on(JOIN)
    remote.on(ASK, "Primary\n")
    return site(remote, CLUSTERED)


def _steps(remote: ScriptedRemote, role: Role, **patterns: str) -> list[str]:
    return [step for step in remote.steps(**patterns) if f" {role.value}-" in step]


def test_where_no_member_is_in_one_begins_and_the_others_join_one_by_one(remote: ScriptedRemote, here: Site) -> None:
    remote.on(ASK, "")
    remote.on(STOP, f"{NOBODY}:-1 0\n")
    remote.on(BEGIN)
    assert configure_services(here, Role.DATABASE) == ()
    steps = _steps(remote, Role.DATABASE, stop=STOP, begin=BEGIN, join=JOIN)
    assert sorted(steps[:3]) == [f"stop database-{index}" for index in MEMBERS]
    assert steps[3:] == ["begin database-0", *(f"join database-{index}" for index in MEMBERS)]
    assert "database-0: begins the database's cluster, at -1" in said(here.progress)


def test_after_all_fell_whoever_has_come_furthest_begins(remote: ScriptedRemote, here: Site) -> None:
    remote.on(ASK, "non-Primary\n")
    for index, seqno in zip(MEMBERS, (7, 12, 9), strict=True):
        remote.on(STOP, f"5f0c1f6e:{seqno} 0\n", host=f"database-{index}")
    remote.on(BEGIN)
    configure_services(here, Role.DATABASE)
    assert _steps(remote, Role.DATABASE, begin=BEGIN) == ["begin database-1"]


def test_who_is_away_joins_before_any_that_is_in_is_touched_and_nobody_begins(
    remote: ScriptedRemote, here: Site
) -> None:
    remote.on(ASK, "", host="database-2")
    configure_services(here, Role.DATABASE)
    assert _steps(remote, Role.DATABASE, stop=STOP, begin=BEGIN, join=JOIN) == [
        "join database-2", "join database-0", "join database-1",
    ]  # fmt: skip


def test_members_that_run_and_do_not_tell_whether_they_are_in_are_not_stopped(
    remote: ScriptedRemote, here: Site
) -> None:
    remote.on(ASK, CommandFailed("ERROR 1045", status=1, stdout="", stderr=""))
    with pytest.raises(CommandFailed, match="1045"):
        configure_services(here, Role.DATABASE)
    assert _steps(remote, Role.DATABASE, stop=STOP, begin=BEGIN, join=JOIN) == []


def test_a_member_that_cannot_join_ends_it_before_the_next_is_touched(remote: ScriptedRemote, here: Site) -> None:
    remote.on(JOIN, CommandFailed("mariadb is not synced", status=1, stdout="", stderr=""), host="database-1")
    with pytest.raises(CommandFailed, match="not synced"):
        configure_services(here, Role.DATABASE)
    assert _steps(remote, Role.DATABASE, join=JOIN) == ["join database-0", "join database-1"]


def test_brokers_are_configured_one_by_one_and_each_is_up_before_the_next(remote: ScriptedRemote, here: Site) -> None:
    configure_services(here, Role.MESSAGING)
    steps = _steps(remote, Role.MESSAGING, wake="start --no-block", write="^put ", up="^rabbitmqctl -q await_startup")
    assert sorted(steps[:3]) == [f"wake messaging-{index}" for index in MEMBERS]
    assert steps[3:] == [f"{what} messaging-{index}" for index in MEMBERS for what in ("write", "up")]
    script = next(script for name, script in remote.ran if name == "messaging-1" and "put" in script)
    assert script.index("await_online_quorum_plus_one") < script.index("reload-or-restart rabbitmq-server")


@pytest.mark.parametrize(
    ("answer", "status", "said"),
    [
        ('echo "{\\"disk_nodes\\":[\\"rabbit@FIRST\\"]}"', 0, ""),
        ('echo "{\\"disk_nodes\\":[\\"rabbit@FIRST0\\"]}"', 1, "stop_app, reset, join_cluster"),
        ("echo 'Error: unable to perform an operation' >&2; exit 69", 1, "Error: unable"),
    ],
)
def test_only_a_member_that_says_it_is_elsewhere_is_to_be_reset(
    remote: ScriptedRemote, here: Site, tmp_path: Path, answer: str, status: int, said: str
) -> None:
    configure_services(here, Role.MESSAGING)
    (script, *_) = remote.scripts("^rabbitmqctl -q await_startup")
    tool = tmp_path / "rabbitmqctl"
    tool.write_text(f"#!/bin/sh\n{answer.replace('FIRST', _addresses(Role.MESSAGING)[0])}\n", "utf-8")
    tool.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    asks = script[script.index("said=$(rabbitmqctl") :]
    done = subprocess.run(["/bin/sh"], input=asks, capture_output=True, text=True, env={"PATH": path})
    assert done.returncode == status
    assert said in done.stderr
    assert ("reset" in done.stderr) is ("reset" in said)


def test_a_cluster_is_told_its_password_once(remote: ScriptedRemote, here: Site) -> None:
    configure_services(here, Role.DATABASE, Role.MESSAGING)
    assert len(remote.scripts("CREATE DATABASE")) == len(remote.scripts("add_user")) == 1


def test_what_was_written_is_told_for_each_member(remote: ScriptedRemote, here: Site) -> None:
    remote.on(r"^put ", "/etc/mysql/mariadb.conf.d/90-heat.cnf\n", host="database-1")
    assert configure_services(here, Role.DATABASE) == ("database-1:/etc/mysql/mariadb.conf.d/90-heat.cnf",)


def test_heat_s_hosts_run_the_proxy_before_heat_starts(remote: ScriptedRemote, here: Site) -> None:
    configure_release(here, R26, "heat-1")
    scripts = remote.scripts("^systemctl start heat-database-proxy")
    assert len(scripts) == len(here.region.inventory.of(Role.API, Role.ENGINE))


def test_the_proxy_hears_of_its_own_settings_alone(remote: ScriptedRemote, here: Site) -> None:
    configure_release(here, R26, "heat-1")
    (script, *_) = remote.scripts("^systemctl start heat-database-proxy")
    before, applied = script.split("changed=$(", 1)
    assert "/etc/heat.conf" in before
    assert "/etc/heat.conf" not in applied
    assert "/etc/heat-database-proxy.cfg" in applied


def test_where_the_image_has_no_proxy_cloud_init_installs_it() -> None:
    of = openstack_region()
    clustered = of.model_copy(update={"topology": CLUSTERED.topology})
    for role in (Role.ENGINE, Role.API):
        texts = [
            next(stack.template for stack in render(one, TEMPLATES) if stack.name == role) for one in (of, clustered)
        ]
        assert ["haproxy" in text for text in texts] == [False, True]


# --- the checks of them


class Answers:
    """A testinfra host that answers every command with one text."""

    def __init__(self, text: str) -> None:
        self._text = text

    def run(self, _command: str, *_arguments: str) -> Any:
        return SimpleNamespace(rc=0, stdout=self._text, stderr="")


WHOLE = {
    "wsrep_cluster_size": "3",
    "wsrep_cluster_status": "Primary",
    "wsrep_local_state_comment": "Synced",
    "wsrep_ready": "ON",
}


@pytest.mark.parametrize(
    "wrong",
    [
        {"wsrep_cluster_size": "2"},
        {"wsrep_cluster_status": "non-Primary"},
        {"wsrep_local_state_comment": "Donor/Desynced"},
        {"wsrep_ready": "OFF"},
    ],
)
def test_a_database_that_is_not_whole_is_told(here: Site, wrong: dict[str, str]) -> None:
    def told(facts: dict[str, str]) -> Answers:
        return Answers("".join(f"{name}\t{value}\n" for name, value in facts.items()))

    check_database.check_cluster_is_whole(told(WHOLE), here)
    with pytest.raises(Unexpected, match="=".join(*wrong.items())):
        check_database.check_cluster_is_whole(told(WHOLE | wrong), here)


def test_a_broker_that_is_not_whole_is_told(here: Site) -> None:
    def told(running: int, partitions: dict[str, Any]) -> Answers:
        nodes = [f"rabbit@{index}" for index in range(running)]
        return Answers(json.dumps({"running_nodes": nodes, "partitions": partitions}))

    check_messaging.check_cluster_is_whole(told(3, {}), here)
    with pytest.raises(Unexpected, match="2 run"):
        check_messaging.check_cluster_is_whole(told(2, {}), here)
    with pytest.raises(Unexpected, match="no partition"):
        check_messaging.check_cluster_is_whole(told(3, {"rabbit@0": ["rabbit@1"]}), here)


def test_a_queue_of_engines_that_one_broker_keeps_alone_is_told(here: Site) -> None:
    def survey(kind: str) -> Any:
        definitions = {"permissions": [], "vhosts": [], "users": [], "policies": []}
        queues = [{"name": "engine", "messages_ready": 0, "consumers": 4, "type": kind}]
        return SimpleNamespace(broker=lambda _: broker_facts(definitions, queues, "", "heat-1"))

    target = host(Role.MESSAGING, 0, CLUSTERED)
    check_messaging.check_queues_are_kept_by_a_majority(target, survey("quorum"), here)
    with pytest.raises(Unexpected, match="found engine"):
        check_messaging.check_queues_are_kept_by_a_majority(target, survey("classic"), here)


def test_of_galera_s_options_those_that_were_set_must_be_as_they_were(here: Site) -> None:
    target = host(Role.DATABASE, 0, CLUSTERED)
    wanted = questions.configured(target, here, R26, "heat-1")
    options = "wsrep_provider_options"
    every = {**wanted, options: "base_dir = /x; " + wanted[options].replace("=", " = ") + "; pc.weight = 1;"}

    def check(facts: dict[str, str]) -> None:
        text = "".join(f"{name}\t{value or 'ON'}\n" for name, value in facts.items())
        check_database.check_variables_are_as_configured(Answers(text), target, here, R26, "heat-1")

    check(every)
    with pytest.raises(Unexpected, match=options):
        check({**every, options: every[options].replace(":4567", ":4568")})
