"""The wheelhouse, with the real uv against a small index on loopback."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from importlib.util import MAGIC_NUMBER
from pathlib import Path

import pytest

from pipeline.edges.index import scrub
from pipeline.edges.wheelhouse import Built, Wheelhouse
from pipeline.errors import ConfigurationInvalid, Inconclusive
from pipeline.installation import MAGIC
from tests.integration.package_index import PackageIndex, heat, serving, source, wheel

UV = str(Path(sys.executable).with_name("uv"))


def quiet(line: str) -> None:
    """Take the lines of a build that nobody reads."""


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[PackageIndex]:
    small = PackageIndex()
    for version, worker in (("25.0.2", "1.4"), ("26.0.2", "1.9")):
        small.add(f"openstack_heat-{version}-py3-none-any.whl", heat(version, worker))
    for name in ("pymysql", "pyuwsgi"):
        small.add(f"{name}-1.0-py3-none-any.whl", wheel(name, "1.0", {f"{name}.py": ""}))
    small.add("sourced-1.0.tar.gz", source())
    for name in [name for name in os.environ if name.startswith("UV_")]:
        monkeypatch.delenv(name)
    with serving(small):
        monkeypatch.setenv("UV_DEFAULT_INDEX", small.address)
        monkeypatch.setenv("UV_NO_CONFIG", "1")
        monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv-cache"))
        yield small


@pytest.fixture
def wheelhouse(index: PackageIndex, tmp_path: Path) -> Wheelhouse:
    return Wheelhouse(tmp_path / "cache", uv=UV)


def publish_another_pyuwsgi(index: PackageIndex, tmp_path: Path) -> None:
    index.add("pyuwsgi-1.1-py3-none-any.whl", wheel("pyuwsgi", "1.1", {"pyuwsgi.py": "new = 1\n"}))
    os.environ["UV_CACHE_DIR"] = str(tmp_path / "uv-cache-2")  # the fixture's monkeypatch puts it back


def test_a_manifest_tells_what_heats_own_source_says(wheelhouse: Wheelhouse) -> None:
    release = wheelhouse.build("25.0.2", report=quiet).release
    assert (release.engine_rpc, release.worker_rpc, release.alembic_head) == ("1.36", "1.4", "bbbb")
    assert [package.name for package in release.packages] == ["openstack-heat", "pymysql", "pyuwsgi", "sourced"]


def test_a_build_tells_what_it_does(wheelhouse: Wheelhouse) -> None:
    lines: list[str] = []
    built = wheelhouse.build("25.0.2", report=lines.append)
    assert lines[0] == "Heat 25.0.2 (2025.2): resolving"
    assert built.release.id in lines[-1]


def test_two_machines_build_the_same_bytes(index: PackageIndex, tmp_path: Path) -> None:
    one, other = (Wheelhouse(tmp_path / name, uv=UV).build("26.0.2", report=quiet) for name in ("one", "other"))
    assert one.release.id == other.release.id
    assert one.archive.read_bytes() == other.archive.read_bytes()


def test_another_package_is_another_release(
    index: PackageIndex, wheelhouse: Wheelhouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = wheelhouse.build("26.0.2", report=quiet)
    publish_another_pyuwsgi(index, tmp_path)
    after = wheelhouse.build("26.0.2", report=quiet)
    assert after.release.id != before.release.id
    assert wheelhouse.find("26.0.2") == after
    assert wheelhouse.find(before.release.id) == before
    assert wheelhouse.list() == (before, after)


SITE = "venv/lib/python3.11/site-packages"


def unpacked(built: Built, into: Path) -> Path:
    with tarfile.open(built.archive) as tar:
        tar.extractall(into, filter="data")
    return into


def test_an_archive_holds_all_a_host_needs_and_no_address(index: PackageIndex, wheelhouse: Wheelhouse) -> None:
    built = wheelhouse.build("26.0.2", report=quiet)
    with tarfile.open(built.archive) as tar:
        entries = {entry.name: entry for entry in tar}
        content = {name: tar.extractfile(entry).read() for name, entry in entries.items()}  # type: ignore[union-attr]
    assert {name.split("/")[0] for name in entries} == {"manifest.json", "requirements.lock", MAGIC, "venv"}
    assert {f"{SITE}/{name}.py" for name in ("heat/cmd/engine", "pymysql", "pyuwsgi", "sourced")} <= set(entries)
    assert {(entry.mtime, entry.uid, entry.gid, entry.uname) for entry in entries.values()} == {(0, 0, 0, "")}
    assert content["manifest.json"].decode() == built.release.to_json()
    assert content["requirements.lock"].decode() == built.release.lock()
    assert not any(b"127.0.0.1" in text or str(built.archive.parent).encode() in text for text in content.values())


def test_an_archive_has_nothing_of_the_builders_machine(wheelhouse: Wheelhouse, tmp_path: Path) -> None:
    host = unpacked(wheelhouse.build("26.0.2", report=quiet), tmp_path / "host")
    assert not (host / "venv/bin").exists()
    assert (host / "venv/pyvenv.cfg").read_text().startswith("home = /usr/bin\n")
    assert not [path for path in host.rglob("*") if path.is_symlink() or path.name in ("uv_cache.json", "CACHEDIR.TAG")]


def test_tests_of_packages_stay_out_and_records_agree(wheelhouse: Wheelhouse, tmp_path: Path) -> None:
    site = unpacked(wheelhouse.build("26.0.2", report=quiet), tmp_path / "host") / SITE
    assert not list(site.rglob("tests"))
    record = (site / "openstack_heat-26.0.2.dist-info/RECORD").read_text().splitlines()
    names = [line.split(",")[0] for line in record]
    assert "heat/cmd/engine.py" in names
    assert [name for name in names if not (site / name).is_file()] == []


def test_what_services_import_and_all_of_heat_is_compiled_for_its_place_on_hosts(
    wheelhouse: Wheelhouse, tmp_path: Path
) -> None:
    built = wheelhouse.build("26.0.2", report=quiet)
    host = unpacked(built, tmp_path / "host")
    assert (host / MAGIC).read_text() == f"{MAGIC_NUMBER.hex()}\n"
    compiled = {str(path.relative_to(host / SITE)) for path in (host / SITE).rglob("*.pyc")}
    names = ("heat/cmd/__pycache__/engine", "heat/__pycache__/never_imported", "__pycache__/pyuwsgi")
    assert {f"{name}.cpython-311.pyc" for name in names} <= compiled
    assert "__pycache__/sourced.cpython-311.pyc" not in compiled
    bytecode = (host / SITE / "heat/cmd/__pycache__/engine.cpython-311.pyc").read_bytes()
    assert bytecode[4:8] == b"\x01\0\0\0"  # by hash, never checked (PEP 552)
    assert f"/opt/heat/releases/{built.release.id}/{SITE}/heat/cmd/engine.py".encode() in bytecode


def test_an_unpacked_tree_runs_on_python_of_a_host(wheelhouse: Wheelhouse, tmp_path: Path) -> None:
    host = unpacked(wheelhouse.build("26.0.2", report=quiet), tmp_path / "host")
    (host / "venv/bin").mkdir()
    own = Path(sys.executable).resolve()
    (host / "venv/bin/python").symlink_to(own)
    (host / "venv/pyvenv.cfg").write_text(f"home = {own.parent}\n")
    ask = "import sourced, heat.cmd.engine as engine; print(engine.NAME)"
    argv = [str(host / "venv/bin/python"), "-I", "-B", "-c", ask]
    assert subprocess.run(argv, check=True, capture_output=True, text=True).stdout == "heat.cmd.engine\n"


def test_without_python_of_the_hosts_the_archive_has_no_bytecode(
    index: PackageIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.edges.tree.sys.platform", "darwin")
    built = Wheelhouse(tmp_path / "cache", uv=UV).build("26.0.2", report=quiet)
    host = unpacked(built, tmp_path / "host")
    assert (host / MAGIC).read_text() == "none\n"
    assert not list(host.rglob("*.pyc"))
    monkeypatch.undo()


def test_a_heat_that_cannot_be_imported_is_no_release(index: PackageIndex, wheelhouse: Wheelhouse) -> None:
    index.add("pyuwsgi-1.0-py3-none-any.whl", wheel("pyuwsgi", "1.0", {"pyuwsgi.py": "import gone\n"}))
    with pytest.raises(ConfigurationInvalid, match=r"Heat 26\.0\.2 cannot be imported.* No module named 'gone'"):
        wheelhouse.build("26.0.2", report=quiet)
    assert wheelhouse.list() == ()


def test_an_archive_of_an_older_format_is_packed_again(wheelhouse: Wheelhouse) -> None:
    built = wheelhouse.build("26.0.2", report=quiet)
    built.archive.rename(built.archive.with_name(f"heat-{built.release.id}.tar"))
    assert wheelhouse.list() == ()
    assert wheelhouse.ensure("26.0.2", report=quiet) == built
    wheelhouse.check(built)
    assert len(list(built.archive.parent.iterdir())) == 3


def test_a_source_with_compiled_parts_is_refused(index: PackageIndex, wheelhouse: Wheelhouse) -> None:
    index.add("sourced-1.0.tar.gz", source("cp311-cp311-linux_x86_64"))
    with pytest.raises(ConfigurationInvalid, match="needs a compiler"):
        wheelhouse.build("26.0.2", report=quiet)


def test_a_version_that_does_not_exist_names_its_neighbours_and_no_address(
    wheelhouse: Wheelhouse,
) -> None:
    with pytest.raises(ConfigurationInvalid, match=r"no Heat 25\.9\.9 .* near it are 25\.0\.2 and 26\.0\.2") as caught:
        wheelhouse.build("25.9.9", report=quiet)
    assert caught.value.hint == "inv release.build --heat 25.0.2"
    assert "127.0.0.1" not in str(caught.value)


def test_an_index_that_fails_is_told_without_its_address(
    wheelhouse: Wheelhouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://user:secret@127.0.0.1:9/simple")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    with pytest.raises(Inconclusive, match="index did not answer") as caught:
        wheelhouse.build("26.0.2", report=quiet)
    assert "127.0.0.1" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_file_other_than_the_locked_one_is_refused(index: PackageIndex, wheelhouse: Wheelhouse) -> None:
    index.lie.add("pymysql-1.0-py3-none-any.whl")
    with pytest.raises(ConfigurationInvalid, match=r"pymysql-1\.0-py3-none-any\.whl"):
        wheelhouse.build("26.0.2", report=quiet)
    assert wheelhouse.list() == ()


def test_files_are_downloaded_once_for_all_releases(index: PackageIndex, wheelhouse: Wheelhouse) -> None:
    wheelhouse.build("25.0.2", report=quiet)
    index.served.clear()
    wheelhouse.build("26.0.2", report=quiet)
    assert "pymysql-1.0-py3-none-any.whl" not in index.served


def test_a_release_is_found_by_version_id_and_beginning_of_its_digest(wheelhouse: Wheelhouse) -> None:
    built = wheelhouse.build("26.0.2", report=quiet)
    wheelhouse.build("25.0.2", report=quiet)
    for reference in ("26.0.2", built.release.id, built.release.digest, built.release.digest[:8]):
        assert wheelhouse.find(reference) == built


@pytest.mark.parametrize("reference", ["26.0.2", "26.0.2-0123456789ab", "0123456789ab", "", "../etc", "latest"])
def test_a_release_that_is_not_there_comes_with_the_command_that_builds_it(reference: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationInvalid) as caught:
        Wheelhouse(tmp_path, uv=UV).find(reference)
    assert caught.value.hint == "inv release.build --heat 26.0.2"


def test_ensure_builds_a_version_once_and_never_an_id(wheelhouse: Wheelhouse) -> None:
    lines: list[str] = []
    built = wheelhouse.ensure("26.0.2", report=lines.append)
    told = len(lines)
    assert wheelhouse.ensure("26.0.2", report=lines.append) == built
    assert len(lines) == told
    with pytest.raises(ConfigurationInvalid):
        wheelhouse.ensure("26.0.2-0123456789ab", report=quiet)


def test_a_damaged_archive_is_refused_and_a_rebuild_mends_it(wheelhouse: Wheelhouse) -> None:
    built = wheelhouse.build("26.0.2", report=quiet)
    wheelhouse.check(built)
    with built.archive.open("r+b") as archive:
        archive.seek(5000)
        archive.write(b"damage")
    with pytest.raises(ConfigurationInvalid, match="damaged"):
        wheelhouse.check(built)
    wheelhouse.check(wheelhouse.build("26.0.2", report=quiet))


def test_two_builders_at_once_make_one_release(index: PackageIndex, tmp_path: Path) -> None:
    made: list[Built] = []
    builders = [
        threading.Thread(
            target=lambda: made.append(Wheelhouse(tmp_path / "cache", uv=UV).build("26.0.2", report=quiet))
        )
        for _ in range(3)
    ]
    for builder in builders:
        builder.start()
    for builder in builders:
        builder.join()
    assert len(made) == 3
    assert len({one.archive for one in made}) == 1
    assert len(list((tmp_path / "cache/releases").iterdir())) == 1


@pytest.mark.parametrize(
    "text",
    [
        "Failed to fetch: `https://user:secret@index.corp.example/simple/heat/`",
        "error sending request for url (https://index.corp.example:8443/x)",
        "  × no route to index.corp.example:443\n",
    ],
)
def test_messages_lose_every_address(text: str) -> None:
    assert "corp" not in scrub(text)
    assert "secret" not in scrub(text)
    assert "\n" not in scrub(text)
