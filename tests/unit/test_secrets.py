"""Secrets: the type shows itself nowhere, and what environments may say of one is a reference, never the secret."""

from __future__ import annotations

import copy
import json
import logging
import pickle
from dataclasses import asdict, dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.secrets import Reference, Secret, Secrets, Source, VaultSettings, reference_of

TEXT = "s3cret-text"
ONE = Secret(TEXT)


@dataclass(frozen=True, slots=True)
class Holder:
    password: Secret


def test_a_secret_prints_as_stars_wherever_it_is_printed(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("any").warning("%s %r %s", ONE, ONE, {"password": ONE})
    shown = [str(ONE), repr(ONE), f"{ONE}", f"{ONE!r}", f"{ONE:>20}", f"{ONE!s}", "{}".format(ONE), "%s" % ONE]  # noqa: UP031, UP032
    shown += [str(Holder(ONE)), str([ONE]), str(asdict(Holder(ONE))), caplog.text]
    assert not [text for text in shown if TEXT in text]
    assert set(shown[:8]) == {"***"}


def test_a_secret_in_an_error_prints_as_stars() -> None:
    with pytest.raises(ValueError, match=r"^\*\*\*$"):
        raise ValueError(ONE)


def test_a_secret_can_be_neither_pickled_nor_made_json_of() -> None:
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError, match="cannot be pickled"):
            pickle.dumps(Holder(ONE), protocol)
    with pytest.raises(TypeError):
        json.dumps({"password": ONE})
    assert TEXT not in json.dumps({"password": ONE}, default=str)


def test_a_secret_is_revealed_to_who_asks_and_cannot_be_changed() -> None:
    assert ONE.reveal() == TEXT
    with pytest.raises(AttributeError):
        ONE._text = "other"  # type: ignore[misc]
    assert not hasattr(ONE, "__dict__")


def test_a_copy_of_a_secret_is_the_secret() -> None:
    assert copy.copy(ONE) is ONE
    assert copy.deepcopy(Holder(ONE)) == Holder(ONE)


@given(st.text(), st.text())
def test_secrets_are_equal_where_their_texts_are(one: str, two: str) -> None:
    assert (Secret(one) == Secret(two)) is (one == two)
    assert Secret(one) == Secret(one)
    assert hash(Secret(one)) == hash(Secret(one))
    assert Secret(one) != one


def test_a_fingerprint_changes_with_text_and_salt_and_holds_neither() -> None:
    found = {ONE.fingerprint("a"), ONE.fingerprint("b"), Secret("other").fingerprint("a")}
    assert len(found) == 3
    assert ONE.fingerprint("a") == Secret(TEXT).fingerprint("a")
    assert all(len(one) == 32 and TEXT not in one for one in found)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("env:HEAT_PASSWORD", Reference(Source.ENV, "HEAT_PASSWORD")),
        ("file:/run/secrets/heat", Reference(Source.FILE, "/run/secrets/heat")),
        ("file:~/heat", Reference(Source.FILE, "~/heat")),
        ("stack:shared-secrets/database", Reference(Source.STACK, "database", "shared-secrets")),
        ("vault:secret/heat/east#database", Reference(Source.VAULT, "database", "secret", "heat/east")),
        ("barbican:heat-database", Reference(Source.BARBICAN, "heat-database")),
        ("barbican:https://b/v1/secrets/0", Reference(Source.BARBICAN, "https://b/v1/secrets/0")),
        ("keyring:heat/east/database", Reference(Source.KEYRING, "east/database", "heat")),
    ],
)
def test_a_reference_says_where_a_secret_is(text: str, expected: Reference) -> None:
    assert reference_of(text) == expected
    assert Secrets(database_password=text).references() == {"database_password": text}


@pytest.mark.parametrize(
    "text",
    ["hunter2", "", "env:", "env:A B", "env:1A", "file:relative", "file:", "stack:one", "stack:a/b/c", "vault:a#b",
     "vault:a/b", "keyring:one", "barbican:", "ENV:A", "https://a/b", "env:A\n"],
)  # fmt: skip
def test_what_is_no_reference_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(ValueError, match="expected a reference to a secret, never a secret: env:NAME, ") as caught:
        reference_of(text)
    assert text in ("", "env:", "file:", "barbican:") or text not in str(caught.value)


def test_a_token_for_vault_is_kept_where_no_token_is_needed() -> None:
    assert VaultSettings(token="keyring:vault/token").token == "keyring:vault/token"
    for text in ("vault:a/b#c", "stack:a/b", "barbican:a", "hvs.abc"):
        with pytest.raises(ValidationError):
            VaultSettings(token=text)


@pytest.mark.parametrize("address", ["vault.example.org", "https://me:pw@vault", "ftp://vault"])
def test_the_address_of_vault_is_one_without_a_password(address: str) -> None:
    with pytest.raises(ValidationError):
        VaultSettings(address=address)
