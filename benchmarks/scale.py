"""What more engines give: stacks per minute on 1, 2, 4 engines, each count reached by `inv scale` on one region.

The stacks' one resource waits, as resources do for a cloud, so that engines are limited by how many they have in hand
at once (heat.engine_threads) and not by this machine's cores.
"""

from __future__ import annotations

import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from html import escape
from itertools import count
from pathlib import Path
from typing import Any

import yaml

from benchmarks.runs import NAME, fresh_cloud
from pipeline.edges.clock import Clock
from pipeline.edges.heat import Heat, connect
from pipeline.edges.yamledit import set_value
from pipeline.environment import Role
from pipeline.errors import Inconclusive
from pipeline.workflow import Pipeline
from pipeline.workspace import Workspace

__all__ = ["COLUMNS", "measure", "rows", "svg"]

_THREADS, _WAIT = 8, 8  # resources an engine has in hand at once, and seconds that each waits: at most 60 a minute
_DEEP = 3  # stacks in flight for each that engines can have in hand
_CREATORS = 8
_WARM = 20.0  # seconds before the count begins
_TEMPLATE = yaml.safe_dump(
    {
        "heat_template_version": "2018-08-31",
        "resources": {"wait": {"type": "OS::Heat::Delay", "properties": {"min_wait": _WAIT}}},
    }
)

COLUMNS = ("engines", "stacks per minute", "to one engine", "of the most possible", "in flight", "failed")


def measure(pipeline: Pipeline, release: str, engines: Sequence[int], window: float) -> dict[str, Any]:
    """Return {"release", "threads", "wait_s", "window_s", "cases": [{"engines", "stacks_per_minute", …}]}.

    The local cloud of the pipeline's workspace is taken down before and after.
    """
    with _own_environments(pipeline) as own, fresh_cloud(own):
        own.deploy(NAME, release)
        cases = []
        for number in engines:
            if number != own.environment(NAME).topology.engine.count:
                own.scale(NAME, Role.ENGINE, number)
            with own.progress.stage(f"{number} engines"):
                cases.append(_case(own, number, window))
    return {"release": release, "threads": _THREADS, "wait_s": _WAIT, "window_s": window, "cases": cases}


def rows(figures: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """Yield one row of COLUMNS for each count of engines."""
    first = figures["cases"][0]["stacks_per_minute"]
    for case in figures["cases"]:
        yield (
            str(case["engines"]),
            f"{case['stacks_per_minute']:.0f}",
            f"{case['stacks_per_minute'] / first:.2f} ×" if first else "",
            f"{case['stacks_per_minute'] / case['most_per_minute']:.0%}",
            str(case["in_flight"]),
            str(case["failed"]),
        )


def svg(figures: Mapping[str, Any]) -> str:
    """Return a plot as SVG: stacks per minute over engines, beside the most that the engines' threads allow."""
    cases, width, height, left, foot = figures["cases"], 560, 320, 60, 46
    most, widest = max(case["most_per_minute"] for case in cases), max(case["engines"] for case in cases)

    def point(engines: float, per_minute: float) -> str:
        x = left + engines / widest * (width - left - 30)
        return f"{x:.1f},{height - foot - per_minute / most * (height - foot - 30):.1f}"

    def line(key: str, style: str) -> str:
        path = " ".join([point(0, 0), *(point(case["engines"], case[key]) for case in cases)])
        return f'<polyline points="{path}" fill="none" {style}/>\n'

    def mark(case: Mapping[str, Any]) -> str:
        x, y = point(case["engines"], case["stacks_per_minute"]).split(",")
        return (
            f'<circle cx="{x}" cy="{y}" r="4" fill="#c0392b"/>\n'
            f'<text x="{x}" y="{float(y) + 20:.1f}" text-anchor="middle">{case["stacks_per_minute"]:.0f}</text>\n'
            f'<text x="{x}" y="{height - foot + 18}" text-anchor="middle">{case["engines"]}</text>\n'
        )

    title = f"stacks per minute by engines (each resource waits {figures['wait_s']} s)"
    below = "engines; dashed: the most that their threads allow"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">\n'
        "<style>text { font: 12px sans-serif; fill: #222 }</style>\n"
        '<rect width="100%" height="100%" fill="white"/>\n'
        f'<text x="{left}" y="18" font-weight="bold">{escape(title)}</text>\n'
        + line("most_per_minute", 'stroke="#b8b8b8" stroke-dasharray="4 4"')
        + line("stacks_per_minute", 'stroke="#c0392b" stroke-width="2"')
        + "".join(map(mark, cases))
        + f'<text x="{width / 2}" y="{height - 8}" text-anchor="middle">{below}</text>\n</svg>\n'
    )


@contextmanager
def _own_environments(pipeline: Pipeline) -> Iterator[Pipeline]:
    """Have the pipeline on a copy of its environments, in which engines are few and small: scaling writes into them."""
    with tempfile.TemporaryDirectory(prefix="bench-scale-") as made:
        root = Path(made)
        for name in ("environments", "templates"):
            shutil.copytree(getattr(pipeline.workspace, name), root / name)
        own = Pipeline(Workspace(root, pipeline.workspace.state), pipeline.clock, pipeline.progress)
        file = own.workspace.environments / f"{NAME}.yaml"
        for keys, value in ((("topology", "engine", "count"), 1), (("heat", "engine_workers"), 1)):
            set_value(file, keys, value)
        set_value(file, ("heat", "engine_threads"), _THREADS)
        yield own


def _case(pipeline: Pipeline, engines: int, window: float) -> dict[str, Any]:
    most = engines * _THREADS / _WAIT * 60
    load = _Load(connect(NAME, pipeline.workspace.customer_clouds(NAME)), pipeline.clock, engines * _THREADS * _DEEP)
    completed, seconds = load.run(window)
    return {
        "engines": engines,
        "stacks_per_minute": round(completed / seconds * 60, 1),
        "most_per_minute": most,
        "completed": completed,
        "failed": load.failed,
        "in_flight": load.wanted,
    }


@dataclass(slots=True)
class _Load:
    """Keeps `wanted` stacks in flight, and counts those that complete. One look a second serves for all of them."""

    heat: Heat
    clock: Clock
    wanted: int
    failed: int = 0
    _prefix: str = field(default_factory=lambda: f"scale-{secrets.token_hex(3)}")
    _numbers: Iterator[int] = field(default_factory=count)
    _ended: set[str] = field(default_factory=set)

    def run(self, window: float) -> tuple[int, float]:
        """Return how many stacks completed in `window` seconds, once all is under way, and its exact length."""
        with ThreadPoolExecutor(_CREATORS) as pool:
            try:
                self._until(pool, self.clock.monotonic() + _WARM + _WAIT)
                began, before = self.clock.monotonic(), len(self._ended) - self.failed
                self._until(pool, began + window)
                return len(self._ended) - self.failed - before, self.clock.monotonic() - began
            finally:
                self._clear(pool)

    def _until(self, pool: ThreadPoolExecutor, deadline: float) -> None:
        while self.clock.monotonic() < deadline:
            under_way = self._look(pool)
            list(pool.map(lambda _: self._create(), range(self.wanted - under_way)))
            self.clock.sleep(1)

    def _look(self, pool: ThreadPoolExecutor) -> int:
        """Count what has ended since, delete it, and return how many are under way."""
        mine = [stack for stack in self.heat.list() if stack.name.startswith(self._prefix)]
        ended = [stack for stack in mine if stack.status.startswith("CREATE_") and not stack.in_progress]
        fresh = [stack for stack in ended if stack.id not in self._ended]
        self._ended.update(stack.id for stack in fresh)
        self.failed += sum(not stack.complete for stack in fresh)
        list(pool.map(lambda stack: self.heat.delete(stack.id), fresh))
        return sum(stack.status == "CREATE_IN_PROGRESS" for stack in mine)

    def _create(self) -> None:
        self.heat.create(f"{self._prefix}-{next(self._numbers)}", template=_TEMPLATE, timeout_mins=10)

    def _clear(self, pool: ThreadPoolExecutor) -> None:
        """Delete what is left, and wait until it is gone: the next count is not to pay for this one.

        Raises Inconclusive where it does not go.
        """
        deadline = self.clock.monotonic() + 120
        while left := [stack for stack in self.heat.list() if stack.name.startswith(self._prefix)]:
            again = [stack for stack in left if not stack.status.startswith("DELETE_")]
            list(pool.map(lambda stack: self.heat.delete(stack.id), again))
            if self.clock.monotonic() > deadline:
                raise Inconclusive(f"{len(left)} stacks are still there 120 s after they were to go")
            self.clock.sleep(2)
