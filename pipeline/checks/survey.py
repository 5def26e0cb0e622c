"""The survey: what several checks need of the region, asked once, all hosts at once, while the first checks run."""

from __future__ import annotations

import json
import re
import shlex
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from pipeline import commands
from pipeline.checks.listening import sockets
from pipeline.checks.processes import process_of
from pipeline.edges.balancer import Server
from pipeline.edges.broker import Queue
from pipeline.edges.testinfra_backend import connected
from pipeline.environment import Role
from pipeline.errors import PipelineError
from pipeline.hostfiles import CURRENT, UNITS
from pipeline.installation import RELEASES
from pipeline.inventory import Host
from pipeline.release import Release
from pipeline.site import Site

__all__ = ["ApiAnswers", "BrokerFacts", "Survey", "broker_facts", "revisions"]

T = TypeVar("T")
_QUICK = 0.5  # seconds: an answer about the time that came as fast is good enough
_ASKED = 5  # times at most


@dataclass(frozen=True, slots=True)
class BrokerFacts:
    """What the broker says of itself: names, what user heat may do on the vhost, its queues, TTL policies, alarms."""

    vhosts: frozenset[str]
    users: frozenset[str]
    permissions: tuple[str, ...]
    queues: Mapping[str, Queue]
    expiring: tuple[str, ...]
    alarm: str


@dataclass(frozen=True, slots=True)
class ApiAnswers:
    """What one API host answered to build_info: the revisions of APIs and engines, or what it said instead."""

    api: frozenset[str]
    engine: frozenset[str]
    refusals: tuple[str, ...]


class Survey:
    """Asks each question once and keeps the answer, or the error, for every check that needs it."""

    def __init__(self, site: Site, vhost: str) -> None:
        self._site = site
        self._vhost = vhost
        self._asked: dict[str, Future[Any]] = {}
        self._hosts = {host.name: connected(site.remote, host) for host in site.region.inventory.hosts}
        self._pool = ThreadPoolExecutor(max_workers=16, thread_name_prefix="survey")

    def begin(self) -> None:
        """Ask all that is slow, and open the connections to all hosts at once."""
        for host in self._site.region.inventory.hosts:
            self._ask(f"clock {host.name}", partial(self._offset, host))
        self._ask("broker", self._broker)
        for host in self._site.region.inventory.of(Role.API):
            self._ask(f"api {host.name}", partial(self._answers, host))
        for host in self._site.region.inventory.hosts:
            self._ask(f"look {host.name}", partial(self._look, host))

    def close(self) -> None:
        """End: what was not asked yet is not asked."""
        self._pool.shutdown(cancel_futures=True)

    def host(self, target: Host) -> Any:
        """Return `target` as testinfra sees it: the checks' fixture `host`."""
        return self._hosts[target.name]

    def clock_offsets(self) -> Mapping[str, float]:
        """Return how many seconds each host's clock is ahead of this machine's; hosts that are gone are left out."""
        offsets = {}
        for host in self._site.region.inventory.hosts:
            future = self._ask(f"clock {host.name}", partial(self._offset, host))
            if not isinstance(future.exception(), PipelineError):
                offsets[host.name] = future.result()
        return offsets

    def live_workers(self) -> Mapping[str, int]:
        """Return how many engine workers of each host reported lately (twice their interval), as their rows tell."""
        return self._ask("workers", self._workers).result()

    def broker(self) -> BrokerFacts:
        """Return what the broker says of itself."""
        return self._ask("broker", self._broker).result()

    def api(self, host: Host) -> ApiAnswers:
        """Return what `host` answered, asked often enough to reach every engine's worker."""
        return self._ask(f"api {host.name}", partial(self._answers, host)).result()

    def releases(self) -> tuple[Release, ...]:
        """Return the releases on the first engine's disk, as their manifests describe them."""
        return self._ask("releases", self._releases).result()

    def servers(self) -> tuple[Server, ...]:
        """Return the load balancer's servers."""
        return self._ask("servers", self._site.balancer.servers).result()

    def common_configuration(self, role: Role) -> Mapping[str, str]:
        """Return, per host of `role`, a digest of what its heat.conf and manifest must share with the others'."""
        hosts = self._site.region.inventory.of(role)
        asked = {host.name: self._ask(f"shared {host.name}", partial(self._shared, host)) for host in hosts}
        return {name: future.result() for name, future in asked.items() if future.exception() is None}

    def _ask(self, question: str, ask: Callable[[], T]) -> Future[T]:
        if question not in self._asked:
            self._asked[question] = self._pool.submit(ask)
        return self._asked[question]

    def _look(self, target: Host) -> None:
        """Ask what most checks of a host ask, so that it is known when they do; what fails here fails there again."""
        host = self.host(target)
        sockets(host)
        for unit in UNITS[target.role]:
            process_of(host, unit)

    def _offset(self, host: Host) -> float:
        remote, clock = self._site.remote, self._site.clock
        remote.run(host, "true", timeout=60)  # the connection's own time is not the clock's

        def asked() -> tuple[float, float]:
            before = clock.now().timestamp()
            theirs = float(remote.run(host, "date +%s.%N", timeout=60).stdout)
            after = clock.now().timestamp()
            return after - before, theirs - (before + after) / 2

        # An offset is known to half the time its question took: of a busy host the quickest answer counts.
        answers = [asked()]
        while min(answers)[0] > _QUICK and len(answers) < _ASKED:
            answers.append(asked())
        return min(answers)[1]

    def _workers(self) -> Mapping[str, int]:
        host = self._site.region.inventory.one(Role.DATABASE)
        query = (
            "SELECT host FROM heat.service WHERE deleted_at IS NULL AND "
            "TIMESTAMPDIFF(SECOND, COALESCE(updated_at, created_at), UTC_TIMESTAMP()) <= 2 * report_interval"
        )
        return Counter(self._site.remote.run(host, f'mariadb -BN -e "{query}"', timeout=60).stdout.split())

    def _releases(self) -> tuple[Release, ...]:
        host = self._site.region.inventory.of(Role.ENGINE)[0]
        script = f"for manifest in {RELEASES}/*/manifest.json; do cat \"$manifest\"; printf '\\0'; done"
        texts = self._site.remote.run(host, script, timeout=60).stdout.split("\0")
        return tuple(Release.from_json(text) for text in texts if text.strip())

    def _shared(self, host: Host) -> str:
        script = f"set -eu; cd {CURRENT}; {{ sed '/^#/d; /^host *=/d' etc/heat.conf; cat manifest.json; }} | sha256sum"
        return self._site.remote.run(host, script, timeout=60).stdout.split()[0]

    def _answers(self, host: Host) -> ApiAnswers:
        settings, session = self._site.environment.heat, self._site.customer.session
        url = f"http://{host.address}:{settings.api_port}/v1/{session.get_project_id()}/build_info"
        asks = len(self._site.region.inventory.of(Role.ENGINE)) * settings.engine_workers  # the broker goes round
        # The first refusal ends it: without a broker each question would take its whole 30 s.
        script = "\n".join(["set -e", *[commands.ask_api(url, session.get_token()), "echo"] * asks])
        result = self._site.remote.run(host, script, timeout=30 * asks + 30, check=False)
        lines = [line for line in result.stdout.splitlines() if line]
        answers = [answer for line in lines if (answer := revisions(line)) is not None]
        refusals = {line[:160] for line in lines if revisions(line) is None} | set(result.stderr.splitlines())
        apis, engines = frozenset(api for api, _ in answers), frozenset(engine for _, engine in answers)
        return ApiAnswers(apis, engines, tuple(sorted(refusals)))

    def _broker(self) -> BrokerFacts:
        host = self._site.region.inventory.one(Role.MESSAGING)
        answer = self._site.remote.run(host, _broker_script(self._vhost), timeout=120).stdout
        parts = dict(re.findall(r"^== (\w+)\n(.*?)(?=^== |\Z)", answer, flags=re.MULTILINE | re.DOTALL))
        return broker_facts(json.loads(parts["definitions"]), json.loads(parts["queues"]), parts["alarm"], self._vhost)


def revisions(line: str) -> tuple[str, str] | None:
    """Return the revisions of API and engine in an answer to build_info, None where it is another answer."""
    try:
        found = json.loads(line)
        return found["api"]["revision"], found["engine"]["revision"]
    except (ValueError, KeyError, TypeError):
        return None


def _broker_script(vhost: str) -> str:
    """Each of RabbitMQ's commands starts a runtime of its own for a second: start them together."""
    queues = shlex.join(["rabbitmqctl", "-q", "--formatter", "json", "list_queues", "-p", vhost])
    return f"""\
set -u
umask 077
answers=$(mktemp -d)
trap 'rm -rf "$answers"' EXIT
rabbitmqctl -q export_definitions - >"$answers/definitions" 2>"$answers/why" &
definitions=$!
{queues} name messages_ready consumers >"$answers/queues" 2>/dev/null || echo '[]' >"$answers/queues" &
rabbitmq-diagnostics -q check_local_alarms >"$answers/alarm" 2>&1 && : >"$answers/alarm" &
wait "$definitions" || {{ tail -n 3 "$answers/why" >&2; exit 1; }}
wait
for name in definitions queues alarm; do
    printf '== %s\\n' "$name"
    cat "$answers/$name"
    echo
done"""


def broker_facts(definitions: Any, queues: Any, alarm: str, vhost: str) -> BrokerFacts:
    """Return what `rabbitmqctl export_definitions` and `list_queues` tell of `vhost`; password hashes are left out."""
    permissions = [
        f"configure {one['configure']!r}, write {one['write']!r}, read {one['read']!r}"
        for one in definitions["permissions"]
        if (one["user"], one["vhost"]) == ("heat", vhost)
    ]
    policies = [policy for policy in definitions["policies"] if policy["vhost"] == vhost]
    return BrokerFacts(
        vhosts=frozenset(one["name"] for one in definitions["vhosts"]),
        users=frozenset(user["name"] for user in definitions["users"]),
        permissions=tuple(permissions),
        queues={one["name"]: Queue(one["name"], one["messages_ready"], one["consumers"]) for one in queues},
        expiring=tuple(policy["name"] for policy in policies if "message-ttl" in policy["definition"]),
        alarm=" ".join(alarm.split()),
    )
