r"""Steps that run on a host apart from the connection that starts them: the scripts for it, and what these answer.

A step is a transient systemd unit, `heat-pipeline-NAME`. Its folder STEPS/NAME (0700) holds

    script, stdout, stderr   what runs, and what it wrote so far
    status                   "running", then systemd's words for its end: "exited 3 exit-code ."
    keep                     what writes them down
    step                     "NONCE DIGEST BOOT_ID started|adopted": whose it is, what runs, since which boot
    nonces                   the last nonces that were started here: none is ever started twice
    lock                     held by each script while it looks or acts

Each script answers with a line "step STATE [started|adopted [CODE STATUS RESULT]]". After an end, the step's own stdout
follows it, and its stderr goes to stderr.
"""

from __future__ import annotations

import hashlib
import math
import re
import shlex
import signal
from dataclasses import dataclass
from enum import StrEnum

__all__ = ["BOOT_ID", "STEPS", "Answer", "State", "folder", "forget", "look", "read_answer", "start", "stop"]

STEPS = "/var/lib/heat-pipeline/steps"
BOOT_ID = "/proc/sys/kernel/random/boot_id"

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_KEPT = 100  # nonces
_LOCKED = 25  # seconds to wait for the lock; a stop holds it for up to _KILL and a little
_KILL = 10  # seconds between TERM and KILL
_KEEPS = "step script keep stdout stderr status"
_KEEP = 'echo "${EXIT_CODE:-none} ${EXIT_STATUS:-none} $SERVICE_RESULT ." 1<>"${0%/*}/status"'
_AT_ONCE = 20  # twentieths of a second in which the start itself waits for the end


class State(StrEnum):
    """What became of a step."""

    RUNNING = "running"
    ENDED = "ended"
    BUSY = "busy"  # not started: another one runs under its name
    REBOOTED = "rebooted"  # the host did, before the step ended by itself
    VANISHED = "vanished"  # it runs no more, and left no status
    UNKNOWN = "unknown"  # no such step, or its result is someone else's by now


@dataclass(frozen=True, slots=True)
class Answer:
    """What a host says of a step.

    `status` is the one sh would give: 128 and the signal's number after a kill. `result` is systemd's word for the end.
    """

    state: State
    adopted: bool = False
    status: int = 0
    result: str = ""
    stdout: str = ""
    stderr: str = ""


def start(name: str, nonce: str, script: str, *, timeout: float) -> str:
    """Start POSIX sh `script` as step `name`, unless `nonce` was started before, and answer for it.

    Where the same script runs under that name, it is adopted: from now on it is the step of `nonce`. Where another one
    does, the answer is "busy", and nothing is changed. A syntax error runs nothing at all. The step is stopped after
    `timeout` seconds. Its end is waited for, for a second, so that a short one takes one round trip.
    """
    # dash reads a file as it goes; in braces, it reads the whole before it runs the first line.
    text = f"{{\n{script}\n}}\n"
    sha256, here = _sha256(text), shlex.quote(folder(name))
    return f"""\
set -eu
umask 077
install -d -m 0700 {shlex.quote(STEPS.rpartition("/")[0])} {shlex.quote(STEPS)} {here}
cd {here}
{_functions(name, nonce)}
locked
if ! grep -qsxF {nonce} nonces; then
    how=started
    case $(active) in
    inactive | failed) ;;
    active | activating | reloading)
        read_step
        how=adopted
        [ "$digest" = {sha256} ] || busy
        ;;
    *) busy ;;
    esac
    if [ "$how" = started ]; then
        rm -f {_KEEPS}
        echo {shlex.quote(_KEEP)} >keep
        cat >script <<'{nonce}'
{text}{nonce}
        echo "{sha256}  script" | sha256sum --check --quiet
        : >stdout
        : >stderr
        # Room for the end's words, which are written in place: a disk that the step filled has none.
        echo 'running                                                                   ' >status
    fi
    {{ tail -n {_KEPT - 1} nonces 2>/dev/null || true; echo {nonce}; }} >nonces.partial
    echo "{nonce} {sha256} $(cat {BOOT_ID}) $how" >step.partial
    mv nonces.partial nonces
    mv step.partial step
    sync nonces step status .
    [ "$how" = adopted ] || {_systemd_run(name, timeout)} || {{
        # Nothing was started where nothing runs, and nothing ended.
        case $(active) in inactive | failed) over || exit 1 ;; esac
    }}
fi
flock -u 9
passed=0
while [ "$passed" -lt {_AT_ONCE} ] && ! over; do
    sleep 0.05
    passed=$((passed + 1))
done
locked
tell"""


def look(name: str, nonce: str) -> str:
    """Answer for the step of `nonce`."""
    return f"{_enter(name, nonce)}\ntell"


def stop(name: str, nonce: str) -> str:
    """End the step of `nonce` with all its processes, and answer for it."""
    return f"""\
{_enter(name, nonce)}
read_step
# A stop that failed shows in the answer.
[ "$nonce" != "$wanted" ] || systemctl stop "$unit" 2>/dev/null || true
tell"""


def forget(name: str, nonce: str) -> str:
    """Remove what is kept of the step of `nonce`, which has ended; that it was started stays known."""
    return f"""\
{_enter(name, nonce)}
read_step
[ "$nonce" != "$wanted" ] || rm -f {_KEEPS}"""


def read_answer(stdout: str, stderr: str) -> Answer | None:
    """Return what a script of this module answered, or None where it failed to."""
    line, _, rest = stdout.partition("\n")
    match line.split(" "):
        case ["step", "ended", how, code, status, *result]:
            number, words = _ending(code, status, " ".join(result))
            return Answer(State.ENDED, how == "adopted", number, " ".join(result), rest, stderr + words)
        case ["step", ("running" | "busy" | "rebooted" | "vanished" | "unknown") as state, *how]:
            return Answer(State(state), how == ["adopted"])
    return None


def folder(name: str) -> str:
    """Return the folder of step `name`. Raises ValueError for a name that is none of a unit."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} cannot be the name of a step: it has to match {_NAME.pattern}")
    return f"{STEPS}/{name}"


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _ending(code: str, status: str, result: str) -> tuple[int, str]:
    """Return the status, and a line for stderr on an end that was no exit, from systemd's $EXIT_CODE and the others."""
    if code == "exited":
        return int(status), ""
    number = 128 + getattr(signal, f"SIG{status}", 0) if code in ("killed", "dumped") else -1
    return number, f"{code} by {status} ({result})\n"


def _systemd_run(name: str, timeout: float) -> str:
    """Return the command that starts the unit. What ends it, also a kill, is written down by systemd itself."""
    here = folder(name)
    properties = (
        f"RuntimeMaxSec={max(1, math.ceil(timeout))}",
        f"TimeoutStopSec={_KILL}",
        f"StandardOutput=file:{here}/stdout",
        f"StandardError=file:{here}/stderr",
        # A file, so that no variable is for systemd to expand: what it notes of a command that it is told not to expand
        # ("ExecStopPostEx"), systemd 252 cannot read when it is reloaded meanwhile, and the end would be lost.
        f"ExecStopPost=/bin/sh {here}/keep",
    )
    # Type exec: for oneshot, RuntimeMaxSec has no effect. Collected: a failed step is no failed unit of the host.
    unit = ("--quiet", "--collect", f"--unit={_unit(name)}", "--service-type=exec", "--setenv=HOME=/root")
    argv = ("systemd-run", *unit, *(f"--property={one}" for one in properties), "/bin/sh", f"{here}/script")
    return shlex.join(argv)


def _unit(name: str) -> str:
    return f"heat-pipeline-{name}.service"


def _enter(name: str, nonce: str) -> str:
    return f"""\
set -eu
umask 077
cd {shlex.quote(folder(name))} 2>/dev/null || {{ echo 'step unknown'; exit 0; }}
{_functions(name, nonce)}
locked"""


def _functions(name: str, nonce: str) -> str:
    return f"""\
wanted={nonce}
unit={_unit(name)}
exec 9>>lock
locked() {{
    flock -w {_LOCKED} 9 || {{ echo "the lock of step {name} is held" >&2; exit 1; }}
}}
active() {{
    systemctl show --property=ActiveState --value "$unit"
}}
busy() {{
    echo 'step busy'
    exit 0
}}
read_step() {{
    nonce='' digest='' boot='' how=''
    [ ! -e step ] || read -r nonce digest boot how <step
}}
# The last word tells a whole line from one that is being written.
over() {{
    [ -e status ] && read -r code status result whole <status && [ "$whole" = . ]
}}
tell() {{
    # First the unit, then its status: a unit that has ended has written it.
    state=$(active)
    read_step
    if [ "$nonce" != "$wanted" ]; then
        echo 'step unknown'
        return
    fi
    now=$(cat {BOOT_ID})
    # A shutdown kills a step, and systemd keeps that as its end: it is the reboot's.
    if over && {{ [ "$code" = exited ] || [ "$boot" = "$now" ]; }}; then
        echo "step ended $how $code $status $result"
        cat stdout
        cat stderr >&2
    elif [ "$boot" != "$now" ]; then
        echo "step rebooted $how"
    else
        case $state in
        inactive | failed) echo "step vanished $how" ;;
        *) echo "step running $how" ;;
        esac
    fi
}}"""
