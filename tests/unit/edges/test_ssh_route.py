"""Ways to a host: jump hosts, OpenSSH's own configuration, certificates and agents, and whose keys are pinned."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from builders import LOCAL
from sshd import SshServer, host_key

from pipeline import access
from pipeline.edges.ssh import SshRemote, generate_key
from pipeline.edges.ssh.keys import Identity
from pipeline.edges.ssh.route import Routes
from pipeline.environment import Role, Ssh
from pipeline.errors import ConfigurationInvalid, HostKeyRefused, HostUnreachable
from pipeline.inventory import Host, Inventory
from pipeline.workspace import Workspace


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("key") / "id_ed25519"
    generate_key(path)
    return path


@pytest.fixture
def servers(tmp_path: Path, key: Path) -> Iterator[tuple[SshServer, ...]]:
    running = tuple(
        SshServer([host_key(tmp_path, name)], "pipeline", generate_key(key)) for name in ("engine", "bastion", "gate")
    )
    yield running
    for server in running:
        server.stop()


@pytest.fixture
def known_hosts(tmp_path: Path, servers: tuple[SshServer, ...]) -> Path:
    path = tmp_path / "known_hosts"
    path.write_text("".join(f"[127.0.0.1]:{server.port} {server.public_keys[0]}\n" for server in servers[1:]))
    return path


def _host(server: SshServer, name: str = "engine-0") -> Host:
    return Host(name, Role.ENGINE, "127.0.0.1", server.public_keys)


def _jump(server: SshServer) -> str:
    return f"127.0.0.1:{server.port}"


def test_a_host_is_reached_over_a_chain_of_jump_hosts(
    servers: tuple[SshServer, ...], key: Path, known_hosts: Path
) -> None:
    engine, bastion, gate = servers
    settings = Ssh(port=engine.port, jump=(_jump(bastion), _jump(gate)), known_hosts=known_hosts)
    with SshRemote(settings, key) as remote:
        assert remote.run(_host(engine), "echo here", root=False).stdout == "here\n"
    assert bastion.forwarded == [("127.0.0.1", gate.port)]
    assert gate.forwarded == [("127.0.0.1", engine.port)]


def test_a_jump_hosts_connection_is_shared_by_all_behind_it(
    servers: tuple[SshServer, ...], key: Path, known_hosts: Path
) -> None:
    engine, bastion, _ = servers
    settings = Ssh(port=engine.port, jump=(_jump(bastion),), known_hosts=known_hosts, starts=2)
    with SshRemote(settings, key) as remote, ThreadPoolExecutor(8) as pool:
        hosts = [_host(engine, f"engine-{n}") for n in range(8)]
        answers = list(pool.map(lambda host: remote.run(host, f"echo {host.name}", root=False).stdout, hosts))
    assert answers == [f"engine-{n}\n" for n in range(8)]
    assert (bastion.connections, engine.connections) == (1, 8)


def test_a_host_behind_a_jump_host_that_is_down_is_unreachable(
    servers: tuple[SshServer, ...], key: Path, known_hosts: Path
) -> None:
    engine, bastion, _ = servers
    settings = Ssh(port=engine.port, jump=(_jump(bastion),), known_hosts=known_hosts, connect_timeout=0.3)
    with SshRemote(settings, key) as remote:
        engine.stop()
        with pytest.raises(HostUnreachable, match="engine-0"):
            remote.run(_host(engine), "true")
        bastion.stop()
        with pytest.raises(HostUnreachable, match="engine-0"):
            remote.run(_host(engine), "true")


def test_of_many_hosts_behind_a_jump_host_that_is_down_one_tries_it_for_all(
    servers: tuple[SshServer, ...], key: Path, known_hosts: Path
) -> None:
    engine, bastion, _ = servers
    bastion.refuse_first = sys.maxsize
    settings = Ssh(port=engine.port, jump=(_jump(bastion),), known_hosts=known_hosts, connect_timeout=1, starts=1)
    with SshRemote(settings, key) as remote, ThreadPoolExecutor(32) as pool:
        hosts = [_host(engine, f"engine-{n}") for n in range(32)]
        told = list(pool.map(lambda host: _unreachable(remote, host), hosts))
    assert all("engine-" in message for message in told)
    assert bastion.connections < 32, "each host tried it for itself"


def _unreachable(remote: SshRemote, host: Host) -> str:
    with pytest.raises(HostUnreachable) as caught:
        remote.run(host, "true")
    return caught.value.message


def test_a_key_that_is_revoked_is_not_pinned(servers: tuple[SshServer, ...], key: Path, tmp_path: Path) -> None:
    engine, bastion, _ = servers
    path = tmp_path / "revoking"
    pinned = f"[127.0.0.1]:{bastion.port} {bastion.public_keys[0]}\n"
    path.write_text(f"{pinned}@revoked * {bastion.public_keys[0]}\n")
    settings = Ssh(jump=(_jump(bastion),), known_hosts=path)
    with SshRemote(settings, key) as remote, pytest.raises(ConfigurationInvalid, match="no key of jump host"):
        remote.run(_host(engine), "true")


def test_a_jump_host_that_is_not_pinned_is_refused_with_what_to_do(servers: tuple[SshServer, ...], key: Path) -> None:
    engine, bastion, _ = servers
    with SshRemote(Ssh(jump=(_jump(bastion),)), key) as remote, pytest.raises(ConfigurationInvalid) as caught:
        remote.run(_host(engine), "true")
    assert "no key of jump host 127.0.0.1 is pinned in ssh.known_hosts (not set)" in caught.value.message
    assert f"ssh-keyscan -p {bastion.port} 127.0.0.1" in caught.value.hint
    assert bastion.connections == 0


def test_a_jump_host_that_shows_another_key_is_refused(
    servers: tuple[SshServer, ...], key: Path, tmp_path: Path
) -> None:
    engine, bastion, _ = servers
    path = tmp_path / "other"
    path.write_text(f"[127.0.0.1]:{bastion.port} {engine.public_keys[0]}\n")
    settings = Ssh(jump=(_jump(bastion),), known_hosts=path)
    with SshRemote(settings, key) as remote, pytest.raises(HostKeyRefused):
        remote.run(_host(engine), "true")


def test_proxy_jumps_are_read_from_openssh_own_configuration(
    servers: tuple[SshServer, ...], known_hosts: Path, tmp_path: Path
) -> None:
    engine, _, gate = servers
    config = tmp_path / "config"
    config.write_text(
        f"Host 127.0.0.*\n  ProxyJump inner\n"
        f"Host inner\n  HostName 127.0.0.1\n  Port {gate.port}\n  User ops\n  ProxyJump none\n"
    )
    hops = Routes(Ssh(port=engine.port, config=config, known_hosts=known_hosts)).to(_host(engine))
    assert [(hop.name, hop.port, hop.user) for hop in hops] == [
        ("inner", gate.port, "ops"),
        ("engine-0", engine.port, "pipeline"),
    ]


def test_of_a_chain_of_proxy_jumps_the_first_alone_may_have_its_own(
    servers: tuple[SshServer, ...], known_hosts: Path, tmp_path: Path
) -> None:
    engine, bastion, gate = servers
    config = tmp_path / "config"
    config.write_text(
        f"Host outer\n  HostName 127.0.0.1\n  Port {bastion.port}\n  ProxyJump front\n"
        f"Host front\n  HostName 127.0.0.1\n  Port {bastion.port}\n"
        f"Host inner\n  HostName 127.0.0.1\n  Port {gate.port}\n  ProxyJump elsewhere\n"
        "Host engine-0\n  ProxyJump outer,inner\n"
    )
    hops = Routes(Ssh(port=engine.port, config=config, known_hosts=known_hosts)).to(_host(engine))
    assert [hop.name for hop in hops] == ["front", "outer", "inner", "engine-0"]


def test_jump_hosts_that_go_round_in_a_circle_are_told(
    servers: tuple[SshServer, ...], known_hosts: Path, tmp_path: Path
) -> None:
    engine, bastion, gate = servers
    config = tmp_path / "config"
    config.write_text(
        f"Host a\n  HostName 127.0.0.1\n  Port {bastion.port}\n  ProxyJump b\n"
        f"Host b\n  HostName 127.0.0.1\n  Port {gate.port}\n  ProxyJump a\n"
    )
    with pytest.raises(ConfigurationInvalid, match="circle: a → b → a"):
        Routes(Ssh(jump=("a",), config=config, known_hosts=known_hosts)).to(_host(engine))


@pytest.mark.parametrize("text", ["@host", "host:ssh", "", ":22"])
def test_a_jump_host_that_is_none_is_told_with_its_form(text: str, servers: tuple[SshServer, ...]) -> None:
    with pytest.raises(ConfigurationInvalid, match="is no jump host") as caught:
        Routes(Ssh(jump=(text,))).to(_host(servers[0]))
    assert "USER@HOST:PORT" in caught.value.hint


def test_files_that_cannot_be_read_are_named(servers: tuple[SshServer, ...], tmp_path: Path) -> None:
    with pytest.raises(ConfigurationInvalid, match="nowhere: cannot be read"):
        Routes(Ssh(config=tmp_path / "nowhere"))
    with pytest.raises(ConfigurationInvalid, match="nowhere: cannot be read"):
        Routes(Ssh(jump=("a",), known_hosts=tmp_path / "nowhere")).to(_host(servers[0]))
    (tmp_path / "spoilt").write_text("# mine\n\nbastion ssh-ed25519 AAA\n")
    with pytest.raises(ConfigurationInvalid, match="spoilt:3: is no line of known_hosts"):
        Routes(Ssh(jump=("a",), known_hosts=tmp_path / "spoilt")).to(_host(servers[0]))


def test_a_certificate_beside_the_key_is_shown(tmp_path: Path) -> None:
    authority, mine = tmp_path / "ca", tmp_path / "id"
    generate_key(authority)
    (tmp_path / "id.pub").write_text(generate_key(mine))
    sign = ["ssh-keygen", "-q", "-s", str(authority), "-I", "ci", "-n", "pipeline", str(tmp_path / "id.pub")]
    subprocess.run(sign, check=True)
    with Identity(mine).keys() as (loaded,):
        pass
    assert loaded.public_blob is not None
    assert loaded.public_blob.key_type == "ssh-ed25519-cert-v01@openssh.com"


def test_a_key_and_its_certificate_may_be_in_the_users_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    generate_key(tmp_path / "id")
    spoilt = Identity(Path("~/id"), certificate=Path("~/none"))
    with pytest.raises(ConfigurationInvalid, match=str(tmp_path / "none")), spoilt.keys():
        pass
    with Identity(Path("~/id")).keys() as (loaded,):
        assert loaded.public_blob is None


def test_a_certificate_that_is_named_must_be_there(tmp_path: Path) -> None:
    generate_key(tmp_path / "id")
    identity = Identity(tmp_path / "id", certificate=tmp_path / "nowhere")
    with pytest.raises(ConfigurationInvalid, match="no usable private key"), identity.keys():
        pass


def test_keys_of_an_agent_are_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = tmp_path / "held"
    public = generate_key(held)
    agent = subprocess.run(["ssh-agent", "-s"], capture_output=True, text=True, check=True).stdout
    told = dict(part.split("=", 1) for line in agent.splitlines() for part in line.split(";")[:1] if "=" in part)
    monkeypatch.setenv("SSH_AUTH_SOCK", told["SSH_AUTH_SOCK"])
    try:
        subprocess.run(["ssh-add", "-q", str(held)], check=True)
        server = SshServer([host_key(tmp_path)], "pipeline", public)
        with SshRemote(Ssh(port=server.port, agent=True), tmp_path / "none") as remote:
            assert remote.run(_host(server), "echo here", root=False).stdout == "here\n"
        with SshRemote(Ssh(port=server.port, agent=True), tmp_path / "none") as remote, ThreadPoolExecutor(16) as pool:
            hosts = [_host(server, f"engine-{n}") for n in range(48)]
            answers = list(pool.map(lambda host: remote.run(host, f"echo {host.name}", root=False).stdout, hosts))
        assert answers == [f"{host.name}\n" for host in hosts]
        server.stop()
    finally:
        subprocess.run(["kill", told["SSH_AGENT_PID"]], check=True)


# --- OpenSSH, by the command that the pipeline gives to people


def _typed(host: Host, settings: Ssh, directory: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the command that logs in to `host`, of an environment in `directory` that has no other."""
    monkeypatch.setattr(access, "cloud_of", lambda *_: None)
    monkeypatch.setattr(access, "_outputs", lambda *_: {})
    monkeypatch.setattr(access, "inventory_of", lambda *_: Inventory("local", (host,)))
    environment = LOCAL.model_copy(update={"ssh": settings})
    return access.ssh_command(Workspace(directory, directory / "state"), environment, host.name)


def _says(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("jumps", [0, 1, 2])
def test_a_person_logs_in_over_the_same_jump_hosts(
    servers: tuple[SshServer, ...], key: Path, known_hosts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    jumps: int,
) -> None:  # fmt: skip
    engine, bastion, gate = servers
    jump = tuple(_jump(server) for server in (bastion, gate)[:jumps])
    settings = Ssh(port=engine.port, jump=jump, known_hosts=known_hosts, identity=key)
    done = _says([*_typed(_host(engine), settings, tmp_path / "50% of it's", monkeypatch), "echo here"])
    assert (done.returncode, done.stdout) == (0, "here\n"), done.stderr
    ways = [[], [engine.port], [gate.port, engine.port]][jumps]
    assert [port for server in (bastion, gate) for _, port in server.forwarded] == ways


def test_a_person_gets_no_further_over_a_jump_host_that_shows_another_key(
    servers: tuple[SshServer, ...], key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, bastion, _ = servers
    path = tmp_path / "other"
    path.write_text(f"[127.0.0.1]:{bastion.port} {engine.public_keys[0]}\n")
    settings = Ssh(port=engine.port, jump=(_jump(bastion),), known_hosts=path, identity=key)
    done = _says([*_typed(_host(engine), settings, tmp_path, monkeypatch), "echo here"])
    assert (done.returncode, done.stdout) == (255, "")
    assert "Host key verification failed" in done.stderr
    assert engine.connections == 0
