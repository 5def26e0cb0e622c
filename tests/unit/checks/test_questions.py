"""Questions: what hosts are asked, tried with this machine's own shell, and stand-ins for systemd's tools."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from builders import R26, ScriptedRemote, host, site

from pipeline.checks import questions
from pipeline.checks.processes import process_of
from pipeline.edges.ssh import Result
from pipeline.edges.testinfra_backend import RemoteBackend, connected
from pipeline.environment import Role
from pipeline.inventory import Host


class ThisMachine:
    """A Remote to this machine, whose `tools` come first on its PATH."""

    def __init__(self, tools: Path) -> None:
        self._path = f"{tools}:{os.environ['PATH']}"

    def run(self, host: Host, script: str, *, timeout: float = 300, check: bool = True, root: bool = True) -> Result:
        environment = {**os.environ, "PATH": self._path}
        done = subprocess.run(["sh", "-s"], input=script, capture_output=True, text=True, env=environment)
        return Result(done.returncode, done.stdout, done.stderr)

    def put(self, host: Host, source: Path, target: str) -> None:
        raise AssertionError("a check copies nothing")

    def close(self) -> None:
        pass


def _tool(directory: Path, name: str, body: str) -> None:
    (directory / name).write_text(f"#!/bin/sh\n{body}\n")
    (directory / name).chmod(0o755)


@pytest.mark.parametrize("role", Role)
def test_every_question_is_a_script_that_a_shell_can_read(role: Role) -> None:
    backend = RemoteBackend(ScriptedRemote(), host(role))
    for question in questions.questions(host(role), site(ScriptedRemote()), R26, "heat-1"):
        script = backend.get_command(*question)
        done = subprocess.run(["sh", "-n"], input=script, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, ""), script
        assert "%%" not in script


def test_a_process_is_seen_with_its_children_and_their_open_files(tmp_path: Path) -> None:
    parent = subprocess.Popen(["sh", "-c", "sleep 60 & sleep 60 & wait"], cwd=tmp_path)
    try:
        _tool(tmp_path, "systemctl", f"echo {parent.pid}")
        found = process_of(connected(ThisMachine(tmp_path), host()), "heat-engine")  # type: ignore[arg-type]
    finally:
        subprocess.run(["pkill", "-P", str(parent.pid)])
        parent.wait(timeout=10)
    assert found is not None
    assert (found.release, found.children, len(found.files)) == (tmp_path.name, 2, 3)
    assert 3 <= found.fullest[0] < found.fullest[1]


def test_a_unit_that_does_not_run_has_no_process(tmp_path: Path) -> None:
    _tool(tmp_path, "systemctl", "echo 0")
    assert process_of(connected(ThisMachine(tmp_path), host()), "heat-engine") is None  # type: ignore[arg-type]


def _journal(tools: Path, journalctl: str) -> list[str]:
    _tool(tools, "systemctl", "echo 4b0f")
    _tool(tools, "journalctl", journalctl)
    seen = connected(ThisMachine(tools), host())  # type: ignore[arg-type]
    lines: list[str] = seen.run(*questions.journal("heat-engine")).stdout.splitlines()
    return lines


def test_only_errors_of_the_run_under_way_are_read_from_the_journal(tmp_path: Path) -> None:
    error = "2026-01-01 10:00:00.1 42 ERROR heat.engine broken"
    lines = f'case "$*" in *_SYSTEMD_INVOCATION_ID=4b0f) printf "%s\\n" "{error}" "an ERROR of another form" ;; esac'
    assert _journal(tmp_path, lines) == [error]


def test_a_journal_that_cannot_be_read_is_no_clean_one(tmp_path: Path) -> None:
    assert _journal(tmp_path, "exit 1") == ["- - 0 ERROR journalctl failed"]


def test_files_are_told_with_mode_owner_and_digest(tmp_path: Path) -> None:
    (question, *paths) = questions.digests(host(), site(ScriptedRemote()), R26, "heat-1")
    (tmp_path / "file").write_text("text")
    seen = connected(ThisMachine(tmp_path), host())  # type: ignore[arg-type]
    said = seen.run(question, *[str(tmp_path / "file"), *paths[1:]]).stdout.split()
    assert said[0] == str(tmp_path / "file")
    assert said[3] == "982d9e3eb996f559e633f4d194def3761d909f5a3b647d1a851fead67c32c9d1"


def _measured(role: Role, tools: Path, ls: str) -> list[str]:
    """Return the places whose room a host of `role` is asked for."""
    _tool(tools, "df", 'echo "$@"')
    _tool(tools, "ls", ls)
    seen = connected(ThisMachine(tools), host(role))  # type: ignore[arg-type]
    options, size, *places = seen.run(*questions.disks(host(role))).stdout.split()
    assert (options, size) == ("--output=avail,ipcent,target", "-B1M")
    return places


@pytest.mark.parametrize(
    ("role", "kept"),
    [
        (Role.DATABASE, ["/var/lib/mysql"]),
        (Role.MESSAGING, ["/var/lib/rabbitmq"]),
        (Role.API, []),
        (Role.ENGINE, []),
        (Role.LOADBALANCER, []),
    ],
)
def test_room_is_asked_for_where_a_service_keeps_its_data_too(role: Role, kept: list[str], tmp_path: Path) -> None:
    assert _measured(role, tmp_path, 'echo "$2"') == ["/", "/opt", "/var/lib", *kept]


def test_a_directory_that_is_not_there_yet_spoils_no_answer(tmp_path: Path) -> None:
    assert _measured(Role.DATABASE, tmp_path, "echo missing >&2; exit 2") == ["/", "/opt", "/var/lib"]
