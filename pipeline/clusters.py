"""Clusters: the hosts of database and broker made members of one, and their settings rolled over them one by one.

What is there already is asked, never remembered, so that the same command continues after a kill, and brings a cluster
back whose members all fell.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

from pipeline import commands, galera
from pipeline.edges.parallel import on_each
from pipeline.environment import Role
from pipeline.hostfiles import UNITS, role_files, write_script
from pipeline.inventory import Host
from pipeline.site import Site

__all__ = ["form"]

_QUORUM = 120  # seconds to wait until a majority can do without this member
_LONGER = 30  # seconds that a connection outlives the deadline of what it waits for, to hear how that ended


def form(site: Site, role: Role, sockets: tuple[str, ...]) -> list[str]:
    """Make the hosts of `role` one cluster with their settings as they are now; return "HOST:PATH" of files written.

    `sockets` as commands.apply_files has them. No more than one member is away at a time, but at the beginning. Raises
    CommandFailed, and HostUnreachable where a member cannot be asked: it may know what no other does.
    """
    return _brokers(site, sockets) if role is Role.MESSAGING else _databases(site)


def _databases(site: Site) -> list[str]:
    hosts, deadline = site.region.inventory.of(Role.DATABASE), site.environment.deadlines.step

    def run(host: Host, script: str) -> str:
        return site.insist(lambda: site.remote.run(host, script, timeout=deadline + _LONGER)).stdout

    changed = on_each(
        hosts, lambda host: run(host, commands.write_files(_write(site, host), UNITS[host.role][0])).split()
    )
    states = on_each(hosts, lambda host: run(host, galera.ask()).strip())
    if galera.PRIMARY not in states:
        answers = on_each(hosts, lambda host: run(host, galera.stop()))
        positions = {host.name: galera.Position.read(answer) for host, answer in zip(hosts, answers, strict=True)}
        name = galera.first(positions)
        site.progress.say(f"{name}: begins the database's cluster, at {positions[name].seqno}")
        run(site.region.inventory.host(name), galera.begin())
    # Whoever is away joins before one that is in is restarted.
    for host, _ in sorted(zip(hosts, states, strict=True), key=lambda pair: pair[1] == galera.PRIMARY):
        run(host, galera.join(int(deadline)))
        site.progress.say(f"{host.name}: in the database's cluster, and synced")
    return _told(hosts, changed)


def _brokers(site: Site, sockets: tuple[str, ...]) -> list[str]:
    hosts, deadline = site.region.inventory.of(Role.MESSAGING), site.environment.deadlines.step
    # A member that starts may wait for one that stopped after it: those that have data are told all at once.
    on_each(hosts, lambda host: site.insist(lambda: site.remote.run(host, _wake(host))))
    changed = []
    for host in hosts:  # one by one: the first begins the cluster, and the others find it
        script = commands.apply_files(_write(site, host), UNITS[host.role], sockets=sockets, before=_WAIT_FOR_QUORUM)
        script += f"\nrabbitmqctl -q await_startup --timeout {int(deadline)}\n{_among(host, hosts[0])}"
        said = site.insist(partial(site.remote.run, host, script, timeout=deadline + _LONGER)).stdout
        changed.append(said.split())
        site.progress.say(f"{host.name}: in the broker's cluster")
    return _told(hosts, changed)


def _wake(host: Host) -> str:
    """Start a member that was in the cluster before, without waiting for it."""
    known = f"/var/lib/rabbitmq/mnesia/rabbit@{host.address}"
    return f"[ ! -d {known} ] || systemctl start --no-block rabbitmq-server"


def _among(host: Host, first: Host) -> str:
    """See that a member found the first one: one that found nobody has begun a cluster of its own.

    One that does not answer may well be in it, and must not be reset.
    """
    mend = f"rabbitmqctl stop_app, reset, join_cluster rabbit@{first.address}, start_app"
    return f"""\
said=$(rabbitmqctl -q cluster_status --formatter json) || exit 1
printf '%s\\n' "$said" | grep -F '"rabbit@{first.address}"' >/dev/null || {{
    echo "{host.name} is not in the cluster of {first.name}: on {host.name}, {mend}" >&2
    exit 1
}}"""


# One that has not had its member's name yet is in no cluster, and nobody waits for it. A broker that does not run is
# not asked either: its tools would begin a port mapper of their own, which listens everywhere.
_WAIT_FOR_QUORUM = (
    "! systemctl is-active --quiet rabbitmq-server || ! rabbitmqctl -q ping >/dev/null 2>&1 || "
    f"rabbitmq-upgrade -q await_online_quorum_plus_one --timeout {_QUORUM}"
)


def _write(site: Site, host: Host) -> str:
    return write_script(role_files(host, site.environment, site.region, site.templates))


def _told(hosts: Sequence[Host], changed: Iterable[Sequence[str]]) -> list[str]:
    return [f"{host.name}:{path}" for host, paths in zip(hosts, changed, strict=True) for path in paths]
