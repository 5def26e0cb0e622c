"""What makes pytest run the checks against one region: hosts become parameters, our values fixtures, ends results."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import pytest

from pipeline.checks.result import CheckResult, Outcome
from pipeline.checks.survey import Survey
from pipeline.edges.testinfra_backend import testinfra_host
from pipeline.errors import PipelineError
from pipeline.inventory import Host
from pipeline.release import Release
from pipeline.site import Site

__all__ = ["Checks"]


class Checks:
    """A plugin that carries the region to check, so that nothing is global; `results` is what it saw.

    `stopped` is what ended the run from outside (an interrupt, an exit), None where nothing did.
    """

    def __init__(
        self, site: Site, release: Release, vhost: str, survey: Survey, heard: Callable[[CheckResult], None]
    ) -> None:
        self.results: list[CheckResult] = []
        self.broken: list[str] = []
        self.stopped: BaseException | None = None
        self._heard = heard
        self._values = {"site": site, "release": release, "vhost": vhost, "survey": survey}
        self._site = site
        self._seconds = 0.0

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Give each check the hosts of its module's roles: check[local.engine.engine-0]."""
        hosts = self._site.region.inventory.of(*metafunc.module.ROLES)
        name = self._site.environment.name
        ids = [f"{name}.{host.role.value}.{host.name}" for host in hosts]
        metafunc.fixturenames.append("target") if "target" not in metafunc.fixturenames else None
        metafunc.parametrize("target", hosts, ids=ids, scope="session", indirect=True)

    @pytest.fixture(scope="session", name="target")
    def _target(self, request: pytest.FixtureRequest) -> Any:
        return request.param

    @pytest.fixture(scope="session", name="host")
    def _host(self, target: Host) -> Any:
        return testinfra_host(self._site.remote, target)

    @pytest.fixture(scope="session", name="site")
    def _give_site(self) -> Any:
        return self._values["site"]

    @pytest.fixture(scope="session", name="release")
    def _give_release(self) -> Any:
        return self._values["release"]

    @pytest.fixture(scope="session", name="vhost")
    def _give_vhost(self) -> Any:
        return self._values["vhost"]

    @pytest.fixture(scope="session", name="survey")
    def _give_survey(self) -> Any:
        return self._values["survey"]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Function, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Keep how a check ended: once it was called, or could not be set up."""
        report = yield
        error = call.excinfo.value if call.excinfo else None
        if isinstance(error, SystemExit):  # a signal's handler: pytest would take it for a failed check
            self.stopped = error
            item.session.shouldstop = "stopped"
        if call.when == "setup":
            self._seconds = 0.0
        self._seconds += call.duration
        if call.when == "call" or error is not None:
            self._keep(item, error)
        return report

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Keep modules of checks that cannot be loaded."""
        if report.failed:
            self.broken.append(f"{report.nodeid}: {report.longreprtext.strip().splitlines()[-1]}")

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Keep an interrupt, for pytest only returns a status."""
        self.stopped = excinfo.value

    def _keep(self, item: pytest.Function, error: BaseException | None) -> None:
        host: Host = item.callspec.params["target"]
        outcome, message = _told(error)
        name = item.originalname.removeprefix("check_")
        environment = self._site.environment.name
        result = CheckResult(name, host.name, host.role.value, environment, outcome, self._seconds, message)
        self.results.append(result)
        self._heard(result)


def _told(error: BaseException | None) -> tuple[Outcome, str]:
    """Return outcome and message for what a check raised: an assertion failed, anything else could not be checked."""
    if error is None:
        return "passed", ""
    if isinstance(error, AssertionError):
        return "failed", str(error)
    if isinstance(error, PipelineError):
        return "error", f"could not be checked: {error}"
    return "error", f"could not be checked: {type(error).__name__}: {error}"
