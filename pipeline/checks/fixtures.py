"""What a check may ask for by name: testinfra's `host`, our `target`, and the values of the region it belongs to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import pytest

from pipeline.checks.survey import Survey
from pipeline.inventory import Host
from pipeline.release import Release
from pipeline.site import Site

__all__ = ["SUBJECT", "Subject"]


@dataclass(frozen=True, slots=True)
class Subject:
    """What is verified: a site that should run `release` on `vhost`, and the survey of it."""

    site: Site
    release: Release
    vhost: str
    survey: Survey


SUBJECT = pytest.StashKey[Subject]()
"""Where the session that runs the checks keeps its Subject."""


@pytest.fixture(scope="session", autouse=True)
def target(request: pytest.FixtureRequest) -> Host:
    """The host that is checked, as the inventory knows it."""
    return cast("Host", request.param)


@pytest.fixture(scope="session")
def host(target: Host, survey: Survey) -> Any:
    """The host that is checked, as testinfra sees it."""
    return survey.host(target)


@pytest.fixture(scope="session")
def site(request: pytest.FixtureRequest) -> Site:
    """The region and the ways to reach it."""
    return request.config.stash[SUBJECT].site


@pytest.fixture(scope="session")
def release(request: pytest.FixtureRequest) -> Release:
    """The release that every host should run."""
    return request.config.stash[SUBJECT].release


@pytest.fixture(scope="session")
def vhost(request: pytest.FixtureRequest) -> str:
    """The vhost that every engine and API should talk on."""
    return request.config.stash[SUBJECT].vhost


@pytest.fixture(scope="session")
def survey(request: pytest.FixtureRequest) -> Survey:
    """What is asked once for all checks."""
    return request.config.stash[SUBJECT].survey
