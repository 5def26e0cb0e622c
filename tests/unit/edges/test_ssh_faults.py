"""What goes wrong over SSH, one fault a test: no hang, nothing left behind, and every other host's result is kept."""

from __future__ import annotations

import gc
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from sshd import SshServer, fake_sudo, host_key

from pipeline.edges.parallel import on_each
from pipeline.edges.ssh import Result, SshRemote, generate_key
from pipeline.edges.ssh.shell import Unheard
from pipeline.environment import Role, Ssh
from pipeline.errors import CommandFailed, ConfigurationInvalid, HostUnreachable
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


def _host(server: SshServer, name: str = "engine-0") -> Host:
    return Host(name, Role.ENGINE, "127.0.0.1", server.public_keys)


def _until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not happened():
        assert time.monotonic() < deadline, "it did not happen within 5 s"
        time.sleep(0.01)


def _alive(pid: int) -> bool:
    with suppress(FileNotFoundError, ProcessLookupError):
        return " Z" not in Path(f"/proc/{pid}/stat").read_text("ascii").partition(")")[2][:3]
    return False


# --- warm shells


def test_scripts_share_a_shell_and_leave_nothing_in_it(server: SshServer, remote: SshRemote) -> None:
    remote.run(_host(server), "cd /; name=leftover; set -eu; trap 'echo bye' EXIT; umask 000", root=False)
    told = remote.run(_host(server), 'echo "${name:-none} $- $(umask)"', root=False).stdout
    assert told.split()[0] == "none"
    assert "e" not in told.split()[1]
    assert told.split()[2] != "0000"
    assert server.commands == ["sh"]


def test_a_script_that_exits_does_not_end_the_shell(server: SshServer, remote: SshRemote) -> None:
    assert remote.run(_host(server), "exit 3", root=False, check=False).status == 3
    assert remote.run(_host(server), "echo on", root=False).stdout == "on\n"
    assert server.commands == ["sh"]


def test_what_a_process_in_the_background_says_later_is_nobodys_output(server: SshServer, remote: SshRemote) -> None:
    remote.run(_host(server), "(sleep 0.2; echo late; echo late >&2) & echo now", root=False)
    time.sleep(0.5)
    result = remote.run(_host(server), "echo mine", root=False)
    assert (result.stdout, result.stderr) == ("mine\n", "")


def test_a_shell_that_was_killed_while_it_was_idle_is_replaced(server: SshServer, remote: SshRemote) -> None:
    shell = int(remote.run(_host(server), "echo $PPID; echo $$", root=False).stdout.split()[1])
    os.kill(shell, 9)
    _until(lambda: not _alive(shell))
    time.sleep(0.1)
    assert remote.run(_host(server), "echo on", root=False).stdout == "on\n"
    assert server.connections == 1


def test_a_shell_that_dies_under_a_script_is_a_lost_host(server: SshServer, remote: SshRemote) -> None:
    with pytest.raises(HostUnreachable, match="connection lost"):
        remote.run(_host(server), "kill -9 $$; sleep 1", root=False)
    assert remote.run(_host(server), "echo on", root=False).stdout == "on\n"


def test_a_line_without_end_is_heard_in_parts(server: SshServer, remote: SshRemote) -> None:
    heard: list[str] = []
    script = "head -c 5000000 /dev/zero | tr '\\0' x; echo; echo end"
    result = remote.run(_host(server), script, root=False, heard=lambda _, line: heard.append(line))
    assert "".join(heard) == "x" * 5_000_000 + "end"
    assert (len(heard) > 10, heard[-1], len(result.stdout)) == (True, "end", 5_000_005)


def test_a_listener_that_fails_is_no_lost_host(server: SshServer, remote: SshRemote) -> None:
    def gone(_: str, __: str) -> None:
        raise BrokenPipeError("nobody reads")

    with pytest.raises(Unheard, match="nobody reads"):
        remote.run(_host(server), "echo one; sleep 5", root=False, heard=gone)
    assert remote.run(_host(server), "echo on", root=False).stdout == "on\n"


def test_the_end_of_a_run_leaves_no_descriptor_to_the_garbage_collector(server: SshServer, key: Path) -> None:
    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    gc.collect()
    gc.disable()
    try:
        before = descriptors()
        with SshRemote(Ssh(port=server.port), key) as remote:
            for root in (True, False):
                remote.run(_host(server), "echo on", root=root)
            shell = int(remote.run(_host(server), "echo $$", root=False).stdout)
            os.kill(shell, 9)  # and is replaced
            _until(lambda: not _alive(shell))
            time.sleep(0.1)
            remote.run(_host(server), "echo on", root=False)
        _until(lambda: descriptors() <= before)
    finally:
        gc.enable()


def test_lines_are_heard_as_they_come(server: SshServer, remote: SshRemote) -> None:
    heard: list[tuple[str, str, float]] = []
    script = "echo one; echo err >&2; sleep 0.5; printf two"
    result = remote.run(
        _host(server), script, root=False, heard=lambda stream, line: heard.append((stream, line, time.monotonic()))
    )
    assert {(stream, line) for stream, line, _ in heard} == {("stdout", "one"), ("stderr", "err"), ("stdout", "two")}
    times = {line: at for _, line, at in heard}
    assert times["two"] - times["one"] > 0.3
    assert (result.stdout, result.stderr) == ("one\ntwo", "err\n")


# --- output


def test_a_hundred_megabytes_of_output_are_cut_in_the_middle_and_hurt_nobody(
    server: SshServer, remote: SshRemote
) -> None:
    script = "echo first; head -c 104857600 /dev/zero | tr '\\0' x; echo; echo last"
    result = remote.run(_host(server), script, root=False, timeout=120)
    assert result.stdout.startswith("first\nx")
    assert result.stdout.endswith("x\nlast\n")
    assert "bytes left out" in result.stdout
    assert len(result.stdout) < 60 << 20
    assert remote.run(_host(server), "echo on", root=False).stdout == "on\n"


def test_bytes_of_any_kind_come_through(server: SshServer, remote: SshRemote) -> None:
    script = 'i=0; while [ $i -lt 256 ]; do printf "\\\\$(printf %o $i)"; i=$((i+1)); done'
    result = remote.run(_host(server), script, root=False)
    assert result.stdout == bytes(range(256)).decode(errors="replace")


# --- time


def test_what_does_not_end_is_killed_on_the_host_with_all_it_started(server: SshServer, remote: SshRemote) -> None:
    pids: list[int] = []
    script = "sleep 300 & echo $!; sh -c 'echo $$; exec sleep 300'"
    with pytest.raises(CommandFailed, match="no end within 1 s") as caught:
        remote.run(_host(server), script, root=False, timeout=1, heard=lambda _, line: pids.append(int(line)))
    assert "it was killed there" in caught.value.hint
    assert len(pids) == 2
    _until(lambda: not any(_alive(pid) for pid in pids))
    assert remote.run(_host(server), "echo on", root=False).stdout == "on\n"


def test_a_host_that_accepts_and_then_hangs_is_given_up(server: SshServer, key: Path) -> None:
    with _mute() as port, SshRemote(Ssh(port=port, connect_timeout=0.5), key) as remote:
        began = time.monotonic()
        with pytest.raises(HostUnreachable):
            remote.run(_host(server), "true")
        assert time.monotonic() - began < 5


def test_a_host_that_starts_no_command_is_unreachable(
    server: SshServer, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads, started = threading.active_count(), threading.Event()
    monkeypatch.setattr(SshServer, "starts", lambda self, channel, command: started.wait(60))
    with SshRemote(Ssh(port=server.port, connect_timeout=4), key) as remote:
        remote.connect(_host(server))
        began = time.monotonic()
        with pytest.raises(HostUnreachable, match="it starts no command within 4 s"):
            remote.run(_host(server), "true")
        assert time.monotonic() - began < 30
        started.set()
        monkeypatch.undo()
        assert remote.run(_host(server), "echo on", root=False).stdout == "on\n"
    server.cut()
    _until(lambda: threading.active_count() <= threads)


# --- rights


def test_a_user_that_may_not_use_sudo_is_told_so(tmp_path: Path, key: Path) -> None:
    with _shell_is("sudo", "echo 'sudo: a password is required' >&2; exit 1", tmp_path, key) as (server, remote):
        with pytest.raises(ConfigurationInvalid, match="pipeline run nothing as root: sudo: a password is required"):
            remote.run(_host(server), "true")
        assert remote.run(_host(server), "echo here", root=False).stdout == "here\n"


def test_a_user_that_may_have_no_shell_is_told_so(tmp_path: Path, key: Path) -> None:
    with (
        _shell_is("sh", "echo 'this account is not available' >&2; exit 1", tmp_path, key) as (server, remote),
        pytest.raises(ConfigurationInvalid, match="pipeline run nothing: this account is not available"),
    ):
        remote.run(_host(server), "true", root=False)


def test_a_connection_lost_before_the_shell_ran_is_no_refusal_whatever_was_said(tmp_path: Path, key: Path) -> None:
    with _shell_is("sudo", "echo 'unable to resolve host' >&2; exec sleep 2", tmp_path, key) as (server, remote):
        threading.Timer(0.5, server.cut).start()
        with pytest.raises(HostUnreachable, match="unable to resolve host"):
            remote.run(_host(server), "true")


@contextmanager
def _shell_is(name: str, script: str, tmp_path: Path, key: Path) -> Iterator[tuple[SshServer, SshRemote]]:
    """Give a host where command `name` is `script`."""
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)
    server = SshServer([host_key(tmp_path)], "pipeline", generate_key(key), str(folder))
    with SshRemote(Ssh(port=server.port), key) as remote:
        yield server, remote
    server.stop()


def test_a_wrong_user_is_refused_with_the_name_of_both(server: SshServer, key: Path) -> None:
    with (
        SshRemote(Ssh(port=server.port, user="stranger"), key) as remote,
        pytest.raises(ConfigurationInvalid, match="refuses user stranger with key"),
    ):
        remote.run(_host(server), "true")


# --- many hosts


def test_ten_dead_hosts_of_sixty_four_cost_no_other_its_result(server: SshServer, remote: SshRemote) -> None:
    with _mute() as port:
        dead = SshRemote(Ssh(port=port, connect_timeout=0.5), remote._connections._identity.path)
        hosts = [_host(server, f"engine-{n}") for n in range(64)]

        def ask(host: Host) -> Result | HostUnreachable:
            try:
                reach = dead if int(host.name.partition("-")[2]) % 6 == 5 else remote
                return reach.run(host, f"echo {host.name}", root=False)
            except HostUnreachable as error:
                return error

        answers = on_each(hosts, ask)
        dead.close()
    for host, answer in zip(hosts, answers, strict=True):
        if int(host.name.partition("-")[2]) % 6 == 5:
            assert isinstance(answer, HostUnreachable)
        else:
            assert isinstance(answer, Result)
            assert answer.stdout == f"{host.name}\n"
    assert sum(isinstance(answer, HostUnreachable) for answer in answers) == 10


# --- a connection that drops at every point


def test_a_connection_that_drops_after_any_number_of_bytes_leaves_no_thread_and_no_descriptor(
    server: SshServer, key: Path
) -> None:
    with _cutting(server.port, budget=1 << 30) as whole:
        _use(whole, server, key)
    total = whole.passed
    threads, descriptors = threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))
    # Packets are of four bytes and their multiples: no budget ends with one, so none is just enough.
    for budget in range((total + 1) % 4, total, max(4, total // 25 // 4 * 4)):
        with _cutting(server.port, budget=budget) as cut:
            try:
                _use(cut, server, key)
            except HostUnreachable:
                continue
            # Packets are padded and joined as it comes: near the end, a use may need fewer bytes than the first did.
            assert cut.passed < budget
            assert budget > total * 0.7
    server.cut()
    _until(lambda: threading.active_count() <= threads)
    _until(lambda: len(list(Path("/proc/self/fd").iterdir())) <= descriptors)


def _use(cut: _Cutter, server: SshServer, key: Path) -> None:
    with SshRemote(Ssh(port=cut.port, connect_timeout=0.1), key) as remote:
        for _ in range(3):
            assert remote.run(_host(server), "echo here; echo there >&2", root=False).stdout == "here\n"
        cut.counts = False


@contextmanager
def _mute() -> Iterator[int]:
    """Listen, accept, and say nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        yield int(listener.getsockname()[1])


class _Cutter:
    """Passes on bytes between a client and the server, and drops the connection after `budget` of the server's.

    Those of a goodbye no longer count.
    """

    def __init__(self, target: int, budget: int) -> None:
        self.passed = 0
        self.counts = True
        self._target, self._budget = target, budget
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._threads = [threading.Thread(target=self._serve, daemon=True)]
        self._threads[0].start()

    def stop(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(5)

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._target))
            for pair in ((client, server, False), (server, client, True)):
                thread = threading.Thread(target=self._pass, args=pair, daemon=True)
                self._threads.append(thread)
                thread.start()

    def _pass(self, source: socket.socket, target: socket.socket, counted: bool) -> None:
        with suppress(OSError):
            while block := source.recv(1 << 16):
                if counted and self.counts:
                    block = block[: max(0, self._budget - self.passed)]
                    self.passed += len(block)
                target.sendall(block)
                if counted and self.counts and self.passed >= self._budget:
                    break
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


@contextmanager
def _cutting(target: int, budget: int) -> Iterator[_Cutter]:
    cutter = _Cutter(target, budget)
    try:
        yield cutter
    finally:
        cutter.stop()


# --- the end of a run


@contextmanager
def _asked(port: int, server: SshServer, key: Path) -> Iterator[tuple[SshRemote, Callable[[], HostUnreachable]]]:
    """Have a thread ask a host at `port` that may take 10 minutes to answer; give what waits for what came of it."""
    remote, ends = SshRemote(Ssh(port=port, connect_timeout=600), key), []

    def ask() -> None:
        with pytest.raises(HostUnreachable) as caught:
            remote.run(_host(server), "true")
        ends.append(caught.value)

    def end() -> HostUnreachable:
        _until(lambda: bool(ends))
        thread.join()
        return ends[0]

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    try:
        yield remote, end
    finally:
        remote.close()


def test_who_waits_for_a_host_that_answers_no_call_gives_up_at_the_end(server: SshServer, key: Path) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as deaf:
        port = int(deaf.getsockname()[1])
        with socket.create_connection(("127.0.0.1", port)), _asked(port, server, key) as (remote, end):
            _until(lambda: _is_calling(port))
            remote.close()
            assert "the run is over" in end().message


def test_who_waits_for_a_host_that_says_nothing_gives_up_at_the_end(server: SshServer, key: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute, _asked(mute.getsockname()[1], server, key) as (remote, end):
        connection, _ = mute.accept()
        with connection:
            assert connection.recv(3) == b"SSH"
            remote.close()
            end()


def test_who_tries_a_host_again_and_again_gives_up_at_the_end(server: SshServer, key: Path) -> None:
    server.refuse_first = sys.maxsize
    with _asked(server.port, server, key) as (remote, end):
        _until(lambda: server.connections > 0)
        remote.close()
        end()


def test_after_the_end_of_a_run_nobody_is_connected_to_any_more(server: SshServer, key: Path) -> None:
    remote = SshRemote(Ssh(port=server.port), key)
    remote.close()
    with pytest.raises(HostUnreachable, match="the run is over"):
        remote.run(_host(server), "true")
    assert server.connections == 0


def _is_calling(port: int) -> bool:
    """Whether a call to `port` of this machine is under way: state 02 is SYN_SENT."""
    lines = Path("/proc/net/tcp").read_text("ascii").splitlines()[1:]
    return any(line.split()[2].endswith(f":{port:04X}") and line.split()[3] == "02" for line in lines)
