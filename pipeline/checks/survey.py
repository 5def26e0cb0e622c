"""The survey: all that the checks need to know, asked once. Each host answers everything in one round trip."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from pipeline import commands
from pipeline.checks import questions
from pipeline.checks.brokerfacts import BrokerFacts, read_broker
from pipeline.checks.expectation import Unexpected, answer
from pipeline.edges.balancer import Server, servers_in
from pipeline.edges.testinfra_backend import Question, connected
from pipeline.environment import Role
from pipeline.errors import PipelineError
from pipeline.inventory import Host
from pipeline.release import Release
from pipeline.site import Site

__all__ = ["SIDE_BY_SIDE", "ApiAnswers", "Survey", "revisions"]

SIDE_BY_SIDE = 16
"""How many hosts are asked, and checked, at once."""

T = TypeVar("T")
_QUICK = 0.5  # seconds: an answer about the time that travelled as fast is good enough
_ASKED = 5  # times at most


@dataclass(frozen=True, slots=True)
class ApiAnswers:
    """What one API host answered to build_info: the revisions of APIs and engines, or what it said instead."""

    api: frozenset[str]
    engine: frozenset[str]
    refusals: tuple[str, ...]


class Survey:
    """Asks each question once and keeps the answer, or the error, for every check that needs it, in any thread."""

    def __init__(self, site: Site, release: Release, vhost: str) -> None:
        self._site = site
        self._release = release
        self._vhost = vhost
        self._asked: dict[str, Future[Any]] = {}
        self._lock = threading.Lock()
        self._hosts = {host.name: connected(site.remote, host) for host in site.region.inventory.hosts}
        self._pool = ThreadPoolExecutor(max_workers=SIDE_BY_SIDE, thread_name_prefix="survey")

    def begin(self, hosts: Iterable[Host], *, whole: bool = True) -> None:
        """Ask `hosts` all at once; with `whole`, ask also what only some checks of them need."""
        asked = tuple(hosts)
        for host in asked:
            self._gathered(host)
        for host in asked if whole else ():  # they take longest, and no check of another host waits for them
            if host.role is Role.API:
                self._ask(f"api {host.name}", partial(self._answers, host))

    def close(self) -> None:
        """End: what was not asked yet is not asked, and nobody waits for what is under way."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def host(self, target: Host) -> Any:
        """Return `target` as testinfra sees it, all its answers in memory. Raises HostUnreachable where it is gone."""
        self._gathered(target).result()
        return self._hosts[target.name]

    def clock_offsets(self) -> Mapping[str, float]:
        """Return how many seconds each host's clock is ahead of this machine's; hosts that are gone are left out."""
        futures = {host.name: self._clock(host) for host in self._site.region.inventory.hosts}
        return {
            name: future.result()
            for name, future in futures.items()
            if not isinstance(future.exception(), PipelineError)
        }

    def live_workers(self) -> Mapping[str, int]:
        """Return how many engine workers of each host reported lately (twice their interval), as their rows tell."""
        return Counter(self._say(Role.DATABASE, questions.WORKERS).split())

    def broker(self, target: Host) -> BrokerFacts:
        """Return what the broker says of itself on `target`: each member of a cluster has its own word."""
        said = answer(self.host(target), *questions.broker(self._vhost), program="rabbitmqctl")
        return read_broker(said, self._vhost)

    def api(self, host: Host) -> ApiAnswers:
        """Return what `host` answered, asked often enough to reach every engine's worker."""
        return self._ask(f"api {host.name}", partial(self._answers, host)).result()

    def releases(self) -> tuple[Release, ...]:
        """Return the releases on an engine's disk, as their manifests describe them."""
        texts = self._say(Role.ENGINE, questions.RELEASES_HERE, program="releases").split("\0")
        return tuple(Release.from_json(text) for text in texts if text.strip())

    def servers(self) -> tuple[Server, ...]:
        """Return the load balancer's servers."""
        return servers_in(self._say(Role.LOADBALANCER, questions.SERVERS, program="haproxy"))

    def token_seconds(self) -> float:
        """Return for how many seconds a token of a customer is good when it is new."""
        return self._ask("token", self._site.customer.token_seconds).result()

    def common_configuration(self, role: Role) -> Mapping[str, str]:
        """Return, per host of `role`, a digest of what its heat.conf and manifest must share with the others'."""
        hosts = self._site.region.inventory.of(role)
        self.begin(hosts, whole=False)
        found = {}
        for host in hosts:
            try:
                found[host.name] = answer(self.host(host), *questions.SHARED, program="sha256sum").split()[0]
            except (PipelineError, Unexpected):  # it is red by itself
                continue
        return found

    def _say(self, role: Role, question: Question, program: str = "") -> str:
        """Return the answer of the first host of `role` that has one. Raises the first host's error where none has."""
        inventory = self._site.region.inventory
        errors: list[PipelineError | Unexpected] = []
        for host in (inventory.one(role), *inventory.of(role)[1:]):
            try:
                return answer(self.host(host), *question, program=program)
            except (PipelineError, Unexpected) as error:
                errors.append(error)
        raise errors[0]

    def _gathered(self, host: Host) -> Future[float]:
        return self._ask(f"host {host.name}", partial(self._gather, host))

    def _clock(self, host: Host) -> Future[float]:
        """The offset of a host's clock; one that is not checked is asked for nothing else."""
        asked = self._asked.get(f"host {host.name}")
        return asked or self._ask(f"clock {host.name}", partial(self._offset, host))

    def _ask(self, question: str, ask: Callable[[], T]) -> Future[T]:
        with self._lock:
            if question not in self._asked:
                self._asked[question] = self._pool.submit(ask)
            return self._asked[question]

    def _gather(self, host: Host) -> float:
        """Ask a host everything, and return its clock's offset."""
        asks = questions.questions(host, self._site, self._release, self._vhost)
        return self._timed(host, lambda: self._hosts[host.name].backend.ask(asks))

    def _offset(self, host: Host) -> float:
        return self._timed(host, lambda: self._date(host))

    def _timed(self, host: Host, ask: Callable[[], tuple[float, float]]) -> float:
        """Return the offset of a host's clock, by the times between which it was busy with `ask`.

        It is known to half the time that question and answer travelled, and connecting counts as travel: where that
        took long the time alone is asked again, and of all answers the quickest counts.
        """

        def measured(question: Callable[[], tuple[float, float]]) -> tuple[float, float]:
            before = self._site.clock.now().timestamp()
            began, ended = question()
            after = self._site.clock.now().timestamp()
            return after - before - (ended - began), (began - before + ended - after) / 2

        found = [measured(ask)]
        while min(found)[0] > _QUICK and len(found) < _ASKED:
            found.append(measured(lambda: self._date(host)))
        return min(found)[1]

    def _date(self, host: Host) -> tuple[float, float]:
        told = float(self._site.remote.run(host, "date +%s.%N", timeout=60).stdout)
        return told, told

    def _answers(self, host: Host) -> ApiAnswers:
        settings, session = self._site.environment.heat, self._site.customer.session
        url = f"http://{host.serves}:{settings.api_port}/v1/{session.get_project_id()}/build_info"
        asks = len(self._site.region.inventory.of(Role.ENGINE)) * settings.engine_workers  # the broker goes round
        # The first refusal ends it: without a broker each question would take its whole 30 s.
        script = "\n".join(["set -e", *[commands.ask_api(url, session.get_token()), "echo"] * asks])
        result = self._site.remote.run(host, script, timeout=30 * asks + 30, check=False)
        lines = [line for line in result.stdout.splitlines() if line]
        answers = [answer for line in lines if (answer := revisions(line)) is not None]
        refusals = {line[:160] for line in lines if revisions(line) is None} | set(result.stderr.splitlines())
        apis, engines = frozenset(api for api, _ in answers), frozenset(engine for _, engine in answers)
        return ApiAnswers(apis, engines, tuple(sorted(refusals)))


def revisions(line: str) -> tuple[str, str] | None:
    """Return the revisions of API and engine in an answer to build_info, None where it is another answer."""
    try:
        found = json.loads(line)
        return found["api"]["revision"], found["engine"]["revision"]
    except (ValueError, KeyError, TypeError):
        return None
