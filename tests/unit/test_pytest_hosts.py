"""A region's hosts in plain pytest: the example of the documentation runs, and mistakes are told in one line."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from builders import ROOT, ScriptedRemote, site

from pipeline import pytest_hosts
from pipeline.edges.ssh import Result
from pipeline.inventory import Host

pytest_plugins = ["pytester"]

_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COUNTS = """
def test_counts(host, tmp_path_factory):
    counter = tmp_path_factory.mktemp("counter") / "lines"
    for expected in (1, 2):
        assert host.run("echo x >>%s; wc -l <%s", str(counter), str(counter)).stdout.strip() == str(expected)
"""


class ThisMachine(ScriptedRemote):
    """Every host is this machine; its scripts run with its own sh, as whoever runs the tests."""

    closed = False

    def run(self, host: Host, script: str, *, timeout: float = 300, check: bool = True, root: bool = True) -> Result:
        done = subprocess.run(["sh", "-s"], input=script, capture_output=True, text=True, timeout=timeout)
        return Result(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return what was opened and closed, in order, of regions whose hosts are this machine."""
    told: list[str] = []

    @contextmanager
    def open_site(workspace: Any, environment: Any, clock: Any, progress: Any) -> Iterator[Any]:
        told.append(f"open {environment.name}")
        yield replace(site(ThisMachine()), environment=environment, clock=clock)
        told.append(f"close {environment.name}")

    monkeypatch.setattr(pytest_hosts, "open_site", open_site)
    return told


def _run(pytester: pytest.Pytester, hosts: str, *options: str) -> pytest.RunResult:
    return pytester.runpytest_inprocess("-p", "pipeline.pytest_hosts", f"--hosts={hosts}", "-v", *options)


def test_the_example_of_the_documentation_runs_on_every_host(pytester: pytest.Pytester, opened: list[str]) -> None:
    (example,) = _BLOCK.findall((ROOT / "docs/verify.md").read_text("utf-8"))
    pytester.makepyfile(example)
    result = _run(pytester, "local")
    hosts = len(site(ScriptedRemote()).region.inventory.hosts)
    result.assert_outcomes(passed=2 * hosts)
    result.stdout.fnmatch_lines(["*::test_there_is_memory_to_spare[[]local.engine.engine-0] PASSED*"])
    assert opened == ["open local", "close local"]


def test_a_role_and_a_host_may_be_meant(pytester: pytest.Pytester, opened: list[str]) -> None:
    pytester.makepyfile("def test_it(target): assert target.name in ('engine-0', 'engine-1', 'api-1')")
    _run(pytester, "local:engine,pipeline://local:api-1").assert_outcomes(passed=3)


def test_a_command_runs_as_often_as_it_is_asked_for(pytester: pytest.Pytester, opened: list[str]) -> None:
    pytester.makepyfile(COUNTS)
    _run(pytester, "local:api-0").assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("hosts", "said"),
    [
        ("nope", "*ERROR: */environments/nope.yaml: no such environment (there are: *"),
        ("local:queen", "*ERROR: environment local has no host 'queen' (there are: *"),
    ],
)
def test_hosts_that_there_are_not_are_told_in_a_line(
    pytester: pytest.Pytester, opened: list[str], hosts: str, said: str
) -> None:
    pytester.makepyfile("def test_it(host): pass")
    result = _run(pytester, hosts)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([said])
    assert "Traceback" not in result.stderr.str() + result.stdout.str()


def test_without_hosts_pytest_is_as_it_was(pytester: pytest.Pytester, opened: list[str]) -> None:
    pytester.makepyfile("def test_it(): pass")
    pytester.runpytest_inprocess("-p", "pipeline.pytest_hosts").assert_outcomes(passed=1)
    assert opened == []


def test_the_documentation_names_the_plugin_that_there_is() -> None:
    assert f"-p {pytest_hosts.__name__} " in Path(ROOT / "docs/verify.md").read_text("utf-8")
