"""Quantities: spans of time and shares of a role, as people write them, and what they come to."""

from __future__ import annotations

import pytest
from pydantic import TypeAdapter, ValidationError

from pipeline.quantities import Seconds, Share, hosts_in

SECONDS: TypeAdapter[float] = TypeAdapter(Seconds)
SHARE: TypeAdapter[int | str] = TypeAdapter(Share)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("1.5m", 90), ("2h", 7200), ("1d", 86400), ("5 m", 300), ("0s", 0), (7, 7), (0.5, 0.5), ("7", 7)],
)
def test_a_span_is_read_with_its_unit_and_a_number_as_seconds(text: object, seconds: float) -> None:
    assert SECONDS.validate_python(text) == seconds


@pytest.mark.parametrize("text", ["soon", "", "5 minutes", "m", "-5s", -1, "1h30m", "5M", None])
def test_what_is_no_span_is_refused(text: object) -> None:
    with pytest.raises(ValidationError):
        SECONDS.validate_python(text)


@pytest.mark.parametrize("share", [1, 64, "1%", "25%", "100%"])
def test_a_share_is_a_number_of_hosts_or_a_percentage(share: int | str) -> None:
    assert SHARE.validate_python(share) == share


@pytest.mark.parametrize("share", [0, -1, "0%", "101%", "%", "25 %", "1/4", "3", "", 1.5, "-5%", None])
def test_a_share_of_nobody_or_of_more_than_all_is_refused(share: object) -> None:
    with pytest.raises(ValidationError):
        SHARE.validate_python(share)


@pytest.mark.parametrize("share", [0, "101%"])
def test_what_a_share_may_be_is_said(share: object) -> None:
    with pytest.raises(ValidationError, match=r'a number of hosts, 1 or more, or a share of them such as "25%"'):
        SHARE.validate_python(share)


@pytest.mark.parametrize(
    ("share", "total", "hosts"),
    [("50%", 5, 2), ("99%", 4, 3), ("100%", 7, 7), ("25%", 4, 1), ("33%", 3, 1), ("34%", 3, 1), ("67%", 3, 2)],
)
def test_percentages_round_down(share: str, total: int, hosts: int) -> None:
    assert hosts_in(share, total) == hosts


@pytest.mark.parametrize("share", ["1%", "25%", 1])
def test_one_host_is_the_least(share: int | str) -> None:
    assert hosts_in(share, 1) == hosts_in(share, 3) == 1


@pytest.mark.parametrize("total", [1, 2, 3])
def test_no_share_is_more_than_all_hosts(total: int) -> None:
    assert hosts_in(64, total) == hosts_in("100%", total) == total


@pytest.mark.parametrize("total", range(1, 30))
def test_a_larger_percentage_never_comes_to_fewer_hosts(total: int) -> None:
    counts = [hosts_in(f"{percent}%", total) for percent in range(1, 101)]
    assert counts == sorted(counts)
