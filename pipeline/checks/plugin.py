"""What makes pytest run the checks against one region: it collects them, hosts are checked side by side in threads.

pytest's own way to run a test sets up fixtures one test after the other, and no two threads may do so at once. So a
check's arguments are given to it from here (pipeline.checks.subject), and pytest only finds, names and chooses checks.
"""

from __future__ import annotations

import inspect
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from pipeline.checks.expectation import Unexpected
from pipeline.checks.masking import masked, secrets_of
from pipeline.checks.result import CheckResult
from pipeline.checks.subject import OFFERED, Subject
from pipeline.checks.survey import SIDE_BY_SIDE
from pipeline.errors import PipelineError
from pipeline.inventory import Host

__all__ = ["Checks"]


class Checks:
    """A plugin that carries the region to check, so that nothing is global; `results` is what it saw, host by host.

    `heard` is told each host's results as soon as those of the hosts before it are told. `broken` are checks that
    cannot be loaded; `stopped` is what ended the run early, an interrupt, a signal's exit, or a mistake of ours.
    """

    def __init__(self, subject: Subject, heard: Callable[[Sequence[CheckResult]], None]) -> None:
        self.results: list[CheckResult] = []
        self.broken: list[str] = []
        self.chosen = 0
        self.stopped: BaseException | None = None
        self._subject = subject
        self._heard = heard
        self._secrets = secrets_of(subject.site.region)
        self._ending = threading.Event()

    def pytest_configure(self, config: pytest.Config) -> None:
        """Have modules that cannot be loaded told in a line."""
        config.option.tbstyle = "value"

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Give each check the hosts of its module's roles: check[local.engine.engine-0]."""
        environment = self._subject.site.environment.name
        hosts = [host for host in self._subject.hosts if host.role in metafunc.module.ROLES]
        ids = [f"{environment}.{host.role.value}.{host.name}" for host in hosts]
        if "target" not in metafunc.fixturenames:  # every check is of a host, whether it asks for its name or not
            metafunc.fixturenames.append("target")
        metafunc.parametrize("target", hosts, ids=ids)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Keep modules of checks that cannot be loaded."""
        if report.failed:
            self.broken.append(f"{report.nodeid}: {report.longreprtext.strip().splitlines()[-1]}")

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Keep checks that ask for what nobody offers."""
        asked = {item.name.partition("[")[0]: _arguments(item) - OFFERED for item in _checks(items)}
        self.broken += [f"{name} asks for {', '.join(sorted(odd))}" for name, odd in asked.items() if odd]

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Check the hosts side by side, and tell what was found in their order."""
        chosen = _checks(session.items)
        self.chosen = len(chosen)
        if chosen and not self.broken:
            of = {host: [one for one in chosen if _target(one) == host] for host in self._subject.hosts}
            self._check({host: checks for host, checks in of.items() if checks})
        return True

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Keep an interrupt that came while pytest looked for checks: it only returns a status."""
        self.stopped = self.stopped or excinfo.value

    def pytest_internalerror(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Keep a signal's exit that came then, or what is wrong with pytest or with us."""
        self.stopped = self.stopped or excinfo.value

    def _check(self, chosen: dict[Host, list[pytest.Function]]) -> None:
        pool = ThreadPoolExecutor(max_workers=SIDE_BY_SIDE, thread_name_prefix="checks")
        try:
            for ended in [pool.submit(self._check_host, host, checks) for host, checks in chosen.items()]:
                self.results += ended.result()
                self._heard(ended.result())
        except BaseException as error:  # noqa: BLE001 (pytest would swallow it; who runs pytest raises it again)
            self.stopped = error
            self._ending.set()
        finally:
            pool.shutdown(wait=self.stopped is None, cancel_futures=True)

    def _check_host(self, host: Host, checks: Sequence[pytest.Function]) -> list[CheckResult]:
        try:
            offered = self._subject.offers(host)
        except PipelineError as error:  # it is gone: no check of it could say more
            return [self._result(host, check, 0.0, error) for check in checks]
        found = []
        for check in checks:
            if self._ending.is_set():
                break
            began = time.perf_counter()
            raised = _error_of(check, {name: offered[name] for name in _arguments(check)})
            found.append(self._result(host, check, time.perf_counter() - began, raised))
        return found

    def _result(self, host: Host, check: pytest.Function, seconds: float, error: BaseException | None) -> CheckResult:
        name = check.originalname.removeprefix("check_")
        who = (name, host.name, host.role.value, self._subject.site.environment.name)
        if error is None:
            return CheckResult(*who, "passed", seconds)
        if isinstance(error, Unexpected):
            parts = (str(error), error.expected, error.found, error.likely, error.detail)
            return CheckResult(*who, "failed", seconds, *(masked(part, self._secrets) for part in parts))
        said = str(error) if isinstance(error, PipelineError) else f"{type(error).__name__}: {_line(error)}"
        return CheckResult(*who, "error", seconds, masked(f"could not be checked: {said}", self._secrets))


def _error_of(check: pytest.Function, arguments: dict[str, object]) -> BaseException | None:
    """Make one check; return what it raised. An interrupt or an exit ends more than the check, and passes through."""
    try:
        check.function(**arguments)
    except (Exception, pytest.fail.Exception, pytest.skip.Exception) as error:  # noqa: BLE001 (it is told as a result)
        return error
    return None


def _checks(items: Sequence[pytest.Item]) -> list[pytest.Function]:
    """Return the checks that have a host: of a role without hosts there is nothing to check."""
    return [one for one in items if isinstance(one, pytest.Function) and isinstance(_target(one), Host)]


def _target(check: pytest.Function) -> object:
    return check.callspec.params.get("target")


def _arguments(check: pytest.Item) -> set[str]:
    return set(inspect.signature(check.function).parameters) if isinstance(check, pytest.Function) else set()


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
