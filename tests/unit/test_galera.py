"""Galera: who begins a cluster whose members are all stopped, and the scripts, run with tools that only note."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from pipeline import galera
from pipeline.errors import Inconclusive
from pipeline.galera import Position

SCRIPTS = {"ask": galera.ask(), "stop": galera.stop(), "begin": galera.begin(), "join": galera.join(1)}


def _sh(script: str, root: Path, **tools: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """Run a script below `root`; return how it ended, and what systemctl and galera_new_cluster were told."""
    (root / "bin").mkdir(exist_ok=True)
    note = 'echo "$(basename "$0") $*" >>"$LOG"'
    for name, text in {"systemctl": note, "galera_new_cluster": note, **tools}.items():
        (root / "bin" / name).write_text(f"#!/bin/sh\n{text}\n", "utf-8")
        (root / "bin" / name).chmod(0o755)
    for path in ("/var/lib/mysql", "/run"):
        (root / path[1:]).mkdir(parents=True, exist_ok=True)
        script = script.replace(f"{path}/", f"{root}{path}/")
    environment = {"PATH": f"{root / 'bin'}:{os.environ['PATH']}", "LOG": str(root / "log")}
    done = subprocess.run(["/bin/sh"], input=script, capture_output=True, text=True, env=environment)
    log = root / "log"
    return done, log.read_text("utf-8").splitlines() if log.exists() else []


def _state(root: Path, safe: int, seqno: int) -> Path:
    path = root / "var/lib/mysql/grastate.dat"
    (path.parent / "mysql").mkdir(parents=True)
    path.write_text(
        f"# GALERA saved state\nversion: 2.1\nuuid:    {ONE}\nseqno:   {seqno}\nsafe_to_bootstrap: {safe}\n"
    )
    return path


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_script_is_valid_sh(name: str) -> None:
    done = subprocess.run(["/bin/sh", "-n"], input=SCRIPTS[name], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


# --- who begins

ONE, OTHER, NOBODY = (f"{n}0000000-0000-0000-0000-000000000000" for n in (1, 2, 0))


def test_of_new_members_the_first_begins() -> None:
    assert galera.first({name: Position("", -1, False) for name in ("database-0", "database-1")}) == "database-0"


def test_whoever_has_come_furthest_begins_whatever_an_old_note_says() -> None:
    assert galera.first({"0": Position(ONE, 100, True), "1": Position(ONE, 5000, False)}) == "1"


def test_of_those_that_have_come_as_far_whoever_left_last_begins() -> None:
    positions = {"0": Position(ONE, 9, False), "1": Position(ONE, 9, True), "2": Position("", -1, False)}
    assert galera.first(positions) == "1"


def test_data_of_different_clusters_are_not_compared() -> None:
    with pytest.raises(Inconclusive, match=f"different clusters: 0 {ONE}:7, 1 {OTHER}:9"):
        galera.first({"0": Position(ONE, 7, False), "1": Position(OTHER, 9, False)})


# --- who is in

REFUSED = 'echo "ERROR 1045 (28000): Access denied" >&2; exit 1'


@pytest.mark.parametrize("state", ["Primary", "non-Primary"])
def test_a_member_that_runs_says_what_it_is_in(tmp_path: Path, state: str) -> None:
    done, _ = _sh(galera.ask(), tmp_path, mariadb=_MEMBER.replace("Primary", state))
    assert (done.returncode, done.stdout) == (0, f"{state}\n")


def test_a_member_that_does_not_run_says_nothing(tmp_path: Path) -> None:
    done, told = _sh(galera.ask(), tmp_path, mariadb="exit 1", systemctl='echo "$*" >>"$LOG"; exit 3')
    assert (done.returncode, done.stdout, told) == (0, "", ["is-active --quiet mariadb"])


def test_a_member_that_runs_and_does_not_tell_is_not_taken_for_one_that_is_out(tmp_path: Path) -> None:
    done, _ = _sh(galera.ask(), tmp_path, mariadb=REFUSED)
    assert (done.returncode, done.stdout) == (1, "")
    assert "ERROR 1045" in done.stderr


# --- how far a member has come


def _recovered(position: str) -> str:
    return f"echo ' --wsrep_start_position={position}'"


def test_a_server_that_was_in_no_cluster_has_come_nowhere(tmp_path: Path) -> None:
    (tmp_path / "var/lib/mysql/mysql").mkdir(parents=True)
    done, told = _sh(galera.stop(), tmp_path, galera_recovery=_recovered(f"{NOBODY}:-1"))
    assert Position.read(done.stdout) == Position("", -1, False)
    assert told == ["systemctl stop mariadb"]


def test_a_member_without_data_is_not_asked_for_logs(tmp_path: Path) -> None:
    done, _ = _sh(galera.stop(), tmp_path, galera_recovery="exit 1")
    assert Position.read(done.stdout) == Position("", -1, False)


def test_a_member_that_was_stopped_knows_how_far_it_had_come(tmp_path: Path) -> None:
    _state(tmp_path, safe=1, seqno=42)
    done, _ = _sh(galera.stop(), tmp_path, galera_recovery="exit 1")
    assert Position.read(done.stdout) == Position(ONE, 42, True)


def test_of_a_member_that_fell_its_logs_tell(tmp_path: Path) -> None:
    _state(tmp_path, safe=0, seqno=-1)
    done, told = _sh(galera.stop(), tmp_path, galera_recovery=_recovered(f"{ONE}:1337"))
    assert Position.read(done.stdout) == Position(ONE, 1337, False)
    assert told == ["systemctl stop mariadb"]


@pytest.mark.parametrize("logs", ["true", "exit 1", "echo nothing of use"])
def test_logs_that_tell_nothing_end_it_for_the_member_may_know_what_no_other_does(tmp_path: Path, logs: str) -> None:
    _state(tmp_path, safe=0, seqno=-1)
    done, _ = _sh(galera.stop(), tmp_path, galera_recovery=logs)
    assert (done.returncode, done.stdout) == (1, "")


def test_a_note_that_was_cut_short_is_not_believed(tmp_path: Path) -> None:
    _state(tmp_path, safe=0, seqno=5).write_text("# GALERA saved state\nversion: 2.1\n")
    done, _ = _sh(galera.stop(), tmp_path, galera_recovery=_recovered(f"{ONE}:7"))
    assert Position.read(done.stdout) == Position(ONE, 7, False)


def test_a_member_that_does_not_hear_is_killed(tmp_path: Path) -> None:
    _state(tmp_path, safe=0, seqno=3)
    deaf = 'echo "systemctl $*" >>"$LOG"; case "$*" in "stop mariadb") [ -e killed ] ;; *KILL*) touch killed ;; esac'
    done, told = _sh(galera.stop(), tmp_path, systemctl=f"cd {tmp_path}; {deaf}")
    assert Position.read(done.stdout) == Position(ONE, 3, False)
    assert told == ["systemctl stop mariadb", "systemctl kill --signal KILL mariadb", "systemctl stop mariadb"]


# --- beginning and joining


def test_a_member_that_fell_may_begin_the_cluster_where_it_is_told_to(tmp_path: Path) -> None:
    state = _state(tmp_path, safe=0, seqno=-1)
    done, told = _sh(galera.begin(), tmp_path, mariadb="exit 1")
    assert (done.returncode, told[-1]) == (0, "galera_new_cluster ")
    assert "safe_to_bootstrap: 1" in state.read_text("utf-8")


def test_a_cluster_that_is_begun_is_not_begun_again(tmp_path: Path) -> None:
    state = _state(tmp_path, safe=0, seqno=-1)
    done, told = _sh(galera.begin(), tmp_path, mariadb=_MEMBER)
    assert done.returncode == 0
    assert "galera_new_cluster " not in told
    assert "safe_to_bootstrap: 0" in state.read_text("utf-8")


def test_a_member_that_is_joining_is_let_go_on(tmp_path: Path) -> None:
    joining = (
        'echo "systemctl $*" >>"$LOG"; case "$*" in is-active*) echo activating; exit 3 ;; is-failed*) exit 1 ;; esac'
    )
    done, told = _sh(galera.join(1), tmp_path, mariadb=_MEMBER, systemctl=joining)
    assert done.returncode == 0
    assert "systemctl start mariadb" in told
    assert "systemctl restart mariadb" not in told


def test_a_member_that_is_in_and_has_nothing_to_read_is_left_alone(tmp_path: Path) -> None:
    done, told = _sh(galera.join(1), tmp_path, mariadb=_MEMBER)
    assert done.returncode == 0
    assert "systemctl restart mariadb" not in told


@pytest.mark.parametrize("due", [True, False])
def test_a_member_that_is_out_or_has_settings_to_read_is_restarted_once(tmp_path: Path, due: bool) -> None:
    if due:
        (tmp_path / "run").mkdir()
        (tmp_path / "run/heat-restart-due-mariadb").touch()
    tool = _MEMBER if due else _MEMBER.replace("Primary", "non-Primary")
    done, told = _sh(galera.join(1), tmp_path, mariadb=tool)
    assert (done.returncode, told.count("systemctl restart mariadb")) == (0, 1)
    assert f"systemctl {'restart' if due else 'start'} heat-database-watch.socket" in told
    assert not (tmp_path / "run/heat-restart-due-mariadb").exists()


def test_a_member_that_does_not_get_synced_is_told(tmp_path: Path) -> None:
    done, _ = _sh(galera.join(0), tmp_path, mariadb=_MEMBER.replace("t4", "t2"))
    assert done.returncode == 1
    assert "not synced with its cluster: Donor" in done.stderr


_MEMBER = """\
case "$*" in
    *wsrep_cluster_status*) printf "wsrep_cluster_status\\tPrimary\\n" ;;
    *wsrep_local_state_comment*) printf "a\\tDonor\\n" ;;
    *wsrep_local_state*) printf "a\\t4\\n" ;;
esac"""
