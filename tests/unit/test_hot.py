"""HOT as text: what Heat would read is read; what is none, or would never end, is refused with its line."""

from __future__ import annotations

import time

import pytest
import yaml

from pipeline.hot import MOST, parse

BOMB = "a0: &a0 [x]\n" + "\n".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10))
CHAIN = "a0: &a0 {x: 1}\n" + "\n".join(f"a{n}: &a{n} {{<<: *a{n - 1}}}" for n in range(1, 500))


def test_a_date_stays_a_word_and_an_alias_is_what_it_stands_for() -> None:
    assert parse("heat_template_version: 2021-04-16\na: &a [1]\nb: *a\n") == {
        "heat_template_version": "2021-04-16",
        "a": [1],
        "b": [1],
    }


def test_a_region_of_many_hosts_is_no_bomb() -> None:
    assert len(parse("hosts:\n" + "- {a: 1, b: [2, 3]}\n" * 10_000)["hosts"]) == 10_000


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        (BOMB, 6, f"a5: its aliases write out more than {MOST} values"),
        (CHAIN, 99, "a98: its aliases are nested too deep"),
        ("a: 1\nb: &a [*a]\n", 2, "b.0: an alias stands for what it is in itself"),
        ("a: 1\nb: " + "[" * 900 + "]" * 900, 2, "is nested too deep"),
        ("a: 1\nb: " + "[" * 100_000 + "]" * 100_000, 2, "is nested too deep"),
        ("a: 1\n? " + "- ? " * 50_000 + "x\n", 2, "is nested too deep"),
        ("a: 1\nb: {c: 1, c: 2}\n", 2, "key 'c' is given twice"),
        ("a: 1\nb: \x07\n", 2, "character #x0007 is not allowed"),
        ("a: 1\nb: \ud800\n", 2, "no character"),
        ("a: 1\nb: !!bool maybe\n", 2, "no value can be made of this: 'maybe'"),
        (f"a: 1\nb: {'9' * 5000}\n", 2, "no value can be made of this: Exceeds the limit"),
        ("a: 1\nb: !!float ''\n", 2, "no value can be made of this: "),
    ],
    ids=lambda value: str(value)[:20].encode("ascii", "replace").decode() if isinstance(value, str) else None,
)
def test_what_cannot_be_read_is_told_at_once_with_its_line(text: str, line: int, problem: str) -> None:
    begun = time.monotonic()
    with pytest.raises(yaml.MarkedYAMLError) as caught:
        parse(text)
    assert time.monotonic() - begun < 5
    assert str(caught.value.problem).startswith(problem)
    assert caught.value.problem_mark is not None
    assert caught.value.problem_mark.line + 1 == line
