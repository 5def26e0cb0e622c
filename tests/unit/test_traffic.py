"""Traffic: every stack and every request is counted, whatever becomes of it."""

from __future__ import annotations

import json

import pytest
from builders import Customer as Left
from builders import stack
from heat_stand_in import StandInHeat
from traffic_stand_in import TrafficHeat

from pipeline import chain
from pipeline.edges.clock import FakeClock, SystemClock, wait_until
from pipeline.edges.heat import HeatRefused
from pipeline.environment import Traffic as Settings
from pipeline.errors import Inconclusive
from pipeline.traffic import Ledger, Traffic, clean, dismiss
from pipeline.traffic.client import Client
from pipeline.traffic.customer import Customer, Pinger
from pipeline.traffic.ledger import Line

SETTINGS = Settings(clients=2, pause=0, stack_timeout=30, before=0, after=0)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def ledger(clock: FakeClock) -> Ledger:
    return Ledger(clock)


def client(heat: StandInHeat, ledger: Ledger, clock: FakeClock, dropped: bool = False) -> Client:
    return Client(heat, Line(ledger), ledger, clock, SETTINGS, lambda: dropped)  # type: ignore[arg-type]


def customer(heat: StandInHeat, ledger: Ledger, clock: FakeClock, dropped: bool = False) -> Customer:
    return Customer(client(heat, ledger, clock, dropped))


def stacks(ledger: Ledger) -> tuple[int, int, int]:
    counts = ledger.counts().stacks
    return counts.completed, counts.failed, counts.stuck


def test_a_stack_that_goes_its_whole_way_is_completed_and_gone(ledger: Ledger, clock: FakeClock) -> None:
    heat = StandInHeat()
    customer(heat, ledger, clock).go_through("canary")
    assert stacks(ledger) == (1, 0, 0)
    assert not heat.stacks
    assert [asked for asked in heat.asked if asked in ("create", "update", "delete")] == ["create", "update", "delete"]


@pytest.mark.parametrize("action", ["CREATE", "UPDATE", "DELETE"])
def test_a_stack_that_ends_failed_is_kept_and_named_with_its_reason(
    action: str, ledger: Ledger, clock: FakeClock
) -> None:
    heat = StandInHeat(ends={action: f"{action}_FAILED"})
    customer(heat, ledger, clock).go_through("canary")
    assert stacks(ledger) == (0, 1, 0)
    assert "canary" in heat.stacks
    assert ledger.kept == {"canary"}
    assert ledger.report().failures == (f"stack canary: {action}_FAILED: it says why",)


@pytest.mark.parametrize("action", ["CREATE", "UPDATE", "DELETE"])
def test_a_stack_that_comes_to_no_end_is_stuck_after_its_timeout(action: str, ledger: Ledger, clock: FakeClock) -> None:
    customer(StandInHeat(ends={action: ""}), ledger, clock).go_through("canary")
    assert stacks(ledger) == (0, 0, 1)
    assert ledger.report().failures == (f"stack canary: still {action}_IN_PROGRESS after 30 s",)
    assert clock.monotonic() >= SETTINGS.stack_timeout


def test_outputs_that_the_chain_cannot_give_fail_the_stack(
    ledger: Ledger, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("heat_stand_in._outputs", lambda body: {"secret": "s", "result": "stale"})
    customer(StandInHeat(), ledger, clock).go_through("canary")
    assert stacks(ledger) == (0, 1, 0)
    assert "'stale'" in ledger.report().failures[0]


def test_every_third_stack_is_nested(ledger: Ledger, clock: FakeClock) -> None:
    heat, names = TrafficHeat(clock=clock), iter("abcdef")
    customer(heat, ledger, clock).work(names, lambda: len(heat.made) == 6)
    assert stacks(ledger) == (6, 0, 0)
    assert ["files" in body for body in heat.made] == [False, False, True] * 2


def test_values_that_do_not_come_back_from_a_nested_stack_fail_it(ledger: Ledger, clock: FakeClock) -> None:
    # The stand-in of smoke tests does not know this stack.
    customer(StandInHeat(), ledger, clock).go_through("canary", chain.nested)
    assert ledger.report().failures == ("stack canary: CREATE_COMPLETE: output secret is empty",)


def test_a_nested_stack_brings_the_template_it_names() -> None:
    body = chain.nested("word", wait=1)
    assert list(body["files"]) == [body["template"]["resources"]["inner"]["type"]]
    assert body["parameters"] == chain.body("word", wait=1)["parameters"]


def test_a_create_that_was_refused_and_heard_all_the_same_is_taken_up(ledger: Ledger, clock: FakeClock) -> None:
    heat = StandInHeat(refuse={"create": [HeatRefused("gateway", status=504)]})
    heat.stacks["canary"] = {
        "action": "CREATE",
        "looks": 0,
        "signalled": False,
        "body": {"template": {"resources": {}}},
    }
    assert client(heat, ledger, clock).create("canary", **chain.body("word")) == "canary/id-of-canary"
    assert heat.asked.count("create") == 1


def test_faults_of_heat_are_asked_again_until_the_timeout(ledger: Ledger, clock: FakeClock) -> None:
    heat = StandInHeat(refuse={"update": [HeatRefused("down", status=503)] * 3, "find": [HeatRefused("reset")]})
    customer(heat, ledger, clock).go_through("canary")
    assert stacks(ledger) == (1, 0, 0)
    heat = StandInHeat(refuse={"update": [HeatRefused("down for good", status=503)] * 500})
    customer(heat, ledger, clock).go_through("lost")
    assert ledger.report().failures == ("stack lost: REFUSED: down for good",)


def test_a_request_heat_will_never_grant_fails_the_stack_at_once(ledger: Ledger, clock: FakeClock) -> None:
    heat = StandInHeat(refuse={"create": [HeatRefused("no such parameter", status=400)]})
    customer(heat, ledger, clock).go_through("canary")
    assert stacks(ledger) == (0, 1, 0)
    assert heat.asked.count("create") == 1


def test_a_dropped_customer_counts_nothing(ledger: Ledger, clock: FakeClock) -> None:
    customer(StandInHeat(), ledger, clock, dropped=True).go_through("canary")
    assert stacks(ledger) == (0, 0, 0)


def test_the_line_tells_errors_from_what_is_expected(ledger: Ledger) -> None:
    line = Line(ledger)
    line.exchanged("GET", "http://heat/stacks/a?resolve_outputs=False", 200, "")
    line.exchanged("GET", "http://heat/", 300, "")
    with line.expecting(404):
        line.exchanged("GET", "http://heat/stacks/a", 404, "")
        line.exchanged("GET", "http://heat/stacks/a", 500, "", "MessagingTimeout: no, after 60.0 s")
        line.exchanged("GET", "http://heat/stacks/b", 500, "", "it said something else")
    line.exchanged("GET", "http://heat/stacks/a?x=y", 404, "")
    line.exchanged("POST", "http://heat/stacks", 0, "ConnectionRefusedError")
    report = ledger.report()
    assert (report.requests.total, report.requests.errors) == (7, 4)
    assert report.failures == (
        "2 × GET http://heat/stacks/*: HTTP 500 (first at 00:00:00 UTC: MessagingTimeout: no, after 60.0 s)",
        "1 × GET http://heat/stacks/*: HTTP 404 (first at 00:00:00 UTC)",
        "1 × POST http://heat/stacks: ConnectionRefusedError (first at 00:00:00 UTC)",
    )
    assert not report.ok


def test_a_flood_of_failed_requests_does_not_hide_a_stack(ledger: Ledger, clock: FakeClock) -> None:
    for number in range(500):
        ledger.request(f"GET http://heat/v1/p/stacks/c-{number}/3dc196eb-ea4a-4db1-968e-b68fb1fe715c", "refused")
        clock.sleep(1)
    ledger.failed("c-1", "CREATE_FAILED", "why")
    assert ledger.report().failures == (
        "stack c-1: CREATE_FAILED: why",
        "500 × GET http://heat/v1/p/stacks/*: refused (first at 00:00:00 UTC)",
    )


def test_the_longest_gap_is_the_longest_time_without_a_success(clock: FakeClock, ledger: Ledger) -> None:
    clock.sleep(50)
    ledger.open()
    for pause, error in ((1, ""), (2, "refused"), (3, "refused"), (1, ""), (4, "")):
        clock.sleep(pause)
        ledger.request("GET /", error)
    assert ledger.counts().requests.longest_gap_s == 6
    clock.sleep(7)
    assert ledger.counts().requests.longest_gap_s == 7, "a gap that still lasts counts as well"
    ledger.close()
    clock.sleep(100)
    assert ledger.counts().requests.longest_gap_s == 7


def test_the_pinger_asks_both_apis_and_every_question_on_both_kinds_of_connection(
    ledger: Ledger, clock: FakeClock
) -> None:
    kept, fresh = StandInHeat(), StandInHeat()
    rounds = iter([False] * 10 + [True])
    Pinger(kept, fresh, ledger, clock).work(lambda: next(rounds))  # type: ignore[arg-type]
    asked = {question for question in fresh.asked if question != "hang_up"}
    assert asked | {"endpoint"} == set(kept.asked)
    assert "GET http://heat.test:8000/" in asked
    assert fresh.asked.count("hang_up") == 10
    assert ledger.report().revisions == (("r1", "r2"),)


def test_traffic_drains_and_leaves_nothing() -> None:
    clock = SystemClock()
    heat = TrafficHeat(clock=clock)
    settings = SETTINGS.model_copy(update={"hold": 0.2})
    everybody = SETTINGS.clients + 2
    with Traffic(lambda: heat, settings, clock, prefix="canary") as traffic:  # type: ignore[arg-type, return-value]
        wait_until(lambda: len(heat.made) >= everybody, clock, timeout=10, what="customers", interval=0.1)
    report = traffic.report()
    assert report.stacks.completed >= everybody
    assert report.stacks.failed == report.stacks.stuck == 0, report.failures
    assert not heat.stacks
    assert json.loads(json.dumps(report.to_json()))["revisions"] in ([], [{"api": "r1", "engine": "r2"}])
    assert report.counts()["wait_conditions_held"] == report.wait_conditions.held == len(heat.signalled) >= 2


def test_without_a_time_to_hold_nobody_makes_wait_conditions() -> None:
    heat, clock = TrafficHeat(), SystemClock()
    with Traffic(lambda: heat, SETTINGS, clock, prefix="canary") as traffic:  # type: ignore[arg-type, return-value]
        wait_until(lambda: len(heat.made) >= SETTINGS.clients, clock, timeout=10, what="customers", interval=0.1)
    assert not heat.opened
    assert traffic.report().wait_conditions.held == 0


def test_traffic_that_is_interrupted_drops_its_stacks_and_deletes_them() -> None:
    heat = StandInHeat(ends={"CREATE": ""})

    def interrupted() -> None:
        with Traffic(lambda: heat, SETTINGS, SystemClock(), prefix="canary"):  # type: ignore[arg-type, return-value]
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not heat.stacks


def test_clean_deletes_by_prefix_and_keeps_what_it_is_told_to(clock: FakeClock) -> None:
    heat = StandInHeat()
    for name in ("canary-a", "canary-kept", "customer-b"):
        heat.create(name, template={"resources": {}})
    assert clean(heat, "canary", clock, keep=frozenset({"canary-kept"})) == ("canary-a",)  # type: ignore[arg-type]
    assert set(heat.stacks) == {"canary-kept", "customer-b"}
    heat.ends["DELETE"] = ""
    with pytest.raises(Inconclusive, match="canary-kept"):
        clean(heat, "canary", clock)  # type: ignore[arg-type]


# --- what a killed run's customers left


@pytest.fixture
def left() -> Left:
    return Left()


def _dismissed(left: Left, *stacks: tuple[str, str]) -> tuple[str, ...]:
    left.stacks = tuple(stack(name, status) for name, status in stacks)
    return dismiss(left, "canary", FakeClock())  # type: ignore[arg-type]


def _acts(left: Left) -> list[str]:
    """What was done to stacks, without the looks at them."""
    return [act for act in left.did if act != "list"]


def test_a_stack_that_waits_is_signalled_before_it_is_deleted(left: Left) -> None:
    name = "canary-0a1b2c-waiting-0-1"
    assert _dismissed(left, (name, "CREATE_IN_PROGRESS")) == (name,)
    identity = f"{name}/id-of-{name}"
    assert _acts(left) == [f"signal {chain.HANDLE} of {identity}", f"delete {identity}"]
    (signal,) = left.signals
    assert (signal["Status"], signal["UniqueId"], signal["Data"]) == ("SUCCESS", "canary", "")
    assert "killed" in signal["Reason"]


def test_what_is_signalled_is_a_resource_of_the_stack_that_waits() -> None:
    assert chain.HANDLE in chain.waiting(60)["template"]["resources"]


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("canary-0a1b2c-waiting-0-1", "CREATE_COMPLETE"),
        ("canary-0a1b2c-waiting-0-1", "DELETE_IN_PROGRESS"),
        ("canary-0a1b2c-0-1", "CREATE_IN_PROGRESS"),
        ("canary-0a1b2c-0-1", "UPDATE_IN_PROGRESS"),
        ("canary-0a1b2c-0-1", "UPDATE_COMPLETE"),
    ],
)
def test_a_stack_that_waits_for_nothing_is_deleted_and_not_signalled(left: Left, name: str, status: str) -> None:
    assert _dismissed(left, (name, status)) == (name,)
    assert _acts(left) == [f"delete {name}/id-of-{name}"]


def test_what_is_under_way_ends_before_anything_is_deleted_and_its_end_is_not_waited_for_for_ever(left: Left) -> None:
    clock, waiting, idle = FakeClock(), "canary-0a1b2c-waiting-0-1", "canary-0a1b2c-0-1"
    busy = (stack(waiting, "CREATE_IN_PROGRESS"), stack(idle, "UPDATE_COMPLETE"))
    rested = (stack(waiting, "CREATE_COMPLETE"), stack(idle, "UPDATE_COMPLETE"))
    left.stacks, left.later = busy, [busy, busy, rested]
    dismiss(left, "canary", clock)  # type: ignore[arg-type]
    deletes = [f"delete {name}/id-of-{name}" for name in (waiting, idle)]
    assert left.did == ["list", f"signal {chain.HANDLE} of {waiting}/id-of-{waiting}", *["list"] * 3, *deletes]
    began = clock.monotonic()
    left.did, left.stacks = [], busy
    dismiss(left, "canary", clock)  # type: ignore[arg-type]
    assert left.did[-2:] == deletes
    assert clock.monotonic() - began == 20


@pytest.mark.parametrize("status", ["UPDATE_COMPLETE", "DELETE_IN_PROGRESS"])
def test_where_nothing_is_under_way_nothing_is_waited_for(left: Left, status: str) -> None:
    _dismissed(left, ("canary-0a1b2c-0-1", status))
    assert left.did == ["list", "delete canary-0a1b2c-0-1/id-of-canary-0a1b2c-0-1"]


@pytest.mark.parametrize("status", ["CREATE_FAILED", "UPDATE_FAILED", "DELETE_FAILED", "ROLLBACK_FAILED"])
def test_a_stack_that_failed_stays_for_a_look(left: Left, status: str) -> None:
    assert _dismissed(left, ("canary-0a1b2c-0-1", status), ("canary-0a1b2c-waiting-0-1", status)) == ()
    assert left.did == ["list"]


OTHERS = ["customer-0a1b2c-waiting-0-1", "canary", "canary-1", "canary-waiting-0-1", "canary-mine-waiting-0-1"]
OTHERS += ["canaryx-0a1b2c-waiting-0-1", "my-canary-0a1b2c-waiting-0-1", "canary-0a1b2c", "canary-0a1b2c3-0-1"]


@pytest.mark.parametrize("name", OTHERS)
def test_stacks_of_others_are_left_alone(left: Left, name: str) -> None:
    ours = "canary-0a1b2c-0-1"
    assert _dismissed(left, (name, "CREATE_IN_PROGRESS"), (ours, "CREATE_COMPLETE")) == (ours,)
    assert left.did == ["list", f"delete {ours}/id-of-{ours}"]


def test_all_that_traffic_makes_is_known_by_its_name(left: Left) -> None:
    heat, clock = TrafficHeat(), SystemClock()
    settings = SETTINGS.model_copy(update={"hold": 0.2})
    with Traffic(lambda: heat, settings, clock, prefix="canary"):  # type: ignore[arg-type, return-value]
        wait_until(lambda: len(heat.made) >= 4 and heat.opened, clock, timeout=10, what="customers", interval=0.1)
        names = {*heat.opened, *heat.stacks}
    assert _dismissed(left, *((name, "CREATE_IN_PROGRESS") for name in names)) == tuple(sorted(names))
    assert len(left.signals) == len(names & set(heat.opened)) > 0


def test_a_signal_that_a_stack_does_not_take_keeps_nothing_from_being_deleted(left: Left) -> None:
    left.refuses, left.status = {"signal"}, 400
    names = ("canary-0a1b2c-waiting-0-1", "canary-0a1b2c-waiting-1-1")
    assert _dismissed(left, *((name, "CREATE_IN_PROGRESS") for name in names)) == names
    assert [act for act in left.did if act.startswith("delete")] == [f"delete {name}/id-of-{name}" for name in names]


def test_a_signal_that_nobody_heard_is_told_and_its_stack_can_be_signalled_again(left: Left) -> None:
    left.refuses = {"signal"}
    with pytest.raises(HeatRefused, match="no engine"):
        _dismissed(left, ("canary-0a1b2c-waiting-0-1", "CREATE_IN_PROGRESS"))
    assert not [act for act in left.did if act.startswith("delete")]


def test_what_was_left_is_named_in_order(left: Left) -> None:
    names = ("canary-0a1b2c-waiting-0-1", "canary-0a1b2c-0-2", "canary-00ffee-0-1")
    assert _dismissed(left, *((name, "CREATE_COMPLETE") for name in names)) == tuple(sorted(names))


@pytest.mark.parametrize("act", ["list", "delete"])
def test_a_heat_that_refuses_to_list_or_delete_is_told(left: Left, act: str) -> None:
    left.refuses = {act}
    with pytest.raises(HeatRefused, match="no engine"):
        _dismissed(left, ("canary-0a1b2c-0-1", "CREATE_COMPLETE"))


def test_nothing_left_is_nothing_to_do(left: Left) -> None:
    assert _dismissed(left) == ()
    assert left.did == ["list"]
