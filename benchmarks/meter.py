"""Runs one program and prints what it took; a process of its own, so that nothing else is counted.

    python -I -S meter.py SPEC.json

SPEC: {"argv", "env", "cwd", "output", "timeout", "watch"}. Prints {"status", "wall_s", "cpu_s", "peak_mb"}: CPU of the
program and all its descendants, those that it leaves running too, which are ended; the peak of their memory together.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36


def main() -> None:
    """Run what the specification names; see above."""
    spec = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    # A daemon that the program leaves becomes our child: its CPU counts, and it can be ended.
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    for one in (signal.SIGTERM, signal.SIGINT):
        signal.signal(one, _give_up)
    print(json.dumps(measured(spec)))


def measured(spec: dict[str, Any]) -> dict[str, Any]:
    """Run one program to its end, or for `timeout` seconds, and return its figures."""
    with Path(spec["output"]).open("wb") as output:
        started = time.monotonic()
        program = subprocess.Popen(
            spec["argv"], env=spec["env"], cwd=spec["cwd"], start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip
        alarm = threading.Timer(spec["timeout"], os.killpg, (program.pid, signal.SIGKILL))
        alarm.daemon = True
        alarm.start()
        watch = Watch() if spec["watch"] else None
        status = program.wait()
        wall = time.monotonic() - started
        alarm.cancel()
    peak = watch.end() if watch else 0.0
    end_descendants()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    # ru_maxrss is exact for a program of one process, which watching only samples.
    return {
        "status": status,
        "wall_s": wall,
        "cpu_s": used.ru_utime + used.ru_stime,
        "peak_mb": max(peak, used.ru_maxrss / 1024),
    }


def _give_up(_signal: int, _frame: object) -> None:
    """Whoever wanted the figures wants them no more, or is gone: end the program, and all of it."""
    end_descendants()
    os._exit(1)


class Watch:
    """Samples the memory of all descendants; what they share is counted once (proportional set size)."""

    def __init__(self) -> None:
        self._peak = 0.0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample)
        self._thread.start()

    def end(self) -> float:
        """Return the highest sum seen, in MB."""
        self._done.set()
        self._thread.join()
        return self._peak

    def _sample(self) -> None:
        pause = 0.02
        while not self._done.wait(pause):
            started = time.monotonic()
            self._peak = max(self._peak, sum(map(_pss, descendants(os.getpid()))) / 1024)
            pause = max(0.02, 4 * (time.monotonic() - started))


def descendants(root: int) -> set[int]:
    """Return the processes below `root`."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            children.setdefault(int(path.read_text("utf-8").rpartition(")")[2].split()[1]), []).append(
                int(path.parent.name)
            )
    found, ahead = set[int](), [root]
    while ahead:
        ahead += (below := children.get(ahead.pop(), []))
        found.update(below)
    return found


def _pss(pid: int) -> int:
    """Return a process's proportional set size in KiB, or 0 where it has ended."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text("utf-8").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    return 0


def end_descendants() -> None:
    """End what the program left, and take their CPU time in: politely for 2 s, then not."""
    deadline = time.monotonic() + 2
    while True:
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        left = descendants(os.getpid())
        if not left:
            return
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM if time.monotonic() < deadline else signal.SIGKILL)
        time.sleep(0.02)


if __name__ == "__main__":
    main()
