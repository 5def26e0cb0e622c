"""Benchmarks of rollouts: in which order they change a region, and what they make of several rounds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from builders import progress

from benchmarks import soak, upgrade
from benchmarks.soak import Busy, failures
from pipeline.edges.clock import FakeClock
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


def _busy(state: Path, clients: int = 8) -> Busy:
    clock = FakeClock()
    return Busy(Workspace(ROOT, state), clock, progress(clock), clients)
