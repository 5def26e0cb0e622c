"""Sources of secrets: each keeps one contract, asked by its real client; and what is peculiar to one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keyring
import pytest
from keepers import TOKEN, Keeper, MemoryKeyring, barbican, identity, serving, vault
from keystoneauth1.identity import V3Password
from keystoneauth1.session import Session

from pipeline.edges.heat import Heat, HeatRefused
from pipeline.edges.secretsources import Sources, Unreadable, open_sources, read_secret
from pipeline.secrets import VaultSettings
from pipeline.stacks import Stack

SECRETS = ("s3cret-text", "two words, and: = ' \" $ % @ /", "schlüssel", " spaces around ", "x" * 5000)


@dataclass
class Kept:
    """A place where secrets are kept: `keep` puts one there and returns its reference, `away` is what breaks it."""

    keep: Callable[[str], str]
    missing: str
    away: Callable[[], None]


class Outputs:
    """The environment's cloud as far as outputs of stacks go; what it is told to raise, it raises."""

    def __init__(self) -> None:
        self.outputs: dict[str, Any] = {}
        self.error: Exception | None = None

    def find(self, name: str) -> Stack | None:
        if self.error:
            raise self.error
        return Stack("id", name, "CREATE_COMPLETE", "", "", self.outputs) if name == "shared" else None


@pytest.fixture
def outputs() -> Outputs:
    return Outputs()


@pytest.fixture
def ring() -> Iterator[MemoryKeyring]:
    before = keyring.get_keyring()
    made = MemoryKeyring()
    keyring.set_keyring(made)
    yield made
    keyring.set_keyring(before)


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[dict[str, Keeper]]:
    """Return a Vault that the variables name, and a cloud with a Barbican."""
    monkeypatch.setenv("HOME", str(tmp_path))  # hvac looks for a token there
    with ExitStack() as stack:
        found = {
            "vault": stack.enter_context(serving(Keeper(), vault)),
            "barbican": stack.enter_context(serving(Keeper(), barbican)),
        }
        monkeypatch.setenv("VAULT_ADDR", found["vault"].url)
        monkeypatch.setenv("VAULT_TOKEN", TOKEN)
        yield found


def _cloud(keeper: Keeper) -> Heat:
    auth = V3Password(
        f"{keeper.url}/v3",
        username="ada",
        password="p",
        user_domain_name="Default",
        project_name="p",
        project_domain_name="Default",
    )
    return Heat(Session(auth=auth, timeout=5), "east")


@pytest.fixture
def sources(outputs: Outputs, servers: dict[str, Keeper]) -> Sources:
    """Return every source, as a run has them."""

    def of_heat() -> Any:
        return outputs

    heat = open_sources(VaultSettings(), of_heat)
    keys = open_sources(VaultSettings(), lambda: _cloud(servers["barbican"]))
    return {**heat, **{source: keys[source] for source in keys if source == "barbican"}}


@pytest.fixture(params=["env", "file", "stack", "vault", "barbican", "keyring"])
def kept(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    outputs: Outputs,
    servers: dict[str, Keeper],
    ring: MemoryKeyring,
) -> Kept:
    """Return each place in turn."""
    path, vault_, barbican_ = tmp_path / "secret", servers["vault"], servers["barbican"]

    def in_file(text: str) -> str:
        path.write_text(f"{text}\n", encoding="utf-8")
        path.chmod(0o600)
        return f"file:{path}"

    def after(act: Any, reference: str) -> Callable[[str], str]:
        def keep(text: str) -> str:
            act(text)
            return reference

        return keep

    def forget() -> None:
        monkeypatch.delenv("HERE")

    def fail() -> None:
        outputs.error = HeatRefused("looking for stack shared: connection refused")

    places = {
        "env": Kept(
            after(lambda text: monkeypatch.setenv("HERE", text), "env:HERE"),
            "env:NOWHERE",
            lambda: monkeypatch.delenv("HERE"),
        ),
        "file": Kept(in_file, "file:/nowhere", lambda: path.chmod(0o644)),
        "stack": Kept(
            after(lambda text: outputs.outputs.update(password=text), "stack:shared/password"), "stack:none/a", fail
        ),
        "vault": Kept(
            after(lambda text: vault_.kept.update({"kv/heat/east": {"db": text}}), "vault:kv/heat/east#db"),
            "vault:kv/heat/west#db",
            lambda: setattr(vault_, "broken", 503),
        ),
        "barbican": Kept(
            after(lambda text: barbican_.kept.update(db=text), "barbican:db"),
            "barbican:none",
            lambda: setattr(barbican_, "broken", 503),
        ),
        "keyring": Kept(
            after(lambda text: ring.set_password("heat", "db", text), "keyring:heat/db"),
            "keyring:heat/none",
            lambda: setattr(ring, "locked", True),
        ),
    }
    return places[request.param]


def _refused(sources: Sources, reference: str) -> Unreadable:
    with pytest.raises(Unreadable) as caught:
        read_secret(sources, reference)
    error = caught.value
    assert error.exit_code == 3
    assert error.message.startswith(f"{reference}: ")
    assert "\n" not in error.message + error.hint
    assert error.hint
    return error


# --- the contract


@pytest.mark.parametrize("text", SECRETS, ids=lambda text: text[:12])
def test_what_is_kept_is_read_as_it_is(kept: Kept, sources: Sources, text: str) -> None:
    secret = read_secret(sources, kept.keep(text))
    assert secret.reveal() == text
    assert str(secret) == "***"


def test_what_is_not_there_is_named_by_its_reference(kept: Kept, sources: Sources) -> None:
    _refused(sources, kept.missing)


def test_what_is_empty_is_refused(kept: Kept, sources: Sources) -> None:
    assert _refused(sources, kept.keep("")).message.endswith(": it is empty")


def test_a_source_that_is_away_is_named_and_no_secret_is(kept: Kept, sources: Sources) -> None:
    reference = kept.keep("s3cret-text")
    kept.away()
    error = _refused(sources, reference)
    assert "s3cret-text" not in str(error)
    assert TOKEN not in str(error)


def test_a_secret_that_changes_is_read_anew(kept: Kept, sources: Sources) -> None:
    for text in ("one", "two"):
        assert read_secret(sources, kept.keep(text)).reveal() == text


def test_the_clients_of_the_sources_are_loaded_by_who_needs_them() -> None:
    script = "import sys, pipeline.workflow; print([name for name in ('hvac', 'keyring') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# --- files


def test_a_file_of_every_user_holds_no_secret(sources: Sources, tmp_path: Path) -> None:
    path = tmp_path / "open"
    path.write_text("s3cret")
    path.chmod(0o644)
    error = _refused(sources, f"file:{path}")
    assert (error.message, error.hint) == (f"file:{path}: every user may read it", f"chmod 600 {path}")


def test_what_is_no_file_of_text_is_refused_and_never_waited_for(sources: Sources, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    for name, content in (("binary", b"\xff\xfe"), ("large", b"x" * 70000)):
        (tmp_path / name).write_bytes(content)
        (tmp_path / name).chmod(0o600)
    told = {name: _refused(sources, f"file:{tmp_path / name}").message for name in ("pipe", "binary", "large")}
    assert [text.rpartition(": ")[2] for text in told.values()] == [
        "it is no file", "it is not UTF-8 text", "it is larger than 65536 bytes",
    ]  # fmt: skip
    tmp_path.chmod(0o700)
    assert _refused(sources, f"file:{tmp_path}").message.endswith(("it is no file", "Is a directory"))


def test_a_file_of_the_users_home_is_found(sources: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "heat").write_text("s3cret")
    (tmp_path / "heat").chmod(0o600)
    assert read_secret(sources, "file:~/heat").reveal() == "s3cret"


# --- stacks


def test_an_output_that_is_not_there_or_no_text_is_refused(sources: Sources, outputs: Outputs) -> None:
    outputs.outputs.update(number=1234567)
    assert "the stack has no such output" in _refused(sources, "stack:shared/none").message
    error = _refused(sources, "stack:shared/number")
    assert error.message.endswith("it is no text but int")
    assert "1234567" not in error.message


# --- Vault


def test_vault_is_asked_at_the_address_and_with_the_token_of_the_settings(
    servers: dict[str, Keeper], monkeypatch: pytest.MonkeyPatch, ring: MemoryKeyring
) -> None:
    for name in ("VAULT_ADDR", "VAULT_TOKEN"):
        monkeypatch.delenv(name)
    ring.set_password("vault", "token", TOKEN)
    servers["vault"].kept["kv/a"] = {"b": "s3cret"}
    settings = VaultSettings(address=servers["vault"].url, token="keyring:vault/token")
    sources = open_sources(settings, lambda: pytest.fail("no cloud is needed"))
    assert read_secret(sources, "vault:kv/a#b").reveal() == "s3cret"
    assert servers["vault"].asked == ["GET /v1/kv/data/a"]


@pytest.mark.parametrize(
    ("variables", "settings", "expected"),
    [
        ({"VAULT_ADDR": ""}, {}, "nobody says where Vault is"),
        ({"VAULT_TOKEN": ""}, {}, "there is no token for Vault"),
        ({"VAULT_TOKEN": "hvs.other"}, {}, "Vault refuses its token"),
        ({}, {"token": "env:NOWHERE"}, "env:NOWHERE: the variable is not set"),
        ({"VAULT_ADDR": "http://127.0.0.1:9"}, {}, "Vault at http://127.0.0.1:9 did not answer: "),
    ],
    ids=["address", "no token", "wrong token", "token's reference", "nobody there"],
)
def test_a_vault_that_cannot_be_asked_says_why(
    servers: dict[str, Keeper],
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    settings: dict[str, str],
    expected: str,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    sources = open_sources(VaultSettings(**settings), lambda: pytest.fail("no cloud is needed"))  # type: ignore[arg-type]
    error = _refused(sources, "vault:kv/a#b")
    assert expected in error.message
    assert "hvs." not in str(error)


def test_what_was_deleted_in_vault_or_has_no_such_key_or_is_no_text_is_refused(
    servers: dict[str, Keeper], sources: Sources
) -> None:
    servers["vault"].kept.update({"kv/gone": None, "kv/a": {"number": 1234567}})
    assert "there is nothing, or it was deleted" in _refused(sources, "vault:kv/gone#b").message
    assert "it has no key 'b'" in _refused(sources, "vault:kv/a#b").message
    assert _refused(sources, "vault:kv/a#number").message.endswith("it is no text but int")


# --- Barbican


def test_a_secret_of_barbican_is_found_by_its_id_and_by_its_address(
    servers: dict[str, Keeper], sources: Sources
) -> None:
    keeper = servers["barbican"]
    keeper.kept["db"] = "s3cret"
    for reference in (identity("db"), f"{keeper.url}/v1/secrets/{identity('db')}", "db"):
        assert read_secret(sources, f"barbican:{reference}").reveal() == "s3cret"


def test_a_name_that_two_secrets_have_is_refused(servers: dict[str, Keeper], sources: Sources) -> None:
    servers["barbican"].kept.update({"db": "one", "db@again": "two"})
    assert "2 secrets are called so" in _refused(sources, "barbican:db").message


@pytest.mark.parametrize(("kept_there", "expected"), [(None, "Barbican refuses this user"), (b"\x00", "it is no text")])
def test_a_page_that_tells_of_an_error_is_never_taken_for_the_secret(
    servers: dict[str, Keeper], sources: Sources, kept_there: Any, expected: str
) -> None:
    servers["barbican"].kept["db"] = kept_there
    assert expected in _refused(sources, "barbican:db").message


def test_an_id_that_is_not_there_is_told_so(servers: dict[str, Keeper], sources: Sources) -> None:
    assert "there is no such secret" in _refused(sources, f"barbican:{identity('none')}").message


# --- keyring


def test_a_system_without_a_keyring_is_told_so(sources: Sources, ring: MemoryKeyring) -> None:
    from keyring.backends.fail import Keyring

    keyring.set_keyring(Keyring())  # type: ignore[no-untyped-call]
    assert "this system has no keyring" in _refused(sources, "keyring:heat/db").message
