"""When a host that was moved counts as healthy, seen from where its customers and peers see it."""

from __future__ import annotations

import json
from collections.abc import Callable

from pipeline import commands
from pipeline.edges.clock import wait_until
from pipeline.edges.heat import HeatRefused
from pipeline.hostfiles import UNITS
from pipeline.inventory import Host
from pipeline.site import Site

__all__ = ["api_answers", "engine_is_up", "live_engines", "stays_healthy"]


def live_engines(site: Site, host: Host) -> frozenset[str]:
    """Return the ids of the engine workers of `host` whose row is there: at work, or killed and not noticed yet."""
    return frozenset(row.engine_id for row in site.database.engines() if row.live and row.host == host.name)


def engine_is_up(site: Site, host: Host, before: frozenset[str]) -> bool:
    """Return whether every worker of `host` registered since `before` was read, and its unit runs."""
    workers = live_engines(site, host) - before
    return len(workers) >= site.environment.heat.engine_workers and _active(site, host)


def api_answers(site: Site, host: Host, revisions: frozenset[str]) -> bool:
    """Return whether both APIs of `host` are healthy and a customer's question goes through it to an engine and back.

    `revisions` are those an engine may answer with. The question is put to the host itself, not to the load balancer.
    """
    settings = site.environment.heat
    url = f"http://{host.address}:{settings.api_port}"
    cfn = f"http://{host.address}:{settings.cfn_port}"
    try:
        token, project = site.customer.credentials()
    except HeatRefused:
        return False  # Keystone does not answer now: ask again until the deadline
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


def stays_healthy(site: Site, host: Host, healthy: Callable[[], bool]) -> None:
    """Return when `healthy` held for min_healthy_time on end; the time starts again after each failed check.

    Raises Inconclusive at the policy's healthy_deadline.
    """
    policy, clock = site.environment.policy.health, site.clock
    since: list[float] = []

    def long_enough() -> bool:
        if not healthy():
            since.clear()
            return False
        since.append(clock.monotonic())
        return since[-1] - since[0] >= policy.min_healthy_time

    what = f"{host.name} to be healthy for {policy.min_healthy_time:.0f} s"
    wait_until(long_enough, clock, timeout=policy.healthy_deadline, what=what, interval=policy.interval)


def _active(site: Site, host: Host) -> bool:
    """Whether every unit of `host` runs; one that waits to be restarted does not."""
    # Asked about several units at once, is-active says yes where one is.
    script = " && ".join(f"systemctl is-active --quiet {unit}" for unit in UNITS[host.role])
    return site.remote.run(host, script, check=False).status == 0
