from __future__ import annotations

import threading
from pathlib import Path

import pytest

from pipeline.errors import CommandFailed, ConfigurationInvalid
from pipeline.localcloud import cache, image, lifecycle, mounts, packages, traces
from pipeline.localcloud.cgroups import Cgroups
from pipeline.localcloud.system import run


def test_without_root_the_command_that_mends_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(ConfigurationInvalid) as caught:
        packages.check_root("local.up")
    assert caught.value.hint == "sudo ./inv local.up"
    with pytest.raises(ConfigurationInvalid):
        lifecycle.up(Path("/nonexistent"), report=print)


def test_missing_packages_are_found_by_their_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda program, path=None: None)
    assert {"mmdebstrap", "systemd-container", "mariadb-server-core", "iproute2"} <= set(packages.missing())


def test_packages_are_installed_without_questions_and_without_extras() -> None:
    command = packages.install(["mmdebstrap", "openssh-client"])
    assert command[:2] == ("env", "DEBIAN_FRONTEND=noninteractive")
    assert command[2:] == ("apt-get", "install", "-qq", "-y", "--no-install-recommends", "mmdebstrap", "openssh-client")


def test_without_apt_the_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda program, path=None: None)
    with pytest.raises(ConfigurationInvalid, match="mmdebstrap"):
        packages.ensure_packages(print)


def test_a_kernel_without_overlays_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "_filesystems", lambda: {"cgroup2"})
    monkeypatch.setattr(packages, "_try", lambda *command: None)
    with pytest.raises(ConfigurationInvalid, match="overlay") as caught:
        packages.check_kernel()
    assert caught.value.hint == "modprobe overlay"


def test_a_failed_command_shows_its_last_words() -> None:
    with pytest.raises(CommandFailed, match="ended with 3: at last") as caught:
        run("sh", "-c", "echo first >&2; echo at last >&2; exit 3")
    assert caught.value.status == 3


def test_a_missing_program_is_told() -> None:
    with pytest.raises(ConfigurationInvalid, match="no-such-program"):
        run("no-such-program")


def test_a_command_that_hangs_is_given_up() -> None:
    with pytest.raises(CommandFailed, match="did not end"):
        run("sleep", "5", timeout=0.05)


def test_standard_input_carries_what_arguments_must_not() -> None:
    assert run("cat", stdin="secret") == "secret"


def test_the_image_has_another_digest_when_its_recipe_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = image.image_digest()
    for path in image.RECIPE.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr(image, "RECIPE", tmp_path)
    assert image.image_digest() == before
    (tmp_path / "packages").write_text("vim\n")
    assert image.image_digest() != before


def test_an_image_is_on_the_disk_itself_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    ran: list[tuple[str, ...]] = []

    def ended(*command: str, **_: object) -> str:
        ran.append((*command[:-1], Path(command[-1]).name))
        assert not (cache.directory("images") / image.image_digest()).exists()
        return ""

    monkeypatch.setattr(image, "run", ended)
    monkeypatch.setattr(image, "_build", lambda root: (root / "usr").mkdir())
    assert (image.ensure_image(print) / "usr").is_dir()
    ((*sync, synced),) = ran
    assert sync == ["sync", "-f"]
    assert synced.startswith(f".{image.image_digest()}-")


def test_mounts_are_found_newest_first() -> None:
    assert Path("/proc") in mounts.below(Path("/proc"))
    assert mounts.below(Path("/nonexistent")) == ()


def test_a_lock_is_held_by_one_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    told, order = threading.Event(), []

    def second() -> None:
        with cache.locked("x", on_wait=told.set):
            order.append("second")

    with cache.locked("x"):
        thread = threading.Thread(target=second)
        thread.start()
        assert told.wait(5)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_only_directories_that_we_caused_are_removed_and_only_when_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    theirs, ours, used = (tmp_path / name for name in ("theirs", "ours", "used"))
    monkeypatch.setattr(traces, "SHARED", (str(theirs), str(ours), str(used)))
    theirs.mkdir()
    traces.note()
    ours.mkdir()
    used.mkdir()
    (used / "file").touch()
    traces.forget()
    assert (theirs.exists(), ours.exists(), used.exists()) == (True, False, True)
    (used / "file").unlink()
    traces.forget()
    assert not used.exists()


def test_groups_that_are_not_there_hold_nothing(tmp_path: Path) -> None:
    groups = Cgroups((tmp_path / "cloud",))
    assert groups.names() == ()
    assert groups.pids("x") == ()
    assert not groups.populated("x")
    (file,) = groups.make("x")
    assert file == tmp_path / "cloud" / "x" / "cgroup.procs"
    assert groups.names() == ("x",)
