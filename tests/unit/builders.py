"""What several tests share: one environment, its region, three releases, and a site whose hosts answer by script."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from io import StringIO
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID

from pydantic import SecretStr
from rich.console import Console

from pipeline.edges.clock import FakeClock
from pipeline.edges.ssh import Result
from pipeline.environment import Environment, Role, load
from pipeline.errors import CommandFailed
from pipeline.fleet import Fleet, HostState
from pipeline.inventory import Host, Inventory
from pipeline.progress import Progress
from pipeline.region import Identity, Region
from pipeline.release import HeatVersion, Release
from pipeline.rollout import vhost_of
from pipeline.site import Site

ROOT = Path(__file__).parents[2]
TEMPLATES = ROOT / "templates"
LOCAL = load("local", ROOT / "environments")
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKfN"

R25 = Release(HeatVersion(25, 0, 2), "1.36", "1.4", "c6214ca60943", "3.11", ())
R26 = Release(HeatVersion(26, 0, 2), "1.36", "1.9", "97b2a986f922", "3.11", ())
R27 = Release(HeatVersion(27, 0, 1), "1.36", "1.9", "97b2a986f922", "3.11", ())

SECRETS = {
    "service_password": "s3cret-service",
    "stack_domain_password": "s3cret-domain",
    "canary_password": "s3cret-canary",
    "database": "s3cret-database",
    "messaging": "s3cret-messaging",
    "encryption_key": "s3cret-encryption",
}
TOKEN = "s3cret-token"


def environment(**topology: int) -> Environment:
    """Return the local environment, with another number of hosts for the roles named."""
    if not topology:
        return LOCAL
    counts = {role: LOCAL.topology.of(Role(role)).model_copy(update={"count": n}) for role, n in topology.items()}
    return LOCAL.model_copy(update={"topology": LOCAL.topology.model_copy(update=counts)})


def region(of: Environment = LOCAL) -> Region:
    """Return the region of an environment: role-index at 198.18.7.11 and on, and a secret of its own for everything."""
    addresses = (f"198.18.7.{last}" for last in count(11))
    names = [(role, f"{role.value}-{index}") for role in Role for index in range(of.topology.of(role).count)]
    hosts = tuple(Host(name, role, next(addresses), (KEY,)) for role, name in names)
    secret = {name: SecretStr(text) for name, text in SECRETS.items()}
    identity = Identity(
        auth_url="http://198.18.7.1:5000/v3",
        service_user="local-heat",
        service_project="local-heat-service",
        service_password=secret["service_password"],
        stack_domain="5c3cd5eb0a7a4e1e8bb9f2b1f3a1f1aa",
        stack_domain_admin="local-heat-stack-domain-admin",
        stack_domain_password=secret["stack_domain_password"],
        canary="local-canary",
        canary_password=secret["canary_password"],
    )
    shared = (secret["database"], secret["messaging"], secret["encryption_key"])
    return Region(Inventory(of.name, hosts), "198.18.7.10", identity, *shared)


def settled(host: Host, release: Release, vhost: str = "") -> HostState:
    """Return the state of a host that runs `release`, on the vhost of its own unless another is named."""
    return HostState(host, release.id, release.id, vhost or vhost_of(release), (release.id,))


def fleet_on(release: Release, of: Environment = LOCAL) -> Fleet:
    """Return the fleet of an environment, all of it on `release`."""
    return Fleet(tuple(settled(host, release) for host in region(of).inventory.of(Role.API, Role.ENGINE)))


Answer = str | Result | Exception | Callable[[Host, str], "str | Result"]


class ScriptedRemote:
    """A Remote whose hosts answer scripts by pattern, and which keeps what was run where, in order.

    A rule's answers are given one after the other, the last for ever; the newest rule that fits counts. A script that
    no rule fits fails the test: what is run on a host is never left to chance.
    """

    def __init__(self) -> None:
        self.ran: list[tuple[str, str]] = []
        self.copied: list[tuple[str, Path, str]] = []
        self._rules: list[tuple[re.Pattern[str], str, list[Answer]]] = []
        self._lock = threading.RLock()

    def on(self, pattern: str, *answers: Answer, host: str = "") -> None:
        """Answer scripts in which `pattern` is found, on every host or on `host` alone; no answer is an empty one."""
        self._rules.insert(0, (re.compile(pattern, re.MULTILINE), host, list(answers or ("",))))

    def run(self, host: Host, script: str, *, timeout: float = 300, check: bool = True, root: bool = True) -> Result:
        with self._lock:
            self.ran.append((host.name, script))
            answer = self._answer(host, script)
            if callable(answer):
                answer = answer(host, script)
        if isinstance(answer, Exception):
            raise answer
        result = Result(0, answer, "") if isinstance(answer, str) else answer
        if check and result.status:
            raise CommandFailed(f"{host.name}: status {result.status}: {result.stderr}", status=result.status)
        return result

    def put(self, host: Host, source: Path, target: str) -> None:
        with self._lock:
            self.copied.append((host.name, source, target))

    def close(self) -> None:
        pass

    def scripts(self, pattern: str) -> list[str]:
        """Return the scripts in which `pattern` is found, in the order they were run."""
        return [script for _, script in self.ran if re.search(pattern, script, re.MULTILINE)]

    def steps(self, **patterns: str) -> list[str]:
        """Return "WORD HOST" for each script in which the pattern of a word is found, in the order they were run."""
        return [
            f"{word} {host}"
            for host, script in self.ran
            for word, pattern in patterns.items()
            if re.search(pattern, script, re.MULTILINE)
        ]

    def _answer(self, host: Host, script: str) -> Answer:
        for pattern, name, answers in self._rules:
            if name in ("", host.name) and pattern.search(script):
                return answers.pop(0) if len(answers) > 1 else answers[0]
        raise AssertionError(f"{host.name} was not expected to run: {script}")


class Machines:
    """What the scripts of an upgrade do to the hosts of a region, in memory: links, units, engines' rows, rotation.

    A host whose link names a release in `broken` never gets healthy, and whose link names one in `refused` does not
    even start; one in `stuck` leaves its rows when it stops.
    """

    def __init__(self, remote: ScriptedRemote, hosts: Inventory, release: Release, workers: int) -> None:
        self.hosts = hosts.of(Role.API, Role.ENGINE)
        self.current = {host.name: release.id for host in self.hosts}
        self.running = {host.name: True for host in self.hosts}
        self.rotation = {host.name: "ready" for host in hosts.of(Role.API)}
        self.broken: set[str] = set()
        self.refused: set[str] = set()
        self.stuck: set[str] = set()
        self.rows: dict[str, list[str]] = {host.name: [] for host in hosts.of(Role.ENGINE)}
        self._workers = workers
        self._ids = count(1)
        for name in self.rows:
            self._register(name)
        remote.on(r"^systemctl (stop|start) heat-|^ln -sfn", self._act)
        remote.on(r"systemctl is-active --quiet heat-", lambda host, _: Result(0 if self._healthy(host) else 3, "", ""))
        remote.on(r"FROM heat\.service", self._engines)
        remote.on(r"stack_lock", "0\t0\t0\n")
        remote.on(r"/build_info", self._build_info)
        remote.on(r"show stat", self._stat)
        remote.on(r"^echo 'set server", self._set)
        remote.on(r"rabbitmqctl .*list_queues", "[]")

    def empty(self) -> None:
        """Be as hosts are that never ran Heat."""
        self.running = dict.fromkeys(self.running, False)
        self.rows = {name: [] for name in self.rows}

    def fleet(self, *releases: Release) -> Fleet:
        """Return the fleet as it is now; each release talks on its own vhost."""
        known = {release.id: vhost_of(release) for release in releases}
        return Fleet(
            tuple(
                HostState(host, now, now if self.running[host.name] else "", known[now], tuple(known))
                for host in self.hosts
                for now in (self.current[host.name],)
            )
        )

    def _healthy(self, host: Host) -> bool:
        return self.running[host.name] and self.current[host.name] not in self.broken

    def _register(self, name: str) -> None:
        self.rows[name] += [str(UUID(int=next(self._ids))) for _ in range(self._workers)]

    def _act(self, host: Host, script: str) -> Result:
        for line in script.splitlines():
            if line.startswith("systemctl stop"):
                self.running[host.name] = False
                if host.role is Role.ENGINE and host.name not in self.stuck:
                    self.rows[host.name] = []
            elif line.startswith("ln -sfn"):
                self.current[host.name] = Path(line.split()[2]).name
            elif line.startswith("systemctl start"):
                if self.current[host.name] in self.refused:
                    return Result(1, "", "Job for heat failed")
                self.running[host.name] = True
                if host.role is Role.ENGINE and self._healthy(host):
                    self._register(host.name)
        return Result(0, "success\n", "")

    def _engines(self, host: Host, script: str) -> str:
        return "".join(f"{row}\t{name}\t1\n" for name, rows in self.rows.items() for row in rows)

    def _build_info(self, host: Host, script: str) -> Result:
        answer = {part: {"revision": self.current[host.name]} for part in ("api", "engine")}
        return Result(0, json.dumps(answer), "") if self._healthy(host) else Result(7, "", "refused")

    def _stat(self, host: Host, script: str) -> str:
        lines = ["# pxname,svname,scur,status"]
        for api in (host for host in self.hosts if host.role is Role.API):
            up = "UP" if self._healthy(api) else "DOWN"
            status = up if self.rotation[api.name] == "ready" else "DRAIN"
            lines += [f"{backend},{api.name},0,{status}" for backend in ("heat-api", "heat-api-cfn")]
        return "\n".join(lines) + "\n\n"

    def _set(self, host: Host, script: str) -> str:
        for server, state in re.findall(r"set server heat-api/(\S+) state (\w+)", script):
            self.rotation[server] = state
        return "\n"


class Customer:
    """The canary's Heat, as far as a question to the API needs it."""

    def credentials(self) -> tuple[str, str]:
        return TOKEN, "project"


def progress(clock: FakeClock) -> Progress:
    """Return a Progress that prints to memory: `said` returns it."""
    return Progress(Console(file=StringIO(), width=200), clock)


def said(told: Progress) -> str:
    """Return all that was printed."""
    text: str = told.console.file.getvalue()  # type: ignore[attr-defined]
    return text


def site(remote: ScriptedRemote, of: Environment = LOCAL) -> Site:
    """Return the site of an environment, with hosts behind `remote`, and a clock that only passes in waits."""
    clock, customer = FakeClock(), Customer()
    heat: Any = customer
    return Site(of, region(of), TEMPLATES, remote, heat, clock, progress(clock))


def host(role: Role = Role.ENGINE, index: int = 0, of: Environment = LOCAL) -> Host:
    """Return a host of the region."""
    return region(of).inventory.of(role)[index]
