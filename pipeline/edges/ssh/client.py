"""Remote over paramiko: warm shells on one connection per host."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import paramiko

from pipeline.edges.ssh.connections import Connections
from pipeline.edges.ssh.copies import DAMAGED, Digests, copy
from pipeline.edges.ssh.keys import Identity
from pipeline.edges.ssh.results import Heard, Result, failure
from pipeline.edges.ssh.shell import Shell, ShellEnded
from pipeline.environment import Ssh
from pipeline.errors import CommandFailed, ConfigurationInvalid, HostUnreachable, PipelineError
from pipeline.inventory import Host

__all__ = ["SshRemote"]

# Of one host: at work at once, and idle of each kind. sshd lets 10 sessions share a connection (MaxSessions).
_SHELLS, _IDLE = 6, 3
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
        with self._reaching(host, "connection lost"), self._room(host):
            shell = self._shell(host, root=root)
            try:
                result = shell.run(script, time.monotonic() + timeout, heard)
            except TimeoutError:
                raise self._killed(host, shell, timeout, root=root) from None
            except ShellEnded as ended:
                shell.close()
                if not ended.refused:
                    raise
                raise self._refusal(host, ended, root=root) from ended
            except BaseException:
                shell.close()
                raise
            self._rest(host, shell, root=root)
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
            status, complaint = copy(channel, source, target, digest)
        if status != 0:
            raise _uncopied(host, source.name, target, status, complaint)

    def close(self) -> None:
        """End every connection."""
        self._connections.close()
        with self._guard:
            idle = [shell for shells in self._idle.values() for shell in shells]
            self._idle.clear()
        for shell in idle:  # a channel keeps its descriptors until it is closed itself, whatever the connection does
            shell.close()

    def _shell(self, host: Host, *, root: bool) -> Shell:
        """Return a shell that is idle, or a new one."""
        idle = self._idle[host.name, root]
        while True:
            try:
                shell = idle.pop()
            except IndexError:
                return self._started(host, root=root)
            if shell.alive:
                return shell
            shell.close()

    def _started(self, host: Host, *, root: bool) -> Shell:
        session = self._connections.session(host)
        return Shell(session, _SHELL[root], starting=self._settings.connect_timeout)

    def _rest(self, host: Host, shell: Shell, *, root: bool) -> None:
        idle = self._idle[host.name, root]
        if len(idle) < _IDLE:
            idle.append(shell)
        else:
            shell.close()

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
            # One that ended is opened anew by itself, and one that lives is in use by others; a silent one is neither.
            if isinstance(error, TimeoutError) or "Timeout" in str(error):
                self._connections.drop(host)
            raise HostUnreachable(
                f"{host.name} ({host.address}): {doing}: {error}", hint="run the same command again"
            ) from error

    def _refusal(self, host: Host, ended: ShellEnded, *, root: bool) -> ConfigurationInvalid:
        as_root, hint = " as root", "its sudoers must have NOPASSWD for that user"
        if not root:
            as_root, hint = "", "give that user a shell there"
        return ConfigurationInvalid(
            f"{host.name} ({host.address}) lets {self._settings.user} run nothing{as_root}: {ended}", hint=hint
        )

    def _killed(self, host: Host, shell: Shell, timeout: float, *, root: bool) -> PipelineError:
        """Kill what did not end in time, with all it started, and return the error for it.

        A host that takes no command any more is lost: nobody can say that the command is to blame.
        """
        said, hint = f"{host.name}: no end within {timeout:.0f} s", "it may still be running there"
        shell.close()
        try:
            killer = self._started(host, root=root)
            done = killer.run(_kill(shell.pid) if shell.pid else ":", time.monotonic() + _KILLING)
        except (paramiko.SSHException, OSError, EOFError):
            self._connections.drop(host)
            return HostUnreachable(f"{said}, and it takes no other command", hint=hint)
        self._rest(host, killer, root=root)
        if shell.pid and done.status == 0:
            hint = "it was killed there; give it more time, or find out what it waits for"
        return CommandFailed(said, status=-1, hint=hint)


def _uncopied(host: Host, name: str, target: str, status: int, complaint: str) -> CommandFailed:
    """Return the error for a copy that did not come to its end: a damaged one is not one without room or right."""
    said = f"{host.name}: {name} could not be written to {target}: {complaint or f'status {status}'}"
    hint = f"df -h on {host.name}, and whose directory it is"
    if status == DAMAGED:
        said, hint = f"{host.name}: {name} arrived damaged at {target}", "run the same command again"
    return CommandFailed(said, status=status, stderr=complaint, hint=hint)


def _kill(pid: int) -> str:
    """Kill the process group of a shell: sshd gives each session one, and children stay in it."""
    return f"group=$(cut -d ' ' -f 5 /proc/{pid}/stat) && kill -s KILL -- -$group"
