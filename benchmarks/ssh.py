"""SSH fan-out beside others: the same commands on many hosts, and a file to each, by every tool in turn.

Each tool is a process of its own on the same real sshds; what it printed is checked, host by host.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.figures import Measured, summary
from benchmarks.metering import alternate, metered
from benchmarks.peers.work import Work
from benchmarks.peervenv import LOCK, ensure_venv
from benchmarks.sshd import HOME, Fleet, fleet
from benchmarks.tables import title
from benchmarks.tools import CONNECTS_ONLY, FLOORS, OURS, Run, prepared, tools
from pipeline.errors import ConfigurationInvalid

__all__ = ["Case", "Plan", "failures", "measure", "work_of", "wrong_answer"]

# Its last line tells which host answered: all share one machine.
COMMAND = 'cat /proc/loadavg; id -u; echo "$SSH_CONNECTION"'
_MB = 1 << 20


@dataclass(frozen=True, slots=True)
class Case:
    """So many commands, or a file of so many MB, on each of so many hosts."""

    hosts: int
    commands: int = 0
    push_mb: int = 0

    def __str__(self) -> str:
        return title({"hosts": self.hosts, "commands": self.commands, "push_mb": self.push_mb})


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured. `tools` are names of benchmarks.tools; () means all of them."""

    hosts: Sequence[int] = (8, 64, 200)
    commands: Sequence[int] = (1, 10)
    pushes: Sequence[int] = (1, 60)
    push_hosts: Sequence[int] = (8,)
    rounds: int = 5
    tools: Sequence[str] = ()

    def cases(self) -> tuple[Case, ...]:
        """Return all cases, those of a fleet's size together."""
        wanted = {Case(hosts, commands=count) for hosts in self.hosts for count in self.commands}
        wanted |= {Case(hosts, push_mb=size) for hosts in self.push_hosts for size in self.pushes}
        return tuple(sorted(wanted, key=lambda case: (case.hosts, case.push_mb, case.commands)))

    def names(self) -> tuple[str, ...]:
        """Return the tools to measure. Raises ConfigurationInvalid for one that there is not."""
        if unknown := sorted(set(self.tools) - set(tools())):
            raise ConfigurationInvalid(f"no tool {', '.join(unknown)} (there are: {', '.join(tools())})")
        return tuple(name for name in tools() if name in (self.tools or tools()))


def measure(plan: Plan, report: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    """Yield {"cases": [{"hosts", "commands", "tools": {NAME: figures.summary}}], "rounds", "cpus", "peers"} after each
    case, with all cases so far: what an hour measured is kept even if the next hour is interrupted.

    A case of file pushes has 0 commands, and "push_mb". Raises ConfigurationInvalid where hosts or peers cannot be had.
    """
    names, venv = plan.names(), ensure_venv(report)
    peers = dict(re.findall(r"^([\w-]+)==(\S+)", LOCK.read_text("utf-8"), re.MULTILINE))
    cases: list[dict[str, Any]] = []
    for count in sorted({case.hosts for case in plan.cases()}):
        with fleet(count, report) as hosts:
            for case in (one for one in plan.cases() if one.hosts == count):
                cases.append(_measure_case(case, names, plan.rounds, hosts, venv, report))
                yield {"cases": list(cases), "rounds": plan.rounds, "cpus": os.cpu_count(), "peers": peers}


def failures(figures: dict[str, Any]) -> str:
    """Return where the pipeline itself failed, and why; "" where it did not."""
    found = ((case, case["tools"].get(OURS, {}).get("failed", "")) for case in figures["cases"])
    return "; ".join(f"{case['hosts']} hosts: {why}" for case, why in found if why)


def _measure_case(
    case: Case, names: Sequence[str], rounds: int, hosts: Fleet, venv: Path, report: Callable[[str], None]
) -> dict[str, Any]:
    able = [name for name in names if not (case.push_mb and name in FLOORS)]
    work = work_of(case, hosts)

    def one(name: str, number: int) -> Measured:
        run = prepared(name, work, hosts.directory / "runs" / name, venv)
        complaint = partial(_complaint, name, work, hosts)
        seen = metered(run, hosts, complaint, watch=number == 0)
        _clear(work, hosts)
        told = seen.failed or f"{seen.wall_s:.2f} s, {seen.cpu_s:.2f} s CPU, {seen.connections} connections"
        report(f"{case}, {f'round {number}' if number else 'warm-up'}: {name}: {told}")
        return seen

    measured = alternate(able, rounds, one)
    return {
        "hosts": case.hosts,
        "commands": case.commands,
        **({"push_mb": case.push_mb} if case.push_mb else {}),
        "tools": {name: summary(runs, warm_up) for name, (warm_up, runs) in measured.items()},
    }


def work_of(case: Case, hosts: Fleet) -> Work:
    """Return the work of a case on `hosts`, with the file that it copies written."""
    source = hosts.directory / "client" / f"{case.push_mb}.bin"
    if case.push_mb and not source.exists():
        source.write_bytes(os.urandom(case.push_mb * _MB))
    return Work(
        hosts={host.name: host.address for host in hosts.hosts},
        host_keys={host.name: host.host_keys[0] for host in hosts.hosts},
        port=hosts.port,
        user=hosts.user,
        key=str(hosts.key),
        known_hosts=str(hosts.known_hosts),
        commands=[COMMAND] * case.commands,
        source=str(source) if case.push_mb else "",
        home=HOME,
        results=str(hosts.directory / "results.json"),
    )


def _complaint(name: str, work: Work, hosts: Fleet, run: Run, connections: int) -> str:
    """Return what is wrong with what a tool did; "" if it did all of its work."""
    if name in FLOORS:
        wanted = len(work.hosts) if name == CONNECTS_ONLY else 0
        return "" if connections == wanted else f"{connections} connections"
    if not work.source:
        return next(_wrong_answers(work, run.printed()), "")
    with Path(work.source).open("rb") as stream:
        whole = hashlib.file_digest(stream, "sha256").hexdigest()
    wrong = [host for host in work.hosts if hosts.digest(f"{host}.bin") != whole]
    return f"{wrong[0]} and {len(wrong) - 1} others have no whole copy" if wrong else ""


def _wrong_answers(work: Work, printed: Any) -> Iterator[str]:
    for name, address in work.hosts.items():
        texts = printed.get(name, [])
        if len(texts) != len(work.commands):
            yield f"{name}: {len(texts)} answers to {len(work.commands)} commands"
        yield from (f"{name}: wrong answer {text!r}" for text in texts if wrong_answer(text, address, work.port))


def wrong_answer(text: str, address: str, port: int) -> bool:
    """Return whether `text` is not what COMMAND prints on the host at `address`."""
    right = rf"[\d.]+ [\d.]+ [\d.]+ \d+/\d+ \d+\n0\n\S+ \d+ {re.escape(address)} {port}\s*"
    return not re.fullmatch(right, text.replace("\r\n", "\n"))


def _clear(work: Work, hosts: Fleet) -> None:
    """Take away what the run left behind, so that the next tool finds hosts as this one found them."""
    Path(work.results).unlink(missing_ok=True)
    for name in work.hosts:
        (hosts.home / f"{name}.bin").unlink(missing_ok=True)
