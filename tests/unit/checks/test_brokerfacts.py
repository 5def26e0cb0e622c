"""The broker: what it exports becomes facts, and its password hashes do not."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from pipeline.checks.brokerfacts import ask_broker, broker_facts, read_broker
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
        {"name": "short", "vhost": "heat-1", "definition": {"max-length": 5}},
        {"name": "harmless", "vhost": "heat-1", "definition": {"ha-mode": "all"}},
    ],
}
QUEUES = [{"name": "engine", "messages_ready": 0, "consumers": 4}]


def test_only_what_concerns_the_vhost_counts() -> None:
    facts = broker_facts(DEFINITIONS, QUEUES, "\n", "heat-1")
    assert facts.vhosts == {"/", "heat-1"}
    assert facts.users == {"heat"}
    assert facts.permissions == ("configure '.*', write '.*', read ''",)
    assert facts.expiring == ("ttl",)
    assert facts.dropping == ("short",)
    assert facts.queues == {"engine": Queue("engine", 0, 4)}
    assert facts.alarm == ""


def test_password_hashes_are_left_out() -> None:
    assert HASH not in repr(broker_facts(DEFINITIONS, QUEUES, "", "heat-1"))


def test_an_alarm_is_one_line() -> None:
    assert broker_facts(DEFINITIONS, [], "Error:\n  alarm: disk\n", "heat-1").alarm == "Error: alarm: disk"


def test_a_queue_of_engines_whose_messages_expire_counts_too_and_a_reply_queue_does_not() -> None:
    def queue(name: str, arguments: Any) -> dict[str, Any]:
        return {"name": name, "messages_ready": 0, "consumers": 1, "arguments": arguments}

    queues = [
        queue("engine", {"x-message-ttl": 5}),
        queue("engine_worker", [["x-message-ttl", "signedint", 5]]),
        queue("reply_1", {"x-message-ttl": 5}),
        queue("engine.host", {"x-expires": 5}),
    ]
    facts = broker_facts({**DEFINITIONS, "policies": []}, queues, "", "heat-1")
    assert facts.expiring == ("queue engine", "queue engine_worker")


def test_operators_policies_count_as_others_do() -> None:
    policy = {"component": "operator_policy", "vhost": "heat-1", "name": "cap", "value": {"definition": {"expires": 1}}}
    facts = broker_facts({**DEFINITIONS, "policies": [], "parameters": [policy]}, [], "", "heat-1")
    assert facts.dropping == ("operator policy cap",)


def test_what_the_script_prints_is_read() -> None:
    said = f"== definitions\n{json.dumps(DEFINITIONS)}\n\n== queues\n[]\n\n== alarm\nmemory\n\n"
    facts = read_broker(said, "heat-1")
    assert (facts.vhosts, facts.alarm) == ({"/", "heat-1"}, "memory")


def _asked(tools: Path, rabbitmqctl: str) -> subprocess.CompletedProcess[str]:
    """Ask a broker whose commands are these scripts."""
    for name, body in {"rabbitmqctl": rabbitmqctl, "rabbitmq-diagnostics": "exit 0"}.items():
        (tools / name).write_text(f"#!/bin/sh\n{body}\n")
        (tools / name).chmod(0o755)
    path = f"{tools}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path}
    return subprocess.run(["sh", "-s"], input=ask_broker("heat-1"), capture_output=True, text=True, env=environment)


def test_a_broker_that_cannot_tell_queues_arguments_is_asked_without(tmp_path: Path) -> None:
    says = f"""\
case "$*" in
    *export_definitions*) echo '{json.dumps(DEFINITIONS)}' ;;
    *arguments*) echo '[{{'; exit 70 ;;
    *) echo '{json.dumps(QUEUES)}' ;;
esac"""
    facts = read_broker(_asked(tmp_path, says).stdout, "heat-1")
    assert (facts.queues, facts.alarm) == ({"engine": Queue("engine", 0, 4)}, "")


def test_a_broker_that_is_down_says_why(tmp_path: Path) -> None:
    done = _asked(tmp_path, "echo nodedown >&2; exit 69")
    assert (done.returncode, done.stderr) == (1, "nodedown\n")
