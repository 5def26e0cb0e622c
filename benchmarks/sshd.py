"""Hosts for benchmarks: real sshds on loopback, one per host, in namespaces of their own that end with the benchmark.

Each has an address of its own in 127/8 and all have the same port, as hosts of a region have; each has its own host
key. What sshd wants of a machine (a user, /run/sshd, a home to log in to) exists in their mount namespace alone.
"""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.openssh import SSHD, ensure_openssh
from pipeline.edges.ssh import generate_key
from pipeline.environment import Role
from pipeline.errors import ConfigurationInvalid, PipelineError
from pipeline.inventory import Host

__all__ = ["HOME", "Fleet", "count_connections", "fleet"]

HOME = "/run/home"  # of the one user, on every host: they share it
_NETWORK = "127.77"
_TICKS = os.sysconf("SC_CLK_TCK")

# Its stdin is the benchmark: when that ends, so does this shell, and with it the kernel ends all of its PID namespace.
_INIT = """\
set -eu
mount -t tmpfs -o mode=0755 bench /run
mkdir -m 0755 /run/sshd /run/bench /run/openssh
mkdir -m 0700 /run/home
mount --bind "$1" /run/bench
mount --bind "$2" /run/openssh
mount -t tmpfs -o mode=1777 bench /tmp
mount --bind /run/bench/passwd /etc/passwd
mount --bind /run/bench/shadow /etc/shadow
export LD_LIBRARY_PATH=/run/openssh/usr/lib/$3:/run/openssh/lib/$3
for host in /run/bench/hosts/*; do
    /run/openssh/usr/sbin/sshd -f "$host/sshd_config" -E "$host/log"
done
echo ready
read -r _ || :
"""

# VERBOSE tells of each connection, one that fails too. The rest differs from Debian's defaults only where hosts that
# share a machine must.
_CONFIG = """\
ListenAddress {address}:{port}
HostKey /run/bench/hosts/{name}/key
AuthorizedKeysFile /run/bench/authorized_keys
PidFile none
StrictModes no
LogLevel VERBOSE
UsePAM no
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
MaxStartups 10:30:100
PrintMotd no
Subsystem sftp internal-sftp
"""


@dataclass(frozen=True, slots=True)
class Fleet:
    """Hosts that run, and what a client needs to log in to them: `user`, `port`, and a key, all below `directory`."""

    directory: Path
    hosts: tuple[Host, ...]
    port: int
    init: int  # the process that holds their namespaces
    user: str = "root"

    @property
    def key(self) -> Path:
        """The private key that every host accepts."""
        return self.directory / "client" / "id_ed25519"

    @property
    def known_hosts(self) -> Path:
        """The hosts' public keys, for OpenSSH and those who read its files."""
        return self.directory / "client" / "known_hosts"

    def connections(self) -> int:
        """Return how many connections the hosts were opened since they started."""
        return sum(count_connections(path.read_text("utf-8")) for path in self.directory.glob("hosts/*/log"))

    def cpu_seconds(self) -> float:
        """Return the CPU seconds that the hosts took so far, without those of sessions that have not ended."""
        used = 0
        for path in self._processes():
            try:
                fields = path.read_text("utf-8").rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            used += sum(map(int, fields[11:15]))  # its own user and system time, and that of its children
        return used / _TICKS

    def settle(self) -> None:
        """Wait until every session has ended and nothing but the sshds is left, for 20 s at most."""
        deadline = time.monotonic() + 20
        while len(list(self._processes())) > 1 + len(self.hosts):
            if time.monotonic() > deadline:
                raise PipelineError("processes are left on the hosts 20 s after a tool ended")
            time.sleep(0.05)

    def digest(self, name: str) -> str:
        """Return the SHA256 of file `name` in the home of the hosts' user, or "" where there is none."""
        path = self.home / name
        if not path.is_file():
            return ""
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()

    def _processes(self) -> Iterator[Path]:
        return Path(f"/proc/{self.init}/root/proc").glob("[0-9]*/stat")

    @property
    def home(self) -> Path:
        """The home of the hosts' user, as this process reaches it."""
        return Path(f"/proc/{self.init}/root{HOME}")


def count_connections(log: str) -> int:
    """Return how many connections an sshd's log tells of, at LogLevel VERBOSE."""
    return sum(line.startswith("Connection from ") for line in log.splitlines())


@contextmanager
def fleet(count: int, report: Callable[[str], None]) -> Iterator[Fleet]:
    """Have `count` hosts as long as the context is open. Raises ConfigurationInvalid where they cannot be had."""
    if os.geteuid() != 0:
        raise ConfigurationInvalid("hosts of a benchmark are namespaces and mounts: that needs root", hint="use sudo")
    openssh = ensure_openssh(report)
    with tempfile.TemporaryDirectory(prefix="bench-ssh-") as made:  # 0700
        directory = Path(made)
        port = _free_port()
        hosts = tuple(_prepare(directory, number, port) for number in range(count))
        _prepare_logins(directory)
        _prepare_client(directory, hosts, port)
        with _running(directory, openssh) as init:
            _await_listeners(directory, count)
            yield Fleet(directory, hosts, port, init)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _prepare(directory: Path, number: int, port: int) -> Host:
    name, address = f"host-{number:03}", f"{_NETWORK}.{number // 250}.{number % 250 + 1}"
    place = directory / "hosts" / name
    public = generate_key(place / "key")
    (place / "sshd_config").write_text(_CONFIG.format(name=name, address=address, port=port), "utf-8")
    return Host(name, Role.ENGINE, address, (public,))


def _prepare_logins(directory: Path) -> None:
    """Write the passwd and shadow that hosts see: the machine's users, root with a home here, and sshd's own."""
    others = [line for line in Path("/etc/passwd").read_text("utf-8").splitlines() if line.partition(":")[0] != "root"]
    users = [f"root:x:0:0:root:{HOME}:/bin/bash", *others]
    if not any(line.startswith("sshd:") for line in users):
        users.append("sshd:x:65533:65534::/run/sshd:/usr/sbin/nologin")
    (directory / "passwd").write_text("\n".join(users) + "\n", "utf-8")
    (directory / "shadow").write_text("root:*:20000:0:99999:7:::\n", "utf-8")
    (directory / "shadow").chmod(0o600)


def _prepare_client(directory: Path, hosts: tuple[Host, ...], port: int) -> None:
    client = directory / "client"
    public = generate_key(client / "id_ed25519")
    (directory / "authorized_keys").write_text(f"{public}\n", "utf-8")
    lines = (f"[{host.address}]:{port} {key}\n" for host in hosts for key in host.host_keys)
    (client / "known_hosts").write_text("".join(lines), "utf-8")


@contextmanager
def _running(directory: Path, openssh: Path) -> Iterator[int]:
    """Start the hosts in namespaces of their own, and yield the process that these end with."""
    multiarch = next((openssh / "usr/lib").glob("*-linux-gnu*")).name
    # fmt: off
    command = [
        "setpriv", "--pdeathsig=KILL",
        "unshare", "--fork", "--pid", "--kill-child", "--mount-proc", "--mount",
        "bash", "-c", _INIT, "hosts", str(directory), str(openssh), multiarch,
    ]
    # fmt: on
    keeper = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/")
    assert keeper.stdin is not None  # noqa: S101 (mypy)
    assert keeper.stdout is not None  # noqa: S101
    try:
        if keeper.stdout.readline() != "ready\n":
            raise ConfigurationInvalid(f"{openssh / SSHD} could not be started in a namespace", hint="read above why")
        children = Path(f"/proc/{keeper.pid}/task/{keeper.pid}/children").read_text("utf-8").split()
        yield int(children[0])
    finally:
        keeper.stdin.close()
        try:
            keeper.wait(timeout=20)
        except subprocess.TimeoutExpired:
            keeper.kill()
            keeper.wait()
        keeper.stdout.close()


def _await_listeners(directory: Path, count: int) -> None:
    deadline = time.monotonic() + 30
    while sum("Server listening" in path.read_text("utf-8") for path in directory.glob("hosts/*/log")) < count:
        if time.monotonic() > deadline:
            raise PipelineError(f"not all of {count} sshds listen after 30 s", hint=f"read {directory}/hosts/*/log")
        time.sleep(0.05)
