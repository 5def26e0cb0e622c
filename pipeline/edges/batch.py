"""Many questions to a host in one round trip: a script that asks them side by side, and what it says taken apart.

Pure: text in, text out. A question that fails or hangs spoils no other; each keeps its own status and both streams.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.edges.ssh import Result
from pipeline.errors import CommandFailed

__all__ = ["LIMIT", "Batch", "answers", "script"]

LIMIT = 60
"""Seconds that one question may take; then it is killed, and its status is 124."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What a host answered, in the order of the questions, and its clock when it began and ended (seconds, Unix)."""

    results: tuple[Result, ...]
    began: float
    ended: float


def script(commands: Sequence[str], *, limit: int = LIMIT) -> str:
    """Return a POSIX sh script that runs `commands` side by side and prints what `answers` reads.

    The commands appear in the host's process list: they must hold no secret.
    """
    asked = "\n".join(f"ask {number} {shlex.quote(command)} &" for number, command in enumerate(commands))
    return f"""\
began=$(date +%s.%N)
umask 077
answers=$(mktemp -d) || exit 1
trap 'rm -rf "$answers"' EXIT
ask() {{
    timeout -k 5 {limit} sh -c "$2" >"$answers/$1.out" 2>"$answers/$1.err" </dev/null
    echo $? >"$answers/$1.status"
}}
{asked}
wait
echo "$began $(date +%s.%N) $answers"
tail -n +1 -- "$answers"/*"""


def answers(stdout: str, count: int) -> Batch:
    """Return what a host said to `script` of `count` commands. Raises CommandFailed where it did not say it all."""
    first, _, rest = stdout.partition("\n")
    try:
        began, ended, directory = first.split(" ")
        # Nobody else knows the directory's name, so no answer can pass for the head of another.
        parts = re.split(rf"(?:\A|\n)==> {re.escape(directory)}/(\d+\.\w+) <==\n", rest)
        told = dict(zip(parts[1::2], parts[2::2], strict=True))
        results = tuple(
            Result(int(told[f"{number}.status"]), told[f"{number}.out"], told[f"{number}.err"])
            for number in range(count)
        )
        return Batch(results, float(began), float(ended))
    except (ValueError, KeyError) as error:
        raise CommandFailed("the host's answers are not whole", status=-1, stdout=stdout) from error
