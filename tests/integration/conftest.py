"""One local cloud and one region of it for all integration tests: the demo makes it, as a newcomer would."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from pipeline.demo import Proof, demonstrate
from pipeline.edges.clock import SystemClock
from pipeline.localcloud import LocalCloud, down, up
from pipeline.progress import Progress
from pipeline.workflow import Pipeline
from pipeline.workspace import Workspace

ROOT = Path(__file__).parents[2]
OLD, NEW = "25.0.2", "26.0.2"


def unfit() -> str:
    """Return why this machine cannot run the local cloud, "" where it can."""
    if os.geteuid() != 0:
        return "the local cloud needs root"
    if "overlay" not in Path("/proc/filesystems").read_text(encoding="utf-8"):
        return "the local cloud needs overlayfs"
    return ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is here, and leave it out with a reason where it cannot run; in CI that is a failure, not a skip."""
    reason = unfit()
    if reason and os.environ.get("CI"):
        pytest.exit(f"integration tests would be skipped in CI: {reason}", returncode=1)
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.integration)
            if reason:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def workspace() -> Workspace:
    """This checkout, with state of its own: a region that someone works with is left alone."""
    return Workspace(ROOT, ROOT / ".state" / "test")


@pytest.fixture(scope="session")
def cloud(workspace: Workspace) -> Iterator[LocalCloud]:
    """The local cloud; taken down at the end, whatever happened."""
    down(workspace.cloud, report=print)
    try:
        yield up(workspace.cloud, report=print)
    finally:
        down(workspace.cloud, report=print)


@pytest.fixture(scope="session")
def pipeline(workspace: Workspace) -> Pipeline:
    """The pipeline as the tasks use it."""
    clock = SystemClock()
    return Pipeline(workspace, clock, Progress(Console(width=160), clock))


@pytest.fixture(scope="session")
def story(cloud: LocalCloud, pipeline: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> Proof:
    """The demo, run once: Heat 25.0.2 deployed, upgraded to 26.0.2 under traffic, verified, smoked."""
    report = tmp_path_factory.mktemp("proof") / "proof.json"
    return demonstrate(pipeline, "local", old=OLD, new=NEW, report=report)


@pytest.fixture(scope="module")
def checkout(pipeline: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the environments and templates, whose environments may say something else."""
    root = tmp_path_factory.mktemp("checkout")
    for name in ("environments", "templates"):
        shutil.copytree(getattr(pipeline.workspace, name), root / name)
    return root


def saying(pipeline: Pipeline, checkout: Path, name: str, text: str) -> Pipeline:
    """The pipeline on `checkout`, where environment `name` says `text` beside what it says in ours."""
    ours = (pipeline.workspace.environments / f"{name}.yaml").read_text("utf-8")
    (checkout / "environments" / f"{name}.yaml").write_text(f"{ours}{text}", "utf-8")
    return Pipeline(Workspace(checkout, pipeline.workspace.state), pipeline.clock, pipeline.progress)
