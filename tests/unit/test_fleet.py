"""The fleet: the script that asks a host, run for real in a shell, and the reading of its answer."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from builders import R25, R26, fleet_on, host, settled

from pipeline.environment import Role
from pipeline.fleet import Fleet, HostState, read_state, state_script
from pipeline.hostfiles import UNITS

API = host(Role.API)
WRITTEN, STARTED, LATER = 1_700_000_000, 1_700_000_100, 1_700_000_200  # seconds since 1970


SYSTEMCTL = """\
case "$1 $3" in
    "show MainPID") cat "$UNITS/$5" || true;;
    "show ExecMainStartTimestamp") [ "$5" = --timestamp=unix ] && stat -c @%Y "$UNITS/$6";;
    "is-active ") [ ! -f "$UNITS/$2.ending" ] || echo deactivating;;
    is-active*) [ -f "$UNITS/$3" ] && [ ! -f "$UNITS/$3.ending" ];;
esac"""
"""A unit that runs is a file with its pid, as old as the unit's start; one that was told to stop has a second file."""


class Machine:
    """A host below a directory: releases on disk, the link, units that run in a release's directory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.heat = root / "opt/heat"
        self.processes: list[subprocess.Popen[bytes]] = []
        (root / "bin").mkdir()
        (self.heat / "releases").mkdir(parents=True)
        (root / "etc").mkdir()
        self._tool("systemctl", SYSTEMCTL)

    def install(self, release: str, vhost: str) -> Path:
        home = self.heat / "releases" / release
        (home / "etc").mkdir(parents=True)
        self.write(home / "etc/vhost", f"{vhost}\n")
        (home / "manifest.json").write_text("{}", "utf-8")
        return home

    def write(self, path: Path, content: str, at: int = WRITTEN) -> None:
        path.write_text(content, "utf-8")
        os.utime(path, (at, at))

    def switch(self, release: str) -> None:
        (self.heat / "current").unlink(missing_ok=True)
        (self.heat / "current").symlink_to(self.heat / "releases" / release)

    def start(self, unit: str, release: str) -> None:
        process = subprocess.Popen(["sleep", "60"], cwd=self.heat / "releases" / release)
        self.processes.append(process)
        self.write(self.root / unit, f"{process.pid}\n", STARTED)

    def ask(self) -> HostState:
        script = state_script(UNITS[Role.API]).replace("/opt/heat", str(self.heat))
        script = script.replace("/etc/systemd/system", str(self.root / "etc"))
        path = f"{self.root / 'bin'}:{os.environ['PATH']}"
        done = subprocess.run(
            ["/bin/sh"], input=script, capture_output=True, text=True, env={"PATH": path, "UNITS": str(self.root)}
        )
        assert done.returncode == 0
        return read_state(API, done.stdout)

    def say_connected(self, port: str) -> None:
        """Have the host tell a connection to `port` of another."""
        self._tool("ss", f'case "$*" in *"dport = :{port} "*) echo "0 0 10.0.0.3:41000 10.0.0.2:{port}";; esac')

    def _tool(self, name: str, text: str) -> None:
        tool = self.root / "bin" / name
        tool.write_text(f"#!/bin/sh\n{text} 2>/dev/null\n", "utf-8")
        tool.chmod(0o755)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path)
    yield made
    for process in made.processes:
        process.kill()
        process.wait()


def test_a_fresh_host_has_nothing(machine: Machine) -> None:
    assert machine.ask() == HostState(API, "", "", "", ())


def test_a_settled_host_tells_release_vhost_and_what_else_is_installed(machine: Machine) -> None:
    machine.install("25", "heat-25")
    machine.install("26", "heat-26")
    machine.switch("26")
    for unit in UNITS[Role.API]:
        machine.start(unit, "26")
    assert machine.ask() == HostState(API, "26", "26", "heat-26", ("25", "26"))
    assert machine.ask().settled_on("26")


@pytest.fixture
def running(machine: Machine) -> Machine:
    """Return a host that runs release 26 with the settings it has, and has release 25 beside it."""
    machine.install("25", "heat-25")
    machine.install("26", "heat-26")
    machine.switch("26")
    for unit in UNITS[Role.API]:
        machine.write(machine.root / f"etc/{unit}.service", "[Unit]\n")
        machine.start(unit, "26")
    return machine


def test_a_host_that_started_after_its_settings_were_written_is_not_stale(running: Machine) -> None:
    assert not running.ask().stale


@pytest.mark.parametrize(
    "path", ["opt/heat/current/etc/heat.conf", "opt/heat/current/etc/vhost", "etc/heat-api-cfn.service"]
)
def test_settings_newer_than_a_units_start_make_a_host_stale(running: Machine, path: str) -> None:
    running.write(running.root / path, "new\n", LATER)
    state = running.ask()
    assert state.stale
    assert state.settled_on("26")


def test_a_host_whose_settings_have_it_use_tls_tells_so(running: Machine) -> None:
    assert not running.ask().encrypted
    for text, encrypted in (("[oslo_messaging_rabbit]\nssl = true\n", True), ("ssl = false\n", False)):
        running.write(running.heat / "current/etc/heat.conf", text)
        assert running.ask().encrypted is encrypted


def test_a_restart_makes_a_stale_host_right_again(running: Machine) -> None:
    running.write(running.heat / "current/etc/heat.conf", "new\n", LATER)
    for unit in UNITS[Role.API]:
        os.utime(running.root / unit, (LATER + 1, LATER + 1))
    assert not running.ask().stale


def test_settings_of_a_release_that_does_not_run_make_nothing_stale(running: Machine) -> None:
    running.write(running.heat / "releases/25/etc/heat.conf", "new\n", LATER)
    assert not running.ask().stale


def test_a_host_that_is_down_is_not_stale_for_it_will_read_what_is_there(machine: Machine) -> None:
    machine.write(machine.install("26", "heat-26") / "etc/heat.conf", "new\n", LATER)
    machine.switch("26")
    assert not machine.ask().stale


def test_the_answer_names_stale_units_and_the_state_says_that_there_are_some() -> None:
    answer = "current 26\nvhost v\nrunning 26\nstale heat-api\nrunning 26\n"
    assert read_state(API, answer) == HostState(API, "26", "26", "v", (), stale=True)


def test_a_unit_still_on_the_release_before_is_told_by_its_process_and_not_by_the_link(machine: Machine) -> None:
    machine.install("25", "heat-25")
    machine.install("26", "heat-26")
    for unit in UNITS[Role.API]:
        machine.start(unit, "25")
    machine.switch("26")
    state = machine.ask()
    assert (state.current, state.running) == ("26", "25")
    assert not state.settled_on("26")
    assert not state.settled_on("25")


def test_a_host_with_one_of_its_units_down_does_not_run(machine: Machine) -> None:
    machine.install("26", "heat-26")
    machine.switch("26")
    machine.start("heat-api", "26")
    assert machine.ask() == HostState(API, "26", "", "heat-26", ("26",))


@pytest.mark.parametrize("unit", UNITS[Role.API])
def test_a_host_with_a_unit_that_was_told_to_stop_drains_and_does_not_run(running: Machine, unit: str) -> None:
    (running.root / f"{unit}.ending").touch()
    state = running.ask()
    assert (state.current, state.running, state.draining) == ("26", "", True)
    assert not state.settled_on("26")


def test_a_host_that_runs_or_is_down_does_not_drain(running: Machine, machine: Machine) -> None:
    assert not running.ask().draining
    for unit in UNITS[Role.API]:
        (running.root / unit).unlink()
    assert not running.ask().draining


def test_a_host_that_drains_is_not_stale_for_it_will_read_what_is_there(running: Machine) -> None:
    for unit in UNITS[Role.API]:
        (running.root / f"{unit}.ending").touch()
    running.write(running.heat / "current/etc/heat.conf", "new\n", LATER)
    assert not running.ask().stale


def test_the_answer_names_draining_units_and_the_state_says_that_there_are_some() -> None:
    answer = "current 26\nvhost v\nrunning \ndraining heat-engine\n"
    assert read_state(API, answer) == HostState(API, "26", "", "v", (), draining=True)


def test_a_release_without_its_manifest_is_not_installed(machine: Machine) -> None:
    (machine.install("26", "heat-26") / "manifest.json").unlink()
    assert machine.ask().installed == ()


def test_units_on_two_releases_count_as_not_running() -> None:
    assert read_state(API, "current 26\nvhost v\nrunning 25\nrunning 26\n").running == ""


def test_a_fleet_knows_its_releases_and_its_hosts() -> None:
    states = fleet_on(R25).states
    engine = next(state for state in states if state.host.role is Role.ENGINE)
    fleet = Fleet((*states, settled(engine.host, R26)))
    assert fleet.releases == {R25.id, R26.id}
    assert fleet.lacking(R26.id) == tuple(state.host for state in states)
    assert [state.host.name for state in fleet.of(Role.API)] == ["api-0", "api-1"]


def test_a_fleet_before_its_first_start_talks_on_no_vhost() -> None:
    fleet = Fleet(tuple(replace(state, current="", running="") for state in fleet_on(R25).states))
    assert fleet.releases == frozenset()
    assert Fleet(tuple(replace(state, vhost="") for state in fleet.states)).vhost == ""


@pytest.mark.parametrize("down", [(), (Role.ENGINE,), (Role.ENGINE, Role.API)])
def test_a_region_talks_on_its_vhost_whoever_of_it_runs(down: tuple[Role, ...]) -> None:
    """Engines that were all taken out of service left their messages there, and new ones have no vhost on disk."""
    states = [settled(state.host, R26, "heat-25") for state in fleet_on(R26).states]
    fleet = Fleet(tuple(replace(one, running="") if one.host.role in down else one for one in states))
    assert fleet.vhost == "heat-25"
    anew = tuple(replace(one, vhost="", current="") if one.host.role is Role.ENGINE else one for one in fleet.states)
    assert Fleet(anew).vhost == "heat-25"


def test_engines_that_run_say_which_vhost_it_is() -> None:
    apis = [settled(state.host, R25, "heat-old") for state in fleet_on(R25).of(Role.API)]
    engines = [settled(state.host, R26, "heat-new") for state in fleet_on(R26).of(Role.ENGINE)]
    assert Fleet((*apis, *engines)).vhost == "heat-new"


def test_a_host_tells_in_what_way_it_is_connected_to_the_broker(running: Machine) -> None:
    assert running.ask().connected == frozenset()
    running.say_connected("5672")
    assert running.ask().connected == {"5672"}


def test_a_host_tells_whose_certificates_it_trusts(running: Machine) -> None:
    assert running.ask().trusts == ""
    running.write(running.heat / "current/etc/authority.pem", "PEM\n")
    assert running.ask().trusts == hashlib.sha256(b"PEM\n").hexdigest()
