"""The installation script: what it refuses, run for real in a shell, and what it quotes."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from pipeline.installation import RELEASES, install_script, release_dir

ID = "26.0.2-0123456789ab"


def here(script: str, releases: Path) -> subprocess.CompletedProcess[str]:
    """Run the script with the releases in a directory of the test."""
    text = script.replace(RELEASES, str(releases))
    return subprocess.run(["/bin/sh"], input=text, capture_output=True, text=True, check=False)


def test_a_release_lives_below_opt() -> None:
    assert release_dir(ID) == f"/opt/heat/releases/{ID}"


def test_a_complete_release_is_left_alone_and_its_archive_removed(tmp_path: Path) -> None:
    home, archive = tmp_path / "releases" / ID, tmp_path / "an archive's.tar"
    home.mkdir(parents=True)
    (home / "manifest.json").write_text("{}")
    archive.write_text("any")
    done = here(install_script(ID, "0" * 64, str(archive)), tmp_path / "releases")
    assert (done.returncode, done.stdout) == (0, f"release {ID} is already installed\n")
    assert not archive.exists()


def test_a_missing_archive_is_named(tmp_path: Path) -> None:
    done = here(install_script(ID, "0" * 64, str(tmp_path / "none.tar")), tmp_path / "releases")
    assert done.returncode == 1
    assert "no archive at" in done.stderr


def test_a_directory_without_its_manifest_is_not_touched(tmp_path: Path) -> None:
    home = tmp_path / "releases" / ID
    home.mkdir(parents=True)
    (home / "mine").write_text("keep")
    done = here(install_script(ID, "0" * 64, str(tmp_path / "none.tar")), tmp_path / "releases")
    assert done.returncode == 1
    assert (home / "mine").read_text() == "keep"


def test_a_damaged_archive_is_refused_before_anything_is_unpacked(tmp_path: Path) -> None:
    archive = tmp_path / "a.tar"
    archive.write_text("not what was built")
    script = install_script(ID, "0" * 64, str(archive)).replace('"3.11"', '"%d.%d" % sys.version_info[:2]')
    done = here(script, tmp_path / "releases")
    assert done.returncode == 1
    assert "the archive is damaged" in done.stderr
    assert [path.name for path in (tmp_path / "releases").iterdir()] == [".lock"]


def test_too_little_disk_is_told_with_both_numbers(tmp_path: Path) -> None:
    archive = tmp_path / "a.tar"
    archive.write_text("any")
    script = install_script(ID, "0" * 64, str(archive)).replace("-ge 700", "-ge 700000000000")
    done = here(script, tmp_path / "releases")
    assert done.returncode == 1
    assert "MiB of free disk" in done.stderr


@pytest.mark.parametrize("path", ["/tmp/a b.tar", "/tmp/$(touch x).tar", "/tmp/'.tar"])
def test_paths_reach_the_shell_as_they_are(path: str, tmp_path: Path) -> None:
    done = here(install_script(ID, "0" * 64, path), tmp_path / "releases")
    assert f"no archive at {path}" in done.stderr
