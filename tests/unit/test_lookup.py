"""Looking secrets up: all are read and checked before anything changes, each once, and a mistake names its line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from builders import ROOT

from pipeline.environment import load
from pipeline.errors import ConfigurationInvalid
from pipeline.lookup import Lookup

KEY = "k" * 32


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return a directory in which environment `here` has a line for each secret that a test adds."""
    (tmp_path / "defaults.yaml").write_text((ROOT / "environments/defaults.yaml").read_text("utf-8"))
    return tmp_path


def _no_cloud() -> Any:
    raise AssertionError("no cloud is needed")


def _write(directory: Path, **references: str) -> None:
    lines = "".join(f"  {key}: {text}\n" for key, text in references.items())
    (directory / "here.yaml").write_text(f"cloud: seed\nheat: {{region: here}}\nsecrets:\n{lines}", encoding="utf-8")


def _found(directory: Path, **references: str) -> dict[str, str]:
    _write(directory, **references)
    secrets = Lookup(directory).region(load("here", directory), _no_cloud)
    return {key: secret.reveal() for key, secret in secrets.items()}


def _refused(directory: Path, **references: str) -> ConfigurationInvalid:
    with pytest.raises(ConfigurationInvalid) as caught:
        _found(directory, **references)
    assert caught.value.exit_code == 3
    assert "\n" not in caught.value.message
    assert caught.value.hint
    return caught.value


def test_an_environment_without_references_needs_nobody(directory: Path) -> None:
    (directory / "here.yaml").write_text("cloud: seed\nheat: {region: here}\n", encoding="utf-8")
    lookup = Lookup(directory)
    assert lookup.region(load("here", directory), _no_cloud) == {}
    assert lookup.lock_url(load("here", directory), _no_cloud) is None


def test_every_reference_is_looked_up_but_the_locks(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB", "s3cret-database")
    monkeypatch.setenv("KEY", KEY)
    found = _found(directory, database_password="env:DB", encryption_key="env:KEY", lock_url="env:NOWHERE")
    assert found == {"database_password": "s3cret-database", "encryption_key": KEY}


def test_the_url_of_a_lock_may_be_a_secret(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCK", "mysql://me:p@ss/w@team/locks")
    _write(directory, lock_url="env:LOCK")
    assert Lookup(directory).lock_url(load("here", directory), _no_cloud) == "mysql://me:p@ss/w@team/locks"


def test_an_unreadable_secret_is_named_with_file_line_key_and_what_to_do(directory: Path) -> None:
    error = _refused(directory, database_password="env:NOWHERE")
    place = f"{directory}/here.yaml:4: secrets.database_password"
    assert error.message == f"{place}: env:NOWHERE: the variable is not set"
    assert error.hint == "export NOWHERE, then the same again"


def test_a_secret_of_a_stage_is_named_there(directory: Path) -> None:
    (directory / "stages").mkdir()
    (directory / "stages/lab.yaml").write_text("cloud: seed\nsecrets: {canary_password: 'env:NOWHERE'}\n")
    (directory / "here.yaml").write_text("stage: lab\nheat: {region: here}\n")
    with pytest.raises(ConfigurationInvalid, match=r"stages/lab\.yaml:2: secrets\.canary_password: env:NOWHERE: "):
        Lookup(directory).region(load("here", directory), _no_cloud)


def test_several_unreadable_ones_are_counted(directory: Path) -> None:
    error = _refused(directory, database_password="env:NOWHERE", messaging_password="file:/nowhere")
    assert error.message.endswith("the variable is not set (and 1 more)")


@pytest.mark.parametrize("text", ["with space", "a@b", "a/b", "it's", "$HOME", "a%b", "ü", "a\nb", "x" * 256])
def test_what_a_service_could_not_take_is_refused_without_a_word_of_it(
    directory: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("DB", text)
    error = _refused(directory, database_password="env:DB")
    assert "it may have 255 characters, only letters, digits and . _ ~ - of ASCII" in error.message
    assert text not in str(error)


@pytest.mark.parametrize("length", [1, 31, 33])
def test_heats_key_has_the_length_that_heat_wants(
    directory: Path, monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    monkeypatch.setenv("KEY", "k" * length)
    assert f"it must have 32 characters, and has {length}" in _refused(directory, encryption_key="env:KEY").message


def test_what_was_checked_is_what_is_used(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write(directory, database_password="env:DB")
    lookup, environment = Lookup(directory), load("here", directory)
    monkeypatch.setenv("DB", "first")
    first = lookup.region(environment, _no_cloud)
    monkeypatch.delenv("DB")
    assert lookup.region(environment, _no_cloud) == first
    assert "first" not in repr(lookup)
