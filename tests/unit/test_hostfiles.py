"""Files of hosts: what each role and release gets, secrets that stay hidden, and the writing, run for real."""

from __future__ import annotations

import configparser
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from builders import LOCAL, R25, R26, R27, SECRETS, TEMPLATES, host, region

from pipeline.certificate import Certificate
from pipeline.environment import Environment, InternalTls, Role, Tls
from pipeline.hostfiles import CERTIFICATE, UNITS, HostFile, release_files, role_files, write_script
from pipeline.release import Release
from pipeline.secrets import Secret

OWNER = f"{os.getuid()}:{os.getgid()}"
EACH_RELEASE = pytest.mark.parametrize("release", [R25, R26, R27], ids=lambda release: str(release.heat))


def _of_role(role: Role) -> dict[str, HostFile]:
    return {file.path: file for file in role_files(host(role), LOCAL, region(), TEMPLATES)}


def _of_release(role: Role, release: Release, vhost: str = "heat-v") -> dict[str, HostFile]:
    files = release_files(host(role), LOCAL, region(), release, vhost, TEMPLATES)
    return {Path(file.path).name: file for file in files}


def _ini(text: str) -> configparser.ConfigParser:
    # Strict: an option given twice is a mistake. systemd's ListenStream is the one that may be, to empty it first.
    parser = configparser.ConfigParser(interpolation=None, default_section="none", delimiters=("=",))
    parser.read_string(text)
    return parser


def _sh(files: list[HostFile]) -> list[str]:
    done = subprocess.run(["/bin/sh"], input=write_script(files), capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


def _file(path: Path, content: str, mode: str = "0644") -> HostFile:
    return HostFile(str(path), content, mode, OWNER)


def _mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


# --- what each role gets


@pytest.mark.parametrize(
    ("role", "paths"),
    [
        (Role.ENGINE, ["/etc/systemd/system/heat-engine.service"]),
        (Role.API, ["/etc/systemd/system/heat-api.service", "/etc/systemd/system/heat-api-cfn.service"]),
        (Role.DATABASE, ["/etc/mysql/mariadb.conf.d/90-heat.cnf"]),
        (Role.LOADBALANCER, ["/etc/haproxy/haproxy.cfg"]),
    ],
)
def test_a_role_has_its_files(role: Role, paths: list[str]) -> None:
    assert list(_of_role(role)) == paths


def test_the_broker_and_its_port_mapper_are_told_where_to_listen() -> None:
    files = _of_role(Role.MESSAGING)
    assert f"listeners.tcp.1 = {host(Role.MESSAGING).address}:5672" in files["/etc/rabbitmq/rabbitmq.conf"].content
    assert "ERL_EPMD_ADDRESS=127.0.0.1" in files["/etc/rabbitmq/rabbitmq-env.conf"].content
    assert "/etc/systemd/system/epmd.socket.d/loopback.conf" in files


@pytest.mark.parametrize("role", [Role.ENGINE, Role.API])
def test_systemd_waits_longer_than_heat_drains_and_signals_the_parent_only(role: Role) -> None:
    for unit in UNITS[role]:
        service = _ini(_of_role(role)[f"/etc/systemd/system/{unit}.service"].content)["Service"]
        assert int(service["TimeoutStopSec"]) > LOCAL.heat.graceful_shutdown_timeout
        assert service["KillMode"] == "mixed"
        assert service["User"] == service["Group"] == "heat"
        assert service["WorkingDirectory"] == "/opt/heat/current"
        assert service["NoNewPrivileges"] == "yes"


def test_the_load_balancer_knows_every_api_by_the_name_of_its_host() -> None:
    (file,) = _of_role(Role.LOADBALANCER).values()
    for api in region().inventory.of(Role.API):
        for port in (LOCAL.heat.api_port, LOCAL.heat.cfn_port):
            assert f"server {api.name} {api.address}:{port} check" in file.content


def test_a_role_s_files_do_not_depend_on_the_release() -> None:
    assert not [file for role in Role for file in _of_role(role).values() if "/releases/" in file.content]


# --- what each release gets


@EACH_RELEASE
def test_an_engine_has_its_configuration_and_its_vhost(release: Release) -> None:
    files = _of_release(Role.ENGINE, release)
    assert set(files) == {"heat.conf", "vhost"}
    assert all(file.path.startswith(f"/opt/heat/releases/{release.id}/etc/") for file in files.values())
    assert files["vhost"].content == "heat-v\n"


@EACH_RELEASE
@pytest.mark.parametrize("role", [Role.ENGINE, Role.API])
def test_heat_conf_is_one_for_its_release_host_and_vhost(release: Release, role: Role) -> None:
    heat = _ini(_of_release(role, release)["heat.conf"].content)
    assert heat["DEFAULT"]["host"] == host(role).name
    assert heat["DEFAULT"]["transport_url"].endswith(f"@{host(Role.MESSAGING).address}:5672/heat-v")
    assert heat["DEFAULT"]["num_engine_workers"] == str(LOCAL.heat.engine_workers)
    assert heat["revision"]["heat_revision"] == release.id
    assert f"@{host(Role.DATABASE).address}/heat" in heat["database"]["connection"]
    assert "/v3" not in heat["ec2authtoken"].get("endpoint_override", ""), "Heat appends /v3/ec2tokens itself"


@EACH_RELEASE
def test_what_must_be_equal_everywhere_is_equal_on_engines_and_apis(release: Release) -> None:
    engine, api = (_ini(_of_release(role, release)["heat.conf"].content)["DEFAULT"] for role in (Role.ENGINE, Role.API))
    different = {key for key in engine.keys() | api.keys() if engine.get(key) != api.get(key)}
    assert different == {"host"}


@EACH_RELEASE
def test_an_api_host_has_a_file_for_each_of_its_servers(release: Release) -> None:
    files = _of_release(Role.API, release)
    assert set(files) == {"heat.conf", "heat-api.ini", "heat-api-cfn.ini", "vhost"}
    for name, port in (("heat-api.ini", LOCAL.heat.api_port), ("heat-api-cfn.ini", LOCAL.heat.cfn_port)):
        uwsgi = _ini(files[name].content)["uwsgi"]
        assert uwsgi["http-socket"] == f"{host(Role.API).address}:{port}"
        assert release.id in uwsgi["pyargv"]


# --- secrets


def test_a_file_with_a_secret_in_it_is_for_heat_alone() -> None:
    files = [file for role in (Role.ENGINE, Role.API) for file in _of_release(role, R26).values()]
    files += [file for role in Role for file in _of_role(role).values()]
    secret = [file for file in files if any(secret in file.content for secret in SECRETS.values())]
    assert {Path(file.path).name for file in secret} == {"heat.conf"}
    assert {(file.mode, file.owner) for file in secret} == {("0640", "root:heat")}


def test_secrets_do_not_show_when_a_file_is_printed() -> None:
    text = repr(_of_release(Role.ENGINE, R26))
    assert "heat.conf" in text
    assert not [secret for secret in SECRETS.values() if secret in text]


def test_secrets_are_not_readable_in_the_script_that_writes_them() -> None:
    script = write_script(list(_of_release(Role.ENGINE, R26).values()))
    assert not [secret for secret in SECRETS.values() if secret in script]


def test_a_digest_is_that_of_the_content() -> None:
    assert HostFile("/a", "x").digest == HostFile("/b", "x", "0600").digest
    assert HostFile("/a", "x").digest != HostFile("/a", "y").digest


# --- writing, for real


def test_what_is_written_is_told_and_is_there_whole(tmp_path: Path) -> None:
    files = [_file(tmp_path / "a", "one\n$HOME `id` 'q'\n"), _file(tmp_path / "new/dir/b", "zwei ü", "0600")]
    assert _sh(files) == [str(tmp_path / "a"), str(tmp_path / "new/dir/b")]
    assert (tmp_path / "a").read_text("utf-8") == files[0].content
    assert (tmp_path / "new/dir/b").read_text("utf-8") == files[1].content
    assert (_mode(tmp_path / "a"), _mode(tmp_path / "new/dir/b")) == (0o644, 0o600)
    assert _mode(tmp_path / "new/dir") == 0o755
    assert not list(tmp_path.rglob("*.partial"))


def test_writing_again_changes_nothing_and_tells_nothing(tmp_path: Path) -> None:
    files = [_file(tmp_path / "a", "one"), _file(tmp_path / "b", "")]
    _sh(files)
    before = (tmp_path / "a").stat()
    assert _sh(files) == []
    assert (tmp_path / "a").stat().st_ino == before.st_ino
    assert not list(tmp_path.rglob("*.partial"))


def test_only_what_differs_is_written(tmp_path: Path) -> None:
    _sh([_file(tmp_path / "a", "one"), _file(tmp_path / "b", "two")])
    assert _sh([_file(tmp_path / "a", "one"), _file(tmp_path / "b", "three")]) == [str(tmp_path / "b")]


def test_another_mode_is_a_change_too(tmp_path: Path) -> None:
    _sh([_file(tmp_path / "a", "one", "0644")])
    assert _sh([_file(tmp_path / "a", "one", "0640")]) == [str(tmp_path / "a")]
    assert _mode(tmp_path / "a") == 0o640


def test_a_file_left_half_written_does_not_stand_in_the_way(tmp_path: Path) -> None:
    (tmp_path / ".a.partial").write_text("half of it, which is longer than the whole", "utf-8")
    assert _sh([_file(tmp_path / "a", "one")]) == [str(tmp_path / "a")]
    assert (tmp_path / "a").read_text("utf-8") == "one"


def test_paths_reach_the_shell_as_they_are(tmp_path: Path) -> None:
    odd = tmp_path / "it's $(touch x)"
    script = write_script([_file(odd, "one")])
    subprocess.run(["/bin/sh"], input=script, text=True, check=True, cwd=tmp_path, stdout=subprocess.DEVNULL)
    assert [path.name for path in tmp_path.iterdir()] == [odd.name]


def test_a_write_that_fails_ends_the_script_before_the_next_file(tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir()
    files = [HostFile(str(tmp_path / "a"), "one", "0644", "nobody-of-that-name:none"), _file(tmp_path / "b", "two")]
    done = subprocess.run(["/bin/sh"], input=write_script(files), capture_output=True, text=True)
    assert done.returncode != 0
    assert not (tmp_path / "a").exists()
    assert not (tmp_path / "b").exists()


# --- TLS of the endpoints

SECURED = LOCAL.model_copy(update={"tls": Tls()})
SHOWN = Certificate("-----BEGIN CERTIFICATE-----\nc\n", Secret("-----BEGIN PRIVATE KEY-----\nk3y\n"))


def test_the_load_balancer_shows_the_certificate_and_nobody_else_has_it() -> None:
    known = replace(region(), certificate=SHOWN)
    for role in Role:
        files = {file.path: file for file in role_files(host(role), SECURED, known, TEMPLATES)}
        assert (CERTIFICATE in files) == (role is Role.LOADBALANCER)
    files = {file.path: file for file in role_files(host(Role.LOADBALANCER), SECURED, known, TEMPLATES)}
    assert (files[CERTIFICATE].mode, files[CERTIFICATE].owner) == ("0600", "root:root")
    assert files[CERTIFICATE].content == SHOWN.with_key
    balancer = files["/etc/haproxy/haproxy.cfg"].content
    assert balancer.count(f" ssl crt {CERTIFICATE}\n") == balancer.count("    bind ") == 2
    assert balancer.count("X-Forwarded-Proto https") == 2
    assert "k3y" not in f"{files} {known} {SHOWN}"
    assert "k3y" in "".join(known.secrets)


def test_without_tls_nothing_of_it_is_written() -> None:
    balancer = _of_role(Role.LOADBALANCER)["/etc/haproxy/haproxy.cfg"].content
    assert "ssl" not in balancer
    assert "X-Forwarded-Proto" not in balancer


def test_servers_are_told_to_signal_as_the_endpoints_are_asked() -> None:
    files = release_files(host(Role.ENGINE), SECURED, region(), R26, "heat-v", TEMPLATES)
    default = _ini(next(file.content for file in files if file.path.endswith("heat.conf")))["DEFAULT"]
    assert default["heat_waitcondition_server_url"] == "https://198.18.7.10:8000/v1/waitcondition"
    assert default["heat_metadata_server_url"] == "https://198.18.7.10:8000"


# --- TLS among hosts

OFFERED, USED, REQUIRED = (LOCAL.model_copy(update={"tls": Tls(internal=level)}) for level in InternalTls)
AMONG = replace(
    region(), internal={"database-0": SHOWN, "messaging-0": SHOWN}, authority="-----BEGIN CERTIFICATE-----\nca\n"
)


def _served(role: Role, of: Environment, name: str) -> str:
    files = role_files(host(role), of, AMONG, TEMPLATES)
    return next(file.content for file in files if file.path.endswith(name))


def _heat_conf(role: Role, of: Environment) -> configparser.ConfigParser:
    files = release_files(host(role), of, AMONG, R26, "heat-v", TEMPLATES)
    return _ini(next(file.content for file in files if file.path.endswith("heat.conf")))


@pytest.mark.parametrize(("role", "group"), [(Role.DATABASE, "mysql"), (Role.MESSAGING, "rabbitmq")])
@pytest.mark.parametrize("of", [OFFERED, USED, REQUIRED])
def test_database_and_broker_have_a_certificate_whose_key_their_service_alone_reads(
    role: Role, group: str, of: Environment
) -> None:
    files = {Path(file.path).name: file for file in role_files(host(role), of, AMONG, TEMPLATES)}
    assert (files["heat.key"].mode, files["heat.key"].owner) == ("0640", f"root:{group}")
    assert (files["heat.key"].content, files["heat.pem"].content) == (SHOWN.key.reveal(), SHOWN.chain)
    assert files["heat-authority.pem"].content == AMONG.authority
    assert "k3y" not in f"{files} {AMONG}"
    assert "k3y" in "".join(AMONG.secrets)


def test_a_file_that_is_one_secret_is_told_from_one_that_holds_some() -> None:
    clustered = replace(AMONG, certificate=SHOWN, messaging_cookie=Secret("c00kie"))
    files = [file for role in Role for file in role_files(host(role), USED, clustered, TEMPLATES)]
    assert [file.path for file in files if file.secret] == [
        "/etc/mysql/heat.key",
        "/etc/rabbitmq/heat.key",
        "/var/lib/rabbitmq/.erlang.cookie",
    ]


def test_what_is_offered_beside_plain_connections_is_required_in_the_end() -> None:
    for of, plain, only in ((OFFERED, True, False), (USED, True, False), (REQUIRED, False, True)):
        database = _served(Role.DATABASE, of, "90-heat.cnf").splitlines()
        assert {"ssl_cert = /etc/mysql/heat.pem", "ssl_key = /etc/mysql/heat.key"} <= set(database)
        assert ("require_secure_transport = ON" in database) is only
        broker = _served(Role.MESSAGING, of, "rabbitmq.conf")
        address = host(Role.MESSAGING).address
        assert f"listeners.ssl.1 = {address}:5671\n" in broker
        assert (f"listeners.tcp.1 = {address}:5672\n" in broker, "listeners.tcp = none\n" in broker) == (plain, only)


@pytest.mark.parametrize("role", [Role.ENGINE, Role.API])
@pytest.mark.parametrize("of", [USED, REQUIRED])
def test_heat_comes_over_tls_and_trusts_the_environments_own_authority_only(role: Role, of: Environment) -> None:
    conf = _heat_conf(role, of)
    trusted = f"/opt/heat/releases/{R26.id}/etc/authority.pem"
    assert conf["database"]["connection"].endswith(f"?charset=utf8mb4&ssl_ca={trusted}&ssl_check_hostname=true")
    assert ":5671/heat-v" in conf["DEFAULT"]["transport_url"]
    broker = conf["oslo_messaging_rabbit"]
    assert (broker["ssl"], broker["ssl_ca_file"]) == ("true", trusted)
    assert ("use_queue_manager" in broker) is (role is Role.ENGINE)
    files = {file.path: file for file in release_files(host(role), of, AMONG, R26, "heat-v", TEMPLATES)}
    assert files[trusted].content == AMONG.authority


@pytest.mark.parametrize("role", [Role.ENGINE, Role.API])
def test_while_tls_is_only_offered_heat_comes_as_before(role: Role) -> None:
    plain = {file.path: file.content for file in release_files(host(role), SECURED, region(), R26, "v", TEMPLATES)}
    offered = {file.path: file.content for file in release_files(host(role), OFFERED, AMONG, R26, "v", TEMPLATES)}
    assert offered == plain
