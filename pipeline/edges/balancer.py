"""HAProxy, asked over SSH on its own host through its runtime socket."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.edges.clock import Clock, wait_until
from pipeline.edges.ssh import Remote
from pipeline.errors import CommandFailed, PipelineError, Unanswered
from pipeline.inventory import Host

__all__ = ["ASK_SERVERS", "LoadBalancer", "Server", "servers_in"]

_SOCKET = "/run/haproxy/admin.sock"
_SERVERS = "show stat -1 4 -1"


def _asking(command: str) -> str:
    return f"echo '{command}' | socat -t 5 - UNIX-CONNECT:{_SOCKET}"


ASK_SERVERS = f"set -eu; {_asking(_SERVERS)}"
"""What to run on the load balancer's host for its servers, as `servers_in` reads them."""


@dataclass(frozen=True, slots=True)
class Server:
    """One server of one backend; `status` is HAProxy's (UP, DOWN, DRAIN, MAINT …), `sessions` those open now."""

    backend: str
    name: str
    status: str
    sessions: int


def servers_in(answer: str) -> tuple[Server, ...]:
    """Return the servers of every backend in HAProxy's CSV."""
    rows = csv.DictReader(answer.lstrip("# ").splitlines())
    return tuple(Server(row["pxname"], row["svname"], row["status"], int(row["scur"])) for row in rows)


class LoadBalancer:
    """The load balancer on `host`. Whatever is asked of it raises Unanswered where it is away."""

    def __init__(self, remote: Remote, host: Host, clock: Clock) -> None:
        self._remote = remote
        self._host = host
        self._clock = clock

    def servers(self) -> tuple[Server, ...]:
        """Return the servers of every backend."""
        found = servers_in(self._ask(_SERVERS))
        if not found:
            raise self._unanswered("it named no server")
        return found

    def drain(self, server: str, *, timeout: float) -> None:
        """Send `server` no new request in any backend, and return when those it has are answered.

        One that never got into rotation is not known, and gets none. Raises Inconclusive after `timeout` seconds.
        """
        if not (known := self._named(server)):
            return
        self._set(known, "drain")
        wait_until(
            lambda: all(one.sessions == 0 for one in self._of(server)),
            self._clock,
            timeout=timeout,
            what=f"requests of {server} to end",
        )

    def admit(self, server: str, *, timeout: float) -> None:
        """Send `server` requests again, and return when HAProxy sees it up in every backend.

        One that HAProxy was told of by a reload is waited for: the worker from before answers for a moment still.
        Raises Inconclusive after `timeout` seconds.
        """
        wait_until(
            lambda: bool(self._named(server)),
            self._clock,
            timeout=timeout,
            what=f"the load balancer to know of {server}",
            hint="is it in /etc/haproxy/haproxy.cfg, and was haproxy reloaded since?",
        )
        # HAProxy goes on checking a server in drain, so it saw the restart: up is said of what runs now.
        self._set(self._of(server), "ready")
        wait_until(
            lambda: all(one.status.startswith("UP") for one in self._of(server)),
            self._clock,
            timeout=timeout,
            what=f"the load balancer to see {server} up",
            hint=f"curl the /healthcheck of {server}, and read its journal",
        )

    def ready(self, server: str) -> None:
        """Let `server` have requests again in every backend as soon as its health check passes; waits for nothing."""
        self._set(self._of(server), "ready")

    def _named(self, server: str) -> tuple[Server, ...]:
        return tuple(one for one in self.servers() if one.name == server)

    def _of(self, server: str) -> tuple[Server, ...]:
        if not (found := self._named(server)):
            raise PipelineError(f"the load balancer on {self._host.name} has no server {server}")
        return found

    def _set(self, servers: Sequence[Server], state: str) -> None:
        self._ask(*(f"set server {one.backend}/{one.name} state {state}" for one in servers))

    def _ask(self, *commands: str) -> str:
        lines = "\n".join(map(_asking, commands))
        try:
            return self._remote.run(self._host, f"set -eu\n{lines}", timeout=30).stdout
        except CommandFailed as error:
            raise self._unanswered(error.message) from error

    def _unanswered(self, said: str) -> Unanswered:
        return Unanswered(
            f"the load balancer did not answer: {said}", hint=f"systemctl status haproxy on {self._host.name}"
        )
