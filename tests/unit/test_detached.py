"""Detached steps: the scripts, run for real in a shell, on a machine whose systemd is two small stand-ins."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline import detached
from pipeline.detached import BOOT_ID, STEPS, Answer, State, read_answer

ONE, TWO = "1" * 32, "2" * 32

# It keeps "activating", then the step's process group, in the file `unit` for as long as the unit is there.
SYSTEMD_RUN = r"""#!/bin/sh
echo "$*" >>"$MACHINE/started"
if [ -e "$MACHINE/refuses" ]; then echo 'Failed to start transient service unit' >&2; exit 1; fi
while [ "${1#--}" != "$1" ]; do
    case $1 in
    --property=StandardOutput=file:*) out=${1#*file:} ;;
    --property=StandardError=file:*) err=${1#*file:} ;;
    --property=ExecStopPost=*) post=${1#*ExecStopPost=} ;;
    esac
    shift
done
echo activating >"$MACHINE/unit"
(
    setsid "$@" >>"$out" 2>>"$err" </dev/null &
    echo $! >"$MACHINE/unit"
    wait $!
    EXIT_STATUS=$? EXIT_CODE=exited SERVICE_RESULT=success
    if [ "$EXIT_STATUS" -gt 128 ]; then
        EXIT_CODE=killed EXIT_STATUS=$(kill -l "$EXIT_STATUS")
        SERVICE_RESULT=$(cat "$MACHINE/result" 2>/dev/null || echo signal)
    fi
    export EXIT_CODE EXIT_STATUS SERVICE_RESULT
    [ -e "$MACHINE/power-loss" ] || eval "$post"
    rm -f "$MACHINE/unit"
) >/dev/null 2>&1 9>&- &
"""
SYSTEMCTL = r"""#!/bin/sh
case $1 in
show) if [ -e "$MACHINE/state" ]; then cat "$MACHINE/state"; elif [ -e "$MACHINE/unit" ]; then echo active
    else echo inactive; fi ;;
stop) echo "$*" >>"$MACHINE/stopped"
    if [ -e "$MACHINE/unit" ]; then kill -s TERM -- "-$(cat "$MACHINE/unit")"; fi
    while [ -e "$MACHINE/unit" ]; do sleep 0.02; done ;;
esac
"""


class Machine:
    """A host below `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root / "heat-pipeline" / "steps" / "try"
        for name, text in {"systemd-run": SYSTEMD_RUN, "systemctl": SYSTEMCTL}.items():
            tool = root / "bin" / name
            tool.parent.mkdir(exist_ok=True)
            tool.write_text(text)
            tool.chmod(0o755)
        self.boot("boot-1")

    def boot(self, boot_id: str) -> None:
        (self.root / "boot_id").write_text(f"{boot_id}\n")

    def set(self, name: str, text: str = "") -> None:
        (self.root / name).write_text(text)

    def count(self, name: str) -> int:
        path = self.root / name
        return len(path.read_text().splitlines()) if path.exists() else 0

    def run(self, script: str) -> subprocess.CompletedProcess[str]:
        text = script.replace(STEPS.rpartition("/")[0], str(self.root / "heat-pipeline"))
        text = text.replace(BOOT_ID, str(self.root / "boot_id"))
        environment = {"PATH": f"{self.root / 'bin'}:{os.environ['PATH']}", "MACHINE": str(self.root)}
        return subprocess.run(["/bin/sh"], input=text, capture_output=True, text=True, env=environment, timeout=30)

    def ask(self, script: str) -> Answer:
        done = self.run(script)
        answer = read_answer(done.stdout, done.stderr)
        assert answer is not None, done
        return answer

    def start(self, script: str, nonce: str = ONE) -> Answer:
        return self.ask(detached.start("try", nonce, script, timeout=60))

    def look(self, nonce: str = ONE) -> Answer:
        return self.ask(detached.look("try", nonce))

    def stop(self, nonce: str = ONE) -> Answer:
        return self.ask(detached.stop("try", nonce))

    def forget(self, nonce: str = ONE) -> None:
        assert self.run(detached.forget("try", nonce)).returncode == 0

    def until(self, happened: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 10
        while not happened():
            assert time.monotonic() < deadline, "it did not happen within 10 s"
            time.sleep(0.02)

    def until_ended(self, nonce: str = ONE) -> Answer:
        self.until(lambda: self.look(nonce).state is not State.RUNNING)
        return self.look(nonce)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    monkeypatch.setattr(detached, "_AT_ONCE", 1)  # twentieths of a second: tests of what runs need not wait for it
    made = Machine(tmp_path)
    yield made
    made.run("systemctl stop it")


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch, machine: Machine) -> Machine:
    monkeypatch.setattr(detached, "_AT_ONCE", 200)
    return machine


# --- one step


def test_a_short_step_answers_its_start_with_its_end(patient: Machine) -> None:
    answer = patient.start("echo out; echo err >&2; exit 3")
    assert answer == Answer(State.ENDED, False, 3, answer.result, "out\n", "err\n")


def test_a_long_step_runs_on_and_then_tells_its_end(machine: Machine) -> None:
    assert machine.start(f"until [ -e {machine.root}/go ]; do sleep 0.02; done; echo done").state is State.RUNNING
    assert machine.look().state is State.RUNNING
    machine.set("go")
    assert machine.until_ended() == Answer(State.ENDED, False, 0, "success", "done\n", "")


def test_what_is_kept_is_for_root_alone(machine: Machine) -> None:
    machine.start("sleep 60; password=hunter2")
    kept = [machine.folder, machine.folder.parent, *machine.folder.iterdir()]
    assert {path.stat().st_mode & 0o077 for path in kept} == {0}
    assert {path.name for path in machine.folder.iterdir()} >= {"script", "stdout", "stderr", "status", "step"}


def test_a_script_never_shows_in_a_command(machine: Machine) -> None:
    machine.start("password=hunter2")
    assert "hunter2" not in (machine.root / "started").read_text()


@pytest.mark.parametrize(
    "script",
    [
        "cat <<'END'\na\\b $x `y` {\nEND\nprintf '%s\\n' \"}\"",
        "printf '%s' 'Á \u0081\u0088 日本'",
        "true # a comment at the end",
        "true\n\n",
        "cat\nread line || echo nothing to read",
    ],
)
def test_a_script_runs_as_it_was_written(patient: Machine, script: str) -> None:
    plain = subprocess.run(["/bin/sh", "-c", script], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    answer = patient.start(script)
    assert (answer.status, answer.stdout, answer.stderr) == (plain.returncode, plain.stdout, plain.stderr)


def test_a_syntax_error_runs_nothing_at_all(patient: Machine) -> None:
    answer = patient.start(f"touch {patient.root}/half\nif")
    assert answer.status == 2
    assert "yntax error" in answer.stderr
    assert not (patient.root / "half").exists()


def test_a_megabyte_comes_through_whole(patient: Machine) -> None:
    script = "head -c 1048576 /dev/zero | tr '\\0' o; head -c 1048576 /dev/zero | tr '\\0' e >&2"
    answer = patient.start(script)
    assert (answer.stdout, answer.stderr) == ("o" * 1048576, "e" * 1048576)


def test_a_killed_step_has_the_status_that_sh_gives(patient: Machine) -> None:
    answer = patient.start("echo some >&2; kill -KILL $$")
    assert (answer.state, answer.status, answer.stderr) == (State.ENDED, 137, "some\nkilled by KILL (signal)\n")


def test_a_step_that_leaves_no_status_has_vanished(machine: Machine) -> None:
    machine.set("power-loss")
    machine.start("true")
    assert machine.until_ended().state is State.VANISHED


def test_an_end_that_is_half_written_is_none_yet(machine: Machine) -> None:
    machine.start("sleep 60")
    (machine.folder / "status").write_text("exited 0 succing\n")
    assert machine.look().state is State.RUNNING


# --- never twice


def test_a_nonce_is_started_once_however_often_it_is_sent(machine: Machine) -> None:
    script = f"echo x >>{machine.root}/ran; sleep 0.3"
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: machine.start(script), range(4)))
    assert {answer.state for answer in answers} == {State.RUNNING}
    machine.until_ended()
    assert machine.start(script).state is State.ENDED
    assert (machine.count("started"), machine.count("ran")) == (1, 1)


def test_a_start_that_arrives_late_starts_nothing_again(machine: Machine) -> None:
    machine.start("true")
    machine.until_ended()
    machine.forget()
    machine.start("echo two", TWO)
    machine.until_ended(TWO)
    assert machine.start("true").state is State.UNKNOWN
    assert machine.count("started") == 2


def test_the_same_script_that_runs_is_adopted(machine: Machine) -> None:
    script = f"until [ -e {machine.root}/go ]; do sleep 0.02; done; echo done"
    machine.start(script)
    assert machine.start(script, TWO) == Answer(State.RUNNING, adopted=True)
    assert machine.look(ONE).state is State.UNKNOWN
    machine.set("go")
    assert machine.until_ended(TWO).stdout == "done\n"
    assert machine.count("started") == 1


def test_an_adopted_step_is_not_started_by_asking_to_adopt_it_again(machine: Machine) -> None:
    script = f"until [ -e {machine.root}/go ]; do sleep 0.02; done"
    machine.start(script)
    machine.start(script, TWO)
    machine.set("go")
    machine.until_ended(TWO)
    assert machine.start(script, TWO).state is State.ENDED
    assert machine.count("started") == 1


def test_another_script_waits_and_changes_nothing(machine: Machine) -> None:
    machine.start("sleep 60")
    before = (machine.folder / "script").read_text()
    assert machine.start("echo other", TWO).state is State.BUSY
    assert ((machine.folder / "script").read_text(), machine.look().state) == (before, State.RUNNING)
    machine.stop()
    machine.start("echo other", TWO)
    assert machine.until_ended(TWO).stdout == "other\n"


def test_a_step_that_is_about_to_end_is_not_adopted(machine: Machine) -> None:
    machine.start("sleep 60")
    machine.set("state", "deactivating\n")
    assert machine.start("sleep 60", TWO).state is State.BUSY


def test_a_result_of_an_earlier_run_is_never_taken_for_ours(patient: Machine) -> None:
    script = f"echo x >>{patient.root}/ran; cat {patient.root}/ran"
    assert patient.start(script).stdout == "x\n"
    assert patient.start(script, TWO).stdout == "x\nx\n"
    assert patient.look(ONE).state is State.UNKNOWN


def test_a_start_that_the_host_refuses_is_no_answer(machine: Machine) -> None:
    machine.set("refuses")
    done = machine.run(detached.start("try", ONE, "true", timeout=60))
    assert done.returncode == 1
    assert "Failed to start" in done.stderr
    assert read_answer(done.stdout, done.stderr) is None


# --- reboots


def test_a_reboot_in_the_middle_is_told_by_the_boot_id(machine: Machine) -> None:
    machine.set("power-loss")
    machine.start("sleep 60")
    machine.run("systemctl stop it")
    machine.boot("boot-2")
    assert machine.look().state is State.REBOOTED
    assert machine.start("sleep 60").state is State.REBOOTED
    assert machine.count("started") == 1


def test_a_kill_by_the_shutdown_is_the_reboots(machine: Machine) -> None:
    machine.start("sleep 60")
    machine.run("systemctl stop it")
    assert machine.look().status == 143
    machine.boot("boot-2")
    assert machine.look().state is State.REBOOTED


def test_a_step_that_ended_before_the_reboot_has_its_status(machine: Machine) -> None:
    machine.start("echo done")
    machine.until_ended()
    machine.boot("boot-2")
    assert machine.look() == Answer(State.ENDED, False, 0, "success", "done\n", "")


def test_a_new_run_starts_anew_after_a_reboot(machine: Machine) -> None:
    machine.set("power-loss")
    machine.start("sleep 60")
    machine.run("systemctl stop it")
    (machine.root / "power-loss").unlink()
    machine.boot("boot-2")
    machine.start("echo done", TWO)
    assert machine.until_ended(TWO).stdout == "done\n"


# --- stopping and forgetting


def test_a_stop_ends_all_processes_of_a_step(machine: Machine) -> None:
    machine.start(f"echo begun; sleep 61 & echo $! >{machine.root}/child; wait")
    machine.until(lambda: machine.count("child") == 1)
    answer = machine.stop()
    assert (answer.state, answer.status, answer.stdout) == (State.ENDED, 143, "begun\n")
    child = (machine.root / "child").read_text().strip()
    ps = ["ps", "-o", "stat=", "-p", child]
    machine.until(lambda: subprocess.run(ps, capture_output=True, text=True).stdout[:1] in ("", "Z"))


def test_a_step_of_someone_else_is_neither_stopped_nor_forgotten(machine: Machine) -> None:
    machine.start("sleep 60")
    assert machine.stop(TWO).state is State.UNKNOWN
    machine.forget(TWO)
    assert machine.look().state is State.RUNNING
    assert machine.count("stopped") == 0


def test_nothing_but_the_nonces_is_kept_of_what_was_read(machine: Machine) -> None:
    machine.start("echo s3cret")
    machine.until_ended()
    machine.forget()
    assert {path.name for path in machine.folder.iterdir()} == {"lock", "nonces"}
    assert machine.look().state is State.UNKNOWN


def test_only_the_last_nonces_are_kept(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detached, "_KEPT", 2)
    for nonce in ("a" * 32, ONE, TWO):
        machine.start("true", nonce)
        machine.until(lambda: not (machine.root / "unit").exists())
    assert (machine.folder / "nonces").read_text().split() == [ONE, TWO]


def test_a_host_that_never_had_a_step_knows_none(machine: Machine) -> None:
    assert machine.look().state is State.UNKNOWN
    assert machine.stop().state is State.UNKNOWN
    machine.forget()


# --- texts


def test_the_unit_is_limited_and_leaves_no_failed_unit() -> None:
    script = detached.start("db-sync", ONE, "true", timeout=90.2)
    for option in ("--collect", "--unit=heat-pipeline-db-sync.service", "--service-type=exec", "RuntimeMaxSec=91"):
        assert option in script


@pytest.mark.parametrize("name", ["", "a b", "../x", "x.service", "-x", "$(id)", "A", "x" * 65])
def test_a_name_that_is_none_of_a_unit_is_refused(name: str) -> None:
    for make in (detached.look, detached.stop, detached.forget):
        with pytest.raises(ValueError, match="cannot be the name of a step"):
            make(name, ONE)
    with pytest.raises(ValueError, match="cannot be the name of a step"):
        detached.start(name, ONE, "true", timeout=1)


@pytest.mark.parametrize(
    ("line", "status", "stderr"),
    [
        ("exited 7 exit-code", 7, "e"),
        ("killed KILL oom-kill", 137, "ekilled by KILL (oom-kill)\n"),
        ("dumped SEGV core-dump", 139, "edumped by SEGV (core-dump)\n"),
        ("none none resources", -1, "enone by none (resources)\n"),
    ],
)
def test_systemds_words_for_an_end_are_understood(line: str, status: int, stderr: str) -> None:
    answer = read_answer(f"step ended started {line}\nout\n", "e")
    assert answer == Answer(State.ENDED, False, status, line.split()[-1], "out\n", stderr)


@pytest.mark.parametrize(
    "text", ["", "sudo: a password is required\n", "step\n", "step flying started\n", "step ended\n"]
)
def test_anything_else_is_no_answer(text: str) -> None:
    assert read_answer(text, "") is None
