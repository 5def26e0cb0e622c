"""One region for all tests of faults, on a local cloud of its own. Each test gets it healthy, on the old release.

KEEP_CLOUD=1 leaves the cloud up, and takes the one that is there: a file of tests then starts at once.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.localcloud import down, up
from pipeline.workspace import Workspace
from tests.faults.faults import NAME, OLD, ROOT, Region
from tests.integration.conftest import unfit

KEEP = bool(os.environ.get("KEEP_CLOUD"))


def pytest_configure(config: pytest.Config) -> None:
    # A run of tests that is told to end (timeout, CI) mends what it broke first, as after Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    config.addinivalue_line("markers", "faults: breaks something on the local cloud, for real")
    config.addinivalue_line("markers", "quick: a test of faults that every push runs")
    config.addinivalue_line("markers", "kills_work: the fault itself ends stacks that were in flight")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is here, and leave it out with a reason where it cannot run; in CI that is a failure, not a skip."""
    here = Path(__file__).parent
    found = [item for item in items if here in item.path.parents]
    reason = unfit()
    if found and reason and os.environ.get("CI"):
        pytest.exit(f"tests of faults would be skipped in CI: {reason}", returncode=1)
    for item in found:
        item.add_marker(pytest.mark.faults)
        if reason:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def home() -> Iterator[Region]:
    """A cloud with a region on the old release; taken down at the end, whatever happened."""
    workspace = Workspace(ROOT, ROOT / ".state" / "faults")
    if not KEEP:
        down(workspace.cloud, report=print)
    try:
        region = Region(workspace, up(workspace.cloud, report=print))
        if not region.pipeline().releases_on(NAME):
            region.pipeline({}).deploy(NAME, OLD)
        yield region
    finally:
        if not KEEP:
            down(workspace.cloud, report=print)


@pytest.fixture
def region(home: Region, request: pytest.FixtureRequest) -> Iterator[Region]:
    """The region on the old release, healthy. After the test no stack may be lost, unless the fault kills work."""
    home.settle()
    yield home
    for process in home.processes:
        process.kill()
    if request.node.get_closest_marker("kills_work") is None:
        lost = home.lost()
        assert not lost, f"stacks that failed or are still in progress: {lost}"
