"""The status of a region: every host with what it holds, runs and is worth now, in one look that changes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pipeline.edges.parallel import on_each
from pipeline.edges.ssh import Remote
from pipeline.environment import Role
from pipeline.errors import HostKeyRefused, HostUnreachable, PipelineError
from pipeline.fleet import HostState, read_state, state_script
from pipeline.hostfiles import UNITS
from pipeline.inventory import Host
from pipeline.rollout import Batch
from pipeline.site import Site

__all__ = ["HostStatus", "region_status"]


_ABSENT = "has not signalled: its stack failed, or goes on still"


@dataclass(frozen=True, slots=True)
class HostStatus:
    """One host for people: `current` and `running` are releases, `on_disk` all it has; "" where that means nothing."""

    host: str
    role: str
    current: str
    running: str
    on_disk: tuple[str, ...]
    vhost: str
    health: str
    batch: str
    machine: str


def region_status(site: Site, batches: Callable[[tuple[HostState, ...]], tuple[Batch, ...]]) -> tuple[HostStatus, ...]:
    """Return the status of every host, those of one role together; a host that does not answer is told as such.

    `batches` says what is left of the rollout that the fleet is in the middle of, nothing where it is in none.
    """
    hosts = site.region.inventory.hosts
    seen = on_each(hosts, lambda host: _look(host, site.remote))
    states = tuple(one for one in seen if isinstance(one, HostState) and one.host.role in (Role.API, Role.ENGINE))
    try:
        left = batches(states)
    except PipelineError:  # a rollout that cannot be planned, as with hosts that are gone, spoils no look at the others
        left = ()
    numbers = {name: number for number, batch in enumerate(left, 1) for name in batch.names}
    workers, servers = _told(lambda: _workers(site)), _told(lambda: _rotation(site))
    return tuple(
        _status(host, found, workers, servers, site.environment.heat.engine_workers, numbers.get(host.name))
        for host, found in (*zip(hosts, seen, strict=True), *((host, _ABSENT) for host in site.region.inventory.absent))
    )


def _look(host: Host, remote: Remote) -> HostState | str:
    try:
        return read_state(host, remote.run(host, state_script(UNITS[host.role]), timeout=30).stdout)
    except (HostUnreachable, HostKeyRefused) as error:
        return f"unreachable: {error.message}"
    except PipelineError as error:  # it answers, and lets nobody look
        return f"unknown: {error.message}"


def _told(ask: Callable[[], Mapping[str, str]]) -> Mapping[str, str] | str:
    """Return what is answered, or why there is no answer: status is for looking at what is broken."""
    try:
        return ask()
    except PipelineError as error:
        return f"unknown: {error.message}"


def _workers(site: Site) -> Mapping[str, str]:
    counts = Counter(row.host for row in site.database.engines() if row.live)
    return {name: str(count) for name, count in counts.items()}


def _rotation(site: Site) -> Mapping[str, str]:
    states: dict[str, set[str]] = {}
    for server in site.balancer.servers():
        states.setdefault(server.name, set()).add(server.status.split(" ")[0])
    return {name: "/".join(sorted(found)) for name, found in states.items()}


def _status(
    host: Host,
    found: HostState | str,
    workers: Mapping[str, str] | str,
    servers: Mapping[str, str] | str,
    wanted: int,
    batch: int | None,
) -> HostStatus:
    number = "" if batch is None else str(batch)
    who = host.name, host.role.value
    if isinstance(found, str):
        return HostStatus(*who, "", "", (), "", found, number, host.machine)
    health = _health(host, found, workers, servers, wanted)
    if host.role not in (Role.API, Role.ENGINE):  # whose releases these are, if any, an API on the machine tells
        return HostStatus(*who, "", "", (), "", health, number, host.machine)
    return HostStatus(*who, found.current, found.running, found.installed, found.vhost, health, number, host.machine)


def _health(
    host: Host, found: HostState, workers: Mapping[str, str] | str, servers: Mapping[str, str] | str, wanted: int
) -> str:
    if found.draining:
        return "draining"
    if not found.running:
        return "down"
    if host.role is Role.ENGINE:
        count = workers if isinstance(workers, str) else workers.get(host.name, "0")
        if isinstance(workers, str):
            return count
        killed = max(0, int(count) - wanted)
        return f"{int(count) - killed}/{wanted} workers" + (f", {killed} were killed" if killed else "")
    if host.role is Role.API:
        return servers if isinstance(servers, str) else servers.get(host.name, "not in rotation")
    return "up"
