"""Quantities: spans of time and shares of a role, as people write them, and what they come to."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Network

import pytest
from pydantic import TypeAdapter, ValidationError

from pipeline.quantities import Cidr, Lease, Seconds, Share, hosts_in

SECONDS: TypeAdapter[float] = TypeAdapter(Seconds)
LEASE: TypeAdapter[float] = TypeAdapter(Lease)
SHARE: TypeAdapter[int | str] = TypeAdapter(Share)
CIDR: TypeAdapter[IPv4Network] = TypeAdapter(Cidr)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("1.5m", 90), ("2h", 7200), ("1d", 86400), ("5 m", 300), ("0s", 0), (7, 7), (0.5, 0.5), ("7", 7)],
)
def test_a_span_is_read_with_its_unit_and_a_number_as_seconds(text: object, seconds: float) -> None:
    assert SECONDS.validate_python(text) == seconds


@pytest.mark.parametrize(
    "text", ["soon", "", "5 minutes", "m", "-5s", -1, "1h30m", "5M", None, True, "1e3", "1_000", "5m\n", " 5m"]
)
def test_what_is_no_span_is_refused(text: object) -> None:
    with pytest.raises(ValidationError):
        SECONDS.validate_python(text)


@pytest.mark.parametrize("span", ["999999999s", "9999999m", "99999h", "9999d", 1_000_000_000])
def test_the_longest_spans_are_such_as_dates_bear(span: object) -> None:
    assert datetime.now(tz=UTC) - timedelta(seconds=SECONDS.validate_python(span)) > datetime(1970, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("span", ["1000000d", "10000d", "1000000000s", 1e10, float("inf"), float("nan"), 10**400])
def test_a_span_that_no_date_bears_is_refused(span: object) -> None:
    with pytest.raises(ValidationError):
        SECONDS.validate_python(span)


def test_a_lease_does_not_end_at_once() -> None:
    assert LEASE.validate_python("1m") == 60
    for span in (0, "0s", "0", "0.0m", 0.5, -1, True):
        with pytest.raises(ValidationError):
            LEASE.validate_python(span)


@pytest.mark.parametrize("text", ["10.20.0.0/24", "0.0.0.0/0", "192.0.2.7", "192.0.2.7/32"])
def test_a_network_is_read_as_it_is_written(text: str) -> None:
    assert CIDR.validate_python(text) == IPv4Network(text)
    assert CIDR.validate_python(IPv4Network(text)) == IPv4Network(text)


@pytest.mark.parametrize(
    "wrong",
    ["garbage", "", "10.0.0.0/33", "10.0.0.0/08", "010.0.0.0/8", "10.0.0.1/24", "10.0.0/24", "::/0", 10, True, b"a"],
)
def test_what_is_no_network_is_refused(wrong: object) -> None:
    with pytest.raises(ValidationError):
        CIDR.validate_python(wrong)


@pytest.mark.parametrize("share", [1, 64, "1%", "25%", "100%"])
def test_a_share_is_a_number_of_hosts_or_a_percentage(share: int | str) -> None:
    assert SHARE.validate_python(share) == share


@pytest.mark.parametrize(
    "share", [0, -1, "0%", "101%", "%", "25 %", "1/4", "3", "", 1.5, "-5%", None, True, "025%", "01%"]
)
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
