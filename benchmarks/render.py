"""Rendering beside others: many environments' stacks, from the same Jinja templates and the same settings.

- pipeline: `inv validate --all`: each environment is read over its defaults, rendered, validated for three Heats.
- sceptre: `sceptre generate` of as many stacks; each has its environment as sceptre_user_data.
- ansible: the template module for as many files; each environment is a host of the inventory, on this machine.

Neither of the two validates.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from benchmarks.figures import Measured, summary
from benchmarks.metering import alternate, metered_alone
from benchmarks.peervenv import ensure_venv
from benchmarks.tools import OURS, Run
from pipeline.environment import Environment, Role, list_environments, load
from pipeline.errors import ConfigurationInvalid
from pipeline.render import render

__all__ = ["TOOLS", "measure", "plain", "template_of_peers", "write_environments"]

TOOLS = (OURS, "sceptre", "ansible")
_CALLS = {
    "environment.topology.shares(role)": "false",
    'environment.topology.stack_of("loadbalancer")': '"loadbalancer"',
}
"""What templates call of the models, which peers have not, and what it gives in environments without a control host."""
_ROOT = Path(__file__).resolve().parents[1]
_TEMPLATES = _ROOT / "templates"


def measure(count: int, rounds: int, tools: Sequence[str], report: Callable[[str], None]) -> dict[str, Any]:
    """Return {"cases": [{"environments", "stacks", "tools": {NAME: figures.summary}}], "rounds", "cpus"}."""
    if unknown := sorted(set(tools) - set(TOOLS)):
        raise ConfigurationInvalid(f"no tool {', '.join(unknown)} (there are: {', '.join(TOOLS)})")
    names = [name for name in TOOLS if name in (tools or TOOLS)]
    venv = ensure_venv(report)
    with tempfile.TemporaryDirectory(prefix="bench-render-") as scratch:
        work = _Work(Path(scratch), venv, count)

        def one(name: str, number: int) -> Measured:
            run, complaint = work.prepared(name)
            seen = metered_alone(run, complaint, watch=number == 0)
            told = seen.failed or f"{seen.wall_s:.2f} s, {seen.cpu_s:.2f} s CPU"
            report(f"{f'round {number}' if number else 'warm-up'}: {name}: {told}")
            return seen

        measured = alternate(names, rounds, one)
    case = {
        "environments": count,
        "stacks": work.stacks,
        "tools": {name: summary(runs, warm_up) for name, (warm_up, runs) in measured.items()},
    }
    return {"cases": [case], "rounds": rounds, "cpus": os.cpu_count()}


def write_environments(directory: Path, count: int) -> None:
    """Write `count` environments over this project's defaults, as files of a directory; no two are of one size."""
    directory.mkdir(parents=True)
    shutil.copy(_ROOT / "environments" / "defaults.yaml", directory)
    for number in range(count):
        facts = {
            "description": f"Region {number} of a large fleet",
            "provider": "openstack",
            "cloud": f"cloud-{number % 7}",
            "topology": {
                "database": {"flavor": "m1.large", "data_volume_gb": 50 + number},
                "messaging": {"data_volume_gb": 10},
                "api": {"count": 2 + number % 3, "availability_zones": ["one", "two"]},
                "engine": {"count": 2 + number % 5, "availability_zones": ["one", "two", "three"], "volume_gb": 20},
            },
            "network": {"external_network": "public", "cidr": f"10.{number % 256}.0.0/24", "dns": ["9.9.9.9"]},
            "heat": {"region": f"region-{number:03}"},
        }
        (directory / f"region-{number:03}.yaml").write_text(yaml.safe_dump(facts), "utf-8")


def plain(environment: Environment) -> dict[str, Any]:
    """Return an environment's settings as peers are given them: plain values, with what the models make of them."""
    settings = environment.model_dump(mode="json")
    settings["topology"] |= {"clusters": [*environment.topology.clusters], "stacks": [*environment.topology.stacks]}
    made = {"scheme": environment.scheme, "internal_tls": environment.internal_tls}
    return settings | made | {"messaging_ports": [*environment.messaging_ports], "roles": [*map(str, Role)]}


def template_of_peers(name: str, text: str, given: str) -> str:
    """Return template `name` for a peer, which has the settings in variable `given`."""
    for call, value in _CALLS.items():
        text = text.replace(call, value)
    names = f"{{% set environment = {given} %}}{{% set roles = {given}.roles %}}\n"
    return text if name.startswith("_") else names + text


class _Work:
    """The same environments for each tool, in its own way; `expected` is what its files should say."""

    def __init__(self, scratch: Path, venv: Path, count: int) -> None:
        self._scratch, self._bin = scratch, venv / "bin"
        self._environments = scratch / "environments"
        write_environments(self._environments, count)
        loaded = [load(name, self._environments) for name in list_environments(self._environments)]
        self._settings = {one.name: plain(one) for one in loaded}
        self._expected = {one.name: {s.name: s.template for s in render(one, _TEMPLATES)} for one in loaded}
        self._names = sorted(next(iter(self._expected.values())))
        self.stacks = sum(map(len, self._expected.values()))

    def prepared(self, name: str) -> tuple[Run, Callable[[Run], str]]:
        """Return the run of a tool in a directory of its own, emptied first, and what judges its result."""
        place = self._scratch / name
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        return {OURS: self._ours, "sceptre": self._sceptre, "ansible": self._ansible}[name](place)

    def _ours(self, place: Path) -> tuple[Run, Callable[[Run], str]]:
        checkout = place / "checkout"
        checkout.mkdir()
        (checkout / "templates").symlink_to(_TEMPLATES)
        (checkout / "environments").symlink_to(self._environments)
        run = Run([sys.executable, "-m", "benchmarks.peers.ours_render", str(checkout)], place, dict)
        return run, partial(_says_otherwise, f"{len(self._settings)} environments, 0 problems")

    def _sceptre(self, place: Path) -> tuple[Run, Callable[[Run], str]]:
        self._templates(place / "templates")
        for name, settings in self._settings.items():
            directory = place / "config" / name
            directory.mkdir(parents=True)
            for stack in self._names:
                config = {
                    "template": {"type": "file", "path": f"{stack}.yaml.j2"},
                    "sceptre_user_data": settings,
                }
                (directory / f"{stack}.yaml").write_text(json.dumps(config), "utf-8")
        (place / "config" / "config.yaml").write_text("project_code: bench\nregion: nowhere\n", "utf-8")
        run = Run([str(self._bin / "sceptre"), "--no-colour", "generate", "."], place, dict)
        return run, partial(_says_too_little, self.stacks)

    def _ansible(self, place: Path) -> tuple[Run, Callable[[Run], str]]:
        self._templates(place / "templates")
        hosts = {name: {"settings": settings} for name, settings in self._settings.items()}
        shared = {"ansible_connection": "local", "ansible_python_interpreter": str(self._bin / "python")}
        task = {
            "name": "render",
            "ansible.builtin.template": {
                "src": "{{ item }}.yaml.j2",
                "dest": f"{place}/out/{{{{ inventory_hostname }}}}/{{{{ item }}}}.yaml",
                "lstrip_blocks": True,
            },
            "loop": self._names,
        }
        play = [{"hosts": "all", "gather_facts": False, "tasks": [task]}]
        (place / "inventory.json").write_text(json.dumps({"all": {"hosts": hosts, "vars": shared}}), "utf-8")
        (place / "play.json").write_text(json.dumps(play), "utf-8")
        for name in self._settings:
            (place / "out" / name).mkdir(parents=True)
        argv = [str(self._bin / "ansible-playbook"), "-i", "inventory.json", "-f", str(os.cpu_count()), "play.json"]
        return Run(argv, place, dict, {"ANSIBLE_LOCALHOST_WARNING": "false"}), self._differs

    def _templates(self, directory: Path) -> None:
        """Write the project's own templates, with the names that they want made from what a peer gives them."""
        directory.mkdir()
        given = "sceptre_user_data" if directory.parent.name == "sceptre" else "settings"
        for path in _TEMPLATES.glob("*.j2"):
            text = template_of_peers(path.name, path.read_text("utf-8"), given)
            (directory / path.name).write_text(text, "utf-8")

    def _differs(self, run: Run) -> str:
        """Return what is wrong with the files that a tool wrote, "" where each is as it should be."""
        for name, stacks in self._expected.items():
            for stack, text in stacks.items():
                path = run.place / "out" / name / f"{stack}.yaml"
                if not path.is_file() or path.read_text("utf-8").strip() != text.strip():
                    return f"{path.name} of {name} is missing or differs"
        return ""


def _says_otherwise(wanted: str, run: Run) -> str:
    said = (run.place / "output").read_text("utf-8", "replace").strip()
    return "" if said == wanted else f"it said: {said[-200:]}"


def _says_too_little(wanted: int, run: Run) -> str:
    seen = (run.place / "output").read_text("utf-8", "replace").count("heat_template_version: ")
    return "" if seen == wanted else f"{seen} of {wanted} templates were printed"
