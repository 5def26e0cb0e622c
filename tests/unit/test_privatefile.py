"""A private file: nobody else reads it, at no moment, and no reader finds half of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.privatefile import write_private


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


def test_what_a_killed_run_left_half_written_neither_opens_the_file_to_others_nor_stays(tmp_path: Path) -> None:
    partial = tmp_path / ".file.partial"
    partial.write_text("half of a long te")
    partial.chmod(0o644)
    write_private(tmp_path / "file", "text")
    assert _mode(tmp_path / "file") == 0o600
    assert (tmp_path / "file").read_text("utf-8") == "text"
    assert not partial.exists()


def test_a_file_that_cannot_be_written_is_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    with pytest.raises(OSError, match="file"):
        write_private(tmp_path / "file", "text")
    assert (tmp_path / "file").is_dir()
