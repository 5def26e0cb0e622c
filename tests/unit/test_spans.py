"""Spans: how much of a rollout's time its hosts needed, and how much was the rollout's own."""

from __future__ import annotations

import pytest

from pipeline.spans import UNAVOIDABLE, Span, overhead


def _span(started: float, ended: float, step: str = "start", host: str = "engine-0") -> Span:
    return Span(step, host, started, ended)


def test_without_a_move_there_is_no_time_to_account_for() -> None:
    assert overhead(()) == (0.0, 0.0)
    assert overhead((_span(0, 5, "database"), _span(5, 6, "vhost"))) == (0.0, 0.0)


@pytest.mark.parametrize("step", UNAVOIDABLE)
def test_a_host_needs_every_second_of_its_own_move(step: str) -> None:
    assert overhead((_span(10, 14, step),)) == (4.0, 4.0)


def test_what_lies_between_two_moves_is_the_rollouts_own() -> None:
    assert overhead((_span(0, 4), _span(7, 10))) == (10.0, 7.0)


@pytest.mark.parametrize("step", ["admit", "database", "vhost", "idle"])
def test_other_steps_between_moves_are_the_rollouts_own_too(step: str) -> None:
    assert overhead((_span(0, 4), _span(4, 7, step), _span(7, 10))) == (10.0, 7.0)


def test_what_went_on_before_the_first_and_after_the_last_move_does_not_count() -> None:
    spans = (_span(0, 30, "database"), _span(30, 34), _span(34, 90, "admit"))
    assert overhead(spans) == (4.0, 4.0)


@pytest.mark.parametrize(
    "spans",
    [
        (_span(0, 6, host="engine-0"), _span(4, 10, host="engine-1")),
        (_span(0, 10, host="engine-0"), _span(4, 6, host="engine-1")),
        (_span(0, 10, host="engine-0"), _span(0, 10, host="engine-1")),
        (_span(0, 5), _span(5, 10)),
    ],
    ids=["overlapping", "within", "the same", "touching"],
)
def test_a_second_in_which_several_hosts_move_counts_once(spans: tuple[Span, ...]) -> None:
    assert overhead(spans) == (10.0, 10.0)


def test_spans_may_come_in_any_order() -> None:
    spans = (_span(7, 10), _span(0, 4), _span(2, 5, "drain"), _span(9, 12, "healthy"))
    assert overhead(spans) == overhead(tuple(reversed(spans))) == (12.0, 10.0)


def test_what_could_not_be_spared_is_never_more_than_the_whole() -> None:
    for gap in range(6):
        whole, needed = overhead(tuple(_span(start, start + 3) for start in range(0, 30, 1 + gap)))
        assert 0 < needed <= whole
