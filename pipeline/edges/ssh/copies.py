"""Copies of files to hosts: whole or not at all, gone on with where one broke off, and known by their digest."""

from __future__ import annotations

import hashlib
import shlex
import threading
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import paramiko

from pipeline.edges.ssh.shell import patience

__all__ = ["DAMAGED", "Digests", "copy"]

_CHUNK = 1 << 18
_STALLED = 60  # seconds in which a copy must move on
_LAST_WORD = 2  # seconds for the status of a side that takes no more, and for what it says of it

DAMAGED = 65
"""The status of a side that has the whole file, with another digest."""


class Digests:
    """SHA256 digests of files, each made once while the file stays as it is."""

    def __init__(self) -> None:
        self._known: dict[tuple[Path, int, int], str] = {}
        self._making = threading.Lock()

    def of(self, path: Path) -> str:
        """Return the digest (hex) of file `path`. Raises OSError."""
        found = path.stat()
        key = (path, found.st_size, found.st_mtime_ns)
        with self._making:
            if key not in self._known:
                with path.open("rb") as stream:
                    self._known[key] = hashlib.file_digest(stream, "sha256").hexdigest()
            return self._known[key]


def copy(channel: paramiko.Channel, source: Path, target: str, digest: str) -> tuple[int, str]:
    """Copy `source` (whose SHA256 is `digest`) to `target` over a new session.

    Return the status of the other side, and the last line of its complaint, "" where all is well.

    The other side says first what it has of the file; it gets the rest, and renames once size and digest are right and
    all is on disk. Raises OSError, EOFError or SSHException where the connection breaks.
    """
    size = source.stat().st_size
    channel.settimeout(_STALLED)
    with patience(channel, _STALLED):
        channel.exec_command(_receive(target, size, digest))
    have = _line(channel)
    if have in ("", "whole"):
        return _end(channel)
    with source.open("rb") as stream:
        offset = _offset(stream, have)
        stream.seek(offset)
        try:
            channel.sendall(f"{offset}\n".encode())
            while block := stream.read(_CHUNK):
                channel.sendall(block)
            channel.shutdown_write()
        except OSError:
            # The other side may have given up, as on a full disk: then it says so, which no lost connection does.
            if not channel.status_event.wait(_LAST_WORD) or channel.recv_exit_status() == -1:
                raise
    return _end(channel)


def _receive(target: str, size: int, digest: str) -> str:
    """Return the receiving side, as the login user: it tells "whole", or size and digest of what it has."""
    final, partial = shlex.quote(target), shlex.quote(_partial(target, digest))
    return f"""\
set -eu
umask 077
sum() {{ sha256sum | cut -d ' ' -f 1; }}
if [ -f {final} ] && [ "$(wc -c <{final})" -eq {size} ] && [ "$(sum <{final})" = {digest} ]; then
    echo whole
    exit 0
fi
[ ! -d {final} ]
: >>{partial}
echo "$(wc -c <{partial}) $(sum <{partial})"
read -r offset
truncate -s "$offset" {partial}
cat >>{partial}
[ "$(wc -c <{partial})" -eq {size} ]
[ "$(sum <{partial})" = {digest} ] || {{ rm -f {partial}; exit {DAMAGED}; }}
sync {partial}
mv -f {partial} {final}"""


def _partial(target: str, digest: str) -> str:
    """Return the hidden name beside `target`; it names the content, so that no other's remains are gone on with."""
    folder, slash, name = target.rpartition("/")
    return f"{folder}{slash}.{name}.{digest[:16]}.partial"


def _offset(stream: BinaryIO, have: str) -> int:
    """Return how many bytes the other side has right, from its answer: all that it has, or none."""
    size, digest = have.split()
    sha256, left = hashlib.sha256(), int(size)
    while left and (block := stream.read(min(left, _CHUNK))):
        sha256.update(block)
        left -= len(block)
    return int(size) if not left and sha256.hexdigest() == digest else 0


def _line(channel: paramiko.Channel) -> str:
    """Return the other side's first line, "" where it ended without one."""
    line = b""
    while not line.endswith(b"\n") and (block := channel.recv(1)):
        line += block
    return line.decode().strip()


def _end(channel: paramiko.Channel) -> tuple[int, str]:
    """Return the other side's status, and the last line of what it complained of."""
    status = _status(channel)
    return status, _complaint(channel) if status else ""


def _complaint(channel: paramiko.Channel) -> str:
    """Return the last line on stderr of a side that has ended; what does not come soon is not waited for."""
    said = b""
    channel.settimeout(_LAST_WORD)
    with suppress(TimeoutError):
        while block := channel.recv_stderr(_CHUNK):
            said = (said + block)[-_CHUNK:]
    return next(reversed(said.decode(errors="replace").strip().splitlines()), "")


def _status(channel: paramiko.Channel) -> int:
    """Return the other side's exit status. Raises EOFError where the connection ended before it came."""
    if not channel.status_event.wait(_STALLED):
        raise EOFError(f"no exit status within {_STALLED} s")
    status = channel.recv_exit_status()
    if status == -1:
        raise EOFError("it ended without an exit status")
    return status
