"""Verification beside testinfra's own ways: the same checks on the same hosts, in a process each.

- pipeline: our backend, one connection per host, hosts in threads.
- paramiko, ssh: testinfra's backends of these names, as its documents say; -xdist: with as many workers as hosts.
- ssh-shared: ssh with a ControlPath, without which OpenSSH opens a connection for every command.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.figures import Measured, summary
from benchmarks.metering import alternate, metered
from benchmarks.peers.checks import CHECKS
from benchmarks.peers.work import Work
from benchmarks.ssh import Case, work_of
from benchmarks.sshd import fleet
from benchmarks.tools import OURS, Run
from pipeline.errors import ConfigurationInvalid

__all__ = ["WAYS", "measure", "passed"]

_CHECKS = Path(__file__).parent / "peers" / "checks.py"
_BACKENDS = ("paramiko", "ssh", "ssh-shared")
WAYS = (OURS, *(f"{backend}{xdist}" for backend in _BACKENDS for xdist in ("", "-xdist")))


def measure(count: int, rounds: int, ways: Sequence[str], report: Callable[[str], None]) -> dict[str, Any]:
    """Return {"cases": [{"hosts", "checks", "tools": {NAME: figures.summary}}], "rounds", "cpus"}; no ways: all."""
    if unknown := sorted(set(ways) - set(WAYS)):
        raise ConfigurationInvalid(f"no tool {', '.join(unknown)} (there are: {', '.join(WAYS)})")
    names = [name for name in WAYS if name in (ways or WAYS)]
    with fleet(count, report) as hosts:
        work = work_of(Case(count), hosts)

        def one(name: str, number: int) -> Measured:
            run = _prepared(name, work, hosts.directory / "runs" / name)
            seen = metered(run, hosts, partial(_complaint, count * len(CHECKS)), watch=number == 0)
            told = seen.failed or f"{seen.wall_s:.2f} s, {seen.cpu_s:.2f} s CPU, {seen.connections} connections"
            report(f"{f'round {number}' if number else 'warm-up'}: {name}: {told}")
            return seen

        measured = alternate(names, rounds, one)
    tools = {name: summary(runs, warm_up) for name, (warm_up, runs) in measured.items()}
    return {
        "cases": [{"hosts": count, "checks": len(CHECKS), "tools": tools}],
        "rounds": rounds,
        "cpus": os.cpu_count(),
    }


def passed(output: str) -> int:
    """Return how many checks passed as the last line of pytest -q says, 0 where it says nothing."""
    found = re.findall(r"^(\d+) passed", output, re.MULTILINE)
    return int(found[-1]) if found else 0


def _complaint(wanted: int, run: Run, _connections: int) -> str:
    seen = passed((run.place / "output").read_text("utf-8", "replace"))
    return "" if seen == wanted else f"{seen} of {wanted} checks passed"


def _prepared(name: str, work: Work, place: Path) -> Run:
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    if name == OURS:
        (place / "work.json").write_text(json.dumps(asdict(work)), "utf-8")
        argv = ["benchmarks.peers.ours_verify", str(place / "work.json")]
    else:
        argv = _pytest(name, work, place)
    return Run([sys.executable, "-m", *argv], place, dict)


def _pytest(name: str, work: Work, place: Path) -> list[str]:
    """Return testinfra's own command for a way, with the settings that it needs written to `place`."""
    backend, *options = name.split("-")
    settings = ["Host *", f"UserKnownHostsFile {work.known_hosts}", "StrictHostKeyChecking yes"]
    if "shared" in options:
        settings.append(f"ControlPath {place}/%C")
    (place / "ssh_config").write_text("\n".join(settings) + "\n", "utf-8")
    (place / "pytest.ini").write_text("[pytest]\n", "utf-8")  # not this project's own settings
    hosts = ",".join(f"{backend}://{work.user}@{address}:{work.port}" for address in work.hosts.values())
    return [
        "pytest", "-q", "-p", "no:cacheprovider", "-c", str(place / "pytest.ini"), str(_CHECKS),
        f"--hosts={hosts}", f"--ssh-config={place / 'ssh_config'}", f"--ssh-identity-file={work.key}",
        *(["-n", str(len(work.hosts))] if "xdist" in options else []),
    ]  # fmt: skip
