"""What the pipeline asks of a way to reach hosts, and how what it ran there ended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pipeline.errors import CommandFailed
from pipeline.inventory import Host

__all__ = ["Heard", "Remote", "Result", "failure"]

Heard = Callable[[str, str], None]
"""Hears each line as it comes: the stream, "stdout" or "stderr", and the line without its end."""


@dataclass(frozen=True, slots=True)
class Result:
    """How a command on a host ended. Of a stream of more than 32 MiB the middle is left out, and said to be."""

    status: int
    stdout: str
    stderr: str


class Remote(Protocol):
    """A way to reach hosts, safe to use from many threads."""

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
        """Run a POSIX sh `script` on `host` and return its Result.

        `timeout` seconds, then it is killed there; `root` runs it by sudo; `heard` is told each line as it comes. With
        `check`, a status other than 0 raises CommandFailed. Raises HostUnreachable and HostKeyRefused.
        """

    def put(self, host: Host, source: Path, target: str) -> None:
        """Copy file `source` to path `target` on `host`, owned by the login user, whole or not at all.

        What is there already, by its digest, is not sent again; a copy that broke off is gone on with.
        """

    def close(self) -> None:
        """End every connection."""


def failure(host: Host, result: Result) -> CommandFailed:
    """Return the error that a command on `host` ended in: its status, and its last words."""
    said = (result.stderr.strip() or result.stdout.strip()).splitlines()
    return CommandFailed(
        f"{host.name}: status {result.status}: {' | '.join(said[-3:]) or 'it said nothing'}",
        status=result.status,
        stdout=result.stdout,
        stderr=result.stderr,
    )
