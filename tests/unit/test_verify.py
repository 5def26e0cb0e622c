"""Verify: the checks run in this very process, apart from the pytest that runs this test, and report every host."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline import environment
from pipeline.checks import survey
from pipeline.checks.result import CheckResult
from pipeline.edges.clock import SystemClock
from pipeline.edges.ssh import Heard, Result
from pipeline.environment import Role
from pipeline.errors import CommandFailed, ConfigurationInvalid, HostUnreachable, PipelineError
from pipeline.inventory import Host, Inventory
from pipeline.region import Identity, Region
from pipeline.release import HeatVersion, Release
from pipeline.secrets import Secret
from pipeline.site import Site
from pipeline.verify import Selection, VerifyReport, verify

ROOT = Path(__file__).parents[2]
RELEASE = Release(HeatVersion(26, 0, 2), "1.36", "1.9", "97b2a986f922", "3.11", ())
SECRET = Secret("never-to-be-shown")


class ThisMachine:
    """A Remote to this machine: runs the real scripts with its own sh, as whoever runs the tests, and no root."""

    def __init__(self) -> None:
        self.asked: list[str] = []  # hosts, once for each script
        self.dated: list[str] = []  # hosts, once for each question about the time alone: a busy machine asks again

    def run(
        self,
        host: Host,
        script: str,
        *,
        timeout: float = 300,
        check: bool = True,
        root: bool = True,
        heard: Heard | None = None,
    ) -> Result:
        (self.dated if script.startswith("date ") else self.asked).append(host.name)
        done = subprocess.run(["sh", "-s"], input=script, capture_output=True, text=True, timeout=timeout)
        if check and done.returncode:
            raise CommandFailed(f"{host.name}: {done.stderr.strip()}", status=done.returncode)
        return Result(done.returncode, done.stdout, done.stderr)

    def put(self, host: Host, source: Path, target: str) -> None:
        raise AssertionError("a check copies nothing")

    def close(self) -> None:
        pass


class Gone(ThisMachine):
    """A Remote whose hosts are all gone."""

    def run(
        self,
        host: Host,
        script: str,
        *,
        timeout: float = 300,
        check: bool = True,
        root: bool = True,
        heard: Heard | None = None,
    ) -> Result:
        self.asked.append(host.name)
        raise HostUnreachable(f"{host.name} is gone")


class Session:
    """A customer's session, as far as a question to the API needs it."""

    def get_token(self) -> str:
        return SECRET.reveal()

    def get_project_id(self) -> str:
        return "project"


class Customer:
    session = Session()

    def token_seconds(self) -> float:
        return 3600.0


def _site(remote: Any, roles: tuple[Role, ...] = tuple(Role)) -> Site:
    hosts = tuple(Host(f"{role.value}-0", role, f"127.1.1.{index}", ()) for index, role in enumerate(roles, 1))
    identity = Identity("http://127.1.1.9:5000/v3", "heat", "service", SECRET, "d", "a", SECRET, "canary", SECRET)
    region = Region(Inventory("local", hosts), "127.1.1.5", identity, SECRET, SECRET, SECRET)
    local = environment.load("local", ROOT / "environments")
    customer: Any = Customer()
    nothing: Any = None
    return Site(local, region, ROOT / "templates", remote, customer, SystemClock(), nothing)


@pytest.fixture(scope="module", autouse=True)
def _no_broker(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A PATH without the services' tools, so that no test ever asks a service of this machine."""
    tools = tmp_path_factory.mktemp("bin")
    for tool in ("mariadb", "rabbitmqctl", "rabbitmq-diagnostics", "haproxy", "socat", "curl", "sudo"):
        (tools / tool).write_text("#!/bin/sh\necho no such service here >&2\nexit 7\n")
        (tools / tool).chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
        yield


@pytest.fixture(scope="module")
def report() -> VerifyReport:
    return verify(_site(ThisMachine()), RELEASE, "heat-1", report=lambda _: None)


def _outcomes(report: VerifyReport, name: str) -> dict[str, str]:
    return {result.host: result.outcome for result in report.results if result.name == name}


def _names(report: VerifyReport) -> str:
    return ", ".join(result.name for result in report.failures)


def test_every_host_gets_the_common_checks_and_those_of_its_role(report: VerifyReport) -> None:
    assert set(_outcomes(report, "clock_is_right")) == {f"{role.value}-0" for role in Role}
    assert set(_outcomes(report, "units_run_the_release")) == {"engine-0", "api-0"}
    assert set(_outcomes(report, "vhost_is_there")) == {"messaging-0"}


def test_a_machine_without_services_passes_what_it_can_and_fails_the_rest(report: VerifyReport) -> None:
    assert set(_outcomes(report, "clock_is_right").values()) == {"passed"}
    assert set(_outcomes(report, "units_are_enabled_and_active").values()) == {"failed"}
    assert set(_outcomes(report, "files_are_as_rendered").values()) == {"failed"}
    assert not report.ok
    assert report.passed + report.failed == len(report.results)


def test_what_fails_tells_what_was_expected_what_was_found_and_why(report: VerifyReport) -> None:
    for result in report.failures:
        if result.outcome == "failed":
            first, second, *_ = result.message.splitlines()
            assert first == f"expected {result.expected}; found {result.found}"
            assert second == f"likely: {result.likely}"


def test_no_secret_is_in_a_report(report: VerifyReport) -> None:
    assert SECRET.reveal() not in report.to_junit() + str(report.to_json())


def test_junit_names_environment_role_and_host(report: VerifyReport) -> None:
    suite = ET.fromstring(report.to_junit()).find("testsuite")  # noqa: S314 (written above)
    assert suite is not None
    assert suite.get("tests") == str(len(report.results))
    assert {case.get("classname") for case in suite} == {f"local.{role.value}.{role.value}-0" for role in Role}


def test_json_counts_and_lists_every_check(report: VerifyReport) -> None:
    found = report.to_json()
    assert (found["passed"], found["failed"]) == (report.passed, report.failed)
    assert found["checks"][0].keys() == {
        "name", "host", "role", "environment", "outcome", "seconds", "message", "expected", "found", "likely", "detail",
    }  # fmt: skip


def test_the_outer_session_keeps_its_environment_and_options(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --no-such-option\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTEST_ADDOPTS", "--no-such-option")
    before = {key: value for key, value in os.environ.items() if key.startswith("PYTEST_")}
    hooks = list(sys.meta_path)
    assert verify(_site(ThisMachine(), (Role.DATABASE,)), RELEASE, "heat-1", report=lambda _: None).results
    assert {key: value for key, value in os.environ.items() if key.startswith("PYTEST_")} == before
    assert sys.meta_path == hooks


def test_nothing_is_printed_but_what_is_reported(capfd: pytest.CaptureFixture[str]) -> None:
    said: list[str] = []
    report = verify(_site(ThisMachine(), (Role.DATABASE,)), RELEASE, "heat-1", report=said.append)
    assert capfd.readouterr() == ("", "")
    assert said == [f"database-0: {report.passed} checks passed, {report.failed} did not: {_names(report)}"]


def test_a_host_that_is_gone_is_asked_once_and_its_checks_are_errors() -> None:
    remote = Gone()
    report = verify(_site(remote), RELEASE, "heat-1", report=lambda _: None)
    gone = [result for result in report.results if result.name == "no_unit_failed"]
    assert {result.outcome for result in gone} == {"error"}
    assert all(f"{result.host} is gone" in result.message for result in gone)
    assert all(remote.asked.count(name) <= 3 for name in remote.asked)  # at once, before the first answer


def test_a_host_that_lets_nobody_in_makes_its_own_checks_errors_and_no_other_hosts() -> None:
    class WithoutSudo(ThisMachine):
        """A host that lets nobody become root, among others that do."""

        def run(self, host: Host, script: str, **options: Any) -> Result:
            if host.role is Role.DATABASE:
                raise ConfigurationInvalid("database-0 lets pipeline run nothing as root", hint="NOPASSWD")
            return super().run(host, script, **options)

    report = verify(_site(WithoutSudo()), RELEASE, "heat-1", report=lambda _: None)
    by_host = {result.host: result for result in report.results if result.name == "clock_is_right"}
    assert by_host["database-0"].outcome == "error"
    assert "lets pipeline run nothing as root" in by_host["database-0"].message
    assert {result.outcome for name, result in by_host.items() if name != "database-0"} == {"passed"}


def test_a_host_is_asked_once_for_everything_and_an_api_for_its_answers_too() -> None:
    remote = ThisMachine()
    verify(_site(remote), RELEASE, "heat-1", report=lambda _: None)
    asked = {role.value: remote.asked.count(f"{role.value}-0") for role in Role}
    assert asked == {"database": 1, "messaging": 1, "api": 2, "engine": 1, "loadbalancer": 1}


def test_hosts_are_checked_side_by_side_and_told_in_their_order() -> None:
    class Together(ThisMachine):
        """Every host answers when all were asked."""

        meeting = threading.Barrier(len(Role), timeout=30)

        def run(self, host: Host, script: str, **options: Any) -> Result:
            if "ask 0" in script:
                self.meeting.wait()
            return super().run(host, script, **options)

    said: list[str] = []
    report = verify(_site(Together()), RELEASE, "heat-1", report=said.append)
    names = [f"{role.value}-0" for role in Role]
    assert [line.partition(":")[0] for line in said] == names
    assert list(dict.fromkeys(result.host for result in report.results)) == names


def test_only_the_hosts_of_a_role_are_checked() -> None:
    report = _selected(role="api,engine")
    assert {result.host for result in report.results} == {"api-0", "engine-0"}


def test_only_hosts_that_are_named_are_checked_and_others_are_asked_what_the_checks_need() -> None:
    remote = ThisMachine()
    report = verify(_site(remote), RELEASE, "heat-1", report=lambda _: None, selection=Selection.of(limit="database-0"))
    assert {result.host for result in report.results} == {"database-0"}
    assert "units_are_enabled_and_active" in {result.name for result in report.results}
    assert "loadbalancer-0" in remote.dated
    assert "loadbalancer-0" not in remote.asked


def test_only_checks_that_the_expression_fits_are_made() -> None:
    report = _selected(expression="clock and not api")
    assert {result.name for result in report.results} == {"clock_is_right"}
    assert "api-0" not in {result.host for result in report.results}


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ({"expression": "no_such_check"}, "no check of these hosts fits -k 'no_such_check'"),
        ({"expression": "clock and and"}, "-k 'clock and and' cannot be read: at column 11: expected "),
        ({"limit": "engine-7"}, "has no host 'engine-7' (there are: database-0, "),
        ({"limit": "engine-0", "role": "api"}, "none of engine-0 is a host of role api"),
        ({"role": "queen"}, "there is no role 'queen' (there are: database, "),
    ],
)
def test_a_selection_that_fits_nothing_is_refused(typed: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigurationInvalid) as caught:
        _selected(**typed)
    assert said in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.hint


def _selected(**typed: str) -> VerifyReport:
    return verify(_site(ThisMachine()), RELEASE, "heat-1", report=lambda _: None, selection=Selection.of(**typed))


@pytest.fixture
def heeded() -> Iterator[None]:
    """Have Ctrl-C interrupt, as in a terminal: whoever is started in the background inherits that it is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_interrupt_does_not_wait_for_hosts_that_hang(heeded: None) -> None:
    class Hanging(ThisMachine):
        """A host that does not answer while a person has had enough."""

        over = threading.Event()

        def run(self, host: Host, script: str, **options: Any) -> Result:
            if host.role is Role.DATABASE:
                while not any(thread.name.startswith("checks") for thread in threading.enumerate()):
                    time.sleep(0.01)
                time.sleep(0.2)  # whoever runs the checks waits for them by now, and does nothing else
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
                assert self.over.wait(30)
            return super().run(host, script, **options)

    remote = Hanging()
    try:
        with pytest.raises(KeyboardInterrupt):
            verify(_site(remote), RELEASE, "heat-1", report=lambda _: None)
        assert not remote.over.is_set()
    finally:
        remote.over.set()


def test_an_interrupt_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: survey.Survey) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(survey.Survey, "clock_offsets", interrupted)
    with pytest.raises(KeyboardInterrupt):
        verify(_site(ThisMachine()), RELEASE, "heat-1", report=lambda _: None)


def test_a_signals_exit_ends_the_run_too(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def stopped(self: survey.Survey) -> None:
        print("terminated", file=sys.stderr)
        raise SystemExit(143)

    monkeypatch.setattr(survey.Survey, "clock_offsets", stopped)
    with pytest.raises(SystemExit):
        verify(_site(ThisMachine()), RELEASE, "heat-1", report=lambda _: None)
    assert set(capsys.readouterr().err.splitlines()) == {"terminated"}


def test_a_region_without_hosts_is_no_success() -> None:
    empty = VerifyReport("local", RELEASE.id, (), 0.0)
    assert not empty.ok


def test_checks_that_cannot_be_loaded_are_an_error_of_ours(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\npython_files = check_*.py\n")
    (tmp_path / "check_broken.py").write_text("import no_such_module\n")
    monkeypatch.setattr("pipeline.verify._HOME", tmp_path)
    with pytest.raises(PipelineError, match="no_such_module"):
        verify(_site(ThisMachine()), RELEASE, "heat-1", report=lambda _: None)


def test_a_check_that_asks_for_what_nobody_offers_is_an_error_of_ours(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\npython_files = check_*.py\npython_functions = check_*\n")
    (tmp_path / "check_odd.py").write_text(f"ROLES = {[role.value for role in Role]}\ndef check_odd(tmp_path): pass\n")
    monkeypatch.setattr("pipeline.verify._HOME", tmp_path)
    with pytest.raises(PipelineError, match="check_odd asks for tmp_path"):
        verify(_site(ThisMachine()), RELEASE, "heat-1", report=lambda _: None)


def test_a_result_reads_as_one_line() -> None:
    result = CheckResult("clock_is_right", "api-0", "api", "local", "failed", 0.1, "expected a; found b\nlikely: c")
    assert str(result) == "api-0: clock_is_right failed: expected a; found b; likely: c"


def test_a_host_that_did_not_come_up_is_something_that_could_not_be_checked() -> None:
    here = _site(ThisMachine(), (Role.LOADBALANCER,))
    absent = (Host("engine-2", Role.ENGINE, "", ()), Host("api-1", Role.API, "", ()))
    here = replace(here, region=replace(here.region, inventory=replace(here.region.inventory, absent=absent)))
    selection = Selection.of(expression="clock")
    report = verify(here, RELEASE, "heat-1", report=lambda _: None, selection=selection)
    assert _outcomes(report, "has_signalled") == {"engine-2": "error", "api-1": "error"}
    assert not report.ok
    only = verify(
        here, RELEASE, "heat-1", report=lambda _: None, selection=replace(selection, roles=(Role.LOADBALANCER,))
    )
    assert _outcomes(only, "has_signalled") == {}
