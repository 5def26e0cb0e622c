"""The load balancer: HAProxy's answers are read, and a server leaves and returns in every backend."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from builders import ScriptedRemote, host

from pipeline.edges.balancer import LoadBalancer, Server
from pipeline.edges.clock import FakeClock
from pipeline.edges.ssh import Result
from pipeline.environment import Role
from pipeline.errors import HostUnreachable, Inconclusive, PipelineError, Unanswered


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def balancer(remote: ScriptedRemote, clock: FakeClock) -> LoadBalancer:
    remote.on("set server", "\n")
    return LoadBalancer(remote, host(Role.LOADBALANCER), clock)


def _stat(*states: tuple[str, str, int]) -> str:
    """Return HAProxy's CSV for ("server", "status", sessions), the first backend's, then the second's idle."""
    rows = ["# pxname,svname,qcur,scur,status"]
    rows += [f"heat-api,{name},0,{sessions},{status}" for name, status, sessions in states]
    rows += [f"heat-api-cfn,{name},0,0,{status}" for name, status, _ in states]
    return "\n".join(rows) + "\n\n"


UP = _stat(("api-0", "UP", 3), ("api-1", "UP 1/2", 0))


def test_servers_are_read_from_every_backend(balancer: LoadBalancer, remote: ScriptedRemote) -> None:
    remote.on("show stat", UP)
    assert balancer.servers()[:2] == (Server("heat-api", "api-0", "UP", 3), Server("heat-api", "api-1", "UP 1/2", 0))
    assert {server.backend for server in balancer.servers()} == {"heat-api", "heat-api-cfn"}


def test_a_drained_server_gets_no_new_request_in_any_backend(balancer: LoadBalancer, remote: ScriptedRemote) -> None:
    remote.on("show stat", _stat(("api-0", "UP", 0), ("api-1", "UP", 5)))
    balancer.drain("api-0", timeout=10)
    (script,) = remote.scripts("set server")
    assert script.splitlines()[1:] == [
        f"echo 'set server {backend}/api-0 state drain' | socat -t 5 - UNIX-CONNECT:/run/haproxy/admin.sock"
        for backend in ("heat-api", "heat-api-cfn")
    ]


def test_a_drain_ends_when_the_servers_own_requests_are_answered(
    balancer: LoadBalancer, remote: ScriptedRemote, clock: FakeClock
) -> None:
    remote.on("show stat", UP, *[_stat(("api-0", "DRAIN", 1))] * 4, _stat(("api-0", "DRAIN", 0)))
    balancer.drain("api-0", timeout=10)
    assert clock.monotonic() == 2


def test_a_drain_that_does_not_end_is_told(balancer: LoadBalancer, remote: ScriptedRemote, clock: FakeClock) -> None:
    remote.on("show stat", UP)
    with pytest.raises(Inconclusive, match="10 s for requests of api-0 to end"):
        balancer.drain("api-0", timeout=10)
    assert clock.monotonic() == 10


@pytest.mark.parametrize("back", ["UP", "UP 1/2"])
def test_an_admitted_server_is_waited_for_until_it_is_up_everywhere(
    balancer: LoadBalancer, remote: ScriptedRemote, clock: FakeClock, back: str
) -> None:
    half = _stat(("api-0", "DOWN", 0)).replace("heat-api,api-0,0,0,DOWN", "heat-api,api-0,0,0,UP")
    known = _stat(("api-0", "DRAIN", 0))
    remote.on("show stat", known, known, _stat(("api-0", "DOWN 1/2", 0)), half, _stat(("api-0", back, 0)))
    balancer.admit("api-0", timeout=10)
    assert clock.monotonic() == 1
    assert remote.scripts("state ready")


def test_a_server_that_only_the_next_worker_knows_is_waited_for_before_it_is_set(
    balancer: LoadBalancer, remote: ScriptedRemote, clock: FakeClock
) -> None:
    old, new = _stat(("api-0", "UP", 0)), _stat(("api-0", "UP", 0), ("api-1", "UP", 0))
    remote.on("show stat", old, old, new, new)
    balancer.admit("api-1", timeout=10)
    assert clock.monotonic() == 1
    assert len(remote.scripts("api-1 state ready")) == 1
    remote.on("show stat", old)
    with pytest.raises(Inconclusive, match="to know of api-9"):
        balancer.admit("api-9", timeout=10)


@pytest.mark.parametrize("status", ["DOWN", "DRAIN", "MAINT", "no check"])
def test_a_server_that_does_not_come_up_is_told_with_what_to_look_at(
    balancer: LoadBalancer, remote: ScriptedRemote, status: str
) -> None:
    remote.on("show stat", _stat(("api-0", status, 0)))
    with pytest.raises(Inconclusive, match="to see api-0 up") as caught:
        balancer.admit("api-0", timeout=10)
    assert "/healthcheck of api-0" in caught.value.hint


def test_an_answer_without_any_server_is_none(balancer: LoadBalancer, remote: ScriptedRemote) -> None:
    remote.on("show stat", "")
    with pytest.raises(Unanswered, match="it named no server"):
        balancer.servers()


def test_a_server_nobody_knows_is_an_error_and_nothing_is_set(balancer: LoadBalancer, remote: ScriptedRemote) -> None:
    remote.on("show stat", UP)
    with pytest.raises(PipelineError, match="loadbalancer-0 has no server api-7"):
        balancer.ready("api-7")
    assert not remote.scripts("set server")


def test_a_server_that_never_got_into_rotation_is_drained(balancer: LoadBalancer, remote: ScriptedRemote) -> None:
    remote.on("show stat", UP)
    balancer.drain("api-7", timeout=10)
    assert not remote.scripts("set server")


# --- a load balancer that is away

REFUSED = 'socat[7] E connect(, AF=1 "/run/haproxy/admin.sock", 25): Connection refused'
AWAY = Result(1, "", f"{REFUSED}\n")
ASKS: dict[str, Callable[[LoadBalancer], object]] = {
    "servers": LoadBalancer.servers,
    "drain": lambda balancer: balancer.drain("api-0", timeout=10),
    "admit": lambda balancer: balancer.admit("api-0", timeout=10),
    "ready": lambda balancer: balancer.ready("api-0"),
}


@pytest.mark.parametrize("ask", ASKS)
def test_whatever_a_load_balancer_that_is_away_is_asked_it_did_not_answer(
    balancer: LoadBalancer, remote: ScriptedRemote, clock: FakeClock, ask: str
) -> None:
    remote.on("show stat", AWAY)
    with pytest.raises(Unanswered) as caught:
        ASKS[ask](balancer)
    assert caught.value.message == f"the load balancer did not answer: loadbalancer-0: status 1: {REFUSED}"
    assert (caught.value.exit_code, caught.value.hint) == (11, "systemctl status haproxy on loadbalancer-0")
    assert clock.monotonic() == 0


@pytest.mark.parametrize("ask", ["drain", "admit", "ready"])
def test_a_server_that_could_not_be_set_is_not_waited_for(
    balancer: LoadBalancer, remote: ScriptedRemote, clock: FakeClock, ask: str
) -> None:
    remote.on("show stat", UP)
    remote.on("set server", AWAY)
    with pytest.raises(Unanswered):
        ASKS[ask](balancer)
    assert clock.monotonic() == 0


@pytest.mark.parametrize("ask", ["drain", "admit"])
def test_a_load_balancer_that_goes_away_in_the_middle_of_a_wait_did_not_answer(
    balancer: LoadBalancer, remote: ScriptedRemote, ask: str
) -> None:
    remote.on("show stat", *[_stat(("api-0", "DOWN", 1))] * 3, AWAY)
    with pytest.raises(Unanswered):
        ASKS[ask](balancer)


def test_a_host_that_is_lost_is_not_taken_for_a_load_balancer_that_is_away(
    balancer: LoadBalancer, remote: ScriptedRemote
) -> None:
    remote.on("show stat", HostUnreachable("loadbalancer-0 is gone"))
    with pytest.raises(HostUnreachable, match=r"^loadbalancer-0 is gone$"):
        balancer.servers()
