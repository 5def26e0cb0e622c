"""RabbitMQ, asked over SSH on its own host through rabbitmqctl."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass

from pydantic import SecretStr

from pipeline.edges.ssh import Remote
from pipeline.inventory import Host

__all__ = ["Broker", "Queue"]

USER = "heat"


@dataclass(frozen=True, slots=True)
class Queue:
    """One queue: messages nobody took yet, and how many consumers it has."""

    name: str
    ready: int
    consumers: int

    @property
    def of_engines(self) -> bool:
        """Whether engines work from it: `engine`, `engine_worker` and their .host and .engine_id variants."""
        return self.name.split(".")[0] in ("engine", "engine_worker")


class Broker:
    """The broker on `host`."""

    def __init__(self, remote: Remote, host: Host) -> None:
        self._remote = remote
        self._host = host

    def create_user(self, password: SecretStr) -> None:
        """Make user `heat` with this password, and remove `guest`; harmless where that is so."""
        # rabbitmqctl reads a password that is not among its arguments from standard input.
        secret = shlex.quote(password.get_secret_value())
        self._remote.run(
            self._host,
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
        answer = json.loads(self._ctl("list_vhosts", "name"))
        return tuple(sorted(vhost["name"] for vhost in answer if vhost["name"] != "/"))

    def create_vhost(self, name: str) -> None:
        """Make vhost `name` and let user `heat` do everything in it; harmless where that is so."""
        quoted = shlex.quote(name)
        self._remote.run(
            self._host,
            "set -eu\n"
            f"rabbitmqctl -q add_vhost {quoted} 2>/dev/null || rabbitmqctl -q list_vhosts | grep -qx -- {quoted}\n"
            f"rabbitmqctl -q set_permissions -p {quoted} {USER} '.*' '.*' '.*'",
        )

    def delete_vhost(self, name: str) -> None:
        """Remove vhost `name`, which must be there, and all its queues."""
        self._remote.run(self._host, f"rabbitmqctl -q delete_vhost {shlex.quote(name)}")

    def queues(self, vhost: str) -> tuple[Queue, ...]:
        """Return the queues of `vhost`."""
        answer = json.loads(self._ctl("list_queues", "-p", vhost, "name", "messages_ready", "consumers"))
        return tuple(Queue(queue["name"], queue["messages_ready"], queue["consumers"]) for queue in answer)

    def expiring(self, vhost: str) -> tuple[str, ...]:
        """Return the names of policies on `vhost` that let messages of engines expire."""
        answer = json.loads(self._ctl("list_policies", "-p", vhost))
        return tuple(policy["name"] for policy in answer if "message-ttl" in policy["definition"])

    def _ctl(self, *arguments: str) -> str:
        command = shlex.join(["rabbitmqctl", "-q", "--formatter", "json", *arguments])
        return self._remote.run(self._host, command, timeout=60).stdout
