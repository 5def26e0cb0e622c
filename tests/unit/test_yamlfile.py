"""YAML files: values with the line of every key; what would be read wrong, or never end, is refused with its line."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from pipeline.errors import ConfigurationInvalid
from pipeline.yamlfile import MOST, Document, read


def _read(directory: Path, text: str) -> Document:
    path = directory / "here.yaml"
    path.write_text(text, encoding="utf-8")
    return read(path)


def _refused(directory: Path, text: str) -> str:
    with pytest.raises(ConfigurationInvalid) as caught:
        _read(directory, text)
    assert caught.value.exit_code == 3
    assert "\n" not in caught.value.message
    return caught.value.message.removeprefix(f"{directory}/")


def _bomb(levels: int, width: int = 10) -> str:
    lines = ["a0: &a0 [x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * width)}]" for n in range(1, levels)]
    return "\n".join(lines)


def test_every_key_has_its_line(tmp_path: Path) -> None:
    document = _read(tmp_path, "a: 1\nb:\n  c: {d: 2,\n    e: 3}\n")
    assert document.values == {"a": 1, "b": {"c": {"d": 2, "e": 3}}}
    assert document.lines == {("a",): 1, ("b",): 2, ("b", "c"): 3, ("b", "c", "d"): 3, ("b", "c", "e"): 4}


def test_what_comes_by_a_merge_stands_where_it_was_written(tmp_path: Path) -> None:
    document = _read(tmp_path, "one: &o {x: 1,\n  y: 2}\ntwo:\n  <<: *o\n  y: 3\n")
    assert document.values["two"] == {"x": 1, "y": 3}
    assert (document.lines[("two", "x")], document.lines[("two", "y")]) == (1, 5)


def test_aliases_are_written_out(tmp_path: Path) -> None:
    assert _read(tmp_path, "a: &a [1, 2]\nb: *a\n").values == {"a": [1, 2], "b": [1, 2]}


def test_a_bomb_of_aliases_is_refused_at_once_and_with_its_line(tmp_path: Path) -> None:
    begun = time.monotonic()
    assert _refused(tmp_path, _bomb(60)) == f"here.yaml:5: a4: its aliases write out more than {MOST} values"
    assert time.monotonic() - begun < 5


def test_a_bomb_of_merges_is_refused_too(tmp_path: Path) -> None:
    lines = ["a0: &a0 {x: 1}"]
    lines += [f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}], y{n}: 1}}" for n in range(1, 60)]
    assert f"its aliases write out more than {MOST} values" in _refused(tmp_path, "\n".join(lines))


def test_a_long_document_that_is_no_bomb_is_read(tmp_path: Path) -> None:
    assert len(_read(tmp_path, _bomb(4)).values["a3"]) == 10


@pytest.mark.parametrize("text", ["a: &a [*a]\n", "a: &a\n  b: *a\n", "b: &a\n  c: {d: [*a]}\n"])
def test_an_alias_cannot_stand_for_what_it_is_in(tmp_path: Path, text: str) -> None:
    assert "an alias stands for what it is in itself" in _refused(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\nb: {c: 1, c: 2}\n", "here.yaml:2: key 'c' is given twice"),
        ("a: 1\na: 2\n", "here.yaml:2: key 'a' is given twice"),
        ("a: 2026-13-45\n", "here.yaml:1: no value can be made of this: month must be in 1..12"),
        (f"a: {'9' * 5000}\n", "here.yaml:1: no value can be made of this: "),
        ("a: !!bool maybe\n", "here.yaml:1: no value can be made of this: "),
        ("a: !!timestamp x\n", "here.yaml:1: no value can be made of this: "),
        ("a: *b\n", "here.yaml:1: found undefined alias 'b'"),
        ("[" * 3000, "here.yaml: is nested too deep"),
        ('a: "\\ud800"\n', "here.yaml:1: half a character cannot be stored or sent"),
        ('a: 1\n"\\udfff": 2\n', "here.yaml:2: half a character cannot be stored or sent"),
        ("a: \x00\n", "here.yaml: is not UTF-8 YAML"),
        ("a: 1\n---\nb: 2\n", "here.yaml:2: but found another document"),
        ("- a\n", "here.yaml: expected a mapping of keys to values"),
        ("", "here.yaml: expected a mapping of keys to values"),
    ],
    ids=lambda text: text[:30],
)
def test_what_cannot_be_read_is_named_with_its_line(tmp_path: Path, text: str, expected: str) -> None:
    assert _refused(tmp_path, text).startswith(expected)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationInvalid, match=r"nowhere\.yaml: cannot be read: No such file") as caught:
        read(tmp_path / "nowhere.yaml")
    assert caught.value.hint == f"restore {tmp_path}/nowhere.yaml"


def test_what_is_no_file_is_to_be_looked_at(tmp_path: Path) -> None:
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    for path in (tmp_path / "loop.yaml", tmp_path):
        with pytest.raises(ConfigurationInvalid, match="cannot be read") as caught:
            read(path)
        assert caught.value.hint == f"ls -ld {path}"


def test_a_file_is_read_once_until_it_changes(tmp_path: Path) -> None:
    first = _read(tmp_path, "a: 1\n")
    assert read(first.path) is first
    first.path.write_text("a: 22\n", encoding="utf-8")
    os.utime(first.path, ns=(1, 1))
    assert read(first.path).values == {"a": 22}
