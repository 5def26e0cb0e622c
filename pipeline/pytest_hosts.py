"""A region's hosts for plain pytest: checks of your own, in testinfra's words, over the pipeline's pinned connections.

    pytest -p pipeline.pytest_hosts --hosts=local:engine my_checks.py

`--hosts` is testinfra's own option: environments, each whole or one role or host of it (ENV, ENV:ROLE, ENV:HOST), with
commas between. Test ids end in [ENV.ROLE.HOST]. Beside testinfra's `host` there are `target` (our Host) and `site`.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from testinfra import backend

from pipeline import environment
from pipeline.access import open_site
from pipeline.edges.clock import SystemClock
from pipeline.edges.testinfra_backend import RemoteBackend
from pipeline.environment import Role
from pipeline.errors import PipelineError
from pipeline.inventory import Host
from pipeline.progress import Progress
from pipeline.site import Site
from pipeline.workspace import Workspace

__all__ = ["RegionBackend", "Regions"]

_CONNECTION = "pipeline"


class Regions:
    """The regions that a session of pytest looks at, each opened once, when it is first named."""

    def __init__(self) -> None:
        self._sites: dict[str, Site] = {}
        self._open = ExitStack()

    def site(self, name: str) -> Site:
        """Return the site of environment `name`. Raises ConfigurationInvalid where there is none, or not deployed."""
        if name not in self._sites:
            root, clock = Path(__file__).resolve().parents[1], SystemClock()
            workspace = Workspace(root, Path(os.environ.get("PIPELINE_STATE", root / ".state")).resolve())
            found = environment.load(name, workspace.environments)
            quiet = Progress(Console(quiet=True), clock)
            self._sites[name] = self._open.enter_context(open_site(workspace, found, clock, quiet))
        return self._sites[name]

    def hosts(self, spec: str) -> tuple[tuple[str, Host], ...]:
        """Return (environment, host) for ENV, ENV:ROLE or ENV:HOST. Raises ConfigurationInvalid for another name."""
        name, _, part = spec.partition(":")
        inventory = self.site(name).region.inventory
        if part in list(Role):
            return tuple((name, host) for host in inventory.of(Role(part)))
        return tuple((name, host) for host in ((inventory.host(part),) if part else inventory.hosts))

    def close(self) -> None:
        """End every connection."""
        self._sites.clear()
        self._open.close()


# testinfra makes a backend from its class's name and a host's, and hands it nothing else.
_REGIONS = Regions()


class RegionBackend(RemoteBackend):
    """A host of a region, by the name "ENV:HOST". Unlike a verification it runs a command as often as it is told to."""

    NAME = _CONNECTION
    REMEMBERS = False

    def __init__(self, spec: str, **_: Any) -> None:
        ((self._environment, target),) = _REGIONS.hosts(spec)
        self.site = _REGIONS.site(self._environment)
        super().__init__(self.site.remote, target)

    @classmethod
    def get_hosts(cls, host: str, **_: Any) -> list[str]:
        """Return the names of the hosts that "ENV", "ENV:ROLE" or "ENV:HOST" means."""
        return [f"{name}:{one.name}" for name, one in _REGIONS.hosts(host)]

    def get_pytest_id(self) -> str:
        """Return "local.engine.engine-0", which a test's id ends in."""
        return f"{self._environment}.{self.target.role.value}.{self.target.name}"


def pytest_configure(config: pytest.Config) -> None:
    """Make ours the way to reach `--hosts`, and refuse those that there are not before any test is looked for."""
    backend.BACKENDS[_CONNECTION] = f"{RegionBackend.__module__}.{RegionBackend.__qualname__}"
    if config.option.hosts is None or config.option.connection not in (None, _CONNECTION):
        return
    config.option.connection = _CONNECTION
    try:
        for spec in config.option.hosts.split(","):
            if "://" not in spec:
                RegionBackend.get_hosts(spec)
    except PipelineError as error:
        _REGIONS.close()
        raise pytest.UsageError(str(error)) from error


def pytest_unconfigure() -> None:
    """End every connection."""
    _REGIONS.close()


@pytest.fixture
def target(host: Any) -> Host:
    """The host as the pipeline's inventory knows it: name, role, address."""
    found: Host = host.backend.target
    return found


@pytest.fixture
def site(host: Any) -> Site:
    """The region that the host belongs to, and the ways to reach it."""
    found: Site = host.backend.site
    return found
