"""Fixtures that several tests share; what they are made of is in builders.py."""

from __future__ import annotations

from io import StringIO

import pytest
from builders import LOCAL, R25, Machines, ScriptedRemote, site
from hypothesis import HealthCheck, settings
from rich.console import Console

from pipeline.site import Site

# A machine that does other things besides is slow now and then, which says nothing about a property.
settings.register_profile("unit", deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None)
settings.load_profile("unit")


@pytest.fixture
def console() -> Console:
    """Return a console that keeps what is printed to it."""
    return Console(file=StringIO(), width=200)


@pytest.fixture
def remote() -> ScriptedRemote:
    """Return hosts that answer nothing yet."""
    return ScriptedRemote()


@pytest.fixture
def here(remote: ScriptedRemote) -> Site:
    """Return the site of the local environment."""
    return site(remote)


@pytest.fixture
def machines(remote: ScriptedRemote, here: Site) -> Machines:
    """Return hosts that run release 25 and do what an upgrade's scripts ask."""
    return Machines(remote, here.region.inventory, R25, LOCAL.heat.engine_workers)
