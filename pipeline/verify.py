"""Verify: every host against what it should be, by the checks of pipeline.checks, and the report of it."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pipeline import checks, junit
from pipeline.checks.result import CheckResult
from pipeline.errors import PipelineError
from pipeline.release import Release
from pipeline.site import Site

__all__ = ["CheckResult", "VerifyReport", "verify"]

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
    """Every check of every host, in the order they were made. `seconds` is what all took together."""

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


def verify(site: Site, release: Release, vhost: str, *, report: Callable[[str], None]) -> VerifyReport:
    """Check every host of `site` against what `release` on `vhost` should be, and return how each check ended.

    `report` hears a line for each check that does not pass, and for each host. A host that is gone makes its checks
    errors; it is not asked twice. Raises PipelineError where the checks themselves cannot be run.
    """
    from pipeline.checks.fixtures import Subject
    from pipeline.checks.plugin import Checks
    from pipeline.checks.survey import Survey
    from pipeline.edges.testinfra_backend import GivesUp

    started = time.monotonic()
    site = replace(site, remote=GivesUp(site.remote))
    with closing(Survey(site, vhost)) as survey:
        survey.begin()
        plugin = Checks(Subject(site, release, vhost, survey), lambda result: _tell(result, report))
        _run(plugin)
    results = tuple(plugin.results)
    for host, count in Counter(result.host for result in results if result.outcome == "passed").items():
        report(f"{host}: {count} checks passed")
    return VerifyReport(site.environment.name, release.id, results, time.monotonic() - started)


def _run(plugin: Any) -> None:
    """Run pytest over the checks, in this process and apart from any other pytest of it."""
    import pytest

    arguments = ["-c", str(_HOME / "pytest.ini"), "--rootdir", str(_HOME), "--noconftest", "--disable-plugin-autoload"]
    # Plain asserts: a report shows what a check chose to tell, and no other value.
    arguments += ["--import-mode=importlib", "--assert=plain", "-p", "pipeline.checks.fixtures"]
    for name in _WITHOUT:
        arguments += ["-p", f"no:{name}"]
    with _own_settings():
        status = pytest.main([*arguments, str(_HOME)], plugins=[plugin])
    if plugin.stopped is not None:
        raise plugin.stopped
    if status not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        broken = "; ".join(plugin.broken) or f"pytest ended with {status!r}"
        raise PipelineError(f"the checks could not be run: {broken}", hint="inv test: the checks themselves are wrong")


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


def _tell(result: CheckResult, report: Callable[[str], None]) -> None:
    if result.outcome != "passed":
        report(str(result))


def _case(result: CheckResult) -> junit.Case:
    outcome: junit.Outcome = "passed" if result.outcome == "passed" else "failed"
    return junit.Case(result.classname, result.name, result.seconds, outcome, result.message)
