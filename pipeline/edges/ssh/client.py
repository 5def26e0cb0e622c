"""Remote over paramiko: warm shells on one connection per host."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

import paramiko

from pipeline.edges.ssh.connections import Connections
from pipeline.edges.ssh.copies import Digests, copy
from pipeline.edges.ssh.keys import Identity
from pipeline.edges.ssh.results import Heard, Result, failure
from pipeline.edges.ssh.shell import Shell, ShellEnded
from pipeline.environment import Ssh
from pipeline.errors import CommandFailed, ConfigurationInvalid, HostUnreachable
from pipeline.inventory import Host

__all__ = ["SshRemote"]

_SHELLS = 8  # of one host at once: sshd lets 10 sessions share a connection (MaxSessions)
_SHELL = {True: "sudo -n sh", False: "sh"}
_KILLING = 10  # seconds to kill what did not end in time


class SshRemote:
    """Remote over paramiko, with one connection per host, opened when first used."""

    def __init__(self, settings: Ssh, key: Path) -> None:
        identity = Identity(settings.identity or key, certificate=settings.certificate, agent=settings.agent)
        self._connections = Connections(settings, identity)
        self._settings = settings
        self._idle: defaultdict[tuple[str, bool], list[Shell]] = defaultdict(list)
        self._rooms: defaultdict[str, threading.Semaphore] = defaultdict(lambda: threading.Semaphore(_SHELLS))
        self._guard = threading.Lock()
        self._digests = Digests()

    def __enter__(self) -> SshRemote:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def run(
        self,
        host: Host,
        script: str,
        *,
        timeout: float = 300,
        check: bool = True,
        root: bool = True,
        heard: Heard | None = None,
    ) -> Result:
        """Run a POSIX sh `script` on `host`; see Remote.run."""
        deadline = time.monotonic() + timeout
        with self._reaching(host, "connection lost"), self._room(host):
            shell = self._shell(host, root=root)
            try:
                result = shell.run(script, deadline, heard)
            except TimeoutError:
                raise self._killed(host, shell, timeout, root=root) from None
            except ShellEnded as ended:
                shell.close()
                if ended.greeted or not ended.said:
                    raise
                raise ConfigurationInvalid(
                    f"{host.name} ({host.address}) lets {self._settings.user} run nothing as root: {ended.said}",
                    hint="its sudoers must have NOPASSWD for that user",
                ) from ended
            except BaseException:
                shell.close()
                raise
            self._idle[host.name, root].append(shell)
        if check and result.status != 0:
            raise failure(host, result)
        return result

    def connect(self, host: Host) -> None:
        """Open the connection to `host` where there is none. Raises HostUnreachable and HostKeyRefused."""
        with self._reaching(host, "connecting"):
            self._connections.transport(host)

    def put(self, host: Host, source: Path, target: str) -> None:
        """Copy file `source` to `target` on `host`; see Remote.put."""
        digest = self._digests.of(source)
        with (
            self._reaching(host, f"copying {source.name}"),
            self._room(host),
            self._connections.session(host) as channel,
        ):
            status = copy(channel, source, target, digest)
        if status != 0:
            raise CommandFailed(f"{host.name}: {source.name} could not be written to {target}", status=status)

    def close(self) -> None:
        """End every connection."""
        self._connections.close()
        with self._guard:
            self._idle.clear()

    def _shell(self, host: Host, *, root: bool) -> Shell:
        """Return a shell that is idle, or a new one."""
        idle = self._idle[host.name, root]
        while True:
            try:
                shell = idle.pop()
            except IndexError:
                return Shell(self._connections.session(host), _SHELL[root])
            if shell.alive:
                return shell

    @contextmanager
    def _room(self, host: Host) -> Iterator[None]:
        with self._guard:
            room = self._rooms[host.name]
        with room:
            yield

    @contextmanager
    def _reaching(self, host: Host, doing: str) -> Iterator[None]:
        try:
            yield
        except (paramiko.SSHException, OSError, EOFError) as error:
            self._connections.drop(host)
            raise HostUnreachable(
                f"{host.name} ({host.address}): {doing}: {error}", hint="run the same command again"
            ) from error

    def _killed(self, host: Host, shell: Shell, timeout: float, *, root: bool) -> CommandFailed:
        """Kill what did not end in time, with all it started, and return the error for it."""
        hint = "it may still be running there"
        with suppress(paramiko.SSHException, OSError, EOFError, TimeoutError):
            if shell.pid:
                killer = Shell(self._connections.session(host), _SHELL[root])
                done = killer.run(_kill(shell.pid), time.monotonic() + _KILLING)
                self._idle[host.name, root].append(killer)
                if done.status == 0:
                    hint = "it was killed there; give it more time, or find out what it waits for"
        shell.close()
        return CommandFailed(f"{host.name}: no end within {timeout:.0f} s", status=-1, hint=hint)


def _kill(pid: int) -> str:
    """Kill the process group of a shell: sshd gives each session one, and children stay in it."""
    return f"group=$(cut -d ' ' -f 5 /proc/{pid}/stat) && kill -s KILL -- -$group"
