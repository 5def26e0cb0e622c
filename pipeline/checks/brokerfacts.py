"""What the broker says of itself: names, what user heat may do, its queues, and policies that would eat messages."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.edges.broker import Queue

__all__ = ["BrokerFacts", "ask_broker", "broker_facts", "read_broker"]

_TTL = "message-ttl"
_LIMITS = ("max-length", "max-length-bytes", "expires")


@dataclass(frozen=True, slots=True)
class BrokerFacts:
    """What the broker says of itself, as far as it concerns one vhost.

    `expiring` are policies and engines' queues by which messages expire, `dropping` policies that drop messages or
    queues for another reason, `single` engines' queues that one member of a cluster keeps alone.
    """

    vhosts: frozenset[str]
    users: frozenset[str]
    permissions: tuple[str, ...]
    queues: Mapping[str, Queue]
    expiring: tuple[str, ...]
    dropping: tuple[str, ...]
    alarm: str
    single: tuple[str, ...] = ()


def ask_broker(vhost: str) -> str:
    """Return the script whose answer `read_broker` reads.

    Each of RabbitMQ's commands starts a runtime of its own for a second: they start together. One that cannot put
    queues' arguments into JSON is asked without them.
    """
    queues = shlex.join(["rabbitmqctl", "-q", "--formatter", "json", "list_queues", "-p", vhost])
    return f"""\
set -u
umask 077
answers=$(mktemp -d)
trap 'rm -rf "$answers"' EXIT
rabbitmqctl -q export_definitions - >"$answers/definitions" 2>"$answers/why" &
definitions=$!
list_queues() {{ {queues} name messages_ready consumers type "$@" >"$answers/queues" 2>/dev/null; }}
{{ list_queues arguments || list_queues || echo '[]' >"$answers/queues"; }} &
rabbitmq-diagnostics -q check_local_alarms >"$answers/alarm" 2>&1 && : >"$answers/alarm" &
exported=yes
wait "$definitions" || exported=no
wait
[ "$exported" = yes ] || {{ tail -n 3 "$answers/why" >&2; exit 1; }}
for name in definitions queues alarm; do
    printf '== %s\\n' "$name"
    cat "$answers/$name"
    echo
done"""


def read_broker(answer: str, vhost: str) -> BrokerFacts:
    """Return what the answer to `ask_broker` says. Raises KeyError and ValueError for another text."""
    parts = dict(re.findall(r"^== (\w+)\n(.*?)(?=^== |\Z)", answer, flags=re.MULTILINE | re.DOTALL))
    return broker_facts(json.loads(parts["definitions"]), json.loads(parts["queues"]), parts["alarm"], vhost)


def broker_facts(definitions: Any, queues: Any, alarm: str, vhost: str) -> BrokerFacts:
    """Return what `rabbitmqctl export_definitions` and `list_queues` tell of `vhost`; password hashes are left out."""
    permissions = [
        f"configure {one['configure']!r}, write {one['write']!r}, read {one['read']!r}"
        for one in definitions["permissions"]
        if (one["user"], one["vhost"]) == ("heat", vhost)
    ]
    policies = dict(_policies(definitions, vhost))
    own = {one["name"]: Queue(one["name"], one["messages_ready"], one["consumers"]) for one in queues}
    mortal = [one["name"] for one in queues if f"x-{_TTL}" in json.dumps(one.get("arguments", ()))]
    return BrokerFacts(
        vhosts=frozenset(one["name"] for one in definitions["vhosts"]),
        users=frozenset(user["name"] for user in definitions["users"]),
        permissions=tuple(permissions),
        queues=own,
        expiring=(
            *(name for name, keys in policies.items() if _TTL in keys),
            *(f"queue {name}" for name in mortal if own[name].of_engines),
        ),
        dropping=tuple(name for name, keys in policies.items() if keys.intersection(_LIMITS)),
        alarm=" ".join(alarm.split()),
        single=tuple(one["name"] for one in queues if own[one["name"]].of_engines and one.get("type") != "quorum"),
    )


def _policies(definitions: Any, vhost: str) -> Iterator[tuple[str, frozenset[str]]]:
    """Yield (name, what it defines) of each policy on `vhost`, operators' policies too."""
    for policy in definitions["policies"]:
        if policy["vhost"] == vhost:
            yield policy["name"], frozenset(policy["definition"])
    for parameter in definitions.get("parameters", ()):
        if (parameter.get("component"), parameter.get("vhost")) == ("operator_policy", vhost):
            yield f"operator policy {parameter['name']}", frozenset(parameter["value"].get("definition", ()))
