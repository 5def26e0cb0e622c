"""Holders: at every moment a WaitCondition is open, each is signalled as a server would, and no address is told."""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import count, pairwise
from typing import Any

import pytest
from traffic_stand_in import PASSWORD, HookedClock, SharedClock, TrafficHeat

from pipeline.edges.clock import Clock, FakeClock
from pipeline.edges.heat import HeatRefused
from pipeline.environment import Traffic as Settings
from pipeline.traffic import Ledger
from pipeline.traffic.client import Client
from pipeline.traffic.holder import Holder
from pipeline.traffic.ledger import Line
from pipeline.traffic.relay import Relay

SETTINGS = Settings(clients=1, pause=0, stack_timeout=90, before=0, after=0, hold=8)
REFUSED = HeatRefused("refused")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def relay(clock: Clock, others: int = 1) -> Relay:
    """Return a relay in which `others` hold a WaitCondition open already."""
    made = Relay(clock)
    for _ in range(others):
        made.opened()
    return made


def hold(heat: TrafficHeat, among: Relay, *, dropped: Callable[[], bool] = lambda: False, hold: float = 8) -> Ledger:
    """Return the ledger of a holder that went through one stack, `waiting`."""
    ledger = Ledger(heat.clock)
    heat.line = Line(ledger)
    settings = SETTINGS.model_copy(update={"hold": hold})
    client = Client(heat, heat.line, ledger, heat.clock, settings, dropped)  # type: ignore[arg-type]
    Holder(client, among).go_through("waiting")
    return ledger


def test_a_wait_condition_is_held_signalled_and_gone(clock: FakeClock) -> None:
    heat, among = TrafficHeat(clock=clock, opens_after=3), relay(clock)
    ledger = hold(heat, among)
    assert ledger.report().ok
    assert ledger.counts().stacks.completed == 1
    assert not heat.stacks
    assert heat.signalled["waiting"] - heat.opened["waiting"] == 8
    assert (among.counts().held, among.counts().longest_open_s) == (1, 8)


def test_a_signal_that_is_not_taken_is_an_error_and_is_sent_again(clock: FakeClock) -> None:
    heat = TrafficHeat(clock=clock, signal_answers=[500, 202, 403, REFUSED])
    ledger = hold(heat, relay(clock))
    counts = ledger.counts()
    assert (counts.stacks.completed, counts.stacks.failed) == (1, 0)
    assert (counts.requests.total, counts.requests.errors) == (5, 4)
    assert [failure.partition(" (")[0] for failure in ledger.report().failures] == [
        "1 × PUT http://heat.test:8000/v1/waitcondition/*: HTTP 500",
        "1 × PUT http://heat.test:8000/v1/waitcondition/*: HTTP 202",
        "1 × PUT http://heat.test:8000/v1/waitcondition/*: HTTP 403",
        "1 × PUT http://heat.test:8000/v1/waitcondition/*: refused",
    ]


def test_a_signal_that_is_never_taken_fails_the_stack(clock: FakeClock) -> None:
    among = relay(clock)
    ledger = hold(TrafficHeat(clock=clock, signal_answers=[500] * 500), among)
    assert ledger.kept == {"waiting"}
    assert ledger.report().failures[0] == "stack waiting: UNSIGNALLED: the last answer to its signal was HTTP 500"
    assert among.counts().held == 0
    assert clock.monotonic() < SETTINGS.stack_timeout + 20


def test_the_presigned_address_is_told_to_nobody(clock: FakeClock) -> None:
    url = f"https://heat.test/v1/waitcondition/arn?Signature={PASSWORD}&Expires=1"
    refused = HeatRefused(f"Unexpected exception for {url}: No connection adapters were found for '{url}'")
    heat = TrafficHeat(clock=clock, signal_answers=[refused] * 500)
    ledger = hold(heat, relay(clock))
    ledger.failed("other", "CREATE_FAILED", f'"{url}" is not a valid URL')
    ledger.note(f"PUT {url}: no")
    report = ledger.report()
    assert PASSWORD not in repr(report)
    assert 'stack other: CREATE_FAILED: "https://heat.test/v1/waitcondition/arn" is not a valid URL' in report.failures
    assert len(report.failures) == 4, "one stack, another, a note, and one kind of request"


@pytest.mark.parametrize(
    ("ends", "said"),
    [("CREATE_FAILED", "CREATE_FAILED: it says why"), ("", "still CREATE_IN_PROGRESS after 90 s")],
)
def test_a_wait_condition_that_goes_wrong_is_counted_as_any_stack(clock: FakeClock, ends: str, said: str) -> None:
    among = relay(clock, others=2)
    ledger = hold(TrafficHeat(clock=clock, ends={"CREATE": ends}), among)
    assert ledger.report().failures == (f"stack waiting: {said}",)


def test_one_that_nobody_signalled_may_not_end(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    heat, among = TrafficHeat(clock=clock), relay(clock, others=0)
    real = TrafficHeat.find

    def find(self: TrafficHeat, name: str, **more: Any) -> Any:
        if clock.monotonic() > 5:
            self.stacks["waiting"]["signalled"] = True
        return real(self, name, **more)

    monkeypatch.setattr(TrafficHeat, "find", find)
    ledger = hold(heat, among)
    assert ledger.report().failures == ("stack waiting: CREATE_COMPLETE: it did not wait for its signal",)
    assert among.counts().longest_gap_s == 0
    clock.sleep(7)
    assert among.counts().longest_gap_s == 7, "what ended by itself is not open"


@pytest.mark.parametrize("data", [{}, {"canary": "another's"}, "no JSON object"])
def test_data_that_was_not_signalled_fails_the_stack(clock: FakeClock, data: object) -> None:
    ledger = hold(TrafficHeat(clock=clock, data=lambda _: data), relay(clock))
    assert ledger.counts().stacks.failed == 1
    assert "was signalled 'waiting'" in ledger.report().failures[0]


def test_when_traffic_closes_a_held_one_is_signalled_early_and_finished() -> None:
    clock = HookedClock(5, lambda: among.over())
    among, heat = relay(clock, others=0), TrafficHeat(clock=clock)
    ledger = hold(heat, among, hold=1000)
    assert ledger.counts().stacks.completed == 1
    assert heat.signalled["waiting"] < 6
    assert not heat.stacks
    clock.sleep(100)
    assert among.counts().longest_gap_s == 0, "after closing time none need be open"


def test_a_holder_that_is_dropped_counts_nothing(clock: FakeClock) -> None:
    heat, among = TrafficHeat(clock=clock), relay(clock, others=0)
    ledger = hold(heat, among, dropped=lambda: clock.monotonic() > 3)
    assert (ledger.counts().stacks.completed, ledger.report().failures) == (0, ())
    assert not heat.signalled
    clock.sleep(2)
    assert among.counts().longest_gap_s == 2


def test_the_last_one_is_held_on_to_but_not_for_ever(clock: FakeClock) -> None:
    heat, among = TrafficHeat(clock=clock), relay(clock, others=0)
    assert hold(heat, among).counts().stacks.completed == 1
    assert heat.signalled["waiting"] == SETTINGS.hold + 60


def test_of_two_who_want_to_let_go_at_once_one_stays(clock: FakeClock) -> None:
    among = relay(clock, others=2)
    assert not among.let_go(ripe=False)
    assert [among.let_go(ripe=True), among.let_go(ripe=True)] == [True, False]
    among.over()
    assert among.let_go(ripe=False)


def test_a_holder_starts_late_and_not_at_all_after_closing_time(clock: FakeClock) -> None:
    heat = TrafficHeat(clock=clock)
    ledger = Ledger(clock)
    client = Client(heat, Line(ledger), ledger, clock, SETTINGS, lambda: False)  # type: ignore[arg-type]
    Holder(client, relay(clock)).work(iter(["a"]), lambda: clock.monotonic() > 2, delay=100)
    assert not heat.made
    assert clock.monotonic() < 4
    Holder(client, relay(clock)).work(iter(["b"]), lambda: "b" in heat.signalled, delay=2)
    assert heat.opened["b"] >= 4


@pytest.mark.parametrize(("seconds", "opens_after"), [(8, 1), (4, 3), (4, 0), (1, 0), (4, 20)])
def test_one_is_open_at_every_moment(seconds: float, opens_after: float) -> None:
    heat, among, end = _run(seconds, opens_after)
    spans = sorted((heat.opened[name], heat.signalled[name]) for name in heat.opened)
    assert len(spans) > 10
    for number, (before, after) in enumerate(pairwise(spans), start=1):
        if after[0] < end:
            # One may close at the very tick at which another opens: that it was open by then is asked below.
            assert max(closed for _, closed in spans[:number]) >= after[0], (before, after)
    assert [name for name in heat.alone if heat.signalled[name] < end] == []
    assert max(closed for _, closed in spans) >= end
    assert among.counts().longest_gap_s == 0
    assert among.counts().held == len(spans)


def test_a_moment_at_which_none_was_open_is_told() -> None:
    heat, among, _ = _run(4, opens_after=75)
    assert among.counts().longest_gap_s > 5
    assert heat.alone


def _run(seconds: float, opens_after: float) -> tuple[TrafficHeat, Relay, float]:
    """Return what two holders did in 300 seconds: Heat, their relay, and when they were told to stop."""
    clock, closing = SharedClock(3), threading.Event()
    heat, among, ledger = TrafficHeat(clock=clock, opens_after=opens_after), Relay(clock), Ledger(clock)
    settings = SETTINGS.model_copy(update={"hold": seconds})

    def work(number: int) -> None:
        client = Client(heat, Line(ledger), ledger, clock, settings, lambda: False)  # type: ignore[arg-type]
        names = (f"waiting-{number}-{times}" for times in count())
        with clock.member():
            Holder(client, among).work(names, closing.is_set, delay=number * seconds / 2)

    holders = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(2)]
    for holder in holders:
        holder.start()
    with clock.member():
        clock.sleep(300)
        closing.set()
        among.over()
        end = clock.monotonic()
    for holder in holders:
        holder.join(timeout=30)
    assert ledger.report().failures == ()
    return heat, among, end
