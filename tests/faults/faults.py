"""What the tests of faults share: a region to hurt, a way into its hosts without SSH, and runs as they go on."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any
from urllib.request import Request, urlopen

from rich.console import Console

from pipeline.edges.clock import SystemClock, wait_until
from pipeline.edges.hosts import observe
from pipeline.edges.parallel import on_each
from pipeline.environment import Environment, Role
from pipeline.errors import PipelineError, VerificationFailed
from pipeline.fleet import Fleet
from pipeline.inventory import Host
from pipeline.journal import Journal, Nowhere
from pipeline.localcloud import LocalCloud, cgroups, credentials
from pipeline.localcloud.hosts import group
from pipeline.progress import Progress
from pipeline.provision import install_release
from pipeline.release import Release
from pipeline.site import Site
from pipeline.traffic import clean
from pipeline.workflow import Pipeline
from pipeline.workspace import Workspace

ROOT = Path(__file__).parents[2]
NAME = "local"
OLD, NEW = "26.0.1", "26.0.2"  # the same worker RPC: no vhost to change, and so quick
DOCUMENTED = {0, 7, 8, 9, 10, 11, 12}  # what a run that touched a region may end with, ../shared/rollout.md
CLOCK = SystemClock()
UNITS = "heat-engine heat-api heat-api-cfn"


@dataclasses.dataclass(frozen=True, slots=True)
class Hurried(Pipeline):
    """The pipeline, with other policies and traffic than the environment's file says."""

    changes: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)

    def environment(self, name: str) -> Environment:
        return changed(Pipeline.environment(self, name), self.changes)


def changed(environment: Environment, changes: dict[str, dict[str, Any]]) -> Environment:
    """Return `environment` with `changes` laid on it, as {section: {key: value, or {key: value}}}."""
    document = environment.model_dump()
    for section, values in changes.items():
        for key, value in values.items():
            if isinstance(value, dict):
                document[section][key].update(value)
            else:
                document[section][key] = value
    return Environment.model_validate(document)


QUICK: dict[str, dict[str, Any]] = {
    "ssh": {"connect_timeout": 6},
    "policies": {"health": {"healthy_deadline": 25, "min_healthy_time": 2}, "drain": {"timeout": 60}},
    "traffic": {"clients": 2, "before": 1, "after": 1, "stack_timeout": 60, "hold": 2},
}
"""Deadlines that a test can wait for. healthy_deadline bounds how long a lost host is asked again, too."""

SILENT: dict[str, dict[str, Any]] = {
    **QUICK,
    "policies": {
        "serial": ["100%"],
        "max_unavailable": "100%",
        "health": {"healthy_deadline": 90, "min_healthy_time": 1},
        "drain": {"timeout": 150},
    },
    "traffic": {"clients": 1, "before": 0, "after": 0, "stack_timeout": 90, "hold": 0},
}
"""For the way back between two tests."""


class Run:
    """A run under way: what it writes, and how it ends. `code` is its exit code."""

    def __init__(self, region: Region) -> None:
        self._region = region
        self._known = frozenset(region.run_directories())
        self._directory: Path | None = None

    @property
    def directory(self) -> Path | None:
        """Where it writes; None until it has begun."""
        if self._directory is None:
            new = [path for path in self._region.run_directories() if path not in self._known]
            self._directory = new[0] if new else None
        return self._directory

    def lines(self, name: str = "journal") -> list[dict[str, Any]]:
        """Return what it has written so far into NAME.jsonl."""
        path = self.directory / f"{name}.jsonl" if self.directory else None
        if path is None or not path.exists():
            return []
        return [json.loads(line) for line in path.read_text("utf-8").splitlines(keepends=True) if line.endswith("\n")]

    @property
    def said(self) -> str:
        """What people were told."""
        return "\n".join(line["said"] for line in self.lines("events"))

    @property
    def steps(self) -> list[tuple[str, str]]:
        """The steps it began, as (step, host), in order."""
        return [(line["step"], line["host"]) for line in self.lines() if line["kind"] == "intent"]

    @property
    def moved(self) -> set[str]:
        """The hosts that run Heat of which it began a step."""
        return {host for _, host in self.steps if host.startswith(("engine-", "api-"))}

    @property
    def summary(self) -> dict[str, Any]:
        """Its summary.json."""
        assert self.directory is not None
        found: dict[str, Any] = json.loads((self.directory / "summary.json").read_text("utf-8"))
        return found

    def await_step(self, step: str, host: str = "", *, timeout: float = 120) -> tuple[str, str]:
        """Return as soon as it begins `step` on `host`, or on any host."""
        return self.await_any(lambda name, where: name == step and host in ("", where), f"{step} {host}", timeout)

    def await_any(self, wanted: Callable[[str, str], bool], what: str, timeout: float = 120) -> tuple[str, str]:
        """Return the first (step, host) begun that is `wanted`."""

        def begun() -> tuple[str, str] | None:
            return next((step for step in self.steps if wanted(*step)), None)

        return self._await(begun, what, timeout)

    def await_word(self, word: str, *, timeout: float = 120) -> None:
        """Return as soon as it has said `word`."""
        self._await(lambda: word in self.said or None, repr(word), timeout)

    def _await(self, answer: Callable[[], Any], what: str, timeout: float) -> Any:
        deadline = time.monotonic() + timeout
        while True:
            if found := answer():
                return found
            assert not self.over, f"the run ended with {self.code} before {what}:\n{self.output}"
            assert time.monotonic() < deadline, f"no {what} within {timeout:.0f} s:\n{self.output}"
            time.sleep(0.002)

    over: bool
    code: int
    output: str

    def wait(self, timeout: float = 240) -> int:
        """Wait for its end and return its exit code."""
        raise NotImplementedError


class Process(Run):
    """A run that was started as people start one, and can be killed."""

    def __init__(self, region: Region, *arguments: str, module: str = "invoke", **variables: str) -> None:
        super().__init__(region)
        self._log: IO[str] = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 (as long as the process)
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=ROOT,
            env={**os.environ, "PIPELINE_STATE": str(region.workspace.state), **variables},
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )

    @property
    def over(self) -> bool:
        return self._process.poll() is not None

    @property
    def code(self) -> int:
        return self.wait()

    @property
    def output(self) -> str:
        self._log.flush()
        return os.pread(self._log.fileno(), 1 << 20, 0).decode()

    def wait(self, timeout: float = 240) -> int:
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the run did not end within {timeout:.0f} s:\n{self.output}") from None

    def kill(self) -> None:
        """End it as a power cut would."""
        self._process.kill()
        self._process.wait()

    def terminate(self) -> None:
        """Ask it to end."""
        self._process.terminate()


class Thread(Run):
    """A run inside this process, whose policies may differ from the environment's."""

    def __init__(self, region: Region, body: Callable[[], object]) -> None:
        super().__init__(region)
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, args=(body,), daemon=True)
        self._thread.start()

    @property
    def over(self) -> bool:
        return not self._thread.is_alive()

    @property
    def code(self) -> int:
        self.wait()
        if isinstance(self.error, PipelineError):
            return self.error.exit_code
        return 1 if self.error else 0

    @property
    def output(self) -> str:
        return f"{self.said}\n{type(self.error).__name__}: {self.error}"

    @property
    def message(self) -> str:
        """What it ended with, on one line."""
        return getattr(self.error, "message", str(self.error))

    def wait(self, timeout: float = 240) -> int:
        self._thread.join(timeout)
        assert not self._thread.is_alive(), f"the run did not end within {timeout:.0f} s:\n{self.output}"
        return 0

    def _work(self, body: Callable[[], object]) -> None:
        try:
            body()
        except BaseException as error:  # noqa: BLE001 (the test asks for it)
            self.error = error


@dataclasses.dataclass(slots=True)
class Region:
    """The region that the tests hurt, and mend again."""

    workspace: Workspace
    cloud: LocalCloud
    processes: list[Process] = dataclasses.field(default_factory=list)

    def pipeline(self, changes: dict[str, dict[str, Any]] | None = None) -> Hurried:
        """Return the pipeline; `changes` to the environment are QUICK where none are given."""
        console = Console(width=160)
        return Hurried(self.workspace, CLOCK, Progress(console, CLOCK), QUICK if changes is None else changes)

    def process(self, changes: dict[str, dict[str, Any]] | None = None) -> Process:
        """Start an upgrade to NEW as people start one; with `changes`, in an environment that has them."""
        arguments = ("upgrade", NAME, "--release", NEW)
        if changes:
            process = Process(self, *arguments, module="tests.faults.inv", CHANGES=json.dumps(changes))
        else:
            process = Process(self, *arguments)
        self.processes.append(process)
        return process

    def upgrade(self, changes: dict[str, dict[str, Any]] | None = None) -> Thread:
        """Start an upgrade to NEW in this process."""
        return Thread(self, lambda: self.pipeline(changes).upgrade(NAME, NEW))

    def run_directories(self) -> tuple[Path, ...]:
        """Return the directories of all runs, the oldest first."""
        return tuple(sorted(self.workspace.runs.glob(f"{NAME}/*-*-*"), key=lambda path: path.stat().st_ctime_ns))

    @contextmanager
    def site(self) -> Iterator[Site]:
        """Open the region by SSH, as the pipeline does."""
        with self.pipeline().site(NAME) as site:
            yield site

    def console(self, host: str, script: str, *, check: bool = True, timeout: float = 60) -> str:
        """Run `script` as root on `host`, from its supervisor's side: no SSH, no network."""
        done = subprocess.run(self._enter(host, script), capture_output=True, text=True, timeout=timeout, check=False)
        assert done.returncode == 0 or not check, f"{host}: {script}: {done.stderr or done.stdout}"
        return done.stdout.strip()

    @contextmanager
    def background(self, host: str, script: str) -> Iterator[None]:
        """Run `script` on `host` while the body runs."""
        noted = "/run/fault.pid"
        process = subprocess.Popen(self._enter(host, f"echo $$ >{noted}; {script}"), stdout=subprocess.DEVNULL)
        try:
            yield
        finally:
            # The shell is a child of what was started here, and would outlive it.
            self.console(host, f"kill -9 $(cat {noted}); rm {noted}", check=False)
            process.wait()

    def _enter(self, host: str, script: str) -> list[str]:
        into = ("--mount", "--uts", "--ipc", "--net", "--pid")
        return ["nsenter", "--target", str(self._init(host)), *into, "--", "sh", "-c", script]

    def _init(self, host: str) -> int:
        """Return the pid that the first process of `host` has on this machine."""
        for pid in cgroups.find(self.cloud.name).pids(group(f"{NAME}-{host}")):
            try:
                status = Path(f"/proc/{pid}/status").read_text()
            except (FileNotFoundError, ProcessLookupError):  # it ended meanwhile
                continue
            numbers = next((line for line in status.splitlines() if line.startswith("NSpid:")), "").split()
            if len(numbers) == 3 and numbers[-1] == "1":
                return pid
        raise AssertionError(f"{host} is not on")

    def power_cut(self, host: str) -> None:
        """Cut the power of `host` and give it back, by the machines service."""
        power_cut(self.cloud, f"{NAME}-{host}")

    def marks(self, *hosts: str) -> dict[str, str]:
        """Return, for every host that runs Heat, what changes when it is touched: its link and its units' starts."""
        script = f"readlink /opt/heat/current; systemctl show --property MainPID,ActiveEnterTimestamp {UNITS}"
        return {host: self.console(host, script) for host in hosts or ("api-0", "api-1", "engine-0", "engine-1")}

    def built(self, reference: str) -> Any:
        """Return a built release."""
        return self.pipeline().wheelhouse.ensure(reference, report=print)

    def release(self, reference: str) -> Release:
        """Return a release."""
        found: Release = self.built(reference).release
        return found

    def install(self, reference: str = NEW) -> str:
        """Install a release beside what runs, and return where its Python packages are."""
        with self.site() as site:
            fleet = observe(site.region.inventory, site.remote)
            install_release(site, fleet, self.built(reference), Journal(CLOCK, Nowhere()))
        return f"/opt/heat/releases/{self.release(reference).id}/venv/lib/python3.11/site-packages"

    def uninstall(self, *hosts: str, reference: str = NEW) -> None:
        """Remove a release that nothing runs from hosts, so that a run has to install it again."""
        for host in hosts:
            self.console(host, f"rm -rf /opt/heat/releases/{self.release(reference).id}")

    @contextmanager
    def spoiled(self, path: str, edit: str, *hosts: str) -> Iterator[None]:
        """Edit a Python file of a release on `hosts` by the sed script `edit`; as it was, afterwards.

        Releases ship compiled, so what was compiled goes aside with it.
        """
        kept = f"{path}.kept"
        compiled = f"{os.path.dirname(path)}/__pycache__/{Path(path).stem}.cpython-311.pyc"  # noqa: PTH120 (a host's)
        for host in hosts:
            self.console(host, f"set -e; cp -p {path} {kept}; mv {compiled} {compiled}.kept; sed -i '{edit}' {path}")
            assert self.console(host, f"cmp -s {path} {kept} || echo differs") == "differs"
        try:
            yield
        finally:
            for host in hosts:
                self.console(host, f"mv -f {kept} {path}; mv -f {compiled}.kept {compiled}")

    def fleet(self) -> Fleet:
        """Return the fleet as it is."""
        with self.site() as site:
            return observe(site.region.inventory, site.remote)

    def on(self) -> dict[str, str]:
        """Return the version of Heat that each host runs, "" for none."""
        versions = {self.release(version).id: version for version in (OLD, NEW)}
        states = self.fleet().states
        return {state.host.name: versions.get(state.running, state.running) for state in states}

    def out_of_rotation(self) -> set[str]:
        """Return the API hosts that the load balancer sends nothing."""
        with self.site() as site:
            return {server.name for server in site.balancer.servers() if not server.status.startswith("UP")}

    def is_whole(self, version: str) -> None:
        """Assert that every host runs `version`, every API is in rotation, and nobody holds the lock."""
        assert set(self.on().values()) == {version}, self.on()
        wait_until(lambda: not self.out_of_rotation(), CLOCK, timeout=30, what="both APIs in rotation")
        assert self.pipeline().locks(NAME).status(NAME) is None

    def is_green(self) -> None:
        """Assert that every check of every host passes."""
        report = self.pipeline().verify(NAME)
        assert report.ok, [result for result in report.results if result.outcome != "passed"]

    def settle(self) -> None:
        """Bring the region to OLD, healthy, with no stack of a customer's, whatever the test before left."""
        for process in self.processes:
            process.kill()
        self.processes.clear()
        old = self.release(OLD).id
        with self.site() as site:
            self.forget_stacks(site)
        fleet = self.fleet()
        if not all(state.settled_on(old) for state in fleet.states) or self.out_of_rotation():
            with suppress(VerificationFailed):  # all hosts of a role at once, which customers notice
                self.pipeline(SILENT).rollback(NAME, OLD)
        self.is_whole(OLD)
        for host in ("engine-0", "engine-1"):
            self.forget_killed(host)

    def forget_killed(self, host: str) -> None:
        """Remove the rows of engine workers that were killed: what one test leaves is no fault of the next."""
        asked = "systemctl show --property ExecMainStartTimestamp --value --timestamp=unix heat-engine"
        started = int(self.console(host, asked).removeprefix("@"))
        rows = f"host='{host}' AND deleted_at IS NULL AND created_at < FROM_UNIXTIME({started})"
        sql = f"SET time_zone='+00:00'; DELETE FROM heat.service WHERE {rows}"  # noqa: S608 (a name and a number)
        self.console("database-0", f'mariadb -e "{sql}"')

    def forget_stacks(self, site: Site) -> None:
        """Delete every stack of the canary's project: a run that was killed leaves some."""
        clean(site.customer, "canary", CLOCK, timeout=90)

    def lost(self, *, patience: float = 60) -> dict[str, str]:
        """Return the stacks of the canary's project that failed, or that came to no end within `patience` seconds."""
        with self.site() as site:

            def bad() -> dict[str, str]:
                found = {stack.name: stack.status for stack in site.customer.list()}
                return {name: status for name, status in found.items() if not status.endswith("_COMPLETE")}

            deadline = time.monotonic() + patience
            while any(status.endswith("_IN_PROGRESS") for status in bad().values()) and time.monotonic() < deadline:
                time.sleep(1)
            return bad()

    def hosts(self, *roles: Role) -> tuple[Host, ...]:
        """Return the hosts of `roles`."""
        with self.site() as site:
            return site.region.inventory.of(*roles)


def power_cut(cloud: LocalCloud, *machines: str) -> None:
    """Cut the power of `machines`, all at once, and give it back."""
    token = {"X-Auth-Token": credentials.load(cloud.directory).machines_token}
    base = f"{cloud.machines_url}/machines"
    with urlopen(Request(base, headers=token), timeout=30) as answer:  # noqa: S310 (our own service)
        known = {machine["name"]: machine["id"] for machine in json.load(answer)["machines"]}

    def cut(machine: str) -> None:
        reboot = Request(f"{base}/{known[machine]}/reboot", method="POST", headers=token, data=b"{}")  # noqa: S310
        with urlopen(reboot, timeout=60) as answer:  # noqa: S310 (our own service)
            assert answer.status == 202

    on_each(machines, cut)
