"""What many hosts say at once, line by line with the host's name before it, and at the end how each ended."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import TextIO

from pipeline.fanout import HostResult, Outcome
from pipeline.inventory import Host
from pipeline.terminal import harmless

__all__ = ["HostLines"]

_COLOURS = (36, 33, 35, 32, 34, 96, 93, 95, 92, 94)  # of ANSI terminals, neighbours unlike; red is for failures
_ENDS = {Outcome.DONE: 32, Outcome.FAILED: 31, Outcome.UNREACHABLE: 33}


class HostLines:
    """A Listener that writes what hosts say to `out` and `err`, as they do, and at its context's end how each ended.

    A host's control characters are shown, never obeyed. Where a reader of ours goes away (`| head`), the hosts go on.
    """

    def __init__(self, out: TextIO, err: TextIO, *, colour: bool) -> None:
        self._out, self._err, self._colour = out, err, colour
        self._names: list[str] = []
        self._ended: dict[str, HostResult] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> HostLines:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in self._names:
            self._write(self._out, self._end_of(name))

    def begin(self, hosts: Sequence[Host]) -> None:
        """Hear which hosts it is about: their names make one column, and each has its colour."""
        self._names = [host.name for host in hosts]

    def heard(self, host: Host, stream: str, line: str) -> None:
        """Tell a line of `host`."""
        colour = _COLOURS[self._names.index(host.name) % len(_COLOURS)]
        prefix = self._painted(f"{host.name:{self._width}} |", colour)
        text = harmless(line.removesuffix("\r"))
        self._write(self._err if stream == "stderr" else self._out, f"{prefix} {text}")

    def ended(self, result: HostResult) -> None:
        """Remember how a host ended."""
        self._ended[result.host] = result

    @property
    def _width(self) -> int:
        return max(map(len, self._names), default=0)

    def _end_of(self, name: str) -> str:
        result = self._ended.get(name)
        if result is None:
            return f"{name:{self._width}}   not ended when this was interrupted: it may not have begun, or run still"
        status = "" if result.outcome is not Outcome.FAILED or result.status is None else f" ({result.status})"
        words = self._painted(f"{result.outcome}{status}", _ENDS[result.outcome])
        why = f": {harmless(result.detail)}" if result.detail else ""
        return f"{name:{self._width}}   {words}, {result.seconds:.1f} s{why}"

    def _painted(self, text: str, colour: int) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self._colour else text

    def _write(self, stream: TextIO, line: str) -> None:
        with self._lock:
            try:
                stream.write(f"{line}\n")
                stream.flush()
            except BrokenPipeError:
                _silence(stream)


def _silence(stream: TextIO) -> None:
    """Let what is still written go nowhere: Python would end with an error when it flushes the stream at its exit."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
