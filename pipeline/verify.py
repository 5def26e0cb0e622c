"""Verify: every host against what it should be, by the checks of pipeline.checks, and the report of it."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, redirect_stderr
from dataclasses import asdict, dataclass, replace
from io import StringIO
from pathlib import Path
from typing import Any

from pipeline import checks, junit
from pipeline.checks.result import CheckResult
from pipeline.checks.selection import Selection
from pipeline.errors import ConfigurationInvalid, PipelineError
from pipeline.inventory import Host
from pipeline.release import Release
from pipeline.site import Site

__all__ = ["EVERYTHING", "CheckResult", "Selection", "VerifyReport", "verify"]

EVERYTHING = Selection()
"""Every check of every host."""


_HOME = Path(checks.__file__).parent
_TOLD = 3  # checks that an error names

# The checks need neither a terminal nor pytest's care for a test suite, and a session of pytest that this runs in keeps
# its own hooks: two of them would undo each other's.
_WITHOUT = (
    "cacheprovider",
    "capture",
    "doctest",
    "faulthandler",
    "junitxml",
    "logging",
    "pastebin",
    "stepwise",
    "terminal",
    "threadexception",
    "tmpdir",
    "unraisableexception",
    "warnings",
)


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """Every check of the hosts that were checked, host by host. `seconds` is what all took together."""

    environment: str
    release_id: str
    results: tuple[CheckResult, ...]
    seconds: float

    @property
    def passed(self) -> int:
        """How many checks passed."""
        return sum(result.outcome == "passed" for result in self.results)

    @property
    def failed(self) -> int:
        """How many checks did not pass, those that could not be made among them."""
        return len(self.results) - self.passed

    @property
    def ok(self) -> bool:
        """Whether checks were made and all passed."""
        return bool(self.results) and not self.failed

    @property
    def failures(self) -> tuple[CheckResult, ...]:
        """The checks that did not pass."""
        return tuple(result for result in self.results if result.outcome != "passed")

    @property
    def told(self) -> str:
        """The first checks that did not pass, in one line: what an error or a record says of them."""
        first = "; ".join(str(result) for result in self.failures[:_TOLD])
        more = f" (and {self.failed - _TOLD} more)" if self.failed > _TOLD else ""
        return first + more

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain values, for a record."""
        return {
            "environment": self.environment,
            "release": self.release_id,
            "passed": self.passed,
            "failed": self.failed,
            "seconds": round(self.seconds, 3),
            "checks": [asdict(result) for result in self.results],
        }

    def to_junit(self) -> str:
        """Return the report as a JUnit XML document, with ENVIRONMENT.ROLE.HOST as the class name."""
        return junit.document(f"verify.{self.environment}", (_case(result) for result in self.results))


def verify(
    site: Site,
    release: Release,
    vhost: str,
    *,
    report: Callable[[str], None],
    selection: Selection = EVERYTHING,
) -> VerifyReport:
    """Check the hosts of `site` against what `release` on `vhost` should be, and return how each check ended.

    `report` hears a line for each host, in the inventory's order. A host that is gone makes its checks errors; it is
    not asked twice. Raises ConfigurationInvalid where `selection` fits nothing, PipelineError where the checks
    themselves cannot be run. An interrupt ends it at once, whatever hosts are being waited for.
    """
    from pipeline.checks.plugin import Checks
    from pipeline.checks.subject import Subject
    from pipeline.checks.survey import Survey
    from pipeline.edges.testinfra_backend import GivesUp

    started = time.monotonic()
    hosts = selection.hosts(site.region.inventory)
    remote = GivesUp(site.remote)
    site = replace(site, remote=remote)
    # First of all: a thread of the survey that reads the environment meanwhile would miss what is taken out of it.
    with _own_settings(), closing(Survey(site, release, vhost)) as survey:
        survey.begin(hosts, whole=not selection.expression)
        plugin = Checks(Subject(site, release, vhost, hosts, survey), lambda results: _tell(results, report))
        try:
            _run(plugin, selection.expression, f"inv verify {site.environment.name} -k 'clock or disk'")
        finally:
            remote.end()
    results = (*plugin.results, *(_absent(host, site) for host in selection.absent(site.region.inventory)))
    return VerifyReport(site.environment.name, release.id, results, time.monotonic() - started)


def _run(plugin: Any, expression: str, example: str) -> None:
    """Run pytest over the checks, in this process and apart from any other pytest of it.

    Raises ConfigurationInvalid, with an `example` of one that is, for an expression that fits nothing or is none.
    """
    import pytest

    arguments = ["-c", str(_HOME / "pytest.ini"), "--rootdir", str(_HOME), "--noconftest", "--disable-plugin-autoload"]
    # Plain asserts: a report shows what a check chose to tell, and no other value.
    arguments += ["--import-mode=importlib", "--assert=plain"]
    arguments += [f"-k{expression}"] if expression else []
    for name in _WITHOUT:
        arguments += ["-p", f"no:{name}"]
    said = StringIO()
    with redirect_stderr(said):
        status = pytest.main([*arguments, str(_HOME)], plugins=[plugin])
    if plugin.stopped is not None:
        print(said.getvalue(), file=sys.stderr, end="")  # what a signal's handler had to say
        raise plugin.stopped
    if status == pytest.ExitCode.USAGE_ERROR and expression:
        raise ConfigurationInvalid(_mistake(said.getvalue(), expression), hint=example)
    ran = status in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.NO_TESTS_COLLECTED)
    if plugin.broken or not ran:
        broken = "; ".join(plugin.broken) or f"pytest ended with {status!r}"
        raise PipelineError(f"the checks could not be run: {broken}", hint="inv test: the checks themselves are wrong")
    if expression and not plugin.chosen:
        raise ConfigurationInvalid(f"no check of these hosts fits -k {expression!r}", hint=example)


def _mistake(said: str, expression: str) -> str:
    """Return what pytest said of an expression that it cannot read, in one line without its colours."""
    text = " ".join(re.sub(r"\x1b\[[\d;]*m", "", said).split())
    _, found, why = text.partition(f"{expression}: ")
    return f"-k {expression!r} cannot be read: {why if found else text}"


@contextmanager
def _own_settings() -> Iterator[None]:
    """Keep PYTEST_ADDOPTS and its like from reaching the checks, and their own from outliving them."""
    kept = {name: os.environ.pop(name) for name in tuple(os.environ) if name.startswith("PYTEST_")}
    try:
        yield
    finally:
        for name in tuple(os.environ):
            if name.startswith("PYTEST_"):
                del os.environ[name]
        os.environ.update(kept)


def _absent(host: Host, site: Site) -> CheckResult:
    """Return what a host that has not come up is to a verification: something that could not be checked."""
    who = ("has_signalled", host.name, host.role.value, site.environment.name)
    return CheckResult(*who, "error", 0.0, "could not be checked: it has not signalled since its stack named it")


def _tell(results: Sequence[CheckResult], report: Callable[[str], None]) -> None:
    """Tell one host's checks in a line."""
    wrong = [result.name for result in results if result.outcome != "passed"]
    told = f"{len(results) - len(wrong)} checks passed"
    report(f"{results[0].host}: {told}" + (f", {len(wrong)} did not: {', '.join(wrong)}" if wrong else ""))


def _case(result: CheckResult) -> junit.Case:
    outcome: junit.Outcome = "passed" if result.outcome == "passed" else "failed"
    return junit.Case(result.classname, result.name, result.seconds, outcome, result.message)
