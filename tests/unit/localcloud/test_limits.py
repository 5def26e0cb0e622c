from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import ConfigurationInvalid
from pipeline.localcloud import limits

INSTANCES, WATCHES = limits.ENOUGH


class Kernel:
    """The settings of a kernel, as files; the real ones belong to whoever else uses this machine."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def path(self, name: str) -> Path:
        return self.directory.joinpath(*name.split("."))

    def __getitem__(self, name: str) -> int:
        return int(self.path(name).read_text())

    def __setitem__(self, name: str, value: int) -> None:
        self.path(name).parent.mkdir(parents=True, exist_ok=True)
        self.path(name).write_text(f"{value}\n")


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(limits, "PROC", tmp_path / "sys")
    found = Kernel(tmp_path / "sys")
    found[INSTANCES], found[WATCHES] = 128, 600_000
    return found


@pytest.fixture
def said() -> list[str]:
    return []


def none() -> tuple[str, ...]:
    return ()


def test_what_is_low_is_raised_and_said_in_one_line(kernel: Kernel, said: list[str]) -> None:
    limits.ensure(said.append)
    assert (kernel[INSTANCES], kernel[WATCHES]) == (4096, 600_000)
    assert said == ["kernel: fs.inotify.max_user_instances 128 -> 4096"]


def test_what_is_enough_is_left_alone_in_silence(kernel: Kernel, said: list[str]) -> None:
    kernel[INSTANCES] = 10_000
    limits.ensure(said.append)
    limits.restore(none, said.append)
    assert (kernel[INSTANCES], said) == (10_000, [])


def test_the_last_cloud_puts_back_what_the_first_found(kernel: Kernel, said: list[str]) -> None:
    limits.ensure(said.append)
    limits.ensure(said.append)
    limits.restore(lambda: ("hdh-000001",), said.append)
    assert kernel[INSTANCES] == 4096
    limits.restore(none, said.append)
    assert kernel[INSTANCES] == 128
    assert not limits._file().exists()


def test_a_limit_that_someone_set_since_is_theirs(kernel: Kernel, said: list[str]) -> None:
    limits.ensure(said.append)
    kernel[INSTANCES] = 8192
    limits.restore(none, said.append)
    assert kernel[INSTANCES] == 8192


def test_a_limit_lowered_since_is_raised_again_and_put_back_to_that(kernel: Kernel, said: list[str]) -> None:
    limits.ensure(said.append)
    kernel[INSTANCES] = 256
    limits.ensure(said.append)
    limits.restore(none, said.append)
    assert kernel[INSTANCES] == 256


def test_a_note_of_an_earlier_boot_says_nothing_about_this_one(
    kernel: Kernel, said: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits.ensure(said.append)
    (tmp_path / "boot").write_text("another\n")
    monkeypatch.setattr(limits, "BOOT", tmp_path / "boot")
    limits.restore(none, said.append)
    assert kernel[INSTANCES] == 4096


def test_where_it_cannot_be_set_the_command_is_named(
    kernel: Kernel, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(path: Path, *args: object, **kwargs: object) -> int:
        if path == kernel.path(INSTANCES):
            raise OSError(30, "Read-only file system")
        return written(path, *args, **kwargs)  # type: ignore[arg-type]

    written = Path.write_text
    monkeypatch.setattr(Path, "write_text", read_only)
    with pytest.raises(ConfigurationInvalid, match=r"128, should be 4096.*Read-only") as caught:
        limits.ensure(said.append)
    assert caught.value.hint.endswith("sysctl -w fs.inotify.max_user_instances=4096")
    assert said == []
