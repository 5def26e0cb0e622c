"""One script on many hosts at once, as an operator runs it: whatever happens to one, the others go on."""

from __future__ import annotations

import shlex
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Protocol

from pipeline.edges.ssh import Remote
from pipeline.environment import Role
from pipeline.errors import (
    CommandFailed,
    ConfigurationInvalid,
    HostKeyRefused,
    HostsFailed,
    PipelineError,
    PreflightUnreachable,
)
from pipeline.inventory import Host, Inventory, machines_of

__all__ = ["HostResult", "Listener", "Outcome", "Silent", "chosen", "fan_out", "script_of", "unfinished"]

_AT_ONCE = 64  # hosts, each with a thread that mostly waits
_HIDDEN = "***"
_TELLING = 8  # characters: a shorter line of a secret is found in much that is none


class Outcome(StrEnum):
    """How a host ended."""

    DONE = "done"
    FAILED = "failed"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True, slots=True)
class HostResult:
    """What one host made of a script.

    `status` is the script's exit status, None where no end of it was seen; `reached` says that the script was sent, so
    that a host which is unreachable and was reached may have run it. `detail` is why a host is not done, in one line;
    `seconds` how long it took, connecting included.
    """

    host: str
    outcome: Outcome
    status: int | None = None
    reached: bool = True
    detail: str = ""
    seconds: float = 0.0
    stdout: str = ""
    stderr: str = ""


class Listener(Protocol):
    """Who is told what happens, from several threads."""

    def begin(self, hosts: Sequence[Host]) -> None:
        """Hear which hosts it is about."""

    def heard(self, host: Host, stream: str, line: str) -> None:
        """Hear a line of `host` on "stdout" or "stderr", without its end."""

    def ended(self, result: HostResult) -> None:
        """Hear how a host ended."""


class Silent:
    """A Listener to whom it is all one."""

    def begin(self, hosts: Sequence[Host]) -> None:
        """Hear which hosts it is about."""

    def heard(self, host: Host, stream: str, line: str) -> None:
        """Hear a line of a host."""

    def ended(self, result: HostResult) -> None:
        """Hear how a host ended."""


def script_of(words: Sequence[str]) -> str:
    """Return the line of sh that `words` are: one word is such a line, several are a program and its arguments.

    Raises ConfigurationInvalid where there is none.
    """
    if not any(word.strip() for word in words):
        raise ConfigurationInvalid("there is no command", hint="inv ssh.run ENVIRONMENT -- COMMAND")
    return words[0] if len(words) == 1 else shlex.join(words)


def chosen(inventory: Inventory, roles: Collection[str] = (), names: Collection[str] = ()) -> tuple[Host, ...]:
    """Return the machines that have one of `roles` and one of `names`, all where either is empty, in order.

    A name is a host's or its machine's.

    Raises ConfigurationInvalid for a role or a name that there is not, and where none is left.
    """
    if unknown := sorted(set(roles) - {role.value for role in Role}):
        raise ConfigurationInvalid(
            f"there is no role {unknown[0]!r} (there are: {', '.join(Role)})",
            hint=f"inv status {inventory.environment}",
        )
    wanted = {inventory.host(name).machine for name in names}
    hosts = machines_of(
        host
        for host in inventory.hosts
        if (not roles or host.role.value in roles) and (not wanted or host.machine in wanted)
    )
    if not hosts:
        raise ConfigurationInvalid(
            f"no host of {inventory.environment} is left by that role and limit",
            hint=f"inv status {inventory.environment}",
        )
    return hosts


def fan_out(
    remote: Remote,
    hosts: Sequence[Host],
    script: str,
    *,
    timeout: float = 300,
    root: bool = True,
    at_once: int = _AT_ONCE,
    listener: Listener | None = None,
    hidden: Collection[str] = (),
) -> tuple[HostResult, ...]:
    """Run a POSIX sh `script` on every one of `hosts`, `at_once` at a time; return their results, in their order.

    No host's end keeps another from beginning. `timeout` seconds are for each host, once it is reached. What is in
    `hidden`, and each line of it, is *** wherever it would be told. An interrupt begins with no other host and waits
    for none.
    """
    told = listener or Silent()
    secrets = sorted(set(_telling(hidden)), key=len, reverse=True)  # of two, one may hold the other
    one = _OneHost(remote, script, timeout, root, told, tuple(secrets))
    pool = ThreadPoolExecutor(max_workers=max(1, min(len(hosts), at_once)), thread_name_prefix="host")
    told.begin(hosts)
    try:
        futures = [pool.submit(one.run, host) for host in hosts]
        return tuple(future.result() for future in futures)
    finally:
        one.over.set()
        pool.shutdown(wait=False, cancel_futures=True)


def unfinished(results: Sequence[HostResult], again: Callable[[str], str]) -> PipelineError | None:
    """Return the error that results end in, naming every host; None where all are done.

    `again` returns what to type for the hosts named ("engine-0,engine-1").
    """
    left = [result.host for result in results if result.outcome is not Outcome.DONE]
    if not left:
        return None
    counts = Counter(result.outcome for result in results)
    told = "; ".join(f"{kind}: {_names(results, kind)}" for kind in Outcome)
    if not any(result.reached for result in results):
        return PreflightUnreachable(f"no host could be reached, and nothing ran; {told}", hint=again(",".join(left)))
    what = f"{counts[Outcome.FAILED]} of {len(results)} hosts failed, {counts[Outcome.UNREACHABLE]} unreachable"
    return HostsFailed(f"{what}; {told}", hint=again(",".join(left)))


def _names(results: Sequence[HostResult], kind: Outcome) -> str:
    found = [one for one in results if one.outcome is kind]
    failed = kind is Outcome.FAILED
    return ", ".join(f"{one.host} ({_status(one)})" if failed else one.host for one in found) or "none"


def _status(result: HostResult) -> str:
    return "no end seen" if result.status is None else str(result.status)


def _telling(secrets: Collection[str]) -> Iterator[str]:
    """Yield what gives `secrets` away: each whole, and of a private key its lines too, for hosts are heard by lines."""
    for secret in filter(None, secrets):
        yield secret
        lines = map(str.strip, secret.splitlines())
        yield from (line for line in lines if len(line) >= _TELLING and not line.startswith("-----"))


@dataclass(frozen=True, slots=True)
class _OneHost:
    """The same script for one host after the other."""

    remote: Remote
    script: str
    timeout: float
    root: bool
    told: Listener
    hidden: tuple[str, ...]
    over: threading.Event = field(default_factory=threading.Event)

    def run(self, host: Host) -> HostResult:
        began = time.monotonic()
        result = self._reach(host) or self._run(host)
        result = replace(
            result,
            detail=self._veil(result.detail),
            seconds=round(time.monotonic() - began, 2),
            stdout=self._veil(result.stdout),
            stderr=self._veil(result.stderr),
        )
        if not self.over.is_set():
            self.told.ended(result)
        return result

    def _reach(self, host: Host) -> HostResult | None:
        """Say hello first, as who the script is to run: of a host that is lost later it is not known whether it ran."""
        try:
            self.remote.run(host, ":", timeout=60, root=self.root)
        except PipelineError as error:
            return HostResult(host.name, Outcome.UNREACHABLE, reached=False, detail=_reason(error))
        except Exception as error:  # noqa: BLE001 (a fault of ours with one host is no reason to leave the others)
            return _fault(host, error)
        if self.over.is_set():
            return HostResult(host.name, Outcome.UNREACHABLE, reached=False, detail="interrupted")
        return None

    def _run(self, host: Host) -> HostResult:
        try:
            result = self.remote.run(
                host, self.script, timeout=self.timeout, check=False, root=self.root, heard=self._listener(host)
            )
        except CommandFailed as error:
            return HostResult(host.name, Outcome.FAILED, detail=error.message, stdout=error.stdout, stderr=error.stderr)
        except PipelineError as error:
            detail = f"{error.message}: the command may have run, or run still"
            return HostResult(host.name, Outcome.UNREACHABLE, detail=detail)
        except Exception as error:  # noqa: BLE001 (a fault of ours with one host is no reason to leave the others)
            return _fault(host, error)
        outcome = Outcome.FAILED if result.status else Outcome.DONE
        return HostResult(host.name, outcome, result.status, stdout=result.stdout, stderr=result.stderr)

    def _listener(self, host: Host) -> Callable[[str, str], None]:
        return lambda stream, line: self.told.heard(host, stream, self._veil(line))

    def _veil(self, text: str) -> str:
        for secret in self.hidden:
            text = text.replace(secret, _HIDDEN)
        return text


def _reason(error: PipelineError) -> str:
    """Return why a host was not reached, in one line; of a refusal with what is to be done: trying again is no help."""
    refusal = isinstance(error, ConfigurationInvalid | HostKeyRefused) and error.hint
    return f"{error.message}; {error.hint}" if refusal else error.message


def _fault(host: Host, error: Exception) -> HostResult:
    return HostResult(host.name, Outcome.FAILED, detail=f"internal error: {type(error).__name__}: {error}")
