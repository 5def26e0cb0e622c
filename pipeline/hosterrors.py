"""What hosts logged as errors in a span of time, for the record of a run that customers noticed."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from datetime import datetime

from pipeline.checks.masking import masked
from pipeline.edges.parallel import on_each
from pipeline.environment import Role
from pipeline.errors import PipelineError
from pipeline.hostfiles import UNITS
from pipeline.inventory import Host
from pipeline.site import Site

__all__ = ["errors_since"]

_KEPT = 200  # lines of each host, the last ones


def errors_since(site: Site, since: datetime) -> Mapping[str, list[str]]:
    """Return {host: lines} that engines, APIs and the load balancer logged as errors since then; secrets are ***.

    A host that does not tell has why as its one line: what is asked after a failure must not hide it.
    """
    hosts = site.region.inventory.of(Role.API, Role.ENGINE, Role.LOADBALANCER)

    def ask(host: Host) -> list[str]:
        try:
            said = site.remote.run(host, _script(UNITS[host.role], since), timeout=60).stdout
        except PipelineError as error:
            return [f"its log could not be had: {error.message}"]
        return masked(said, site.region.secrets).splitlines()

    return {host.name: lines for host, lines in zip(hosts, on_each(hosts, ask), strict=True) if lines}


def _script(units: tuple[str, ...], since: datetime) -> str:
    """Print errors and tracebacks of Heat, and what HAProxy answered with 5xx or gave up."""
    named = " ".join(f"--unit {shlex.quote(unit)}" for unit in units)
    return (
        f"{{ journalctl --quiet --no-pager --output short-iso --since @{since.timestamp():.0f} {named} || "
        "echo '- ERROR journalctl failed'; } | "
        f"grep -E ' (ERROR|CRITICAL) |heat-api(-cfn)?/[^ ]+ .* 5[0-9][0-9] ' | tail -n {_KEPT}"
    )
