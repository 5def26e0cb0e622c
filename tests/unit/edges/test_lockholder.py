"""Who holds an environment: the same after a trip through JSON, and in words."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from datetime import datetime

import pytest
from lock_bench import ADA, MARGARET, NOON

from pipeline.edges.lockholder import Holder, age, from_json, to_json


@pytest.mark.parametrize("holder", [ADA, MARGARET])
def test_a_holder_is_read_as_it_was_written(holder: Holder) -> None:
    assert from_json(to_json(holder)) == holder


@pytest.mark.parametrize("change", [{"pid": "4711"}, {"started": "2026-05-01T12:00:00"}, {"more": 1}])
def test_what_is_no_holder_is_not_read_as_one(change: dict[str, object]) -> None:
    text = json.dumps(asdict(ADA) | {"started": NOON.isoformat()} | change)
    with pytest.raises(ValueError, match=next(iter(change))):
        from_json(text)


def test_a_holder_without_utc_is_refused() -> None:
    with pytest.raises(ValueError, match="must be UTC"):
        replace(ADA, started=datetime(2026, 5, 1))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "0 s"), (59.9, "59 s"), (60, "1 min"), (3599, "59 min"), (7500, "2 h 5 min"), (172800, "2 days")],
)
def test_spans_are_told_as_people_say_them(seconds: float, text: str) -> None:
    assert age(seconds) == text
