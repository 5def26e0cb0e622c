"""Smoke: each rung fails for its own reason, others go on, and nothing is left behind."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from datetime import UTC, datetime

import pytest
from heat_stand_in import SIGNAL, StandInHeat

from pipeline import chain, smoke
from pipeline.edges.clock import FakeClock
from pipeline.edges.heat import HeatRefused
from pipeline.junit import Case, document
from pipeline.smoke import causes
from pipeline.smoke.ground import left_by_a_killed_run
from pipeline.smoke.ladder import LADDER
from pipeline.stacks import Answer


def climb(heat: StandInHeat, **more: object) -> dict[str, smoke.RungResult]:
    report = smoke.climb(heat, FakeClock(), **more)  # type: ignore[arg-type]
    return {rung.name: rung for rung in report.rungs}


def failed(rungs: dict[str, smoke.RungResult]) -> set[str]:
    return {rung.name for rung in rungs.values() if rung.outcome == "failed"}


def test_a_sound_heat_is_climbed_to_the_top_and_left_clean() -> None:
    heat = StandInHeat()
    seen: list[smoke.RungResult] = []
    report = smoke.climb(heat, FakeClock(), report=seen.append)  # type: ignore[arg-type]
    assert [rung.name for rung in report.rungs] == [*(rung.name for rung in LADDER), "clean up"]
    assert {rung.outcome for rung in report.rungs} == {"passed"}, report
    assert tuple(seen) == report.rungs
    assert not heat.stacks
    assert report.ok


def test_needs_name_rungs_that_come_before() -> None:
    names = [rung.name for rung in LADDER]
    assert all(names.index(need) < names.index(rung.name) for rung in LADDER for need in rung.needs)


def test_a_stopped_cfn_turns_the_wait_condition_red_with_the_right_reason() -> None:
    gone = HeatRefused("PUT http://heat.test:8000/v1/waitcondition/arn: Connection refused")
    rungs = climb(StandInHeat(answers={"http://heat.test:8000": gone}))
    assert failed(rungs) == {"endpoint cloudformation", "wait condition"}
    cause = rungs["wait condition"].likely_cause
    assert "heat-api-cfn does not answer at http://heat.test:8000" in cause
    assert "heat_waitcondition_server_url" in cause
    assert rungs["wait condition"].seconds < 10
    assert rungs["clean up"].outcome == "passed"


@pytest.mark.parametrize(("status", "word"), [(500, "ec2authtoken"), (503, "load balancer"), (403, "signature")])
def test_a_refused_signal_says_where_to_look(status: int, word: str) -> None:
    rungs = climb(StandInHeat(answers={SIGNAL: Answer(status, "")}))
    assert failed(rungs) == {"wait condition"}
    assert word in rungs["wait condition"].likely_cause


def test_no_report_holds_the_presigned_address() -> None:
    for answer in (Answer(500, ""), Answer(200, "")):
        report = smoke.climb(StandInHeat(answers={SIGNAL: answer}), FakeClock(), timeout=5)  # type: ignore[arg-type]
        assert "Signature" not in json.dumps(report.to_json())


def test_a_signal_that_is_taken_and_not_acted_on_is_bounded() -> None:
    rungs = climb(StandInHeat(answers={SIGNAL: Answer(200, "")}), timeout=20)
    assert failed(rungs) == {"wait condition"}
    assert 20 <= rungs["wait condition"].seconds < 30


def test_without_an_api_the_rest_is_skipped_and_says_why() -> None:
    rungs = climb(StandInHeat(answers={"http://heat.test:8004": HeatRefused("refused")}))
    assert failed(rungs) == {"endpoint orchestration"}
    assert "heat-api" in rungs["endpoint orchestration"].likely_cause
    assert rungs["token"].detail == "needs endpoint orchestration"
    assert rungs["endpoint cloudformation"].outcome == "passed"
    assert "clean up" not in rungs


def test_an_api_without_engines_is_told_apart() -> None:
    rungs = climb(StandInHeat(refuse={"build_info": [HeatRefused("HTTP 500: MessagingTimeout", status=500)]}))
    assert failed(rungs) == {"versions and build_info"}
    assert "vhost" in rungs["versions and build_info"].likely_cause


@pytest.mark.parametrize(
    ("method", "rung", "word"),
    [
        ("GET http://heat.test:8004/", "endpoint orchestration", "hang"),
        ("build_info", "versions and build_info", "vhost"),
    ],
)
def test_silence_of_engines_is_told_from_silence_of_the_api(method: str, rung: str, word: str) -> None:
    silence = HeatRefused("no answer in time", timed_out=True)
    assert word in climb(StandInHeat(refuse={method: [silence]}))[rung].likely_cause


def test_an_unknown_user_is_told_apart() -> None:
    refusal = HeatRefused("reading the catalog for orchestration: HTTP 401", status=401)
    rungs = climb(StandInHeat(refuse={"endpoint": [refusal]}))
    assert "clouds.yaml" in rungs["endpoint orchestration"].likely_cause


def test_a_made_up_token_must_be_refused() -> None:
    rungs = climb(StandInHeat(answers={"http://heat.test:8004/v1/project/smoke": Answer(404, "")}))
    assert "authtoken" in rungs["token"].likely_cause


def test_a_failed_stack_gives_its_resource_and_reason() -> None:
    heat = StandInHeat(ends={"CREATE": "CREATE_FAILED"})
    rungs = climb(heat)
    assert "left (OS::Heat::TestResource): MessagingTimeout" in rungs["create"].detail
    assert "vhost" in rungs["create"].likely_cause
    assert rungs["update"].outcome == rungs["wait condition"].outcome == "skipped"
    assert rungs["preview"].outcome == "passed"
    assert not heat.stacks


def test_stacks_that_cannot_be_deleted_are_named() -> None:
    rungs = climb(StandInHeat(ends={"DELETE": ""}), timeout=10)
    assert "smoke-" in rungs["clean up"].detail
    assert "clean up" in failed(rungs)


def test_what_heat_refuses_for_a_moment_leaves_no_stack_behind() -> None:
    heat = StandInHeat()
    for name in ("smoke-20251231T120000-abcdef-chain", "smoke-20251231T120000-abcdef-crowd"):
        heat.create(name, template={"resources": {}})
    away = HeatRefused("HTTP 503", status=503)

    def goes_away(result: smoke.RungResult) -> None:
        if result.name == "more than one engine":
            heat.refuse.update(list=[away, away], delete=[away])

    report = smoke.climb(heat, FakeClock(), report=goes_away)  # type: ignore[arg-type]
    assert report.rungs[-1].outcome == "passed"
    assert not heat.stacks


def test_where_heat_stays_away_the_clean_up_says_what_is_left_and_why() -> None:
    heat = StandInHeat()
    heat.create("smoke-20251231T120000-abcdef-chain", template={"resources": {}})
    heat.refuse["delete"] = [HeatRefused("HTTP 503: no server is available", status=503)] * 1000
    rung = climb(heat, timeout=10)["clean up"]
    assert rung.outcome == "failed"
    assert "smoke-20251231T120000-abcdef-chain" in rung.detail
    assert "(HTTP 503: no server is available)" in rung.detail


@pytest.mark.parametrize("page", [Answer(200, "<html>Welcome</html>"), Answer(401, '{"error": "Unauthorized"}')])
def test_another_service_at_the_cloudformation_endpoint_is_told_from_heats(page: Answer) -> None:
    rungs = climb(StandInHeat(answers={"http://heat.test:8000/v1/?Action": page}))
    assert failed(rungs) == {"endpoint cloudformation"}
    assert "another service" in rungs["endpoint cloudformation"].likely_cause


def test_an_interrupted_climb_cleans_up() -> None:
    heat = StandInHeat()

    def interrupt(result: smoke.RungResult) -> None:
        if result.name == "create":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        smoke.climb(heat, FakeClock(), report=interrupt)  # type: ignore[arg-type]
    assert not heat.stacks


def test_stacks_of_a_killed_run_are_taken_away_and_young_ones_left() -> None:
    heat = StandInHeat()
    for name in ("smoke-20251231T120000-abcdef-chain", "smoke-20260101T000000-abcdef-chain", "smoke-mine"):
        heat.create(name, template={"resources": {}})
    climb(heat)
    assert set(heat.stacks) == {"smoke-20260101T000000-abcdef-chain", "smoke-mine"}
    assert not left_by_a_killed_run("smoke-20260101T000000-abcdef-chain", datetime(2026, 1, 1, 0, 59, tzinfo=UTC))


@pytest.mark.parametrize(
    ("hosts", "expect", "outcome"),
    [
        (("a", "b"), None, "passed"),
        (("a",), None, "skipped"),
        (("a",), 1, "passed"),
        (("a",), 2, "failed"),
        (("a", "b"), 3, "failed"),
        ((), None, "failed"),
    ],
)
def test_engines_are_counted_by_host(hosts: tuple[str, ...], expect: int | None, outcome: str) -> None:
    name = "more than one engine"
    by_table = climb(StandInHeat(hosts=hosts), expect_engines=expect)[name]
    by_witness = climb(StandInHeat(), expect_engines=expect, engines=lambda stack: set(hosts))[name]
    assert by_table.outcome == by_witness.outcome == outcome


def test_a_plain_user_without_a_witness_is_told_why_engines_are_not_counted() -> None:
    rungs = climb(StandInHeat(refuse={"services": [HeatRefused("forbidden", status=403)]}))
    assert rungs["more than one engine"].outcome == "skipped"
    assert "admin" in rungs["more than one engine"].detail


def test_the_witness_is_asked_about_the_stack_while_it_is_made() -> None:
    turns = iter([{"a"}, {"b"}])
    asked: list[str] = []

    def witness(stack: str) -> set[str]:
        asked.append(stack)
        return next(turns, set())

    rungs = climb(StandInHeat(), engines=witness)
    assert rungs["more than one engine"].detail == "at work on 8 resources: a, b"
    assert all(stack.startswith("id-of-smoke-") for stack in asked)


def test_workers_that_take_their_turns_are_waited_for() -> None:
    crowds: list[str] = []

    def witness(stack: str) -> set[str]:
        crowds.append(stack)
        return {f"engine-{len(set(crowds))}"}

    rung = climb(StandInHeat(), expect_engines=3, engines=witness)["more than one engine"]
    assert rung.detail == "at work on 8 resources: engine-1, engine-2, engine-3"


def test_of_many_engines_not_every_one_has_to_be_seen_at_work() -> None:
    some = {f"engine-{number}" for number in range(12)}
    assert climb(StandInHeat(), expect_engines=200, engines=lambda _: some)["more than one engine"].outcome == "passed"


def test_the_chain_explains_what_is_wrong_with_outputs() -> None:
    right = {"secret": "s", "result": "w-s.left+w-s.right"}
    assert chain.explain(right, "w", secret="s") == ""
    assert "changed" in chain.explain(right, "w", secret="t")
    assert "'w-s.left+w-s.right'" in chain.explain(right, "v")
    assert "empty" in chain.explain({}, "w")


def test_causes_speak_of_the_service_that_was_asked() -> None:
    assert "heat-api-cfn" in causes.of_answer(0, "", service="heat-api-cfn")
    assert "load balancer" in causes.of_answer(503, "", service="heat-api")
    assert "journal" in causes.of_answer(500, "who knows", service="heat-api")
    elsewhere = causes.of_signal(0, where="http://192.0.2.1:8000", catalog="http://192.0.2.9:8000")
    assert "the catalog says http://192.0.2.9:8000" in elsewhere


def test_junit_counts_and_carries_the_reason() -> None:
    report = smoke.climb(StandInHeat(answers={SIGNAL: Answer(500, "")}), FakeClock())  # type: ignore[arg-type]
    suite = ET.fromstring(report.to_junit()).find("testsuite")  # noqa: S314 (our own)
    assert suite is not None
    assert (suite.get("name"), suite.get("failures"), suite.get("tests")) == ("smoke.test", "1", "12")
    failure = suite.find("testcase[@name='wait condition']/failure")
    assert failure is not None
    assert "HTTP 500" in str(failure.get("message"))
    assert "likely cause" in str(failure.text)


def test_junit_survives_what_xml_cannot_hold() -> None:
    case = Case("c", "n", 0.5, "skipped", "\x1b[31mred <&> \x00")
    found = ET.fromstring(document("s", [case])).find(".//skipped")  # noqa: S314 (our own)
    assert found is not None
    assert str(found.text).endswith("red <&> \ufffd")
