"""Commands: every script is valid sh, arguments reach the shell as they are, and some are run for real."""

from __future__ import annotations

import os
import subprocess
from grp import getgrgid
from pathlib import Path
from pwd import getpwuid

import pytest
from builders import TOKEN

from pipeline import commands
from pipeline.hostfiles import HostFile, write_script

ODD = "26'$(touch x) `id`;#"
SCRIPTS = {
    "make_user": commands.make_user(),
    "enable": commands.enable(("heat-api", "heat-api-cfn")),
    "apply_files": commands.apply_files("put() {\n    cat\n}\nput <<'END'\n/x\nEND", ("a", "b"), sockets=("c", "d")),
    "write_files": commands.write_files("echo /x", "mariadb"),
    "count_workers": commands.count_workers(),
    "stop": commands.stop(("heat-engine",)),
    "switch": commands.switch(ODD),
    "start": commands.start(("heat-engine",)),
    "manifest": commands.manifest(ODD),
    "db_sync": commands.db_sync(ODD),
    "upgrade_check": commands.upgrade_check(ODD),
    "purge_deleted": commands.purge_deleted(ODD, 90),
    "service_clean": commands.service_clean(ODD),
    "remove_release": commands.remove_release(ODD),
    "ask_engine": commands.ask_engine(ODD, ["5f0c1f6e-93d1-4a58-9f0e-1d0b6b7f3c01"]),
    "ask_api": commands.ask_api("http://198.18.7.13:8004/v1/p/build_info", TOKEN),
}


_Done = subprocess.CompletedProcess[str]


def _sh(script: str, root: Path, **tools: str) -> _Done:
    """Run a script with /opt/heat below `root` and each of `tools` in place of the command of that name."""
    (root / "bin").mkdir(exist_ok=True)
    for name, text in tools.items():
        tool = root / "bin" / name
        tool.write_text(f"#!/bin/sh\n{text}\n", "utf-8")
        tool.chmod(0o755)
    text = script.replace("/opt/heat", str(root / "heat")).replace("/run/", f"{root}/")
    environment = {"PATH": f"{root / 'bin'}:{os.environ['PATH']}", "LOG": str(root / "log")}
    return subprocess.run(["/bin/sh"], input=text, capture_output=True, text=True, cwd=root, env=environment)


def _release(root: Path, name: str) -> Path:
    home = root / "heat/releases" / name
    (home / "etc").mkdir(parents=True)
    (home / "manifest.json").write_text('{"id": 1}', "utf-8")
    (home / "etc/heat.conf").write_text("", "utf-8")
    return home


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_script_is_valid_sh(name: str) -> None:
    done = subprocess.run(["/bin/sh", "-n"], input=SCRIPTS[name], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_every_command_was_tried() -> None:
    assert {name for name in commands.__all__ if callable(getattr(commands, name))} == {*SCRIPTS, "due"}


# --- the link


def test_a_switch_moves_the_link_in_one_step(tmp_path: Path) -> None:
    old, new = _release(tmp_path, "25"), _release(tmp_path, "26")
    link = tmp_path / "heat/current"
    for home in (old, new, new):
        assert _sh(commands.switch(home.name), tmp_path).returncode == 0
        assert link.readlink() == home
    assert sorted(path.name for path in (tmp_path / "heat").iterdir()) == ["current", "releases"]


@pytest.mark.parametrize("missing", ["manifest.json", "etc/heat.conf"])
def test_a_switch_to_a_release_that_is_not_whole_is_refused(tmp_path: Path, missing: str) -> None:
    old = _release(tmp_path, "25")
    (_release(tmp_path, "26") / missing).unlink()
    _sh(commands.switch("25"), tmp_path)
    assert _sh(commands.switch("26"), tmp_path).returncode != 0
    assert (tmp_path / "heat/current").readlink() == old


def test_ids_reach_the_shell_as_they_are(tmp_path: Path) -> None:
    home = _release(tmp_path, ODD)
    assert _sh(commands.switch(ODD), tmp_path).returncode == 0
    assert (tmp_path / "heat/current").readlink() == home
    assert _sh(commands.manifest(ODD), tmp_path).stdout == '{"id": 1}'
    assert not (tmp_path / "x").exists()


LATER = 'while [ "${1#--}" != "$1" ]; do shift; done; echo "$*" >>"$LOG"'
"""A systemd-run that only notes what it is to run."""
AT_ONCE = f'{LATER}; "$@"'


def test_an_old_release_can_be_removed_and_the_current_one_cannot(tmp_path: Path) -> None:
    old, new = _release(tmp_path, "25"), _release(tmp_path, "26")
    _sh(commands.switch("26"), tmp_path)
    assert _sh(commands.remove_release("26"), tmp_path, **{"systemd-run": AT_ONCE}).returncode != 0
    assert _sh(commands.remove_release("25"), tmp_path, **{"systemd-run": AT_ONCE}).returncode == 0
    assert (old.exists(), new.exists()) == (False, True)
    assert [path.name for path in (tmp_path / "heat/releases").iterdir()] == ["26"]


def test_a_release_is_gone_at_once_and_its_files_later(tmp_path: Path) -> None:
    old = _release(tmp_path, "25")
    assert _sh(commands.remove_release("25"), tmp_path, **{"systemd-run": LATER}).returncode == 0
    assert not old.exists()
    assert (tmp_path / "log").read_text("utf-8") == f"rm -rf -- {tmp_path}/heat/releases/.removed-25\n"


def test_a_release_can_be_removed_where_files_of_one_of_that_name_were_left(tmp_path: Path) -> None:
    for _ in range(2):
        _release(tmp_path, "25")
        assert _sh(commands.remove_release("25"), tmp_path, **{"systemd-run": LATER}).returncode == 0
    assert [path.name for path in (tmp_path / "heat/releases").iterdir()] == [".removed-25"]


def test_a_removal_that_was_cut_off_is_ended_by_another(tmp_path: Path) -> None:
    _release(tmp_path, "25")
    _sh(commands.switch(_release(tmp_path, "26").name), tmp_path)
    assert _sh(commands.remove_release("25"), tmp_path, **{"systemd-run": "exit 1"}).returncode != 0
    assert sorted(path.name for path in (tmp_path / "heat/releases").iterdir()) == [".removed-25", "26"]
    for _ in range(2):
        done = _sh(commands.remove_release("25"), tmp_path, **{"systemd-run": AT_ONCE})
        assert (done.returncode, done.stderr) == (0, "")
        assert [path.name for path in (tmp_path / "heat/releases").iterdir()] == ["26"]


def test_the_current_release_cannot_be_removed_however_often_it_is_tried(tmp_path: Path) -> None:
    home = _release(tmp_path, "26")
    _sh(commands.switch("26"), tmp_path)
    for _ in range(2):
        assert _sh(commands.remove_release("26"), tmp_path, **{"systemd-run": AT_ONCE}).returncode != 0
    assert (home / "manifest.json").exists()
    assert not (tmp_path / "log").exists()


# --- units


SYSTEMCTL = """\
echo "$*" >>"$LOG"
case "$1" in
    show) printf 'success\\n\\nsuccess\\n';;
    is-active) cat "$2" 2>/dev/null || echo inactive; [ -f "$2" ];;
esac"""
"""Units that run have a file with their state; all others are inactive."""
NO_SLEEP = 'echo "sleep $*" >>"$LOG"'


def _stop(root: Path, *units: str, systemctl: str = SYSTEMCTL, pgrep: str = "exit 1", sleep: str = NO_SLEEP) -> _Done:
    """Stop units, none of whose looks takes any time."""
    return _sh(commands.stop(units), root, systemctl=systemctl, pgrep=pgrep, sleep=sleep)


def test_a_stop_is_not_waited_for_by_systemd_and_tells_how_it_ended(tmp_path: Path) -> None:
    done = _stop(tmp_path, "heat-api", "heat-api-cfn")
    assert (done.returncode, done.stdout) == (0, "success\n")
    assert _log(tmp_path)[0] == "stop --no-block heat-api heat-api-cfn"
    assert not [line for line in _log(tmp_path) if line.startswith("sleep")]


def test_a_unit_that_has_not_ended_in_time_is_draining_and_nothing_is_proved(tmp_path: Path) -> None:
    (tmp_path / "heat-engine").write_text("deactivating\n", "utf-8")
    done = _stop(tmp_path, "heat-engine", pgrep="echo 42 heat-engine")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{commands.DRAINING}\n", "")
    assert _log(tmp_path).count("sleep 0.2") == 10


@pytest.mark.parametrize("last", ["heat-api", "heat-api-cfn"])
def test_one_unit_that_drains_is_enough(tmp_path: Path, last: str) -> None:
    (tmp_path / last).write_text("deactivating\n", "utf-8")
    assert _stop(tmp_path, "heat-api", "heat-api-cfn").stdout == f"{commands.DRAINING}\n"


def test_an_end_is_seen_within_a_moment(tmp_path: Path) -> None:
    (tmp_path / "heat-engine").write_text("deactivating\n", "utf-8")
    done = _stop(tmp_path, "heat-engine", sleep=f'{NO_SLEEP}; rm -f "{tmp_path}/heat-engine"')
    assert done.stdout == "success\n"
    assert _log(tmp_path).count("sleep 0.2") == 1


@pytest.mark.parametrize("state", ["inactive", "failed", "unknown"])
def test_a_unit_that_was_down_or_was_killed_has_ended(tmp_path: Path, state: str) -> None:
    (tmp_path / "heat-engine").write_text(f"{state}\n", "utf-8")
    assert _stop(tmp_path, "heat-engine").stdout == "success\n"


def test_a_stop_tells_of_every_way_a_unit_ended(tmp_path: Path) -> None:
    killed = 'case "$1" in show) printf "timeout\\n\\nsuccess\\n";; is-active) echo failed; exit 3;; esac'
    assert _stop(tmp_path, "heat-api", "heat-api-cfn", systemctl=killed).stdout == "success\ntimeout\n"


def test_a_stop_that_leaves_a_process_fails_and_names_it(tmp_path: Path) -> None:
    done = _stop(tmp_path, "heat-engine", pgrep="echo 42 heat-engine")
    assert done.returncode == 1
    assert done.stderr == "still running after the stop: 42 heat-engine\n"


def test_a_stop_that_systemd_refuses_fails(tmp_path: Path) -> None:
    assert _stop(tmp_path, "heat-engine", systemctl='[ "$1" != stop ]').returncode != 0


def test_a_start_forgets_earlier_failures_and_fails_as_systemd_does(tmp_path: Path) -> None:
    tool = 'echo "$*" >>"$LOG"; [ "$1" != start ]'
    assert _sh(commands.start(("heat-engine",)), tmp_path, systemctl=tool).returncode == 1
    log = (tmp_path / "log").read_text().splitlines()
    assert log == ["daemon-reload", "reset-failed heat-engine", "start heat-engine"]


def test_enabling_starts_now_and_at_every_boot_and_restarts_nothing(tmp_path: Path) -> None:
    assert _sh(commands.enable(("heat-api", "heat-api-cfn")), tmp_path, systemctl=SYSTEMCTL).returncode == 0
    assert _log(tmp_path) == ["daemon-reload", "enable --quiet heat-api heat-api-cfn", "start heat-api heat-api-cfn"]


# --- settings, and the services that read them

RABBIT = ("rabbitmq-server",)


def _log(root: Path) -> list[str]:
    return (root / "log").read_text("utf-8").splitlines()


def _write(root: Path, content: str) -> str:
    """Return the real script that writes one settings file below `root`, as whoever runs the test."""
    owner = f"{getpwuid(os.getuid()).pw_name}:{getgrgid(os.getgid()).gr_name}"
    return write_script([HostFile(str(root / "etc/rabbitmq.conf"), content, "0644", owner)])


def _apply(root: Path, write: str, systemctl: str = SYSTEMCTL) -> _Done:
    """Run `apply_files` for the broker; the log keeps this run's calls of systemctl only."""
    (root / "log").write_text("", "utf-8")
    return _sh(commands.apply_files(write, RABBIT, sockets=("epmd",)), root, systemctl=systemctl)


def test_changed_settings_bind_the_sockets_anew_and_restart_the_service(tmp_path: Path) -> None:
    done = _apply(tmp_path, _write(tmp_path, "a = 1\n"))
    assert (done.returncode, done.stdout.split()) == (0, [str(tmp_path / "etc/rabbitmq.conf")])
    assert (tmp_path / "etc/rabbitmq.conf").read_text("utf-8") == "a = 1\n"
    assert _log(tmp_path) == [
        "enable --quiet rabbitmq-server",
        "daemon-reload",
        "stop epmd.socket epmd.service",
        "start epmd.socket",
        "reload-or-restart rabbitmq-server",
        "start rabbitmq-server",
    ]


def test_settings_that_are_right_restart_nothing(tmp_path: Path) -> None:
    _apply(tmp_path, _write(tmp_path, "a = 1\n"))
    done = _apply(tmp_path, _write(tmp_path, "a = 1\n"))
    assert (done.returncode, done.stdout.split()) == (0, [])
    assert _log(tmp_path) == ["enable --quiet rabbitmq-server", "start rabbitmq-server"]


def test_a_service_without_sockets_is_just_restarted(tmp_path: Path) -> None:
    assert _sh(commands.apply_files("echo /x", ("haproxy",)), tmp_path, systemctl=SYSTEMCTL).returncode == 0
    assert _log(tmp_path) == ["enable --quiet haproxy", "daemon-reload", "reload-or-restart haproxy", "start haproxy"]


def test_settings_that_could_not_be_written_fail_and_restart_nothing(tmp_path: Path) -> None:
    done = _apply(tmp_path, "set -eu\necho /written\nfalse\necho /never")
    assert done.returncode != 0
    assert done.stdout == ""
    assert _log(tmp_path) == []


@pytest.mark.parametrize("fails", ["daemon-reload", "reload-or-restart"])
def test_a_restart_that_failed_is_made_up_for_by_the_next_run(tmp_path: Path, fails: str) -> None:
    broken = f'echo "$*" >>"$LOG"; [ "$1" != {fails} ]'
    assert _apply(tmp_path, _write(tmp_path, "a = 1\n"), broken).returncode != 0
    assert _apply(tmp_path, _write(tmp_path, "a = 1\n")).returncode == 0
    assert "reload-or-restart rabbitmq-server" in _log(tmp_path)
    assert _apply(tmp_path, _write(tmp_path, "a = 1\n")).returncode == 0
    assert "reload-or-restart rabbitmq-server" not in _log(tmp_path)


def test_the_user_is_made_only_where_it_is_not(tmp_path: Path) -> None:
    note = 'echo "$*" >>"$LOG"'
    _sh(commands.make_user(), tmp_path, getent="exit 0", useradd=note)
    assert not (tmp_path / "log").exists()
    _sh(commands.make_user(), tmp_path, getent="exit 2", useradd=note)
    assert (tmp_path / "log").read_text().endswith("--shell /usr/sbin/nologin heat\n")


# --- Heat's own commands, and its API


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (commands.db_sync("26"), "heat-manage --config-file /opt/heat/releases/26/etc/heat.conf db_sync"),
        (commands.upgrade_check("26"), "heat-status --config-file /opt/heat/releases/26/etc/heat.conf upgrade check"),
        (commands.service_clean("26"), "heat-manage --config-file /opt/heat/releases/26/etc/heat.conf service clean"),
        (commands.purge_deleted("26", 90), "purge_deleted --granularity days 90"),
    ],
)
def test_heats_commands_run_the_named_release_as_its_user(script: str, words: str) -> None:
    assert script.startswith("cd / && setpriv --reuid heat --regid heat --init-groups /opt/heat/releases/26/venv/bin/")
    assert words in script


def test_a_token_never_gets_onto_a_command_line(tmp_path: Path) -> None:
    done = _sh(SCRIPTS["ask_api"], tmp_path, curl='echo "$*" >>"$LOG"; cat')
    assert TOKEN not in (tmp_path / "log").read_text()
    assert f'header = "X-Auth-Token: {TOKEN}"' in done.stdout
    assert 'url = "http://198.18.7.13:8004/v1/p/build_info"' in done.stdout


@pytest.mark.parametrize(
    ("pid", "children", "counted"),
    [("17", "echo 4", "4"), ("17", "echo 0; exit 1", "1"), ("0", "echo 9", "0"), ("", "echo 9", "0")],
)
def test_the_workers_of_an_engine_are_its_children_or_it_alone(
    tmp_path: Path, pid: str, children: str, counted: str
) -> None:
    done = _sh(commands.count_workers(), tmp_path, systemctl=f"echo {pid}", pgrep=children)
    assert (done.returncode, done.stdout) == (0, f"{counted}\n")
