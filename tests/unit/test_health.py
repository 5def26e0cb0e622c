"""Health: when a moved host counts as healthy, and that a flap starts the time again."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from builders import LOCAL, R25, R26, TOKEN, Machines, ScriptedRemote, host

from pipeline.edges.heat import HeatRefused
from pipeline.edges.ssh import Result
from pipeline.environment import Role
from pipeline.errors import CommandFailed, HostKeyRefused, HostUnreachable, Inconclusive, PipelineError
from pipeline.health import (
    Unhealthy,
    Workers,
    api_answers,
    engine_answers,
    engine_is_up,
    live_engines,
    stays_healthy,
    workers_of,
)
from pipeline.site import Site

ENGINE, API = host(Role.ENGINE), host(Role.API)
POLICY = LOCAL.policies.health
ID = "00000000-0000-0000-0000-0000000000{:02}"


def _rows(*live: str) -> str:
    return "".join(f"{ID.format(number)}\tengine-0\t{flag}\n" for number, flag in enumerate(live, 1))


# --- engines


def test_the_workers_of_a_host_are_its_rows_that_are_not_deleted(remote: ScriptedRemote, here: Site) -> None:
    remote.on("FROM heat.service", _rows("1", "0", "1") + f"{ID.format(9)}\tengine-1\t1\n")
    assert live_engines(here, ENGINE) == {ID.format(1), ID.format(3)}


def test_an_engine_is_up_when_all_its_workers_are_new_and_its_unit_runs(machines: Machines, here: Site) -> None:
    assert engine_is_up(here, ENGINE, frozenset())
    assert not engine_is_up(here, ENGINE, live_engines(here, ENGINE))
    machines.running["engine-0"] = False
    assert not engine_is_up(here, ENGINE, frozenset())


def test_an_engine_with_a_worker_missing_is_not_up(remote: ScriptedRemote, here: Site) -> None:
    remote.on("FROM heat.service", _rows(*["1"] * (LOCAL.heat.engine_workers - 1)))
    assert not engine_is_up(here, ENGINE, frozenset())


def test_workers_that_run_registered_last_and_the_others_were_killed(remote: ScriptedRemote, here: Site) -> None:
    workers = LOCAL.heat.engine_workers
    remote.on("^children=", f"{workers}\n")
    elsewhere = f"{ID.format(90)}\tengine-1\t1\n"
    remote.on("FROM heat.service", _rows("0", *["1"] * (2 * workers)) + elsewhere)
    found = workers_of(here, ENGINE)
    assert found.killed == tuple(ID.format(2 + number) for number in range(workers))
    assert found.running == tuple(ID.format(2 + workers + number) for number in range(workers))


def test_an_engine_that_was_never_killed_has_no_killed_workers(machines: Machines, here: Site) -> None:
    assert workers_of(here, ENGINE) == Workers(tuple(machines.rows["engine-0"]), ())


@pytest.mark.parametrize("running", [0, 1, 3, 5])
def test_an_engine_has_as_many_workers_as_run_whatever_its_settings_say_by_now(
    remote: ScriptedRemote, here: Site, running: int
) -> None:
    remote.on("^children=", f"{running}\n")
    remote.on("FROM heat.service", _rows("1", "1", "1", "1"))
    rows = [ID.format(number) for number in range(1, 5)]
    assert workers_of(here, ENGINE) == Workers(tuple(rows[max(0, 4 - running) :]), tuple(rows[: max(0, 4 - running)]))


def test_a_host_without_rows_has_no_workers(remote: ScriptedRemote, here: Site) -> None:
    remote.on("^children=", f"{LOCAL.heat.engine_workers}\n")
    remote.on("FROM heat.service", "")
    assert workers_of(here, ENGINE) == Workers((), ())


def test_rows_that_a_killed_engine_left_do_not_make_the_next_one_up(remote: ScriptedRemote, here: Site) -> None:
    workers = LOCAL.heat.engine_workers
    remote.on("is-active", "")
    remote.on("FROM heat.service", _rows(*["1"] * workers), _rows(*["1"] * (2 * workers)))
    before = live_engines(here, ENGINE)
    assert len(before) == workers
    assert engine_is_up(here, ENGINE, before)


def test_an_engine_answers_with_its_release_as_its_revision(machines: Machines, here: Site) -> None:
    assert engine_answers(here, ENGINE, R25.id)
    assert not engine_answers(here, ENGINE, R26.id)


def test_every_worker_that_runs_is_asked(machines: Machines, remote: ScriptedRemote, here: Site) -> None:
    engine_answers(here, ENGINE, R25.id)
    (script,) = remote.scripts("LISTENER_TOPIC")
    assert all(worker in script.partition("<<")[0] for worker in machines.rows["engine-0"])


def test_an_engine_that_is_up_and_talks_to_nobody_does_not_answer(machines: Machines, here: Site) -> None:
    machines.deaf.add(R25.id)
    assert engine_is_up(here, ENGINE, frozenset())
    assert not engine_answers(here, ENGINE, R25.id)


# --- APIs


def test_an_api_answers_when_an_engine_of_a_known_revision_answers_through_it(machines: Machines, here: Site) -> None:
    assert api_answers(here, API, frozenset({R25.id}))
    assert not api_answers(here, API, frozenset({R26.id}))


def test_an_api_that_is_down_does_not_answer(machines: Machines, here: Site) -> None:
    machines.running["api-0"] = False
    assert not api_answers(here, API, frozenset({R25.id}))


def test_every_unit_of_an_api_must_run(remote: ScriptedRemote, here: Site) -> None:
    remote.on("build_info", '{"engine": {"revision": "r"}}')
    remote.on("is-active", Result(3, "", ""))
    assert not api_answers(here, API, frozenset({"r"}))
    (script,) = remote.scripts("is-active")
    assert script == "systemctl is-active --quiet heat-api && systemctl is-active --quiet heat-api-cfn"


@pytest.mark.parametrize(
    "answer", ["<html><h1>It works!</h1></html>", "", "[]", "null", '"up"', "{}", '{"engine": null}', '{"engine": {}}']
)
def test_an_answer_that_is_not_heats_is_not_healthy(remote: ScriptedRemote, here: Site, answer: str) -> None:
    remote.on("is-active")
    remote.on("build_info", answer)
    assert not api_answers(here, API, frozenset({R25.id}))


def test_the_question_carries_the_customers_token_and_project(
    machines: Machines, remote: ScriptedRemote, here: Site
) -> None:
    api_answers(here, API, frozenset({R25.id}))
    (script,) = remote.scripts("build_info")
    token, project = here.customer.credentials()
    assert f"/v1/{project}/build_info" in script
    assert f"X-Auth-Token: {token}" in script


def test_an_api_is_asked_itself_and_not_the_load_balancer(
    machines: Machines, remote: ScriptedRemote, here: Site
) -> None:
    api_answers(here, API, frozenset({R25.id}))
    ((name, script),) = [ran for ran in remote.ran if "build_info" in ran[1]]
    assert name == "api-0"
    for port in (LOCAL.heat.api_port, LOCAL.heat.cfn_port):
        assert f"http://{API.address}:{port}/healthcheck" in script
    assert not [line for line in script.splitlines() if line.startswith("curl") and TOKEN in line]


# --- for how long

Seen = bool | Exception
GONE = HostUnreachable("engine-0 does not answer")


def _look(here: Site, *seen: Seen, seconds: float | None = None) -> int:
    """Return how many looks it took, where one finds what `seen` says, and the last of it for ever."""
    looks: Iterator[Seen] = iter(seen)
    count = 0

    def healthy() -> bool:
        nonlocal count
        count += 1
        found = next(looks, seen[-1])
        if isinstance(found, Exception):
            raise found
        return found

    stays_healthy(here, ENGINE, healthy, seconds=seconds)
    return count


def test_a_host_must_be_healthy_for_the_whole_time(here: Site) -> None:
    looks = _look(here, True)
    assert here.clock.monotonic() == POLICY.min_healthy_time
    assert looks == POLICY.min_healthy_time / POLICY.interval + 1


def test_a_failed_look_starts_the_time_again(here: Site) -> None:
    _look(here, True, True, True, False, True)
    assert here.clock.monotonic() == 4 * POLICY.interval + POLICY.min_healthy_time


def test_a_host_that_flaps_for_ever_is_told_at_the_deadline(here: Site) -> None:
    with pytest.raises(Inconclusive, match="engine-0 was not healthy for 3 s on end within 120 s: it comes") as caught:
        _look(here, *[True, True, False] * 1000)
    assert caught.value.exit_code == 11
    assert here.clock.monotonic() == pytest.approx(POLICY.healthy_deadline, abs=POLICY.interval)


def test_a_host_that_was_never_healthy_is_told_at_the_deadline_as_unhealthy(here: Site) -> None:
    with pytest.raises(Unhealthy, match="engine-0 was not healthy for 3 s on end within 120 s") as caught:
        _look(here, False)
    assert "comes and goes" not in caught.value.message
    assert caught.value.exit_code == 7
    assert caught.value.hint.endswith("inv local.ssh engine-0")
    assert here.clock.monotonic() == pytest.approx(POLICY.healthy_deadline, abs=POLICY.interval)


def test_a_host_that_was_healthy_for_a_moment_and_never_again_is_unhealthy(here: Site) -> None:
    with pytest.raises(Unhealthy):
        _look(here, True, True, False)


def test_a_host_that_gets_healthy_at_the_last_moment_is(here: Site) -> None:
    needed = int(POLICY.min_healthy_time / POLICY.interval)
    late = int(POLICY.healthy_deadline / POLICY.interval) - needed
    assert _look(here, *[False] * late, True) == late + needed + 1


def test_a_soak_has_its_own_time_on_top_of_the_deadline(here: Site) -> None:
    _look(here, True, seconds=600)
    assert here.clock.monotonic() == 600
    with pytest.raises(Unhealthy, match="for 600 s on end within 720 s"):
        _look(here, False, seconds=600)


# --- checks that could not be made


def test_some_checks_that_could_not_be_made_do_no_harm(here: Site) -> None:
    few = [GONE] * (POLICY.consecutive_errors - 1)
    _look(here, *few, False, *few, True)
    assert here.clock.monotonic() == (2 * len(few) + 1) * POLICY.interval + POLICY.min_healthy_time


@pytest.mark.parametrize(
    "error", [GONE, CommandFailed("database-0: server has gone away", status=1), PipelineError("no")], ids=str
)
def test_so_many_in_a_row_end_the_wait_for_nobody_can_tell(here: Site, error: PipelineError) -> None:
    said = f"asked, {POLICY.consecutive_errors} times in a row: {error.message}"
    with pytest.raises(Inconclusive, match=said) as caught:
        _look(here, error)
    assert caught.value.__cause__ is error
    assert here.clock.monotonic() == (POLICY.consecutive_errors - 1) * POLICY.interval


def test_so_many_in_a_row_end_a_wait_that_was_going_well_too(here: Site) -> None:
    with pytest.raises(Inconclusive, match=f"{POLICY.consecutive_errors} times in a row"):
        _look(here, True, True, GONE)


def test_a_host_with_another_key_is_not_asked_again(here: Site) -> None:
    with pytest.raises(HostKeyRefused):
        _look(here, HostKeyRefused("engine-0 shows another key"))
    assert here.clock.monotonic() == 0


def test_an_error_of_our_own_passes(here: Site) -> None:
    with pytest.raises(ZeroDivisionError):
        _look(here, ZeroDivisionError())


def test_a_host_that_nobody_could_ask_until_the_deadline_is_not_called_unhealthy(here: Site) -> None:
    def slow() -> bool:
        here.clock.sleep(POLICY.healthy_deadline / 2)
        raise GONE

    with pytest.raises(Inconclusive):
        stays_healthy(here, ENGINE, slow)


def test_an_api_whose_customer_gets_no_token_could_not_be_asked(machines: Machines, here: Site) -> None:
    def refused() -> tuple[str, str]:
        raise HeatRefused("asking Keystone for a token: no answer")

    here.customer.credentials = refused  # type: ignore[method-assign]
    with pytest.raises(Inconclusive, match="could not be asked"):
        stays_healthy(here, API, lambda: api_answers(here, API, frozenset({R25.id})))
