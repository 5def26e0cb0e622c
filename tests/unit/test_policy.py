"""The policy of a rollout: what an environment's file may say of it, and what those that are shipped do say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from builders import LOCAL, with_policy
from pydantic import ValidationError

from pipeline.environment import list_environments, load
from pipeline.policy import AutoRevert, Backup, Order, Policy

SHIPPED = Path(__file__).parents[2] / "environments"


def _policy(**changes: Any) -> Policy:
    return with_policy(**changes).policies


@pytest.mark.parametrize("name", list_environments(SHIPPED))
def test_every_shipped_policy_can_be_kept_to(name: str) -> None:
    found = load(name, SHIPPED)
    policy = found.policies
    assert policy.health.min_healthy_time < policy.health.healthy_deadline
    assert policy.health.interval <= policy.health.min_healthy_time
    assert policy.drain.timeout < policy.progress_deadline, "a drain alone would end the run"
    assert policy.drain.timeout < found.heat.graceful_shutdown_timeout, "an engine would be cut off"


def test_the_shipped_policy_moves_one_host_first_and_one_at_a_time() -> None:
    for name in list_environments(SHIPPED):
        policy = load(name, SHIPPED).policies
        assert (policy.serial[0], policy.max_unavailable, policy.max_fail) == (1, 1, 0)
        assert policy.auto_revert is AutoRevert.BATCH
        assert policy.database.backup is Backup.REQUIRED


def test_production_asks_a_person_before_it_goes_on_from_the_canary() -> None:
    canary = load("production-east", SHIPPED).policies.canary
    assert (canary.soak, canary.auto_promote) == (600, False)


def test_a_policy_is_read_as_people_write_it() -> None:
    policy = _policy(
        serial=[1, "25%", "100%"],
        max_unavailable="50%",
        order="reverse_sorted",
        health={"interval": "5s", "min_healthy_time": "30s", "healthy_deadline": "5m", "consecutive_errors": 4},
        drain={"timeout": "10m"},
        batch_wait="30s",
        canary={"soak": "10m", "auto_promote": False},
        progress_deadline="30m",
        auto_revert="all",
        database={"backup": "skip"},
    )
    assert policy.serial == (1, "25%", "100%")
    assert (policy.health.min_healthy_time, policy.drain.timeout, policy.canary.soak) == (30, 600, 600)
    assert (policy.order, policy.auto_revert) == (Order.REVERSE_SORTED, AutoRevert.ALL)
    assert policy.database.backup is Backup.SKIP
    assert policy.drain.poll == LOCAL.policies.drain.poll  # what is not said stays


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"serial": []}, "serial"),
        ({"serial": [0]}, "serial.0"),
        ({"serial": [1, "150%"]}, "serial.1"),
        ({"serial": "100%"}, "serial"),
        ({"max_unavailable": "0%"}, "max_unavailable"),
        ({"max_fail": -1}, "max_fail"),
        ({"order": "random"}, "order"),
        ({"auto_revert": "some"}, "auto_revert"),
        ({"batch_wait": "a while"}, "batch_wait"),
        ({"progress_deadline": -1}, "progress_deadline"),
        ({"database": {"backup": "maybe"}}, "database.backup"),
        ({"drain": {"idle_polls": 0}}, "drain.idle_polls"),
        ({"health": {"consecutive_errors": 0}}, "health.consecutive_errors"),
        ({"canary": {"auto_promote": "perhaps"}}, "canary.auto_promote"),
        ({"canary": {"colour": "yellow"}}, "canary.colour"),
        ({"colour": "blue"}, "colour"),
    ],
)
def test_a_policy_that_nobody_could_keep_to_is_refused(change: dict[str, Any], key: str) -> None:
    with pytest.raises(ValidationError) as caught:
        _policy(**change)
    first = caught.value.errors()[0]["loc"]
    assert ".".join(map(str, first)).startswith(key)


def test_a_policy_by_which_no_host_could_ever_be_healthy_is_refused() -> None:
    with pytest.raises(ValidationError):
        _policy(health={"min_healthy_time": "10m", "healthy_deadline": "5m"})


def test_a_policy_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        LOCAL.policies.max_fail = 9  # type: ignore[misc]
