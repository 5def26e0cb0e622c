"""The survey: what the broker exports becomes facts, and its password hashes do not."""

from __future__ import annotations

from typing import Any

from pipeline.checks.survey import broker_facts, revisions
from pipeline.edges.broker import Queue

HASH = "never-to-be-shown"
DEFINITIONS: dict[str, Any] = {
    "users": [{"name": "heat", "password_hash": HASH, "tags": []}],
    "vhosts": [{"name": "/"}, {"name": "heat-1"}],
    "permissions": [
        {"user": "heat", "vhost": "heat-1", "configure": ".*", "write": ".*", "read": ""},
        {"user": "heat", "vhost": "heat-0", "configure": ".*", "write": ".*", "read": ".*"},
    ],
    "policies": [
        {"name": "ttl", "vhost": "heat-1", "definition": {"message-ttl": 1000}},
        {"name": "elsewhere", "vhost": "/", "definition": {"message-ttl": 1000}},
        {"name": "harmless", "vhost": "heat-1", "definition": {"max-length": 5}},
    ],
}
QUEUES = [{"name": "engine", "messages_ready": 0, "consumers": 4}]


def test_only_what_concerns_the_vhost_counts() -> None:
    facts = broker_facts(DEFINITIONS, QUEUES, "\n", "heat-1")
    assert facts.vhosts == {"/", "heat-1"}
    assert facts.users == {"heat"}
    assert facts.permissions == ("configure '.*', write '.*', read ''",)
    assert facts.expiring == ("ttl",)
    assert facts.queues == {"engine": Queue("engine", 0, 4)}
    assert facts.alarm == ""


def test_password_hashes_are_left_out() -> None:
    assert HASH not in repr(broker_facts(DEFINITIONS, QUEUES, "", "heat-1"))


def test_an_alarm_is_one_line() -> None:
    assert broker_facts(DEFINITIONS, [], "Error:\n  alarm: disk\n", "heat-1").alarm == "Error: alarm: disk"


def test_build_info_names_two_revisions() -> None:
    assert revisions('{"api": {"revision": "a"}, "engine": {"revision": "e"}}') == ("a", "e")


def test_anything_else_names_none() -> None:
    assert revisions("<html>503</html>") is None
    assert revisions('{"error": {}}') is None
    assert revisions("[]") is None
