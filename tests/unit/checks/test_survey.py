"""The survey: one round trip a host, each answer once for every thread, and the clock read along the way."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from typing import Any

import pytest
from builders import LOCAL, R26, ScriptedRemote, environment, host, region, site

from pipeline.checks import questions
from pipeline.checks.expectation import Unexpected
from pipeline.checks.survey import Survey, revisions
from pipeline.edges.clock import FakeClock
from pipeline.edges.ssh import Result
from pipeline.environment import Environment, Role
from pipeline.errors import HostUnreachable
from pipeline.inventory import Host
from pipeline.site import Site

DIRECTORY = "/tmp/tmp.abc"


class Gathered(ScriptedRemote):
    """Hosts that answer a batch: every question with nothing but those in `says`, by a word of the question.

    What one host alone says is in `own`, by its name.

    Their clocks are `ahead`, and travelling there and back takes `travels` seconds, the last for ever.
    """

    def __init__(self, clock: FakeClock, ahead: float = 0.0, travels: tuple[float, ...] = (0.0,)) -> None:
        super().__init__()
        self.says: dict[str, Result] = {}
        self.own: defaultdict[str, dict[str, Result]] = defaultdict(dict)
        self._clock, self._ahead, self._travels = clock, ahead, list(travels)
        self.on(r"^ask 0 ", self._batch)
        self.on(r"^date ", lambda *_: self._now())

    def _now(self) -> str:
        travel = self._travels.pop(0) if len(self._travels) > 1 else self._travels[0]
        self._clock.sleep(travel / 2)
        now = f"{self._clock.now().timestamp() + self._ahead:.3f}"
        self._clock.sleep(travel / 2)
        return now

    def _batch(self, host: Host, script: str) -> str:
        says = {**self.own[host.name], **self.says}
        asked = re.split(r"^ask \d+ ", script, flags=re.MULTILINE)[1:]
        now, said = self._now(), []
        for number, question in enumerate(asked):
            found = next((result for word, result in says.items() if word in question), Result(0, "", ""))
            said += [
                f"==> {DIRECTORY}/{number}.{kind} <==\n{text}"
                for kind, text in (("err", found.stderr), ("out", found.stdout), ("status", f"{found.status}\n"))
            ]
        return f"{now} {now} {DIRECTORY}\n" + "\n".join(said)


def _surveyed(remote: ScriptedRemote, clock: FakeClock, of: Environment = LOCAL) -> Survey:
    here: Any = site(remote, of)
    return Survey(
        Site(here.environment, here.region, here.templates, remote, here.customer, clock, here.progress), R26, "heat-1"
    )


@pytest.mark.parametrize("role", Role)
def test_a_host_answers_all_that_its_checks_ask_in_one_round_trip(role: Role) -> None:
    clock = FakeClock()
    remote = Gathered(clock)
    remote.says["is-system-running"] = Result(1, "degraded\n", "")
    target = host(role)
    seen = _surveyed(remote, clock).host(target)
    assert seen.run(*questions.SYSTEM_STATE).stdout == "degraded\n"
    for question in questions.questions(target, site(remote), R26, "heat-1"):
        seen.run(*question)
    assert len(remote.ran) == 1


def test_no_question_holds_a_secret() -> None:
    clock = FakeClock()
    remote = Gathered(clock)
    survey = _surveyed(remote, clock)
    for one in region().inventory.hosts:
        survey.host(one)
    assert not [script for _, script in remote.ran if "s3cret" in script]


def test_the_clock_is_read_on_the_way() -> None:
    clock = FakeClock()
    survey = _surveyed(remote := Gathered(clock, ahead=3.0, travels=(0.4,)), clock)
    hosts = region().inventory.hosts
    for one in hosts:  # one after the other, for they share the clock
        survey.host(one)
    assert survey.clock_offsets() == {one.name: pytest.approx(3.0, abs=0.01) for one in hosts}
    assert len(remote.ran) == len(hosts)


def test_a_slow_answer_about_the_time_is_asked_again_and_the_quickest_counts() -> None:
    clock = FakeClock()
    remote = Gathered(clock, ahead=1.0, travels=(9.0, 2.0, 0.1))
    survey = _surveyed(remote, clock)
    survey.host(host(Role.DATABASE))
    assert len(remote.ran) == 3


def test_a_host_that_is_not_checked_is_asked_for_its_time_alone() -> None:
    clock = FakeClock()
    remote = Gathered(clock)
    survey = _surveyed(remote, clock)
    survey.begin([host(Role.ENGINE)], whole=False)
    survey.clock_offsets()
    assert [name for name, script in remote.ran if "ask 0" in script] == ["engine-0"]


def test_a_host_that_is_gone_has_no_clock_and_the_others_do() -> None:
    clock = FakeClock()
    remote = Gathered(clock)
    remote.on(r"^ask 0 |^date ", HostUnreachable("api-0 is gone"), host="api-0")
    survey = _surveyed(remote, clock)
    assert set(survey.clock_offsets()) == {one.name for one in region().inventory.hosts} - {"api-0"}
    with pytest.raises(HostUnreachable, match="api-0 is gone"):
        survey.host(host(Role.API))


def test_workers_are_counted_by_host() -> None:
    clock = FakeClock()
    remote = Gathered(clock)
    remote.says["report_interval"] = Result(0, "engine-0\nengine-0\nengine-1\n", "")
    assert _surveyed(remote, clock).live_workers() == {"engine-0": 2, "engine-1": 1}


def _broker_says(alarm: str) -> Result:
    definitions = {"users": [], "vhosts": [], "permissions": [], "policies": []}
    return Result(0, f"== definitions\n{json.dumps(definitions)}\n\n== queues\n[]\n\n== alarm\n{alarm}\n\n", "")


def test_each_member_of_a_broker_has_its_own_word_and_one_that_is_gone_is_silent_alone() -> None:
    clock, three = FakeClock(), environment(messaging=3)
    remote = Gathered(clock)
    remote.own["messaging-0"]["export_definitions"] = _broker_says("")
    remote.own["messaging-1"]["export_definitions"] = _broker_says("memory alarm")
    remote.on(r"^ask 0 ", HostUnreachable("messaging-2 is gone"), host="messaging-2")
    survey = _surveyed(remote, clock, three)
    whole, alarmed, gone = (host(Role.MESSAGING, index, three) for index in range(3))
    assert (survey.broker(whole).alarm, survey.broker(alarmed).alarm) == ("", "memory alarm")
    with pytest.raises(HostUnreachable, match="messaging-2 is gone"):
        survey.broker(gone)


def test_what_any_host_of_a_role_knows_is_asked_of_the_next_where_one_does_not_tell() -> None:
    clock, three = FakeClock(), environment(database=3)
    remote = Gathered(clock)
    remote.on(r"^ask 0 ", HostUnreachable("database-0 is gone"), host="database-0")
    remote.own["database-1"]["report_interval"] = Result(1, "", "WSREP has not yet prepared node")
    remote.own["database-2"]["report_interval"] = Result(0, "engine-0\n", "")
    assert _surveyed(remote, clock, three).live_workers() == {"engine-0": 1}


def test_where_no_host_of_a_role_tells_it_is_the_first_ones_error() -> None:
    clock, three = FakeClock(), environment(database=3)
    remote = Gathered(clock)
    remote.on(r"^ask 0 ", HostUnreachable("database-0 is gone"), host="database-0")
    remote.says["report_interval"] = Result(1, "", "WSREP has not yet prepared node")
    with pytest.raises(HostUnreachable, match="database-0 is gone"):
        _surveyed(remote, clock, three).live_workers()


def test_releases_on_disk_are_told_by_another_engine_where_the_first_is_gone() -> None:
    clock = FakeClock()
    remote = Gathered(clock)
    remote.on(r"^ask 0 ", HostUnreachable("engine-0 is gone"), host="engine-0")
    remote.on(r"^for manifest in", f"{R26.to_json()}\0", host="engine-1")
    assert _surveyed(remote, clock).releases() == (R26,)


def test_a_service_that_does_not_answer_is_no_empty_answer() -> None:
    clock = FakeClock()
    remote = Gathered(clock)
    remote.says["rabbitmqctl"] = Result(1, "", "nodedown")
    with pytest.raises(Unexpected, match="expected rabbitmqctl to answer; found nodedown"):
        _surveyed(remote, clock).broker(host(Role.MESSAGING))


def test_peers_that_do_not_answer_are_left_out_of_the_comparison() -> None:
    clock = FakeClock()
    remote = Gathered(clock)
    remote.says["sha256sum; "] = Result(0, "", "")
    remote.says["sed "] = Result(0, "abc  -\n", "")
    remote.on(r"^ask 0 ", HostUnreachable("engine-1 is gone"), host="engine-1")
    assert _surveyed(remote, clock).common_configuration(Role.ENGINE) == {"engine-0": "abc"}


def test_build_info_names_two_revisions() -> None:
    assert revisions('{"api": {"revision": "a"}, "engine": {"revision": "e"}}') == ("a", "e")


def test_anything_else_names_none() -> None:
    assert revisions("<html>503</html>") is None
    assert revisions('{"error": {}}') is None
    assert revisions("[]") is None
