"""What holds for the load balancer: a valid configuration, every API behind it, both frontends open."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from pipeline.checks import questions
from pipeline.checks.expectation import answer, expect
from pipeline.checks.survey import Survey
from pipeline.environment import Role
from pipeline.inventory import Host
from pipeline.site import Site

ROLES = (Role.LOADBALANCER,)

_CAUSES = {
    "DRAIN": "an upgrade was interrupted and left it out of rotation: run it again",
    "MAINT": "it was taken out by hand: set server … state ready",
    "DOWN": "its /healthcheck fails: read the journal of heat-api and heat-api-cfn there",
}


def check_configuration_is_valid(host: Any) -> None:
    """HAProxy would start with the configuration on disk."""
    result = host.run(*questions.CONFIGURATION)
    said = "; ".join(line for line in (result.stderr + result.stdout).splitlines() if "ALERT" in line)[:300]
    likely = "haproxy.cfg was edited by hand: inv deploy writes it again"
    expect(result.rc == 0, expected="a valid haproxy.cfg", found=said, likely=likely)


def check_every_backend_is_up(survey: Survey, site: Site) -> None:
    """Each API host is in rotation in both backends, and nobody else."""
    apis = site.region.inventory.of(Role.API)
    wanted = {f"{backend}/{api.name}" for backend in ("heat-api", "heat-api-cfn") for api in apis}
    states = {f"{one.backend}/{one.name}": one.status for one in survey.servers()}
    # "UP 2/3" missed one health check and is in rotation all the same.
    wrong = {name: states.get(name, "absent") for name in wanted | set(states)}
    wrong = {name: status for name, status in wrong.items() if status.split(" ")[0] != "UP"}
    wrong |= dict.fromkeys(set(states) - wanted, "unknown")
    first = next(iter(sorted(wrong.values())), "").split(" ")[0]
    cause = _CAUSES.get(first, "haproxy was not reloaded since the hosts changed")
    found = ", ".join(f"{name} {status}" for name, status in sorted(wrong.items()))
    expect(not wrong, expected=f"{len(wanted)} servers UP", found=found, likely=cause)


def check_runtime_socket_is_roots(host: Any) -> None:
    """Only root may command HAProxy."""
    found = answer(host, *questions.ADMIN_SOCKET).strip()
    likely = "haproxy is down, or runs with another configuration than the pipeline's"
    expect(found == "600 root", expected="/run/haproxy/admin.sock 600 root", found=found, likely=likely)


def check_both_frontends_answer(host: Any, target: Host, site: Site) -> None:
    """A request to each frontend comes back 200 from an API behind it."""
    heat = site.environment.heat
    for name, port in (("heat-api", heat.api_port), ("heat-api-cfn", heat.cfn_port)):
        found = host.run(*questions.health(target, port, site.environment.scheme)).stdout
        likely = "haproxy is down" if found == "000" else f"no API host behind {name} is up"
        expect(found == "200", expected=f"frontend {name} to answer 200", found=found, likely=likely)


def check_certificate_of_the_endpoints_lasts(site: Site) -> None:
    """Where the endpoints show a certificate, it lasts long enough; that it is the one shown is a file's check."""
    if (certificate := site.region.certificate) is None:
        return
    left = (certificate.ends - site.clock.now()) / timedelta(days=1)
    needed = site.environment.verification.certificate / 86400
    expect(
        left >= needed,
        expected=f"{needed:g} days left for the endpoints' certificate",
        found=f"{left:.0f} days, until {certificate.ends:%Y-%m-%d}",
        likely="nobody renewed the files that tls names; one of the environment's own is renewed by inv deploy",
    )
