"""What makes pytest run the checks against one region: hosts become parameters, ends become results."""

from __future__ import annotations

from collections.abc import Callable, Generator

import pytest

from pipeline.checks.expectation import Unexpected
from pipeline.checks.fixtures import SUBJECT, Subject
from pipeline.checks.result import CheckResult, Outcome
from pipeline.errors import PipelineError
from pipeline.inventory import Host

__all__ = ["Checks"]


class Checks:
    """A plugin that carries the region to check, so that nothing is global; `results` is what it saw.

    `broken` are modules that could not be loaded; `stopped` is what ended the run from outside, an interrupt or exit.
    """

    def __init__(self, subject: Subject, heard: Callable[[CheckResult], None]) -> None:
        self.results: list[CheckResult] = []
        self.broken: list[str] = []
        self.stopped: BaseException | None = None
        self._subject = subject
        self._heard = heard
        self._seconds = 0.0

    def pytest_configure(self, config: pytest.Config) -> None:
        """Put the subject where the fixtures find it."""
        config.stash[SUBJECT] = self._subject
        config.option.tbstyle = "value"  # nobody reads the tracebacks, and drawing them takes longer than the checks

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Give each check the hosts of its module's roles: check[local.engine.engine-0]."""
        site = self._subject.site
        hosts = site.region.inventory.of(*metafunc.module.ROLES)
        ids = [f"{site.environment.name}.{host.role.value}.{host.name}" for host in hosts]
        metafunc.parametrize("target", hosts, ids=ids, scope="session", indirect=True)

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
        self._seconds = call.duration + (0.0 if call.when == "setup" else self._seconds)
        if call.when == "call" or error is not None:
            self._keep(item, error)
        return report

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Keep modules of checks that cannot be loaded."""
        if report.failed:
            self.broken.append(f"{report.nodeid}: {report.longreprtext.strip().splitlines()[-1]}")

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Keep a person's interrupt, for pytest only returns a status; its own (Session.Interrupted) have another."""
        if not isinstance(excinfo.value, pytest.Session.Interrupted):
            self.stopped = excinfo.value

    def _keep(self, item: pytest.Function, error: BaseException | None) -> None:
        host = item.callspec.params["target"]
        if not isinstance(host, Host):  # a role without hosts has nothing to check
            return
        outcome, message = _told(error)
        name = item.originalname.removeprefix("check_")
        environment = self._subject.site.environment.name
        result = CheckResult(name, host.name, host.role.value, environment, outcome, self._seconds, message)
        self.results.append(result)
        self._heard(result)


def _told(error: BaseException | None) -> tuple[Outcome, str]:
    """Return outcome and message for what a check raised: anything but Unexpected could not be checked."""
    if error is None:
        return "passed", ""
    if isinstance(error, Unexpected):
        return "failed", str(error)
    if isinstance(error, PipelineError):
        return "error", f"could not be checked: {error}"
    said = " ".join(str(error).split())[:300]
    return "error", f"could not be checked: {type(error).__name__}: {said}"
