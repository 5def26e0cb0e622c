"""RabbitMQ, asked over SSH on its own host through rabbitmqctl."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from typing import Any

from pipeline.edges.members import Members
from pipeline.edges.ssh import Remote
from pipeline.errors import CommandFailed, Unanswered
from pipeline.inventory import Host
from pipeline.secrets import Secret

__all__ = ["Broker", "Queue"]

USER = "heat"
_CTL = ("rabbitmqctl", "-q", "--formatter", "json")


@dataclass(frozen=True, slots=True)
class Queue:
    """One queue: messages nobody took yet, and how many consumers it has."""

    name: str
    ready: int
    consumers: int

    @property
    def of_engines(self) -> bool:
        """Whether engines work from it: `engine`, `engine_worker` and their .host and .engine_id variants.

        One of a single host or worker that nobody consumes is an ended engine's: what is in it, nobody ever takes.
        """
        topic, _, one = self.name.partition(".")
        return topic in ("engine", "engine_worker") and (not one or self.consumers > 0)


class Broker:
    """The broker on `members`. Whatever is asked of it raises Unanswered, or HostUnreachable, where none answers."""

    def __init__(self, remote: Remote, members: Members) -> None:
        self._remote = remote
        self._members = members

    def create_user(self, password: Secret) -> None:
        """Make user `heat` with this password, and remove `guest`; harmless where that is so."""
        # rabbitmqctl reads a password that is not among its arguments from standard input.
        secret = shlex.quote(password.reveal())
        self._run(
            f"""\
set -eu
known=$(rabbitmqctl -q list_users --formatter json)
case "$known" in
    *'"user":"{USER}"'*) printf '%s\\n' {secret} | rabbitmqctl -q change_password {USER} ;;
    *) printf '%s\\n' {secret} | rabbitmqctl -q add_user {USER} ;;
esac
case "$known" in *'"user":"guest"'*) rabbitmqctl -q delete_user guest ;; esac""",
        )

    def vhosts(self) -> tuple[str, ...]:
        """Return the names of the vhosts, sorted, without "/"."""
        answer = self._ctl("list_vhosts", "name")
        return tuple(sorted(vhost["name"] for vhost in answer if vhost["name"] != "/"))

    def create_vhost(self, name: str) -> None:
        """Make vhost `name` and let user `heat` do everything in it; harmless where that is so."""
        quoted = shlex.quote(name)
        self._run(
            "set -eu\n"
            f"rabbitmqctl -q add_vhost {quoted} 2>/dev/null || rabbitmqctl -q list_vhosts | grep -Fqx -- {quoted}\n"
            f"rabbitmqctl -q set_permissions -p {quoted} {USER} '.*' '.*' '.*'",
        )

    def delete_vhost(self, name: str) -> None:
        """Remove vhost `name` and all its queues; harmless where it is gone."""
        quoted = shlex.quote(name)
        self._run(
            "set -eu\n"
            "known=$(rabbitmqctl -q list_vhosts)\n"
            f"printf '%s\\n' \"$known\" | grep -Fqx -- {quoted} || exit 0\n"
            f"rabbitmqctl -q delete_vhost {quoted}"
        )

    def queues(self, vhost: str) -> tuple[Queue, ...]:
        """Return the queues of `vhost`."""
        answer = self._ctl("list_queues", "-p", vhost, "name", "messages_ready", "consumers")
        return tuple(Queue(queue["name"], queue["messages_ready"], queue["consumers"]) for queue in answer)

    def taken(self, address: str) -> frozenset[str]:
        """Return the connections (pids of the broker) from `address` that have taken a message and not acknowledged it.

        oslo.messaging acknowledges an RPC before it works on it, so this is short, unless nobody reads there any more.
        """
        # Printed as text, a pid can be given back to close_connection; in JSON it is the tool's own name for it.
        script = f"""\
set -eu
answers=$(mktemp -d)
trap 'rm -rf "$answers"' EXIT
rabbitmqctl -q --no-table-headers list_channels connection messages_unacknowledged >"$answers/channels" &
rabbitmqctl -q --no-table-headers list_connections pid peer_host >"$answers/connections"
wait $!
awk -v address={shlex.quote(address)} '
    NR == FNR {{ if ($2 == address) theirs[$1]; next }}
    $1 in theirs && $2 > 0 {{ print $1 }}
' "$answers/connections" "$answers/channels\""""
        return frozenset(self._run(script).split())

    def close(self, connections: frozenset[str]) -> None:
        """Close connections: what they have taken and not acknowledged goes back to its queue, for others."""
        closes = (shlex.join(["rabbitmqctl", "-q", "close_connection", pid, "drained"]) for pid in sorted(connections))
        # One that has ended meanwhile is no error: its messages are back.
        self._run("\n".join(f"{close} || true" for close in closes))

    def expiring(self, vhost: str) -> tuple[str, ...]:
        """Return the names of policies on `vhost` that let messages of engines expire."""
        answer = self._ctl("list_policies", "-p", vhost)
        return tuple(policy["name"] for policy in answer if "message-ttl" in policy["definition"])

    def _ctl(self, *arguments: str) -> list[dict[str, Any]]:
        def ask(host: Host) -> list[dict[str, Any]]:
            answer = self._told(host, shlex.join([*_CTL, *arguments]))
            try:
                found: list[dict[str, Any]] = json.loads(answer)
            except ValueError as error:  # a broker that is starting may answer with words
                raise _unanswered(host, answer.strip() or "nothing") from error
            return found

        return self._members.ask(ask)

    def _run(self, script: str) -> str:
        return self._members.ask(lambda host: self._told(host, script))

    def _told(self, host: Host, script: str) -> str:
        try:
            return self._remote.run(host, script, timeout=60).stdout
        except CommandFailed as error:
            raise _unanswered(host, error.message) from error


def _unanswered(host: Host, said: str) -> Unanswered:
    return Unanswered(f"the broker did not answer: {said}", hint=f"systemctl status rabbitmq-server on {host.name}")
