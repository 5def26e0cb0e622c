"""The installation script: what it refuses, run for real in a shell, and what it quotes."""

from __future__ import annotations

import hashlib
import io
import subprocess
import tarfile
from pathlib import Path, PurePath

import pytest

from pipeline.installation import MAGIC, MODULES, RELEASES, install_script, release_dir

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
    script = install_script(ID, "0" * 64, str(archive)).replace("-ge 500", "-ge 500000000000")
    done = here(script, tmp_path / "releases")
    assert done.returncode == 1
    assert "MiB of free disk" in done.stderr


@pytest.mark.parametrize("path", ["/tmp/a b.tar", "/tmp/$(touch x).tar", "/tmp/'.tar"])
def test_paths_reach_the_shell_as_they_are(path: str, tmp_path: Path) -> None:
    done = here(install_script(ID, "0" * 64, path), tmp_path / "releases")
    assert f"no archive at {path}" in done.stderr


def ask(question: str) -> str:
    """Return what the Python of "the host", this machine's own, prints."""
    return subprocess.run(
        ["/usr/bin/python3", "-c", question], check=True, capture_output=True, text=True
    ).stdout.strip()


HOST = ask("import sys; print('%d.%d' % sys.version_info[:2])")
MAGIC_HERE = ask("import importlib.util as u; print(u.MAGIC_NUMBER.hex())")


def tiny_archive(path: Path, magic: str, **broken: str) -> str:
    """Write an archive of a tiny Heat whose modules are empty; return its sha256. `broken` is the text of a module."""
    packages = {str(parent) for name in MODULES for parent in PurePath(*name.split(".")).parents} - {"."}
    files = {f"{package}/__init__.py": "" for package in (*packages, "heat/engine/resources")}
    files |= {f"{name.replace('.', '/')}.py": "" for name in (*MODULES, "pymysql")}
    files |= {f"{name}.py": text for name, text in broken.items()}
    files["openstack_heat-26.0.2.dist-info/METADATA"] = "Metadata-Version: 2.1\nName: openstack-heat\nVersion: 26.0.2\n"
    site = f"venv/lib/python{HOST}/site-packages"
    texts = {f"{site}/{name}": text for name, text in files.items()}
    texts |= {MAGIC: f"{magic}\n", "manifest.json": "{}", "venv/pyvenv.cfg": "home = /usr/bin\n"}
    with tarfile.open(path, "w:gz") as tar:
        for name, text in {**texts, "venv/bin/heat-engine": "#!/bin/sh\n"}.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text.encode()))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def install(tmp_path: Path, magic: str, **broken: str) -> subprocess.CompletedProcess[str]:
    sha256 = tiny_archive(tmp_path / "a.tar.gz", magic, **broken)
    script = install_script(ID, sha256, str(tmp_path / "a.tar.gz")).replace("3.11", HOST)
    return here(script, tmp_path / "releases")


def test_a_host_whose_python_reads_the_bytecode_only_unpacks(tmp_path: Path) -> None:
    done = install(tmp_path, MAGIC_HERE)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"release {ID} is installed\n", "")
    home = tmp_path / "releases" / ID
    assert sorted(path.name for path in home.iterdir()) == ["manifest.json", "venv"]
    assert not list(home.rglob("*.pyc"))
    assert not (tmp_path / "a.tar.gz").exists()


@pytest.mark.parametrize("magic", ["none", "00000000"])
def test_a_host_whose_python_does_not_compiles_what_services_import(magic: str, tmp_path: Path) -> None:
    done = install(tmp_path, magic)
    assert (done.returncode, done.stderr) == (0, "")
    compiled = {path.name.split(".")[0] for path in (tmp_path / "releases" / ID).rglob("*.pyc")}
    assert {"engine", "manage", "impl_rabbit", "pyuwsgi"} <= compiled


@pytest.mark.parametrize(("magic", "told"), [(MAGIC_HERE, "does not load"), ("none", "cannot be imported")])
def test_a_release_that_would_not_start_leaves_nothing_behind(magic: str, told: str, tmp_path: Path) -> None:
    done = install(tmp_path, magic, pyuwsgi="raise ImportError('libgone.so.1')\n")
    assert done.returncode == 1
    assert told in done.stderr
    assert "libgone.so.1" in done.stderr
    assert [path.name for path in (tmp_path / "releases").iterdir()] == [".lock"]
