"""SSH against a real server on loopback: who answers, what runs, and how each ending is told from the others."""

from __future__ import annotations

import hashlib
import os
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import paramiko
import pytest
from sshd import SshServer, fake_sudo, host_key

from pipeline.edges.ssh import SshRemote, fingerprint, generate_key
from pipeline.environment import Role, Ssh
from pipeline.errors import CommandFailed, ConfigurationInvalid, HostKeyRefused, HostUnreachable
from pipeline.inventory import Host


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("key") / "id_ed25519"
    generate_key(path)
    return path


@pytest.fixture
def server(tmp_path: Path, key: Path) -> Iterator[SshServer]:
    running = SshServer([host_key(tmp_path)], "pipeline", generate_key(key), fake_sudo(tmp_path / "bin"))
    yield running
    running.stop()


@pytest.fixture
def remote(server: SshServer, key: Path) -> Iterator[SshRemote]:
    with SshRemote(Ssh(port=server.port, connect_timeout=2), key) as opened:
        yield opened


def _host(server: SshServer, *keys: str) -> Host:
    return Host("engine-0", Role.ENGINE, "127.0.0.1", keys or server.public_keys)


def _eventually(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not happened():
        assert time.monotonic() < deadline, "it did not happen within 5 s"
        time.sleep(0.01)


# --- what runs


def test_stdout_stderr_and_status_are_kept_apart(server: SshServer, remote: SshRemote) -> None:
    result = remote.run(_host(server), "echo out; echo err >&2; exit 3", check=False, root=False)
    assert (result.status, result.stdout, result.stderr) == (3, "out\n", "err\n")


def test_a_script_runs_by_sudo_unless_told_otherwise(server: SshServer, remote: SshRemote) -> None:
    script = 'echo "${AS_ROOT:-no}"'
    assert remote.run(_host(server), script).stdout == "yes\n"
    assert remote.run(_host(server), script, root=False).stdout == "no\n"


def test_a_script_never_shows_in_the_hosts_list_of_processes(server: SshServer, remote: SshRemote) -> None:
    remote.run(_host(server), "password=hunter2; true")
    remote.run(_host(server), "password=hunter2; true", root=False)
    assert server.commands == ["sudo -n sh", "sh"]


def test_a_command_that_reads_its_input_does_not_eat_the_script(server: SshServer, remote: SshRemote) -> None:
    assert remote.run(_host(server), "cat\nread line\nssh-keygen -l -f - || true\necho after", root=False).stdout == (
        "after\n"
    )


def test_five_megabytes_come_through_whole(server: SshServer, remote: SshRemote) -> None:
    result = remote.run(_host(server), "head -c 5242880 /dev/zero | tr '\\0' x", root=False)
    assert len(result.stdout) == 5 * 1024 * 1024


def test_much_on_both_streams_does_not_block(server: SshServer, remote: SshRemote) -> None:
    script = "head -c 3000000 /dev/zero | tr '\\0' e >&2; head -c 3000000 /dev/zero | tr '\\0' o"
    result = remote.run(_host(server), script, root=False, timeout=20)
    assert (len(result.stdout), len(result.stderr)) == (3_000_000, 3_000_000)


def test_bytes_that_are_no_text_do_not_hurt(server: SshServer, remote: SshRemote) -> None:
    assert remote.run(_host(server), r"printf 'a\377b'", root=False).stdout == "a\ufffdb"


def test_a_failed_command_says_its_last_words_and_carries_its_result(server: SshServer, remote: SshRemote) -> None:
    with pytest.raises(CommandFailed, match=r"^engine-0: status 4: no such vhost") as caught:
        remote.run(_host(server), "echo some; echo 'no such vhost' >&2; exit 4", root=False)
    assert (caught.value.status, caught.value.stdout, caught.value.stderr) == (4, "some\n", "no such vhost\n")


def test_a_command_that_fails_in_silence_is_said_to(server: SshServer, remote: SshRemote) -> None:
    with pytest.raises(CommandFailed, match="status 1: it said nothing"):
        remote.run(_host(server), "exit 1", root=False)


def test_a_syntax_error_runs_nothing_at_all(server: SshServer, remote: SshRemote, tmp_path: Path) -> None:
    with pytest.raises(CommandFailed):
        remote.run(_host(server), f"touch {tmp_path}/half\nif", root=False)
    assert not (tmp_path / "half").exists()


def test_lines_are_heard_by_their_stream(server: SshServer, remote: SshRemote) -> None:
    heard: list[tuple[str, str]] = []
    script = "echo a; echo; echo b >&2; printf c; exit 3"
    remote.run(_host(server), script, root=False, check=False, heard=lambda *line: heard.append(line))
    assert [line for stream, line in heard if stream == "stdout"] == ["a", "", "c"]
    assert [line for stream, line in heard if stream == "stderr"] == ["b"]


# --- time


def test_a_command_that_does_not_end_is_given_up(server: SshServer, remote: SshRemote) -> None:
    began = time.monotonic()
    with pytest.raises(CommandFailed, match=r"no end within 0 s|no end within 1 s"):
        remote.run(_host(server), "sleep 3", root=False, timeout=0.5)
    assert time.monotonic() - began < 2


def test_a_command_that_keeps_talking_is_given_up_too(server: SshServer, remote: SshRemote) -> None:
    began = time.monotonic()
    with pytest.raises(CommandFailed, match="no end within"):
        remote.run(_host(server), "for i in 1 2 3 4 5 6; do echo $i; sleep 0.4; done", root=False, timeout=0.9)
    assert time.monotonic() - began < 2


def test_a_host_answers_again_after_a_command_was_given_up(server: SshServer, remote: SshRemote) -> None:
    with pytest.raises(CommandFailed):
        remote.run(_host(server), "sleep 2", root=False, timeout=0.2)
    assert remote.run(_host(server), "echo here", root=False).stdout == "here\n"


# --- connections


def test_one_connection_serves_a_whole_run(server: SshServer, remote: SshRemote) -> None:
    for _ in range(5):
        remote.run(_host(server), "true", root=False)
    assert server.connections == 1


def test_threads_share_the_connection_of_a_host(server: SshServer, remote: SshRemote) -> None:
    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(lambda n: remote.run(_host(server), f"echo {n}", root=False).stdout, range(6)))
    assert results == [f"{n}\n" for n in range(6)]
    assert server.connections == 1


def test_connecting_is_tried_again(server: SshServer, remote: SshRemote) -> None:
    server.refuse_first = 1
    assert remote.run(_host(server), "echo here", root=False).stdout == "here\n"
    assert server.connections == 2


def test_a_connection_lost_during_a_command_is_not_a_failed_command(server: SshServer, remote: SshRemote) -> None:
    killer = threading.Thread(target=lambda: (_eventually(lambda: bool(server.commands)), server.cut()))
    killer.start()
    with pytest.raises(HostUnreachable, match=r"engine-0 \(127\.0\.0\.1\): connection lost") as caught:
        remote.run(_host(server), "sleep 2", root=False)
    killer.join()
    assert caught.value.exit_code == 7
    assert len(server.commands) == 1


def test_a_lost_connection_is_not_mistaken_for_a_status(server: SshServer, remote: SshRemote) -> None:
    killer = threading.Thread(target=lambda: (_eventually(lambda: bool(server.commands)), server.cut()))
    killer.start()
    with pytest.raises(HostUnreachable):
        remote.run(_host(server), "sleep 2", root=False, check=False)
    killer.join()


def test_after_a_lost_connection_a_new_one_is_opened(server: SshServer, remote: SshRemote) -> None:
    remote.run(_host(server), "true", root=False)
    server.cut()
    _eventually(lambda: not any(transport.is_active() for transport in remote._connections._transports.values()))
    assert remote.run(_host(server), "echo back", root=False).stdout == "back\n"
    assert server.connections == 2


def test_a_host_that_refuses_connections_is_unreachable(server: SshServer, key: Path) -> None:
    server.stop()
    with (
        SshRemote(Ssh(port=server.port, connect_timeout=0.3), key) as remote,
        pytest.raises(HostUnreachable, match="refused"),
    ):
        remote.run(_host(server), "true")


def test_a_host_that_accepts_and_stays_silent_is_unreachable(server: SshServer, key: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        settings = Ssh(port=mute.getsockname()[1], connect_timeout=0.4)
        with SshRemote(settings, key) as remote, pytest.raises(HostUnreachable):
            remote.run(_host(server), "true")


# --- who answers, and who asks


def test_another_host_key_is_refused_with_both_fingerprints(
    server: SshServer, remote: SshRemote, tmp_path: Path
) -> None:
    other = host_key(tmp_path, "other")
    pinned = f"{other.get_name()} {other.get_base64()}"
    with pytest.raises(HostKeyRefused) as caught:
        remote.run(_host(server, pinned), "true")
    assert f"shows host key {fingerprint(server.public_keys[0])}" in caught.value.message
    assert f"pinned: {fingerprint(pinned)}" in caught.value.message
    assert (server.connections, server.commands) == (1, [])


def test_a_host_without_pinned_keys_is_refused(server: SshServer, remote: SshRemote) -> None:
    with pytest.raises(HostKeyRefused, match="pinned: none"):
        remote.run(Host("engine-0", Role.ENGINE, "127.0.0.1", ()), "true")


def test_a_host_whose_key_changed_its_type_is_refused(key: Path, tmp_path: Path, server: SshServer) -> None:
    rsa = SshServer([paramiko.RSAKey.generate(2048)], "pipeline", generate_key(key))
    with SshRemote(Ssh(port=rsa.port, connect_timeout=2), key) as remote, pytest.raises(HostKeyRefused) as caught:
        remote.run(_host(server), "true")
    rsa.stop()
    assert "shows no key of a pinned type" in caught.value.message
    assert rsa.connections == 1


def test_a_server_with_many_keys_is_asked_for_the_pinned_one(key: Path, tmp_path: Path) -> None:
    keys = [paramiko.ECDSAKey.generate(), host_key(tmp_path)]
    server = SshServer(keys, "pipeline", generate_key(key))
    for public_key in server.public_keys:
        with SshRemote(Ssh(port=server.port), key) as remote:
            assert remote.run(_host(server, public_key), "echo yes", root=False).stdout == "yes\n"
    server.stop()


def test_a_user_key_that_is_not_let_in_is_a_matter_of_configuration(server: SshServer, tmp_path: Path) -> None:
    stranger = tmp_path / "stranger"
    generate_key(stranger)
    with (
        SshRemote(Ssh(port=server.port, connect_timeout=5), stranger) as remote,
        pytest.raises(
            ConfigurationInvalid, match=r"engine-0 \(127\.0\.0\.1\) refuses user pipeline with key .*stranger"
        ),
    ):
        remote.run(_host(server), "true")
    assert server.connections == 1


@pytest.mark.parametrize("text", [None, "not a key"])
def test_a_user_key_that_cannot_be_read_is_named_at_once(server: SshServer, tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "id"
    if text:
        path.write_text(text, encoding="utf-8")
    with (
        SshRemote(Ssh(port=server.port, connect_timeout=5), path) as remote,
        pytest.raises(ConfigurationInvalid, match=f"{path}: no usable private key"),
    ):
        remote.run(_host(server), "true")
    assert server.connections == 0


# --- files


def test_a_file_arrives_whole_and_private(server: SshServer, remote: SshRemote, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(bytes(range(256)) * 8192)
    remote.put(_host(server), source, str(target))
    assert target.read_bytes() == source.read_bytes()
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert sorted(path.name for path in tmp_path.iterdir() if "target" in path.name) == ["target"]


def test_an_empty_file_arrives_too(server: SshServer, remote: SshRemote, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.touch()
    remote.put(_host(server), source, str(target))
    assert target.read_bytes() == b""


def test_a_targets_name_is_no_shell_script(server: SshServer, remote: SshRemote, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "a b; touch c $(touch d)'"
    source.write_bytes(b"text")
    remote.put(_host(server), source, str(target))
    assert target.read_bytes() == b"text"


def test_a_copy_that_breaks_off_leaves_the_old_file_and_is_gone_on_with(
    server: SshServer, remote: SshRemote, tmp_path: Path
) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    target.write_bytes(b"the old one")
    source.write_bytes(os.urandom(1 << 20) * 40)
    killer = threading.Thread(target=lambda: (_eventually(lambda: _partial_size(tmp_path) > 1 << 20), server.cut()))
    killer.start()
    with pytest.raises(HostUnreachable, match="copying source"):
        remote.put(_host(server), source, str(target))
    killer.join()
    time.sleep(0.1)
    assert target.read_bytes() == b"the old one"
    had = _partial_size(tmp_path)
    assert 0 < had < source.stat().st_size
    server.received = 0
    remote.put(_host(server), source, str(target))
    assert target.read_bytes() == source.read_bytes()
    assert server.received <= source.stat().st_size - had + 100


def test_what_is_there_already_is_not_sent_again(server: SshServer, remote: SshRemote, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(os.urandom(1 << 20))
    remote.put(_host(server), source, str(target))
    server.received = 0
    remote.put(_host(server), source, str(target))
    assert server.received == 0


def test_remains_that_are_not_the_files_begin_are_not_gone_on_with(
    server: SshServer, remote: SshRemote, tmp_path: Path
) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"text")
    digest = hashlib.sha256(b"text").hexdigest()
    (tmp_path / f".target.{digest[:16]}.partial").write_bytes(b"tex?")
    remote.put(_host(server), source, str(target))
    assert target.read_bytes() == b"text"


def _partial_size(directory: Path) -> int:
    return max((path.stat().st_size for path in directory.glob(".target.*.partial")), default=0)


def test_a_copy_to_a_place_that_cannot_be_written_says_so(server: SshServer, remote: SshRemote, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"text")
    with pytest.raises(CommandFailed, match="source could not be written to /nowhere/at/all"):
        remote.put(_host(server), source, "/nowhere/at/all")


def test_a_copy_that_fails_says_why_in_the_hosts_own_words_and_where_to_look(
    server: SshServer, remote: SshRemote, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"text")
    with pytest.raises(CommandFailed, match=r"to /nowhere/at/all: .*/nowhere/at/\.all\.") as caught:
        remote.put(_host(server), source, "/nowhere/at/all")
    assert caught.value.hint == "df -h on engine-0, and whose directory it is"
    assert "/nowhere/at/" in caught.value.stderr


@pytest.mark.parametrize("size", [10, 40 << 20])
def test_a_copy_to_a_disk_that_is_full_says_so(server: SshServer, remote: SshRemote, tmp_path: Path, size: int) -> None:
    source = tmp_path / "source"
    source.write_bytes(bytes(size))
    _tool(tmp_path / "bin/cat", "head -c 5 >/dev/null; echo 'cat: write error: No space left on device' >&2; exit 1")
    with pytest.raises(CommandFailed, match="cat: write error: No space left on device") as caught:
        remote.put(_host(server), source, str(tmp_path / "target"))
    assert (caught.value.status, caught.value.stderr) == (1, "cat: write error: No space left on device")


def test_a_copy_that_fails_in_silence_says_its_status(server: SshServer, remote: SshRemote, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"text")
    (tmp_path / "target").mkdir()
    with pytest.raises(CommandFailed, match=r"source could not be written to .*/target: status 1\n"):
        remote.put(_host(server), source, str(tmp_path / "target"))


def test_a_copy_that_arrives_damaged_is_told_from_one_without_room(
    server: SshServer, remote: SshRemote, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"text")
    _tool(tmp_path / "bin/sha256sum", "cat >/dev/null; echo '0  -'")
    with pytest.raises(CommandFailed, match=r"^engine-0: source arrived damaged at .*/target\n") as caught:
        remote.put(_host(server), source, str(tmp_path / "target"))
    assert (caught.value.status, caught.value.hint) == (65, "run the same command again")
    assert not (tmp_path / "target").exists()


def _tool(path: Path, body: str) -> None:
    path.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
    path.chmod(0o755)


# --- keys


def test_a_fingerprint_is_the_one_that_ssh_keygen_prints(tmp_path: Path) -> None:
    public = generate_key(tmp_path / "id")
    assert fingerprint(public).startswith("SHA256:")
    known = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"
    assert fingerprint(known) == "SHA256:+DiY3wvvV6TuJJhbpZisF/zLDA0zPMSvHdkr4UvCOqU"


def test_a_key_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "ssh" / "id_ed25519"
    assert generate_key(path) == generate_key(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
