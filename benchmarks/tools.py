"""The tools that are measured: how each is started on a piece of work, and where it leaves what hosts printed."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.peers.work import Work

__all__ = ["CONNECTS_ONLY", "FLOORS", "OURS", "PEERS", "Run", "prepared", "printed_by_ansible", "tools"]

OURS = "pipeline"
CONNECTS_ONLY = "handshakes"
# Parts of the pipeline's own way, to tell where its time goes: Python and imports, and these with the connects.
FLOORS = ("startup", CONNECTS_ONLY)
PEERS = ("ansible", "mitogen", "pyinfra", "fabric", "asyncssh", "parallel-ssh")
_ROOT = Path(__file__).resolve().parents[1]
_SCRIPTS = {
    "pyinfra": "pyinfra_api",
    "fabric": "fabric_group",
    "asyncssh": "asyncssh_gather",
    "parallel-ssh": "parallel_ssh",
}
_ANSIBLE_ANSWER = re.compile(r"^(\S+) \| [A-Z]+ \| rc=0 >>\n", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Run:
    """A program to start. `place` is a directory of its own; `printed` reads what the hosts' commands printed."""

    argv: Sequence[str]
    place: Path
    printed: Callable[[], Mapping[str, Sequence[str]]]
    environment: Mapping[str, str] = field(default_factory=dict)

    def specification(self, *, watch: bool, timeout: float) -> dict[str, Any]:
        """Return what benchmarks/meter.py wants to know; nothing of the user's own files and settings gets in."""
        base = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "HOME": str(self.place), "PYTHONPATH": str(_ROOT)}
        return {
            "argv": list(self.argv),
            "env": {**base, **self.environment},
            "cwd": str(self.place),
            "output": str(self.place / "output"),
            "timeout": timeout,
            "watch": watch,
        }


def tools() -> tuple[str, ...]:
    """Return the names of all tools, in the order in which they are measured."""
    return (OURS, *FLOORS, *PEERS)


def prepared(tool: str, work: Work, place: Path, venv: Path) -> Run:
    """Return the run of `tool` on `work`, with the files that it wants written to `place`, which is emptied first."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    (place / "work.json").write_text(json.dumps(asdict(work)), "utf-8")
    if tool in ("ansible", "mitogen"):
        return _ansible(work, place, venv, mitogen=tool == "mitogen")
    python = str(venv / "bin" / "python") if tool in PEERS else sys.executable
    argv = [python, "-m", f"benchmarks.peers.{_SCRIPTS.get(tool, 'ours')}", str(place / "work.json")]
    if tool in FLOORS:
        argv.append(tool)
    return Run(argv, place, partial(_saved, Path(work.results)))


def _saved(path: Path) -> dict[str, list[str]]:
    return dict(json.loads(path.read_text("utf-8"))) if path.is_file() else {}


def _ansible(work: Work, place: Path, venv: Path, *, mitogen: bool) -> Run:
    (place / "inventory.json").write_text(json.dumps(_inventory(work)), "utf-8")
    (place / "play.json").write_text(json.dumps(_play(work)), "utf-8")
    (place / "ansible.cfg").write_text(_settings(work, venv, mitogen=mitogen), "utf-8")
    argv = [str(venv / "bin" / "ansible-playbook"), "-i", "inventory.json", "play.json"]
    settings = {"ANSIBLE_CONFIG": str(place / "ansible.cfg")}
    return Run(argv, place, lambda: printed_by_ansible((place / "output").read_text("utf-8")), settings)


def _inventory(work: Work) -> dict[str, Any]:
    shared = {
        "ansible_user": work.user,
        "ansible_port": work.port,
        "ansible_ssh_private_key_file": work.key,
        "ansible_ssh_common_args": f"-F /dev/null -o UserKnownHostsFile={work.known_hosts}",
        "ansible_python_interpreter": "/usr/bin/python3",
    }
    hosts = {name: {"ansible_host": address} for name, address in work.hosts.items()}
    return {"all": {"hosts": hosts, "vars": shared}}


def _play(work: Work) -> list[dict[str, Any]]:
    copies = [{"ansible.builtin.copy": {"src": work.source, "dest": work.target("{{ inventory_hostname }}")}}]
    tasks = copies if work.source else [{"ansible.builtin.shell": command} for command in work.commands]
    return [{"hosts": "all", "gather_facts": False, "tasks": tasks}]


def _settings(work: Work, venv: Path, *, mitogen: bool) -> str:
    # The callback that prints what commands printed; all else is what Ansible's own guide to speed says.
    lines = ["[defaults]", f"forks = {len(work.hosts)}", "stdout_callback = minimal", "host_key_checking = true"]
    if mitogen:
        (plugins,) = venv.glob("lib/python*/site-packages/ansible_mitogen/plugins/strategy")
        lines += [f"strategy_plugins = {plugins}", "strategy = mitogen_linear"]
    return "\n".join([*lines, "[connection]", "pipelining = true", ""])


def printed_by_ansible(output: str) -> dict[str, list[str]]:
    """Return what each host's commands printed, from the output of Ansible's `minimal` callback."""
    _, *parts = _ANSIBLE_ANSWER.split(output)
    printed: dict[str, list[str]] = {}
    for name, text in zip(parts[::2], parts[1::2], strict=True):
        printed.setdefault(name, []).append(text)
    return printed
