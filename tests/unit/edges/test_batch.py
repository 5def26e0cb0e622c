"""A batch: questions asked side by side by a real shell, each with its own status and both streams."""

from __future__ import annotations

import subprocess

import pytest

from pipeline.edges.batch import Batch, answers, script
from pipeline.errors import CommandFailed


def _ask(*commands: str, limit: int = 60) -> Batch:
    done = subprocess.run(["sh", "-s"], input=script(commands, limit=limit), capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    return answers(done.stdout, len(commands))


def test_each_question_has_its_status_and_both_streams() -> None:
    first, second, third = _ask("echo out; echo err >&2; exit 3", "printf 'no end'", "true").results
    assert (first.status, first.stdout, first.stderr) == (3, "out\n", "err\n")
    assert (second.status, second.stdout, second.stderr) == (0, "no end", "")
    assert (third.stdout, third.stderr) == ("", "")


def test_more_questions_than_ten_keep_their_order() -> None:
    assert [result.stdout for result in _ask(*(f"echo {n}" for n in range(12))).results] == [
        f"{n}\n" for n in range(12)
    ]


def test_quotes_heredocs_and_what_looks_like_a_head_survive() -> None:
    texts = ['it\'s "$HOME" `x`', "==> /tmp/other/0.out <==\nx"]
    found = _ask(*(f"cat <<'END'\n{text}\nEND" for text in texts)).results
    assert [result.stdout for result in found] == [f"{text}\n" for text in texts]


def test_questions_are_asked_side_by_side(tmp_path: object) -> None:
    meet = f"{tmp_path}/meeting"
    subprocess.run(["mkfifo", meet], check=True)
    one, other = _ask(f"echo met >{meet}", f"cat {meet}").results  # either waits for the other
    assert (one.status, other.stdout) == (0, "met\n")


def test_a_question_that_hangs_is_given_up_and_spoils_no_other() -> None:
    hung, fine = _ask("tail -f /dev/null", "echo fine", limit=1).results
    assert (hung.status, fine.stdout) == (124, "fine\n")


def test_the_hosts_clock_is_told_around_the_questions() -> None:
    batch = _ask("true")
    assert 0 <= batch.ended - batch.began < 60


def test_nothing_is_left_behind(tmp_path: object) -> None:
    done = subprocess.run(
        ["sh", "-s"],
        input=script(["true"]),
        capture_output=True,
        text=True,
        env={"TMPDIR": str(tmp_path), "PATH": "/usr/bin:/bin"},
    )
    assert done.stdout.split()[2].startswith(str(tmp_path))
    assert subprocess.run(["ls", str(tmp_path)], capture_output=True, text=True, check=True).stdout == ""


@pytest.mark.parametrize("said", ["", "welcome to this host\n", "1.0 2.0 /tmp/a\n==> /tmp/a/0.out <==\n"])
def test_an_answer_that_is_not_whole_is_none(said: str) -> None:
    with pytest.raises(CommandFailed, match="not whole"):
        answers(said, 1)
