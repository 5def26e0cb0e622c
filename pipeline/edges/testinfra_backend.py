"""testinfra over the connections that the pipeline already has: pinned keys, and no new connection per check."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from testinfra.backend.base import BaseBackend, CommandResult
from testinfra.host import Host as TestinfraHost

from pipeline.edges.ssh import Heard, Remote, Result
from pipeline.errors import HostKeyRefused, HostUnreachable
from pipeline.inventory import Host

__all__ = ["GivesUp", "RemoteBackend", "connected"]

_TIMEOUT = 60


class RemoteBackend(BaseBackend):  # type: ignore[misc]  # testinfra ships no types that mypy follows
    """Runs testinfra's commands on `target` as root through `remote`, each once: a verification is one look."""

    NAME = "remote"

    def __init__(self, remote: Remote, target: Host) -> None:
        super().__init__(target.name)
        self._remote = remote
        self._target = target
        self._seen: dict[str, CommandResult] = {}

    def run(self, command: str, *args: str, **_: Any) -> CommandResult:
        """Run `command`, with `args` quoted into it, and return testinfra's result. Raises HostUnreachable."""
        script = self.get_command(command, *args)
        if script not in self._seen:
            result = self._remote.run(self._target, script, timeout=_TIMEOUT, check=False)
            self._seen[script] = self.result(result.status, script.encode(), result.stdout, result.stderr)
        return self._seen[script]


class GivesUp:
    """A Remote that asks a host no more once it could not be reached: its next answers are the same error, at once."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote
        self._lost: dict[str, HostUnreachable | HostKeyRefused] = {}

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
        """Run `script` on `host`; see Remote.run."""
        if lost := self._lost.get(host.name):
            raise type(lost)(lost.message, hint=lost.hint)  # a new one: an old one's traceback would grow each time
        try:
            return self._remote.run(host, script, timeout=timeout, check=check, root=root, heard=heard)
        except (HostUnreachable, HostKeyRefused) as error:
            self._lost[host.name] = error
            raise

    def put(self, host: Host, source: Path, target: str) -> None:
        """Copy a file; see Remote.put."""
        self._remote.put(host, source, target)

    def close(self) -> None:
        """End every connection."""
        self._remote.close()


def connected(remote: Remote, target: Host) -> Any:
    """Return `target` as testinfra sees a host; a command that was run once on it is answered from memory."""
    backend = RemoteBackend(remote, target)
    host = TestinfraHost(backend)
    backend.set_host(host)
    return host
