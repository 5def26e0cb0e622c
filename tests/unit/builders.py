"""What several tests share: one environment, its region, three releases, and a site whose hosts answer by script."""

from __future__ import annotations

import json
import re
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from io import StringIO
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID

from rich.console import Console

from pipeline import commands
from pipeline.edges.clock import Clock, FakeClock
from pipeline.edges.heat import HeatRefused
from pipeline.edges.ssh import Heard, Result, failure
from pipeline.environment import Environment, Role, load
from pipeline.errors import HostUnreachable
from pipeline.fleet import Fleet, HostState
from pipeline.inventory import Host, Inventory
from pipeline.journal import Journal
from pipeline.layers import merge
from pipeline.policy import Policy
from pipeline.progress import Progress
from pipeline.region import Identity, Region
from pipeline.release import HeatVersion, Package, Release
from pipeline.rollout import RolloutPlan, vhost_of
from pipeline.secrets import Secret
from pipeline.site import Site
from pipeline.stacks import Stack

ROOT = Path(__file__).parents[2]
TEMPLATES = ROOT / "templates"
LOCAL = load("local", ROOT / "environments")
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKfN"

R25 = Release(HeatVersion(25, 0, 2), "1.36", "1.4", "c6214ca60943", "3.11", ())
R26 = Release(HeatVersion(26, 0, 2), "1.36", "1.9", "97b2a986f922", "3.11", ())
R27 = Release(HeatVersion(27, 0, 1), "1.36", "1.9", "97b2a986f922", "3.11", ())

# The same Heat, built twice more: with other packages it is another release, and no version tells which is newer.
R26_BUILDS = tuple(
    sorted(
        (
            replace(R26, packages=(Package("oslo.messaging", version, "a.whl", 64 * "0"),))
            for version in ("17.1.0", "17.2.0")
        ),
        key=lambda release: release.id,
    )
)
KNOWN = {release.id: release for release in (R25, R26, R27, *R26_BUILDS)}

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


def with_policy(of: Environment = LOCAL, **changes: Any) -> Environment:
    """Return an environment whose rollout policy has `changes`, written as its file would have them."""
    policy = Policy.model_validate(merge(of.policies.model_dump(mode="json"), changes))
    return of.model_copy(update={"policies": policy})


def region(of: Environment = LOCAL) -> Region:
    """Return the region of an environment: machines at 198.18.7.11 and on, and a secret of its own for everything."""
    last = count(11)
    addresses: defaultdict[str, str] = defaultdict(lambda: f"198.18.7.{next(last)}")
    hosts = []
    for role in Role:
        for index in range(of.topology.of(role).count):
            name, shared = f"{role.value}-{index}", "control-0" if of.topology.shares(role) else ""
            hosts.append(Host(name, role, addresses[shared or name], (KEY,), shared))
    secret = {name: Secret(text) for name, text in SECRETS.items()}
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
    cookie = Secret("erlang-cookie") if of.topology.is_cluster(Role.MESSAGING) else None
    return Region(Inventory(of.name, tuple(hosts)), "198.18.7.10", identity, *shared, messaging_cookie=cookie)


def settled(host: Host, release: Release, vhost: str = "") -> HostState:
    """Return the state of a host that runs `release`, on the vhost of its own unless another is named."""
    return HostState(host, release.id, release.id, vhost or vhost_of(release), (release.id,))


def fleet_on(release: Release, of: Environment = LOCAL) -> Fleet:
    """Return the fleet of an environment, all of it on `release`."""
    return Fleet(tuple(settled(host, release) for host in region(of).inventory.of(Role.API, Role.ENGINE)))


def names(states: Iterable[HostState]) -> list[str]:
    """Return the names of the hosts of `states`, in order."""
    return [state.host.name for state in states]


def engines_first(plan: RolloutPlan) -> list[str]:
    """Return the engines that move before any API, in order."""
    return [name for batch in plan.batches if batch.role is Role.ENGINE and not batch.when_idle for name in batch.names]


def apis(plan: RolloutPlan) -> list[str]:
    """Return the API hosts that move, in order."""
    return [name for batch in plan.batches if batch.role is Role.API for name in batch.names]


def engines_last(plan: RolloutPlan) -> list[str]:
    """Return the engines that move only when the old vhosts are idle, in order."""
    return names(plan.waits_for_idle)


class Kept:
    """A journal's lines, in memory."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def write(self, line: dict[str, Any]) -> None:
        self.lines.append(line)

    def steps(self, kind: str = "done") -> list[str]:
        """Return "STEP HOST" for each line of a kind, in order."""
        return [f"{line['step']} {line['host']}" for line in self.lines if line["kind"] == kind]


def journal(clock: Clock, lines: Kept | None = None) -> Journal:
    """Return a journal that writes to memory."""
    return Journal(clock, lines or Kept())


_DETACHED = re.compile(r"^ *cat >script <<'(\w+)'\n\{\n(.*)\n\}\n\1$", re.MULTILINE | re.DOTALL)

Answer = str | Result | Exception | Callable[[Host, str], "str | Result"]


class ScriptedRemote:
    """A Remote whose hosts answer scripts by pattern, and which keeps what was run where, in order.

    A rule's answers are given one after the other, the last for ever; the newest rule that fits counts. A script that
    no rule fits fails the test: what is run on a host is never left to chance. `cut` are how many copies to a host are
    lost on their way.
    """

    def __init__(self) -> None:
        self.ends_steps = True  # a detached step's script is run like any other, and its step has ended at once
        self.ran: list[tuple[str, str]] = []
        self.copied: list[tuple[str, Path, str]] = []
        self.cut: dict[str, int] = {}
        self._rules: list[tuple[re.Pattern[str], str, list[Answer]]] = []
        self._lock = threading.RLock()

    def on(self, pattern: str, *answers: Answer, host: str = "") -> None:
        """Answer scripts in which `pattern` is found, on every host or on `host` alone; no answer is an empty one."""
        self._rules.insert(0, (re.compile(pattern, re.MULTILINE), host, list(answers or ("",))))

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
        if self.ends_steps and (step := _DETACHED.search(script)):
            return self._run_detached(host, step[2])
        if self.ends_steps and "|| rm -f step " in script:  # a detached step's result was read
            return Result(0, "", "")
        with self._lock:
            self.ran.append((host.name, script))
            answer = self._answer(host, script)
            if callable(answer):
                answer = answer(host, script)
        if isinstance(answer, Exception):
            raise answer
        result = Result(0, answer, "") if isinstance(answer, str) else answer
        if heard is not None:
            for stream, text in (("stdout", result.stdout), ("stderr", result.stderr)):
                for line in text.splitlines():
                    heard(stream, line)
        if check and result.status:
            raise failure(host, result)
        return result

    def put(self, host: Host, source: Path, target: str) -> None:
        with self._lock:
            if self.cut.get(host.name, 0) > 0:
                self.cut[host.name] -= 1
                raise HostUnreachable(f"{host.name}: copying {source.name}: it is gone", hint="see to it")
            self.copied.append((host.name, source, target))

    def close(self) -> None:
        pass

    def _run_detached(self, host: Host, script: str) -> Result:
        """Answer as a detached step does that ends at once; see pipeline.detached."""
        result = self.run(host, script, check=False)
        return Result(0, f"step ended started exited {result.status} success\n{result.stdout}", result.stderr)

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


HAS, GIVE, FETCH, STOP_GIVING = r"^whole /", r"^systemd-run .*-spread", r"^until whole ", r"\Asystemctl stop heat-pipe"
"""The scripts of a spreading; see pipeline.handover."""


class Receivers:
    """What the scripts of a spreading do on hosts, in memory: `there` are those that have a file from the start."""

    def __init__(self, remote: ScriptedRemote, *there: str) -> None:
        self._remote = remote
        self._there = set(there)
        self._fetched: set[tuple[str, str]] = set()
        remote.on(HAS, self._has)
        remote.on(GIVE, lambda host, _: f"http://{host.address}:4711/{'x' * 43}\n")
        remote.on(FETCH, self._fetch)
        remote.on(STOP_GIVING)

    def _has(self, host: Host, script: str) -> Result:
        (path,) = re.findall(r"^whole (/\S+) \|\| exit 1$", script, re.MULTILINE)
        copied = {(name, target) for name, _, target in self._remote.copied}
        there = host.name in self._there or (host.name, path) in copied | self._fetched
        return Result(0 if there else 1, "", "")

    def _fetch(self, host: Host, script: str) -> str:
        self._fetched.add((host.name, *re.findall(r"^target=(\S+)$", script, re.MULTILINE)))
        return ""


ASKS = (r"^\[ -L /opt/heat/current", r"^cat /opt/heat/releases/\S+/manifest\.json$")
"""The questions that the hosts of a fleet are asked, beside those to database, broker and load balancer."""


class Machines:
    """What the scripts of an upgrade do to the hosts of a region, in memory: links, units, engines' rows, rotation.

    Each has `installed` on disk, and each release talks on a vhost of its own where `vhosts` does not say otherwise.

    A host whose link names a release in `broken` never gets healthy, and whose link names one in `refused` does not
    even start; the engines of one in `deaf` register and answer nobody. One in `stuck` leaves its rows when it stops.
    `looks` are how often a host is looked at before its stop has ended (0 where not said); until then it is in
    `draining`. `lost` are how many acts on a host get no answer.
    """

    def __init__(self, remote: ScriptedRemote, hosts: Inventory, release: Release, workers: int) -> None:
        self.hosts = hosts.of(Role.API, Role.ENGINE)
        self.current = {host.name: release.id for host in self.hosts}
        self.installed = {host.name: [release.id] for host in self.hosts}
        self.vhosts: dict[str, str] = {}
        self.running = {host.name: True for host in self.hosts}
        self.rotation = {host.name: "ready" for host in hosts.of(Role.API)}
        self.broken: set[str] = set()
        self.refused: set[str] = set()
        self.deaf: set[str] = set()
        self.stuck: set[str] = set()
        self.looks: dict[str, int] = {}
        self.draining: set[str] = set()
        self.lost: dict[str, int] = {}
        self.rows: dict[str, list[str]] = {host.name: [] for host in hosts.of(Role.ENGINE)}
        self._workers = workers
        self._ids = count(1)
        for name in self.rows:
            self._register(name)
        remote.on(r"^systemctl (stop --no-block|start) heat-|^ln -sfn", self._act)
        remote.on(ASKS[0], self._facts)
        remote.on(ASKS[1], lambda _, script: KNOWN[script.split("/")[4]].to_json())
        remote.on(r"^mkdir -p /opt/heat/releases$", self._install)
        Receivers(remote)
        remote.on(r"^ *mv -T -- /opt/heat/releases/", self._remove)
        remote.on(r"systemctl is-active --quiet heat-", lambda host, _: Result(0 if self._healthy(host) else 3, "", ""))
        remote.on(r"FROM heat\.service", self._engines)
        remote.on(r"^children=", self._count_workers)
        remote.on("SELECT COUNT", "0\t0\t0\n")
        remote.on(r"TIMESTAMPDIFF")
        remote.on(r"list_channels|close_connection")
        remote.on(r"/build_info", self._build_info)
        remote.on(r"api.LISTENER_TOPIC", self._revision)
        remote.on(r"^put ", host="loadbalancer-0")
        remote.on(r"show stat", self._stat)
        remote.on(r"^echo 'set server", self._set)
        remote.on(r"rabbitmqctl .*list_queues", "[]")

    def kill(self, name: str) -> None:
        """Be as after a power cut: a host's units are gone, and an engine's rows stay."""
        self.running[name] = False

    def drain(self, name: str) -> None:
        """Be as a run leaves a host that told it to stop and was killed: it takes no work, and has not ended."""
        self.draining.add(name)

    def empty(self) -> None:
        """Be as hosts are that never ran Heat."""
        self.running = dict.fromkeys(self.running, False)
        self.rows = {name: [] for name in self.rows}

    def fleet(self, *releases: Release) -> Fleet:
        """Return the fleet as it is now; each release talks on its own vhost."""
        known = {release.id: vhost_of(release) for release in releases}
        return Fleet(
            tuple(
                HostState(host, now, self._serves(host), known[now], tuple(known), draining=host.name in self.draining)
                for host in self.hosts
                for now in (self.current[host.name],)
            )
        )

    def _serves(self, host: Host) -> str:
        """Return the release whose work a host does, "" for none."""
        serves = self.running[host.name] and host.name not in self.draining
        return self.current[host.name] if serves else ""

    def _healthy(self, host: Host) -> bool:
        return self._serves(host) not in ("", *self.broken)

    def _register(self, name: str) -> None:
        self.rows[name] += [str(UUID(int=next(self._ids))) for _ in range(self._workers)]

    def _act(self, host: Host, script: str) -> Result:
        if self.lost.get(host.name, 0) > 0:
            self.lost[host.name] -= 1
            raise HostUnreachable(f"{host.name} is gone", hint="see to it")
        for line in script.splitlines():
            if line.startswith("systemctl stop --no-block"):
                if not self._stopped(host):
                    return Result(0, f"{commands.DRAINING}\n", "")
            elif line.startswith("ln -sfn"):
                self.current[host.name] = Path(line.split()[2]).name
            elif line.startswith("systemctl start"):
                if self.current[host.name] in self.refused:
                    return Result(1, "", "Job for heat failed")
                self.running[host.name] = True
                if host.role is Role.ENGINE and self._healthy(host):
                    self._register(host.name)
        return Result(0, "success\n", "")

    def _facts(self, host: Host, script: str) -> str:
        """Answer pipeline.fleet.state_script."""
        if host.name not in self.current:
            return "running /"  # a service without Heat, which runs where it likes
        current = self.current[host.name]
        return "\n".join(
            [
                f"current {current}",
                f"vhost {self.vhosts.get(current, f'heat-{current}')}",
                *(f"installed {release}" for release in self.installed[host.name]),
                f"running {self._serves(host)}",
                *([f"draining {host.role.value}"] if host.name in self.draining else []),
            ]
        )

    def _install(self, host: Host, script: str) -> str:
        (release,) = re.findall(r"^id=(\S+)$", script, re.MULTILINE)
        self.installed[host.name].append(release)
        return ""

    def _remove(self, host: Host, script: str) -> str:
        (release,) = re.findall(r"^ *mv -T -- /opt/heat/releases/(\S+)", script, re.MULTILINE)
        self.installed[host.name].remove(release)
        return ""

    def _stopped(self, host: Host) -> bool:
        """Look at a host that is to stop, and return whether it has ended."""
        if self.looks.get(host.name, 0) > 0:
            self.looks[host.name] -= 1
            self.draining.add(host.name)
            return False
        if self.running[host.name] and host.role is Role.ENGINE and host.name not in self.stuck:
            self.rows[host.name] = []
        self.running[host.name] = False
        self.draining.discard(host.name)
        return True

    def _count_workers(self, host: Host, script: str) -> str:
        """Answer pipeline.commands.count_workers."""
        return str(self._workers if self.running[host.name] else 0)

    def _engines(self, host: Host, script: str) -> str:
        return "".join(f"{row}\t{name}\t1\n" for name, rows in self.rows.items() for row in rows)

    def _build_info(self, host: Host, script: str) -> Result:
        answer = {part: {"revision": self.current[host.name]} for part in ("api", "engine")}
        return Result(0, json.dumps(answer), "") if self._healthy(host) else Result(7, "", "refused")

    def _revision(self, host: Host, script: str) -> Result:
        """Answer pipeline.commands.ask_engine."""
        deaf = self.current[host.name] in self.deaf
        return Result(0, f"{self.current[host.name]}\n", "") if self._healthy(host) and not deaf else Result(1, "", "")

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


class Services:
    """Database and broker as far as an upgrade asks them, in memory: the schema's head, the vhosts, the backups.

    A backup is the path of its file, and the head of the schema that is in it.
    """

    def __init__(self, remote: ScriptedRemote, release: Release) -> None:
        self.head = release.alembic_head
        self.vhosts = {vhost_of(release)}
        self.backups: dict[str, str] = {}
        remote.on(r"DATEDIFF", "0\n")
        remote.on(r"information_schema", "1\n")
        remote.on(r"version_num", lambda *_: f"{self.head}\n")
        remote.on(r"/heat-status .*upgrade check$|/heat-manage .*service clean$")
        remote.on(r"/heat-manage .*db_sync$", self._sync)
        remote.on(r"mariadb-dump", self._back_up)
        remote.on(r"list_policies", "[]")
        remote.on(r"list_vhosts name$", lambda *_: json.dumps([{"name": name} for name in sorted(self.vhosts)]))
        remote.on(r"add_vhost", self._add)
        remote.on(r"delete_vhost", self._delete)

    def _sync(self, host: Host, script: str) -> str:
        (release,) = set(re.findall(r"/releases/([^/]+)/", script))
        self.head = KNOWN[release].alembic_head
        return ""

    def _back_up(self, host: Host, script: str) -> str:
        (path,) = re.findall(r'^mv "\$partial" (\S+)$', script, re.MULTILINE)
        self.backups[path] = self.head
        return "1\n"

    def _add(self, host: Host, script: str) -> str:
        name = re.findall(r"add_vhost (\S+)", script)[0]
        self.vhosts.add(name)
        return ""

    def _delete(self, host: Host, script: str) -> str:
        self.vhosts.remove(script.split()[-1])
        return ""


class Customer:
    """The canary's Heat, as far as a question to the API needs it; `stacks` are there when a run begins.

    Each look at them may change them: into those of `later`, one after the other.
    `did` is what was done to them, in order; what begins with a word in `refuses` is refused with `status`.
    """

    def __init__(self) -> None:
        self.stacks: tuple[Stack, ...] = ()
        self.later: list[tuple[Stack, ...]] = []
        self.refuses: set[str] = set()
        self.status = 503
        self.did: list[str] = []
        self.signals: list[Mapping[str, Any]] = []

    def credentials(self) -> tuple[str, str]:
        return TOKEN, "project"

    def list(self) -> tuple[Stack, ...]:
        self._do("list")
        found = self.stacks
        if self.later:
            self.stacks = self.later.pop(0)
        return found

    def signal(self, stack_id: str, resource: str, details: Mapping[str, Any]) -> None:
        self.signals.append(details)
        self._do(f"signal {resource} of {stack_id}")

    def delete(self, stack_id: str) -> None:
        self._do(f"delete {stack_id}")

    def _do(self, act: str) -> None:
        self.did.append(act)
        if act.split()[0] in self.refuses:
            raise HeatRefused(f"{act}: Heat answered {self.status}: no engine", status=self.status)


def stack(name: str, status: str) -> Stack:
    """Return a stack as Heat lists it."""
    return Stack(f"id-of-{name}", name, status, "", "", {})


def progress(clock: FakeClock) -> Progress:
    """Return a Progress that prints to memory: `said` returns it."""
    return Progress(Console(file=StringIO(), width=200), clock)


def said(told: Progress) -> str:
    """Return all that was printed."""
    return printed(told.console)


def printed(console: Console) -> str:
    """Return all that was printed to a console of memory."""
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text


def site(remote: ScriptedRemote, of: Environment = LOCAL) -> Site:
    """Return the site of an environment, with hosts behind `remote`, and a clock that only passes in waits."""
    clock, customer = FakeClock(), Customer()
    heat: Any = customer
    return Site(of, region(of), TEMPLATES, remote, heat, clock, progress(clock))


def host(role: Role = Role.ENGINE, index: int = 0, of: Environment = LOCAL) -> Host:
    """Return a host of the region."""
    return region(of).inventory.of(role)[index]
