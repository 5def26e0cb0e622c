"""Long-running processes: started in a group of their own, found again by it, restarted when their making changed."""

from __future__ import annotations

import errno
import hashlib
import os
import socket
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.edges.clock import Clock
from pipeline.errors import ConfigurationInvalid, Inconclusive, PipelineError
from pipeline.localcloud.cgroups import Cgroups

__all__ = ["ENTER", "UNPRIVILEGED", "Service", "ensure", "launch", "running", "tail"]

DIGEST = "HDH_SERVICE_DIGEST"
# Root without the powers of root: it can read what root owns, and nothing else of what root may.
UNPRIVILEGED = ("setpriv", "--no-new-privs", "--inh-caps=-all", "--bounding-set=-all,+dac_override")
# Moves itself into the groups named before "--", then becomes the command behind it. A group is joined before the
# first line of the command runs, so there is no moment in which the process belongs to nobody.
ENTER = 'while [ "$1" != -- ]; do echo 0 >"$1" || exit 1; shift; done; shift; exec "$@"'


@dataclass(frozen=True, slots=True)
class Service:
    """One service: the `command` that is it, the files it is `made_of`, how to ask if it is `healthy`.

    `url` is for people. A change of the command or of a file means a restart at the next `ensure`. `listens` are the
    (address, port) pairs it needs; `before` is run before each start; `grace` and `deadline` are the seconds it may
    take to end and to become healthy.
    """

    name: str
    command: tuple[str, ...]
    url: str
    healthy: Callable[[], bool]
    made_of: tuple[Path, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    listens: tuple[tuple[str, int], ...] = ()
    before: Callable[[], None] = lambda: None
    grace: float = 5.0
    deadline: float = 60.0

    def digest(self) -> str:
        """Return the digest of all that the service is started from."""
        digest = hashlib.sha256("\0".join(self.command).encode())
        for path in self.made_of:
            digest.update(path.read_bytes())
        return digest.hexdigest()


def ensure(service: Service, groups: Cgroups, logs: Path, clock: Clock) -> bool:
    """Have `service` running and healthy; return True if it had to be started.

    One that was started a moment ago, by a run that was killed then, is waited for: ended halfway through a
    migration it would leave half a schema. Raises ConfigurationInvalid if a port is taken, other PipelineErrors with
    the end of its log if it does not become healthy.
    """
    log = logs / f"{service.name}.log"
    if running(service, groups) and _comes_up(service, groups, clock):
        return False
    groups.terminate(service.name, clock, grace=service.grace)
    _check_ports(service)
    service.before()
    launch(service.name, service.command, groups, log, {**service.environment, DIGEST: service.digest()})
    if not _comes_up(service, groups, clock):
        ended = not groups.populated(service.name)
        kind = PipelineError if ended else Inconclusive
        why = "ended by itself" if ended else f"did not answer within {service.deadline:.0f} s"
        raise kind(f"{service.name} {why}; the end of its log:\n{tail(log)}", hint=f"less {log}")
    return True


def running(service: Service, groups: Cgroups) -> bool:
    """Return whether the service runs as it is described now: same command, same files."""
    return any(_environment(pid).get(DIGEST) == service.digest() for pid in groups.pids(service.name))


def launch(name: str, command: tuple[str, ...], groups: Cgroups, log: Path, environment: Mapping[str, str]) -> None:
    """Start `command` in group `name`, in a session of its own, writing to `log`. Nobody waits for it."""
    files = [str(path) for path in groups.make(name)]
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        subprocess.run(
            ["setsid", "--fork", "sh", "-c", ENTER, name, *files, "--", *command],
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=True, cwd="/",
            env={**_clean(os.environ), **environment},
        )  # fmt: skip


def tail(path: Path, lines: int = 15) -> str:
    """Return the last `lines` lines of a log, or a word on why there are none."""
    try:
        return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
    except OSError as error:
        return f"(no log: {error.strerror})"


def _comes_up(service: Service, groups: Cgroups, clock: Clock) -> bool:
    """Wait for `service` to be healthy; return False if it ends, or is not by its deadline."""
    started = clock.monotonic()
    while not service.healthy():
        passed = clock.monotonic() - started
        # The process needs a moment to appear in its group; from then on it must stay in it.
        if passed > service.deadline or (passed > 3 and not groups.populated(service.name)):
            return False
        clock.sleep(0.05)
    return True


def _check_ports(service: Service) -> None:
    for address, port in service.listens:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
                probe.listen(1)
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
                raise ConfigurationInvalid(
                    f"{service.name} cannot listen on {address}:{port}: another program has the port",
                    hint=f"ss -ltnp 'sport = :{port}' shows which; end it, then inv local.up",
                ) from error


def _clean(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what a service may inherit: where programs are, and the language; no credentials of the caller."""
    return {name: environment[name] for name in ("PATH", "HOME", "LANG", "TZ") if name in environment}


def _environment(pid: int) -> dict[str, str]:
    try:
        raw = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return {}
    pairs = (entry.partition("=") for entry in raw.decode(errors="replace").split("\0"))
    return {name: value for name, _, value in pairs if name}
