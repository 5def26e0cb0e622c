"""Checks one by one, against hosts that give canned answers: each turns red for its own reason."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from builders import R25, R26

from pipeline.checks import check_database, check_heat, check_loadbalancer, check_messaging
from pipeline.checks.brokerfacts import BrokerFacts
from pipeline.checks.expectation import Unexpected
from pipeline.edges.balancer import Server
from pipeline.edges.broker import Queue
from pipeline.environment import Role
from pipeline.inventory import Host
from pipeline.release import Release

APIS = (Host("api-0", Role.API, "198.18.1.5", ()), Host("api-1", Role.API, "198.18.1.6", ()))
ENGINES = (Host("engine-0", Role.ENGINE, "198.18.1.7", ()), Host("engine-1", Role.ENGINE, "198.18.1.8", ()))
RELEASE: Any = SimpleNamespace(id="26.0.2-abc")


class Answers:
    """A testinfra host that answers every command with one text."""

    def __init__(self, text: str, rc: int = 0) -> None:
        self._result = SimpleNamespace(rc=rc, stdout=text, stderr="")

    def run(self, command: str, *args: str) -> Any:
        return self._result


def _site() -> Any:
    inventory = SimpleNamespace(of=lambda role: APIS if role is Role.API else ENGINES)
    heat = SimpleNamespace(engine_workers=2)
    return SimpleNamespace(region=SimpleNamespace(inventory=inventory), environment=SimpleNamespace(heat=heat))


def _broker(**facts: Any) -> Any:
    queues = {name: Queue(name, 0, 4) for name in ("engine", "engine_worker")}
    every = "configure '.*', write '.*', read '.*'"
    well: dict[str, Any] = {
        "vhosts": frozenset({"/", "heat-1"}),
        "users": frozenset({"heat"}),
        "permissions": (every,),
        "queues": queues,
        "expiring": (),
        "dropping": (),
        "alarm": "",
    }
    return SimpleNamespace(broker=lambda: BrokerFacts(**{**well, **facts}))


def _servers(*statuses: str) -> Any:
    names = [(backend, api.name) for backend in ("heat-api", "heat-api-cfn") for api in APIS]
    found = tuple(Server(backend, api, status, 0) for (backend, api), status in zip(names, statuses, strict=False))
    return SimpleNamespace(servers=lambda: found)


def _schema(found: str, *on_disk: Release) -> None:
    survey: Any = SimpleNamespace(releases=lambda: on_disk)
    check_database.check_schema_is_the_releases(Answers(f"{found}\n"), R25, survey)


def test_a_schema_of_another_release_is_named() -> None:
    _schema(R25.alembic_head, R25)
    with pytest.raises(Unexpected, match=f"expected schema {R25.alembic_head}; found older"):
        _schema("older", R25, R26)


def test_after_a_rollback_the_schema_of_the_newer_release_is_right_as_long_as_that_is_on_disk() -> None:
    _schema(R26.alembic_head, R25, R26)
    with pytest.raises(Unexpected, match="no longer on any host's disk"):
        _schema(R26.alembic_head, R25)


def test_rights_beyond_the_own_database_are_named() -> None:
    check_database.check_user_heat_sees_only_its_database(Answers("database heat\n"))
    with pytest.raises(Unexpected, match="found database heat, database mysql"):
        check_database.check_user_heat_sees_only_its_database(Answers("database heat\ndatabase mysql\n"))


def test_another_account_from_outside_is_named() -> None:
    check_database.check_no_one_else_logs_in_from_outside(Answers("heat@%\n"))
    with pytest.raises(Unexpected, match="found eve@%, heat@%"):
        check_database.check_no_one_else_logs_in_from_outside(Answers("eve@%\nheat@%\n"))


def test_a_database_that_does_not_answer_is_no_success() -> None:
    with pytest.raises(Unexpected, match="expected mariadb to answer"):
        check_database.check_no_one_else_logs_in_from_outside(Answers("", rc=1))


def test_a_broker_in_order_passes() -> None:
    survey = _broker()
    check_messaging.check_vhost_is_there(survey, "heat-1")
    check_messaging.check_user_heat_may_use_the_vhost(survey, "heat-1")
    check_messaging.check_no_user_but_heat(survey)
    check_messaging.check_every_worker_consumes(survey, _site())
    check_messaging.check_no_message_expires(survey)
    check_messaging.check_no_policy_drops_messages(survey)
    check_messaging.check_no_alarm(survey)


def test_a_vhost_that_is_gone_is_missed() -> None:
    with pytest.raises(Unexpected, match="expected vhost heat-2; found /, heat-1"):
        check_messaging.check_vhost_is_there(_broker(), "heat-2")


def test_a_worker_that_does_not_listen_is_missed() -> None:
    queues = {"engine": Queue("engine", 0, 4), "engine_worker": Queue("engine_worker", 0, 2)}
    with pytest.raises(Unexpected, match=r"expected 4 consumers .* found engine 4, engine_worker 2"):
        check_messaging.check_every_worker_consumes(_broker(queues=queues), _site())


def test_a_queue_that_is_gone_has_no_consumers() -> None:
    with pytest.raises(Unexpected, match="found engine 0, engine_worker 0"):
        check_messaging.check_every_worker_consumes(_broker(queues={}), _site())


def test_an_alarm_is_told() -> None:
    with pytest.raises(Unexpected, match="found memory alarm"):
        check_messaging.check_no_alarm(_broker(alarm="memory alarm"))


@pytest.mark.parametrize("status", ["UP", "UP 2/3"])
def test_every_server_up_passes_also_one_that_missed_a_health_check(status: str) -> None:
    check_loadbalancer.check_every_backend_is_up(_servers("UP", "UP", status, "UP"), _site())


@pytest.mark.parametrize(
    ("status", "cause"), [("DRAIN", "interrupted"), ("MAINT", "by hand"), ("DOWN 1/2", "/healthcheck fails")]
)
def test_a_server_out_of_rotation_is_named_with_its_cause(status: str, cause: str) -> None:
    with pytest.raises(Unexpected, match=f"found heat-api-cfn/api-0 {status}\nlikely: .*{cause}"):
        check_loadbalancer.check_every_backend_is_up(_servers("UP", "UP", status, "UP"), _site())


def test_a_server_that_is_absent_is_named() -> None:
    with pytest.raises(Unexpected, match="found heat-api-cfn/api-1 absent"):
        check_loadbalancer.check_every_backend_is_up(_servers("UP", "UP", "UP"), _site())


def test_a_link_to_another_release_is_named() -> None:
    check_heat.check_current_names_the_release(Answers("26.0.2-abc\n"), RELEASE)
    with pytest.raises(Unexpected, match=r"-> 26\.0\.2-abc; found 25\.0\.2-def"):
        check_heat.check_current_names_the_release(Answers("25.0.2-def\n"), RELEASE)


@pytest.mark.parametrize(
    ("digests", "reds"),
    [
        ({"engine-0": "a", "engine-1": "a"}, []),
        ({"engine-0": "a", "engine-1": "b"}, ["engine-0", "engine-1"]),  # who is right cannot be told
        ({"engine-0": "a", "engine-1": "b", "engine-2": "a"}, ["engine-1"]),
        ({"engine-1": "a"}, ["engine-0"]),  # it gave no answer
    ],
)
def test_whoever_is_not_like_the_majority_is_red(digests: dict[str, str], reds: list[str]) -> None:
    survey: Any = SimpleNamespace(common_configuration=lambda role: digests)
    found = []
    for target in ENGINES if len(digests) < 3 else (*ENGINES, Host("engine-2", Role.ENGINE, "198.18.1.9", ())):
        try:
            check_heat.check_configured_like_its_peers(target, survey)
        except Unexpected:
            found.append(target.name)
    assert found == reds
