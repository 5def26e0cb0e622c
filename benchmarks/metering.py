"""Runs of tools against a fleet: what each took, how many connections it opened, and whether it did what it should."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.figures import Measured
from benchmarks.sshd import Fleet
from benchmarks.tools import Run
from pipeline.errors import PipelineError

__all__ = ["TIMEOUT", "alternate", "metered", "metered_alone"]

TIMEOUT = 1800  # seconds for one run of one tool
_METER = Path(__file__).parent / "meter.py"
K = TypeVar("K")


def metered(run: Run, fleet: Fleet, complaint: Callable[[Run, int], str], *, watch: bool) -> Measured:
    """Run a tool to its end. `complaint` says what is wrong with the result, given the connections; "" if nothing is.

    With `watch`, the memory of the tool's whole tree is sampled, which costs CPU beside it.
    """
    specification = run.place / "meter.json"
    specification.write_text(json.dumps(run.specification(watch=watch, timeout=TIMEOUT)), "utf-8")
    connections, spent = fleet.connections(), fleet.cpu_seconds()
    figures = _figures(specification)
    fleet.settle()
    opened = fleet.connections() - connections
    failed = f"status {figures['status']}: {_last_words(run)}" if figures["status"] else complaint(run, opened)
    return Measured(
        figures["wall_s"], figures["cpu_s"], figures["peak_mb"], opened, fleet.cpu_seconds() - spent, failed
    )


def metered_alone(run: Run, complaint: Callable[[Run], str], *, watch: bool) -> Measured:
    """Run a tool that needs no hosts to its end, as `metered` does."""
    specification = run.place / "meter.json"
    specification.write_text(json.dumps(run.specification(watch=watch, timeout=TIMEOUT)), "utf-8")
    figures = _figures(specification)
    failed = f"status {figures['status']}: {_last_words(run)}" if figures["status"] else complaint(run)
    return Measured(figures["wall_s"], figures["cpu_s"], figures["peak_mb"], 0, 0.0, failed)


def alternate(
    names: Sequence[K], rounds: int, measure: Callable[[K, int], Measured]
) -> Mapping[K, tuple[Measured, list[Measured]]]:
    """Measure each of `names` in turn, round after round; return each one's warm-up (round 0) and its counted runs.

    Each round begins with another one, so that none always follows the same. Whoever fails the warm-up is left out.
    """
    warm_ups = {name: measure(name, 0) for name in names}
    able = [name for name in names if not warm_ups[name].failed]
    runs: dict[K, list[Measured]] = {name: [] for name in names}
    for number in range(1, rounds + 1):
        first = number % len(able) if able else 0
        for name in (*able[first:], *able[:first]):
            runs[name].append(measure(name, number))
    return {name: (warm_ups[name], runs[name]) for name in names}


def _figures(specification: Path) -> dict[str, Any]:
    """Run the meter. Whatever interrupts us, it ends the tool and all that the tool started."""
    command = [sys.executable, "-I", "-S", str(_METER), str(specification)]
    meter = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        out, told = meter.communicate()
    except BaseException:
        meter.terminate()
        meter.wait()
        raise
    if meter.returncode != 0:
        raise PipelineError(f"the meter of {specification.parent.name} broke: {told.strip()[-300:]}")
    return dict(json.loads(out))


def _last_words(run: Run) -> str:
    lines = [line.strip() for line in (run.place / "output").read_text("utf-8", "replace").splitlines()]
    return " | ".join([line for line in lines if line][-3:])[-400:] or "it said nothing"
