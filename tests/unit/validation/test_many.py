"""Validation of many environments: shared among processes, told in the order that was asked for."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from builders import TEMPLATES, progress

from benchmarks.render import write_environments
from pipeline.edges.clock import FakeClock
from pipeline.environment import list_environments
from pipeline.validation import many
from pipeline.workflow import Pipeline
from pipeline.workspace import Workspace


def test_many_environments_are_shared_among_processes_and_told_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(many, "_ENOUGH", 2)
    write_environments(tmp_path / "environments", 4)
    shutil.copytree(TEMPLATES, tmp_path / "templates")
    host = tmp_path / "templates/providers/openstack/host.yaml"
    host.write_text(host.read_text("utf-8").replace("config_drive: true", "config_drive: perhaps"), "utf-8")
    clock = FakeClock()
    names = list_environments(tmp_path / "environments")
    problems = Pipeline(Workspace(tmp_path, tmp_path / ".state"), clock, progress(clock)).validate(names)
    assert list(dict.fromkeys(problem.environment for problem in problems)) == list(names)
    assert {problem.finding.path for problem in problems} == {"properties.config_drive"}
    assert {problem.finding.file for problem in problems} == {"templates/providers/openstack/host.yaml"}
