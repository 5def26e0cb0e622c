"""A private file: nobody else reads it, at no moment, and no reader finds half of it."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline.privatefile import partials, write_private


def _mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_a_private_file_is_replaced_whole_and_stays_private(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    for text in ("a long first text", "short"):
        write_private(path, text)
        assert path.read_text("utf-8") == text
        assert (_mode(path), _mode(path.parent)) == (0o600, 0o700)
    path.chmod(0o644)
    write_private(path, "again")
    assert _mode(path) == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["file"]


def test_writers_beside_one_another_keep_the_file_whole(tmp_path: Path) -> None:
    path, texts = tmp_path / "file", [str(digit) * 100_000 for digit in range(8)]
    with ThreadPoolExecutor(8) as writers:
        for _ in range(20):
            list(writers.map(lambda text: write_private(path, text), texts))
            assert path.read_text("utf-8") in texts
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_a_file_that_cannot_be_written_is_as_it_was_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    with pytest.raises(OSError, match="file"):
        write_private(tmp_path / "file", "s3cret")
    assert [(file.name, file.is_dir()) for file in tmp_path.iterdir()] == [("file", True)]


def test_what_a_killed_writer_left_is_found_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "secrets.json"
    for name in ("secrets.json", ".secrets.json.swp", ".other.json.abcdefgh", "secrets.json.abcdefgh"):
        (tmp_path / name).touch()
    assert partials(path) == ()
    child = os.fork()
    if child == 0:
        monkeypatch.setattr(Path, "replace", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        write_private(path, "s3cret")
    os.waitpid(child, 0)
    (left,) = partials(path)
    assert left.read_text("utf-8") == "s3cret"
