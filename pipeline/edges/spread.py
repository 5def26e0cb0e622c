"""Spreading one file over many hosts: hosts that have it pass it on, so that the controller's uplink is no limit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from pipeline import handover
from pipeline.edges.parallel import on_each
from pipeline.edges.ssh import Remote
from pipeline.errors import CommandFailed, PipelineError
from pipeline.handover import File
from pipeline.inventory import Host
from pipeline.spreading import Act, Plan, Task

__all__ = ["Arrival", "Way", "spread"]

_AT_ONCE = 64  # hosts, each with a thread that mostly waits
_UPLOADS = 8  # from here at once, where hosts cannot have it another way
_DIGEST = 300.0  # seconds for a host to read the file once
_QUESTION = 60.0  # seconds for what takes no time


class Way(StrEnum):
    """How a host came by the file."""

    HAD = "had it"
    FETCHED = "fetched it from the release URL"
    GIVEN = "was given it"
    UPLOADED = "got it from here"


@dataclass(frozen=True, slots=True)
class Arrival:
    """What became of the file on `host`: the way it came and the host that gave it ("" for none), or why it did not."""

    host: Host
    way: Way | None
    giver: str = ""
    error: PipelineError | None = None

    def __str__(self) -> str:
        if self.error is not None:
            return self.error.message
        return f"{self.host.name} {self.way}{f' by {self.giver}' if self.giver else ''}"


def _once(act: Callable[[], None]) -> None:
    act()


def spread(
    remote: Remote,
    hosts: Sequence[Host],
    source: Path,
    target: str,
    sha256: str,
    *,
    url: str = "",
    timeout: float = 900,
    insist: Callable[[Callable[[], None]], None] = _once,
    report: Callable[[str], None] = lambda _: None,
) -> tuple[Arrival, ...]:
    """Have file `source`, whose digest is `sha256`, at path `target` on every one of `hosts`; return what became of it
    on each, in their order.

    A host that has it whole already gets nothing. With `url` hosts fetch it from there; those that cannot, and all
    without one, get it from each other; those that cannot do that either get it from here, which `insist` may try
    again. `timeout` is in seconds, for each transfer. The digest is checked on every host. No host's error is raised:
    it is in its Arrival; `report` hears what arrives, and what does not. Raises OSError where `source` cannot be read.
    """
    file = File(target, sha256, source.stat().st_size)
    return _Spread(remote, source, file, timeout, insist, report).run(hosts, url)


class _Spread:
    """State is changed by the thread that calls `run` alone; the others do what takes time."""

    def __init__(
        self,
        remote: Remote,
        source: Path,
        file: File,
        timeout: float,
        insist: Callable[[Callable[[], None]], None],
        report: Callable[[str], None],
    ) -> None:
        self._remote, self._source, self._file = remote, source, file
        self._timeout, self._insist, self._report = timeout, insist, report
        self._plan = Plan()
        self._arrived: dict[str, Arrival] = {}
        self._served: list[Host] = []  # where a server may run
        self._lost: list[Host] = []  # did not answer at first

    def run(self, hosts: Sequence[Host], url: str) -> tuple[Arrival, ...]:
        pool = ThreadPoolExecutor(max_workers=_AT_ONCE, thread_name_prefix="spread")
        try:
            self._look(pool, hosts)
            if url:
                self._fetch_all(pool, url)
            self._pass_on(pool)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            self._stop_serving()
        self._upload_all(self._plan.rest, _UPLOADS)
        self._upload_all(self._lost, _AT_ONCE)  # what is waited for here is the hosts
        return tuple(self._arrived[host.name] for host in hosts)

    def _look(self, pool: ThreadPoolExecutor, hosts: Sequence[Host]) -> None:
        """Find out who has the file. A host that does not answer is to hold up no other."""
        for host, there in zip(hosts, pool.map(self._answer, hosts), strict=True):
            if there:
                self._arrive(host, Way.HAD)
                self._plan.has(host)
            else:
                (self._lost if there is None else self._plan.lacking).append(host)

    def _fetch_all(self, pool: ThreadPoolExecutor, url: str) -> None:
        hosts = tuple(self._plan.lacking)
        self._plan.lacking.clear()
        errors = pool.map(lambda host: _error_of(lambda: self._fetch(host, url)), hosts)
        for host, error in zip(hosts, errors, strict=True):
            if error is None:
                self._arrive(host, Way.FETCHED)
                self._plan.has(host)
            else:
                self._plan.lacking.append(host)
                self._tell(error)

    def _pass_on(self, pool: ThreadPoolExecutor) -> None:
        running: dict[Future[str], Task] = {}
        while True:
            for task in self._plan.begin(tuple(running.values())):
                if task.act is Act.GIVE:
                    self._served.append(task.host)
                running[pool.submit(self._do, task)] = task
            if not running:
                break
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                self._settle(running.pop(future), future)
        self._plan.end()

    def _settle(self, task: Task, future: Future[str]) -> None:
        error = future.exception()
        if isinstance(error, PipelineError):
            self._plan.failed(task)
            self._tell(error)
            return
        self._plan.succeeded(task, future.result())
        if task.act is Act.PUT:
            self._arrive(task.host, Way.UPLOADED)
        elif task.giver is not None:
            self._arrive(task.host, Way.GIVEN, task.giver.host.name)

    def _upload_all(self, hosts: Sequence[Host], at_once: int) -> None:
        def upload(host: Host) -> PipelineError | None:
            return _error_of(lambda: self._insist(lambda: self._upload(host)))

        with ThreadPoolExecutor(max_workers=at_once, thread_name_prefix="upload") as pool:
            for host, error in zip(hosts, pool.map(upload, hosts), strict=True):
                self._arrive(host, None if error else Way.UPLOADED, error=error)

    def _stop_serving(self) -> None:
        def stop(host: Host) -> None:
            with suppress(PipelineError):  # it ends by itself in time
                self._remote.run(host, handover.stop_giving(), timeout=_QUESTION)

        on_each(self._served, stop)

    def _arrive(self, host: Host, way: Way | None, giver: str = "", error: PipelineError | None = None) -> None:
        self._arrived[host.name] = arrival = Arrival(host, way, giver, error)
        self._report(str(arrival))

    def _tell(self, error: PipelineError) -> None:
        self._report(f"{error.message}: another way is tried")

    # --- what takes time, in threads

    def _do(self, task: Task) -> str:
        """Do a task; return a giver's URL, "" for other tasks. Raises PipelineError."""
        if task.giver is not None:
            self._fetch(task.host, task.giver.url)
        elif task.act is Act.PUT:
            self._upload(task.host)
        else:
            return self._give(task.host)
        return ""

    def _has(self, host: Host) -> bool:
        result = self._remote.run(host, handover.has(self._file), timeout=_DIGEST, check=False, root=False)
        return result.status == 0

    def _answer(self, host: Host) -> bool | None:
        """Return whether `host` has the whole file, None where it does not answer."""
        try:
            return self._has(host)
        except PipelineError:
            return None

    def _upload(self, host: Host) -> None:
        self._remote.put(host, self._source, self._file.path)
        if not self._has(host):
            raise CommandFailed(f"{host.name}: {self._source.name} arrived damaged", status=1)

    def _fetch(self, host: Host, url: str) -> None:
        script = handover.fetch(self._file, url, self._timeout)
        self._remote.run(host, script, timeout=self._timeout + handover.FETCH_GRACE, root=False)

    def _give(self, host: Host) -> str:
        answer = self._remote.run(host, handover.give(self._file, host.address, self._timeout), timeout=_QUESTION)
        url = handover.read_url(answer.stdout)
        if url is None:
            raise CommandFailed(f"{host.name}: does not tell where it serves {self._source.name}", status=1)
        return url


def _error_of(act: Callable[[], None]) -> PipelineError | None:
    try:
        act()
    except PipelineError as error:
        return error
    return None
