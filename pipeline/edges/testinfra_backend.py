"""testinfra over the connections that the pipeline already has: pinned keys, and no new connection per check."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from testinfra.backend.base import BaseBackend, CommandResult
from testinfra.host import Host as TestinfraHost

from pipeline.edges import batch
from pipeline.edges.ssh import Heard, Remote, Result
from pipeline.errors import HostKeyRefused, HostUnreachable
from pipeline.inventory import Host

__all__ = ["GivesUp", "Question", "RemoteBackend", "connected"]

_TIMEOUT = 60
_WHOLE = batch.LIMIT + 75  # a batch ends by itself long before

Question = tuple[str, ...]
"""A command as testinfra's `host.run` takes it: its text, and the arguments that are quoted into it."""


class RemoteBackend(BaseBackend):  # type: ignore[misc]  # testinfra ships no types that mypy follows
    """Runs testinfra's commands on `target` as root through `remote`.

    Each once where it REMEMBERS: a verification is one look.
    """

    NAME = "remote"
    REMEMBERS = True

    def __init__(self, remote: Remote, target: Host) -> None:
        super().__init__(target.name)
        self.target = target
        self._remote = remote
        self._seen: dict[str, CommandResult] = {}

    def run(self, command: str, *args: str, **_: Any) -> CommandResult:
        """Run `command`, with `args` quoted into it, and return testinfra's result. Raises HostUnreachable."""
        script = self.get_command(command, *args)
        if script not in self._seen or not self.REMEMBERS:
            result = self._remote.run(self.target, script, timeout=_TIMEOUT, check=False)
            self._seen[script] = self.result(result.status, script.encode(), result.stdout, result.stderr)
        return self._seen[script]

    def ask(self, questions: Sequence[Question]) -> tuple[float, float]:
        """Ask all `questions` in one round trip; `run` then has their answers. Return the host's clock around them.

        The two times are seconds since 1970: when the host began, and when it had ended. Raises HostUnreachable, and
        CommandFailed where the host cannot run the script that asks.
        """
        scripts = [self.get_command(*question) for question in questions]
        told = self._remote.run(self.target, batch.script(scripts), timeout=_WHOLE).stdout
        answers = batch.answers(told, len(scripts))
        for script, result in zip(scripts, answers.results, strict=True):
            self._seen[script] = self.result(result.status, script.encode(), result.stdout, result.stderr)
        return answers.began, answers.ended


class GivesUp:
    """A Remote that asks a host no more once it could not be reached: its next answers are the same error, at once.

    After `end` no host is asked any more: what still runs in a thread of an interrupted run comes to its end.
    """

    def __init__(self, remote: Remote) -> None:
        self._remote = remote
        self._lost: dict[str, HostUnreachable | HostKeyRefused] = {}
        self._ended = False

    def end(self) -> None:
        """Ask nobody any more."""
        self._ended = True

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
        if self._ended:
            raise HostUnreachable(f"{host.name}: the run has ended")
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
