"""When a host that was moved counts as healthy, seen from where its customers and peers see it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from pipeline import commands
from pipeline.errors import HostKeyRefused, Inconclusive, PipelineError
from pipeline.hostfiles import UNITS
from pipeline.inventory import Host
from pipeline.site import Site

__all__ = [
    "Unhealthy",
    "Workers",
    "api_answers",
    "engine_answers",
    "engine_is_up",
    "live_engines",
    "stays_healthy",
    "workers_of",
]


class Unhealthy(PipelineError):
    """A host never got healthy within its deadline."""

    exit_code = 7


@dataclass(frozen=True, slots=True)
class Workers:
    """The engine workers of a host whose rows are there: those that run now, and those that were killed."""

    running: tuple[str, ...]
    killed: tuple[str, ...]


def workers_of(site: Site, host: Host) -> Workers:
    """Return the workers of `host`. A killed worker's row stays; those that run now registered last.

    How many run is asked of the host: an engine has as many as its settings said when it started.
    """
    running = int(site.remote.run(host, commands.count_workers()).stdout)
    rows = [row.engine_id for row in site.database.engines() if row.live and row.host == host.name]
    first = max(0, len(rows) - running)
    return Workers(tuple(rows[first:]), tuple(rows[:first]))


def live_engines(site: Site, host: Host) -> frozenset[str]:
    """Return the ids of the engine workers of `host` whose row is there: at work, or killed and not noticed yet."""
    return frozenset(row.engine_id for row in site.database.engines() if row.live and row.host == host.name)


def engine_is_up(site: Site, host: Host, before: frozenset[str]) -> bool:
    """Return whether every worker of `host` registered since `before` was read, and its unit runs."""
    workers = live_engines(site, host) - before
    return len(workers) >= site.environment.heat.engine_workers and _active(site, host)


def engine_answers(site: Site, host: Host, release_id: str) -> bool:
    """Return whether every worker of `host` answers by RPC, and its engine with `release_id` for its revision.

    A row proves the way to the database only; on a vhost of its own, a canary is asked by nobody else.
    """
    script = commands.ask_engine(release_id, workers_of(site, host).running)
    answer = site.remote.run(host, script, check=False, timeout=120)
    return answer.status == 0 and answer.stdout.strip() == release_id


def api_answers(site: Site, host: Host, revisions: frozenset[str]) -> bool:
    """Return whether both APIs of `host` are healthy and a customer's question goes through it to an engine and back.

    `revisions` are those an engine may answer with. The question is put to the host itself, not to the load balancer.
    Raises HeatRefused where Keystone gives no token: then nobody asked.
    """
    settings = site.environment.heat
    url = f"http://{host.serves}:{settings.api_port}"
    cfn = f"http://{host.serves}:{settings.cfn_port}"
    token, project = site.customer.credentials()
    script = "\n".join(
        [
            "set -e",
            *(f"curl --silent --fail --max-time 10 --output /dev/null {base}/healthcheck" for base in (url, cfn)),
            commands.ask_api(f"{url}/v1/{project}/build_info", token),
        ]
    )
    answer = site.remote.run(host, script, check=False, timeout=60)
    if answer.status != 0:
        return False
    try:
        revision = json.loads(answer.stdout)["engine"]["revision"]
    except (ValueError, LookupError, TypeError):
        return False  # something answers, but not Heat
    return revision in revisions and _active(site, host)


def stays_healthy(site: Site, host: Host, healthy: Callable[[], bool], *, seconds: float | None = None) -> None:
    """Return when `healthy` held for min_healthy_time (or `seconds`) on end; it starts again after a failed check.

    Raises Unhealthy where no check passed in the last half of the policy's healthy_deadline, Inconclusive where some
    did, or where so many checks in a row could not be made as the policy's consecutive_errors.
    """
    policy, clock = site.environment.policies.health, site.clock
    needed = policy.min_healthy_time if seconds is None else seconds
    began = clock.monotonic()
    deadline = began + policy.healthy_deadline + (seconds or 0)
    since, last, errors = None, None, 0
    while True:
        try:
            held, errors = healthy(), 0
        except HostKeyRefused:
            raise
        except PipelineError as error:
            held, errors = False, errors + 1
            if errors >= policy.consecutive_errors or clock.monotonic() >= deadline:
                raise Inconclusive(
                    f"{host.name}: its health could not be asked, {errors} times in a row: {error.message}",
                    hint="run the same command again when that answers",
                ) from error
        now = clock.monotonic()
        last = now if held else last
        since = None if not held else now if since is None else since
        if since is not None and now - since >= needed:
            return
        if now >= deadline:
            said = f"{host.name} was not healthy for {needed:.0f} s on end within {now - began:.0f} s"
            if last is not None and now - last < policy.healthy_deadline / 2:
                raise Inconclusive(f"{said}: it comes and goes", hint=f"read its journal: {site.login(host)}")
            raise Unhealthy(said, hint=f"read its journal: {site.login(host)}")
        clock.sleep(policy.interval)


def _active(site: Site, host: Host) -> bool:
    """Whether every unit of `host` runs; one that waits to be restarted does not."""
    # Asked about several units at once, is-active says yes where one is.
    script = " && ".join(f"systemctl is-active --quiet {unit}" for unit in UNITS[host.role])
    return site.remote.run(host, script, check=False).status == 0
