"""Making hosts what their role says: files by content, services, and a release installed beside the running one."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial

from pipeline import commands
from pipeline.clusters import form
from pipeline.conductor import Conductor
from pipeline.edges.parallel import on_each
from pipeline.edges.spread import Arrival, spread
from pipeline.edges.wheelhouse import Built
from pipeline.environment import CLUSTERED, Environment, InternalTls, Role
from pipeline.errors import ConfigurationInvalid
from pipeline.fleet import PLAIN, TLS, Fleet
from pipeline.health import api_answers, engine_is_up, stays_healthy
from pipeline.hostfiles import PROXY, UNITS, release_files, role_files, write_script
from pipeline.installation import install_script
from pipeline.inventory import Host
from pipeline.journal import Journal
from pipeline.migration import made_by_a_newer
from pipeline.release import Release
from pipeline.rollout import restart_plan
from pipeline.site import Site
from pipeline.upgrade import Rollout

__all__ = [
    "BACKING",
    "bring_up",
    "configure_release",
    "configure_services",
    "first_start",
    "install_release",
    "require_deployed",
    "require_heard",
    "require_trusted",
    "require_whole",
]

# The package brings a service that has nothing to serve on these hosts, and fails.
_NO_OTHER_PROXY = """\
systemctl disable --quiet --now haproxy.service 2>/dev/null || true
systemctl reset-failed haproxy.service 2>/dev/null || true"""
_FEW = 8  # hosts that get a release from here: the uplink serves so many as fast as they would one another
BACKING = CLUSTERED
"""What engines and APIs need before they start; the load balancer needs them, and comes after."""
_SOCKETS = {Role.MESSAGING: ("epmd",)}
"""What Debian's units listen with beside the service itself, and must be bound anew when its settings change."""


def require_heard(environment: Environment, fleet: Fleet) -> None:
    """Raises ConfigurationInvalid where database and broker would no longer take what hosts of `fleet` come with."""
    internal = environment.internal_tls
    if internal is None:
        cut = [one for one in fleet.states if (one.running and one.encrypted) or TLS in one.connected]
        now, instead = "over", InternalTls.OFFERED
    else:
        cut = [one for one in fleet.states if (one.running and not one.encrypted) or PLAIN in one.connected]
        now, instead = "without", InternalTls.USED
    names = ", ".join(one.host.name for one in cut)
    if names and internal in (None, InternalTls.REQUIRED):
        raise ConfigurationInvalid(
            f"{environment.name}: tls.internal: {internal or 'none'} would cut off {names}: they come {now} TLS",
            hint=f"set tls.internal to {instead}, inv deploy, then set it to what you want, and deploy again",
        )


def require_deployed(site: Site, fleet: Fleet) -> None:
    """Raises ConfigurationInvalid where a rollout would move hosts onto settings that only a deploy can bring about:
    what database and broker take, and how many hosts each has."""
    require_trusted(site, fleet)
    require_whole(site)
    environment, inventory = site.environment, site.region.inventory
    others = [one.host.name for one in fleet.states if one.current and one.encrypted is not environment.heat_uses_tls]
    moved = [f"tls.internal: {', '.join(others)} would come otherwise than now"] if others else []
    for role in CLUSTERED:
        has, says = len(inventory.of(role)), environment.topology.of(role).count
        if has != says and not environment.topology.shares(role):
            moved.append(f"topology.{role}.count: the region has {has}, the environment {says}")
    if moved:
        raise ConfigurationInvalid(
            f"{environment.name}: is not deployed as its file says: {'; '.join(moved)}",
            hint=f"inv deploy {environment.name} with the release that runs, or set it back; then this again",
        )


def require_trusted(site: Site, fleet: Fleet) -> None:
    """Raises ConfigurationInvalid where hosts trust another authority than the one kept here, which would sign what
    database and broker show: whoever runs could reach neither."""
    environment, ours = site.environment, hashlib.sha256(site.region.authority.encode()).hexdigest()
    strange = [one.host.name for one in fleet.states if one.trusts and one.trusts != ours]
    if environment.internal_tls and strange:
        raise ConfigurationInvalid(
            f"{environment.name}: {', '.join(strange)} trust another authority than the one that is kept here",
            hint=f"bring back .state/environments/{environment.name}/authority from where the region was deployed",
        )


def require_whole(site: Site) -> None:
    """Raises ConfigurationInvalid where a host of the region has not come up: its stack failed, or goes on still."""
    if absent := site.region.inventory.absent:
        name, stack = site.environment.name, site.environment.topology.stack_of(absent[0].role)
        raise ConfigurationInvalid(
            f"{name}: not come up yet: {', '.join(host.name for host in absent)}",
            hint=f"openstack stack failures list {name}-{stack}; then inv deploy {name} with the release that runs",
        )


def configure_services(site: Site, *roles: Role) -> tuple[str, ...]:
    """Configure the services of `roles`, restart what changed; return "HOST:PATH" of files written."""
    clusters = [role for role in roles if site.environment.topology.is_cluster(role)]
    alone = site.region.inventory.of(*(role for role in roles if role not in clusters))
    acts = [partial(_configure_service, site, host) for host in alone]
    acts += [partial(_configure_cluster, site, role) for role in clusters]
    changed = on_each(acts, lambda act: act())
    return tuple(path for paths in changed for path in paths)


def install_release(site: Site, fleet: Fleet, built: Built, journal: Journal) -> tuple[Host, ...]:
    """Install a release on every engine and API host that lacks it, offline, beside what runs; return those hosts.

    Few hosts get the archive from here; of more than that, one does, and gives it to the others. Raises CommandFailed
    where an archive arrived damaged or a disk is full: no service was touched, and every other host has the release.
    """
    release = built.release
    missing = fleet.lacking(release.id)
    archive = f"/home/{site.environment.ssh.user}/{built.archive.name}"
    arrivals = _spread(site, missing, built, archive)

    def install(host: Host) -> None:
        script = f"set -eu\n{commands.make_user()}\n{install_script(release.id, built.sha256, archive)}"
        with journal.step("install", host.name):
            if (arrival := arrivals.get(host)) is None:
                site.insist(lambda: site.remote.put(host, built.archive, archive))
            elif arrival.error is not None:
                raise arrival.error
            site.step(host, "install", script, timeout=site.environment.deadlines.step)
        site.progress.say(f"{host.name}: {release.id} installed")

    on_each(missing, install)
    return missing


def _spread(site: Site, hosts: tuple[Host, ...], built: Built, archive: str) -> dict[Host, Arrival]:
    """Spread an archive over `hosts` where that is worth it; return what became of it on each, else nothing."""
    url = site.environment.ssh.url_of(built.archive.name)
    if len(hosts) <= _FEW and not url:
        return {}
    arrivals = spread(
        site.remote,
        hosts,
        built.archive,
        archive,
        built.sha256,
        url=url,
        timeout=site.environment.deadlines.step,
        insist=site.insist,
        report=site.progress.say,
    )
    return {arrival.host: arrival for arrival in arrivals}


def configure_release(site: Site, release: Release, vhost: str) -> tuple[str, ...]:
    """Write what belongs to `release` on every engine and API host; return "HOST:PATH" of files written.

    The hosts' units are written too: they name the link `current`, so nothing running notices. The way to a database's
    cluster is opened.
    """

    def write(host: Host) -> list[str]:
        files = (
            *role_files(host, site.environment, site.region, site.templates),
            *release_files(host, site.environment, site.region, release, vhost, site.templates),
        )
        # The proxy hears of its own settings alone: one that is reloaded no longer looks after connections it has.
        proxy = [file for file in files if PROXY in file.path]
        script = write_script([file for file in files if file not in proxy])
        if proxy:
            script = f"{script}\n{_NO_OTHER_PROXY}\n{commands.apply_files(write_script(proxy), [PROXY])}"
        return _write(site, host, script)

    hosts = site.region.inventory.of(Role.ENGINE, Role.API)
    return tuple(path for paths in on_each(hosts, write) for path in paths)


def bring_up(
    site: Site,
    fleet: Fleet,
    release: Release,
    journal: Journal,
    *,
    gate: Callable[[], None] = lambda: None,
    owned: Callable[[], None] = lambda: None,
) -> bool:
    """Bring every engine and API host up on `release`; return whether any moved. `fleet` is as it is once configured.

    The load balancer hears of hosts once they are healthy, for it takes a new one to be up until its checks fail.
    Hosts that run with older settings than those on disk are restarted one by one, by the careful road of an upgrade.
    `gate` raises what forbids to begin with a host, `owned` what forbids to go on with one: the lock is lost.
    """
    settled = all(state.settled_on(release.id) for state in fleet.states)
    if not settled:
        gate()
        first_start(site, fleet, release)
        _await_health(site, release)
    balanced = configure_services(site, Role.LOADBALANCER)
    if not settled:
        _admit(site)
    stale = Fleet(tuple(state for state in fleet.states if state.stale))
    plan = restart_plan(stale, release, stale.states[0].vhost if stale.states else "")
    rollout = Rollout(site, plan, journal, owned)
    admitted = rollout.admit_stranded(fleet) if settled else False
    Conductor(rollout, gate=gate, owned=owned).run()
    return not settled or admitted or bool(balanced or stale.states)


def first_start(site: Site, fleet: Fleet, release: Release) -> None:
    """Start a region that never ran: schema, then engines, then APIs; every host at once, for nobody uses it yet.

    Hosts of one that ran are started so too, where some of `fleet` are new or down. A schema that a newer release made
    is left to it.
    """
    engines = site.region.inventory.of(Role.ENGINE)
    deadline = site.environment.deadlines.step
    if not made_by_a_newer(site, fleet, release):
        site.step(engines[0], "db-sync", commands.db_sync(release.id), timeout=deadline)
    for role in (Role.ENGINE, Role.API):
        units = UNITS[role]

        def start(host: Host, units: tuple[str, ...] = units) -> None:
            script = f"{commands.switch(release.id)}\n{commands.enable(units)}"
            site.remote.run(host, script, timeout=deadline)
            site.progress.say(f"{host.name}: {', '.join(units)} started")

        on_each(site.region.inventory.of(role), start)


def _await_health(site: Site, release: Release) -> None:
    """Engines first: a question that an API puts before an engine listens is lost, and its asker waits in vain."""

    def await_engine(host: Host) -> None:
        stays_healthy(site, host, partial(engine_is_up, site, host, frozenset()))

    def await_api(host: Host) -> None:
        stays_healthy(site, host, partial(api_answers, site, host, frozenset({release.id})))

    on_each(site.region.inventory.of(Role.ENGINE), await_engine)
    on_each(site.region.inventory.of(Role.API), await_api)


def _admit(site: Site) -> None:
    """Let every API host into rotation."""
    deadline = site.environment.policies.health.healthy_deadline
    for host in site.region.inventory.of(Role.API):
        site.insist(partial(site.balancer.admit, host.name, timeout=deadline))


def _configure_service(site: Site, host: Host) -> list[str]:
    files = role_files(host, site.environment, site.region, site.templates)
    # One script, so that a run killed here cannot leave new settings beside a service that never read them.
    script = commands.apply_files(write_script(files), UNITS[host.role], sockets=_SOCKETS.get(host.role, ()))
    changed = _write(site, host, script, timeout=site.environment.deadlines.step)
    _admit_heat(site, host.role)
    return changed


def _configure_cluster(site: Site, role: Role) -> list[str]:
    changed = form(site, role, _SOCKETS.get(role, ()))
    _admit_heat(site, role)
    return changed


def _admit_heat(site: Site, role: Role) -> None:
    """Let Heat in with its password."""
    if role is Role.DATABASE:
        site.database.create(site.region.database_password)
    if role is Role.MESSAGING:
        site.broker.create_user(site.region.messaging_password)


def _write(site: Site, host: Host, script: str, *, timeout: float = 300) -> list[str]:
    written = site.insist(lambda: site.remote.run(host, script, timeout=timeout)).stdout.split()
    return [f"{host.name}:{path}" for path in written]
