"""What holds for API hosts alone: both APIs answer, and a question goes through to an engine and back."""

from __future__ import annotations

from typing import Any

from pipeline.checks.expectation import expect
from pipeline.checks.questions import health
from pipeline.checks.survey import Survey
from pipeline.environment import Role
from pipeline.inventory import Host
from pipeline.release import Release
from pipeline.site import Site

ROLES = (Role.API,)


def check_both_apis_are_healthy(host: Any, target: Host, site: Site) -> None:
    """/healthcheck of heat-api and heat-api-cfn is answered 200 on the host itself."""
    heat = site.environment.heat
    for unit, port in (("heat-api", heat.api_port), ("heat-api-cfn", heat.cfn_port)):
        found = host.run(*health(target, port)).stdout
        likely = f"{unit} is down or still starting: journalctl -u {unit}" if found == "000" else "its paste pipeline"
        expect(found == "200", expected=f"{unit} to answer /healthcheck with 200", found=found, likely=likely)


def check_api_answers_with_the_release(target: Host, survey: Survey, release: Release) -> None:
    """build_info through this host names the release as the API's revision."""
    answers = survey.api(target)
    found = ", ".join(sorted(answers.api) or answers.refusals)
    likely = "the API still runs the release before" if answers.api else _REFUSED
    expect(answers.api == {release.id}, expected=f"API revision {release.id}", found=found, likely=likely)


def check_engines_answer_with_the_release(target: Host, survey: Survey, release: Release) -> None:
    """build_info through this host reaches engines of the release only, however often it is asked."""
    answers = survey.api(target)
    found = ", ".join([*sorted(answers.engine), *answers.refusals])
    likely = _REFUSED if answers.refusals or not answers.engine else "an engine still runs the release before"
    holds = answers.engine == {release.id} and not answers.refusals
    expect(holds, expected=f"engine revision {release.id} only", found=found, likely=likely)


_REFUSED = (
    "no engine listens on this API's vhost, or Keystone or the broker is out of its reach: journalctl -u heat-api"
)
