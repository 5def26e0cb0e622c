"""Processes: time spans as systemd prints them."""

from __future__ import annotations

import pytest

from pipeline.checks.processes import seconds_of


@pytest.mark.parametrize(
    ("span", "seconds"),
    [("2min 30s", 150), ("10min 30s", 630), ("1h", 3600), ("1d 2h", 93600), ("500ms", 0.5), ("infinity", float("inf"))],
)
def test_time_spans_are_seconds(span: str, seconds: float) -> None:
    assert seconds_of(span) == seconds


@pytest.mark.parametrize("span", ["", "soon", "2 min", "5parsec"])
def test_other_text_is_no_time_span(span: str) -> None:
    with pytest.raises(ValueError, match="no time span"):
        seconds_of(span)
