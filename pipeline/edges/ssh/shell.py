"""A warm shell: one sh on a host that runs one script after the other, each in one round trip.

A script goes in as `(eval 'SCRIPT') </dev/null`: it can neither end the shell, nor leave anything in it, nor eat what
comes after it, and a syntax error in it runs nothing. Around it, a random mark tells on both streams where its output
begins and ends, and its status. The script never shows in a list of processes.
"""

from __future__ import annotations

import secrets
import select
import shlex
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import paramiko

from pipeline.edges.ssh.results import Heard, Result

__all__ = ["Shell", "ShellEnded", "Unheard", "patience"]

_CHUNK = 1 << 17
_KEPT = 1 << 24  # bytes of each end of a stream
# paramiko's one flag for both streams (OrPipe) can be cleared by a reader of one just as the other's news sets it: what
# has come must be looked for now and then.
_LOOK = 0.25  # seconds
_LINE = 1 << 16  # bytes of a line that is told as it comes; a longer one is told in parts


class ShellEnded(EOFError):
    """The shell is no more. `said` is what it wrote to stderr; `refused` tells that it ended before it ever ran.

    One whose connection was lost is not refused: only the host's word, an exit status, tells that.
    """

    def __init__(self, said: str, *, refused: bool) -> None:
        super().__init__(said.strip() or "the shell there ended")
        self.said = said.strip()
        self.refused = refused


class Unheard(Exception):
    """Who listens to lines failed, which is no fault of the connection's."""


@contextmanager
def patience(channel: paramiko.Channel, seconds: float) -> Iterator[None]:
    """Give `channel` up after `seconds`: paramiko waits for ever for the answer to a command's start.

    Raises TimeoutError then.
    """
    expired = threading.Event()

    def give_up() -> None:
        expired.set()
        with suppress(EOFError, OSError, paramiko.SSHException):  # it was lost meanwhile
            channel.close()

    timer = threading.Timer(max(0.0, seconds), give_up)
    timer.start()
    try:
        yield
    except paramiko.SSHException as error:
        if expired.is_set():
            raise TimeoutError(f"it starts no command within {seconds:.0f} s") from error
        raise
    finally:
        timer.cancel()


class Shell:
    """A shell on `channel`, started by `command` ("sh", "sudo -n sh"); one script at a time.

    `pid` is its process there, 0 before its first answer. Raises paramiko's SSHException where it is not let start,
    and TimeoutError where it has not started after `starting` seconds.
    """

    def __init__(self, channel: paramiko.Channel, command: str, *, starting: float) -> None:
        self.pid = 0
        self._channel = channel
        with patience(channel, starting):
            channel.exec_command(command)
        self._poll = select.poll()
        self._poll.register(channel.fileno(), select.POLLIN)

    @property
    def alive(self) -> bool:
        """Whether it may run another script."""
        return not (self._channel.closed or self._channel.eof_received)

    def close(self) -> None:
        """End it."""
        self._channel.close()

    def run(self, script: str, deadline: float, heard: Heard | None = None) -> Result:
        """Run `script` and return its Result. `deadline` is on time.monotonic().

        Raises TimeoutError at the deadline, while it runs there still, and ShellEnded: the shell is then of no use.
        """
        mark = secrets.token_hex(12).encode()
        stdout, stderr = _Stream("stdout", mark, 2, heard), _Stream("stderr", mark, 1, heard)
        while self.pid and self._take(_Stream("", mark, 1, None), _Stream("", mark, 1, None)):
            _mind(deadline)  # what processes of earlier scripts, left in the background, wrote since
        self._send(_frame(script, mark.decode()), stderr, deadline)
        while not (stdout.ended and stderr.ended):
            _mind(deadline)
            if not self._take(stdout, stderr):
                self._wait(stdout, stderr, deadline)
            self.pid = self.pid or (stdout.marks[0] if stdout.marks else 0)
        return Result(stdout.marks[-1], stdout.text(), stderr.text())

    def _take(self, stdout: _Stream, stderr: _Stream) -> bool:
        """Take what has come, and return whether anything had."""
        errors = self._channel.recv_stderr_ready()
        if errors:
            stderr.feed(self._channel.recv_stderr(_CHUNK))
        if self._channel.recv_ready():
            stdout.feed(self._channel.recv(_CHUNK))
            return True
        return errors

    def _send(self, frame: bytes, stderr: _Stream, deadline: float) -> None:
        self._channel.settimeout(max(0.001, deadline - time.monotonic()))
        try:
            self._channel.sendall(frame)
        except TimeoutError:
            raise
        except OSError:  # it has ended, and may have said why, as sudo does
            self._take(_Stream("", b"-", 1, None), stderr)
            raise self._ended(stderr, deadline) from None

    def _wait(self, stdout: _Stream, stderr: _Stream, deadline: float) -> None:
        if self.alive:
            self._poll.poll(max(0.0, min(_LOOK, deadline - time.monotonic())) * 1000)
        elif not self._take(stdout, stderr):  # what came between the last look and its end counts
            raise self._ended(stderr, deadline)

    def _ended(self, stderr: _Stream, deadline: float) -> ShellEnded:
        self._channel.status_event.wait(max(0.0, deadline - time.monotonic()))  # set by its status, or its end
        return ShellEnded(stderr.text(), refused=not self.pid and self._channel.exit_status > 0)


class _Stream:
    """One stream of one script, from its first mark, where it has two, to its last; the number behind each is kept.

    Of a long stream both ends are kept. Lines are told as they come.
    """

    def __init__(self, name: str, mark: bytes, marks: int, heard: Heard | None) -> None:
        self.marks: list[int] = []
        self._name, self._mark, self._last, self._heard = name, mark, marks, heard
        self._head, self._tail, self._left_out = bytearray(), bytearray(), 0
        self._pending = b""  # what may be the begin of a mark, or of a line that is to be told whole

    @property
    def ended(self) -> bool:
        return len(self.marks) == self._last

    def feed(self, block: bytes) -> None:
        data = self._pending + block
        while not self.ended and (at := data.find(self._mark)) >= 0 and (end := data.find(b"\n", at)) >= 0:
            self._keep(data[:at])
            self.marks.append(int(data[at + len(self._mark) : end]))
            data = data[end + 1 :]
        sure = self._sure(data)
        self._keep(data[:sure])
        self._pending = data[sure:]

    def text(self) -> str:
        gap = f"\n… {self._left_out} bytes left out …\n".encode() if self._left_out else b""
        rest = b"" if self.ended else self._pending
        return (bytes(self._head) + gap + bytes(self._tail) + rest).decode(errors="replace")

    def _sure(self, data: bytes) -> int:
        """Return how many bytes of `data` are no begin of a mark; where lines are told, up to the last line's end."""
        at = data.find(self._mark)
        sure = at if at >= 0 else max(0, len(data) - len(self._mark))
        if self._heard is None:
            return sure
        lines = data.rfind(b"\n", 0, at if at >= 0 else len(data)) + 1
        return lines if sure - lines < _LINE else sure

    def _keep(self, data: bytes) -> None:
        """Keep what is between the first mark and the last; before the first, it is a straggler's."""
        if self.ended or len(self.marks) < self._last - 1:
            return
        room = max(0, _KEPT - len(self._head))
        self._head += data[:room]
        self._tail += data[room:]
        if len(self._tail) > 2 * _KEPT:
            self._left_out += len(self._tail) - _KEPT
            del self._tail[:-_KEPT]
        if self._heard is not None:
            try:
                for line in data.decode(errors="replace").splitlines():
                    self._heard(self._name, line)
            except OSError as error:
                raise Unheard(f"its lines cannot be told: {error}") from error


def _mind(deadline: float) -> None:
    if time.monotonic() >= deadline:
        raise TimeoutError


def _frame(script: str, mark: str) -> bytes:
    end = f"{{ s=$?; printf '{mark} %d\\n' $s; printf '{mark} 0\\n' >&2; }}"
    whole = shlex.quote(f"{{\n:\n{script}\n}}")  # in braces all of it is read before the first line of it is run
    return f"printf '{mark} %d\\n' $$\n(eval {whole}) </dev/null\n{end}\n".encode()
