"""Benchmarks of rollouts: in which order they change a region, and what they make of several rounds."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from builders import progress

from benchmarks import scale, soak, upgrade
from benchmarks.soak import Busy, failures
from pipeline.edges.clock import FakeClock
from pipeline.edges.heat import Stack
from pipeline.workspace import Workspace

ROOT = Path(__file__).parents[2]
RELEASES = ("25.0.2", "26.0.2", "27.0.1")


def test_a_round_goes_through_all_releases_and_back_to_the_first(tmp_path: Path, monkeypatch: Any) -> None:
    done: list[tuple[str, ...]] = []
    monkeypatch.setattr(Busy, "upgrade", lambda _, *what: done.append(("upgrade", *what)))
    monkeypatch.setattr(Busy, "rollback", lambda _, *what: done.append(("rollback", *what)))
    changes = [(number, change) for number, change, roll in soak._changes(_busy(tmp_path), RELEASES, 2) if not roll()]
    one = [("upgrade", "local", "26.0.2"), ("upgrade", "local", "27.0.1"), ("rollback", "local")]
    assert done == 2 * [*one, ("rollback", "local", "25.0.2")]
    assert changes[3:5] == [(1, "26.0.2 → 25.0.2"), (2, "25.0.2 → 26.0.2")]


def test_a_busy_region_has_more_customers_and_is_else_as_its_file_says(tmp_path: Path) -> None:
    busy = _busy(tmp_path).environment("local")
    plain = Busy.environment(_busy(tmp_path, clients=4), "local")
    assert (busy.traffic.clients, plain.traffic.clients) == (8, 4)
    assert busy.model_copy(update={"traffic": plain.traffic}) == plain


def test_what_failed_is_told_with_its_round() -> None:
    changes = [{"round": 1, "change": "a → b"}, {"round": 2, "change": "a → b", "failed": "1 stack was lost"}]
    assert failures({"changes": changes}) == "round 2, a → b: 1 stack was lost"
    assert failures({"changes": changes[:1]}) == ""


def test_the_median_of_rounds_is_taken_figure_by_figure() -> None:
    rounds = [{"stacks": {"failed": failed}, "wall_s": wall} for failed, wall in ((0, 9.0), (3, 1.0), (1, 2.0))]
    assert upgrade._median([{**rounds[0], "failed": "lost"}, *rounds[1:]]) == {"stacks": {"failed": 1}, "wall_s": 2.0}
    assert upgrade._median(rounds[:2]) == {"stacks": {"failed": 0}, "wall_s": 1.0}


class _Engines:
    """A Heat whose engines have `threads` stacks in hand at once, each for `seconds`; every tenth fails."""

    def __init__(self, clock: FakeClock, threads: int, seconds: float) -> None:
        self._clock, self._threads, self._seconds = clock, threads, seconds
        self._stacks: dict[str, Stack] = {}
        self._begun: dict[str, float] = {}
        self._ids = count(1)
        self.deepest = 0

    def create(self, name: str, **_: Any) -> str:
        number = next(self._ids)
        self._stacks[str(number)] = Stack(str(number), name, "CREATE_IN_PROGRESS", "", "", {})
        return str(number)

    def delete(self, stack_id: str) -> None:
        del self._stacks[stack_id]

    def list(self) -> tuple[Stack, ...]:
        now = self._clock.monotonic()
        waiting = [stack for stack in self._stacks.values() if stack.in_progress]
        self.deepest = max(self.deepest, len(waiting))
        for stack in waiting[: self._threads]:
            if now - self._begun.setdefault(stack.id, now) >= self._seconds:
                ended = "CREATE_FAILED" if int(stack.id) % 10 == 0 else "CREATE_COMPLETE"
                self._stacks[stack.id] = replace(stack, status=ended)
        return tuple(self._stacks.values())


def test_a_load_counts_what_engines_complete_and_leaves_nothing() -> None:
    clock = FakeClock()
    engines = _Engines(clock, threads=4, seconds=7)  # looked at each second: 4 every 8 s
    load = scale._Load(engines, clock, 12)  # type: ignore[arg-type]
    completed, seconds = load.run(80)
    assert 80 <= seconds < 82
    assert 33 <= completed <= 39, "of 40, every tenth fails"
    assert load.failed >= 4
    assert (engines.deepest, engines.list()) == (12, ())


def test_scaling_is_told_as_a_table_and_as_a_plot() -> None:
    case = {"completed": 50, "failed": 0, "in_flight": 24}
    cases = [
        {"engines": 1, "stacks_per_minute": 50.0, "most_per_minute": 60, **case},
        {"engines": 4, "stacks_per_minute": 180.0, "most_per_minute": 240, **case},
    ]
    figures = {"wait_s": 8, "cases": cases}
    assert list(scale.rows(figures)) == [
        ("1", "50", "1.00 ×", "83%", "24", "0"),
        ("4", "180", "3.60 ×", "75%", "24", "0"),
    ]
    drawn = ElementTree.fromstring(scale.svg(figures))  # noqa: S314 (our own)
    texts = [element.text for element in drawn.iter() if element.tag.endswith("text")]
    assert {"50", "180", "1", "4"} <= set(texts)


def _busy(state: Path, clients: int = 8) -> Busy:
    clock = FakeClock()
    return Busy(Workspace(ROOT, state), clock, progress(clock), clients)
