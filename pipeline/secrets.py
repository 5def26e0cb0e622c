"""Secrets: what they are called in environments, which only refer to them, and a type that never shows one.

A reference says where a secret is kept: env:NAME, file:PATH, stack:STACK/OUTPUT, vault:MOUNT/PATH#KEY,
barbican:ID_OR_NAME, keyring:SERVICE/NAME. pipeline.edges.secretsources reads what it refers to, when it is needed.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, NoReturn

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema

__all__ = ["MASK", "Reference", "Secret", "Secrets", "Source", "VaultSettings", "reference_of"]

MASK = "***"


class Secret:
    """Text that prints as ***, can be neither pickled nor made JSON of, and compares in constant time."""

    __slots__ = ("_text",)
    _text: str

    def __init__(self, text: str) -> None:
        object.__setattr__(self, "_text", text)

    def reveal(self) -> str:
        """Return the text itself, for the one who is to use it now."""
        return self._text

    def fingerprint(self, salt: str) -> str:
        """Return 32 hex digits that change with the text, from which even a short text is not guessed cheaply."""
        made = hashlib.scrypt(self._text.encode(), salt=salt.encode(), n=2**14, r=8, p=1, dklen=16)
        return made.hex()

    def __repr__(self) -> str:
        return MASK

    def __format__(self, _spec: str) -> str:
        return MASK

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._text.encode(), other._text.encode())

    def __hash__(self) -> int:
        return hash((Secret, self._text))

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, _memo: object) -> Secret:
        return self

    def __setattr__(self, name: str, _value: object) -> NoReturn:
        raise AttributeError(f"a secret cannot be changed: {name}")

    def __reduce_ex__(self, _protocol: object) -> NoReturn:
        raise TypeError("a secret cannot be pickled")


class Source(StrEnum):
    """Where secrets may be kept."""

    ENV = "env"
    FILE = "file"
    STACK = "stack"
    VAULT = "vault"
    BARBICAN = "barbican"
    KEYRING = "keyring"


_FORMS = {
    Source.ENV: (r"(?P<name>[A-Za-z_][A-Za-z0-9_]*)", "env:NAME"),
    Source.FILE: (r"(?P<name>(?:/|~/)[^\s]+)", "file:/PATH"),
    Source.STACK: (r"(?P<place>[A-Za-z][\w.-]*)/(?P<name>[^\s/#]+)", "stack:STACK/OUTPUT"),
    Source.VAULT: (r"(?P<place>[^\s/#]+)/(?P<path>[^\s#]+)#(?P<name>[^\s#]+)", "vault:MOUNT/PATH#KEY"),
    Source.BARBICAN: (r"(?P<name>[^\s]+)", "barbican:ID_OR_NAME"),
    Source.KEYRING: (r"(?P<place>[^\s/]+)/(?P<name>[^\s]+)", "keyring:SERVICE/NAME"),
}
_EXPECTED = f"expected a reference to a secret, never a secret: {', '.join(form for _, form in _FORMS.values())}"
_PLAIN = "|".join(f"{source}:{re.sub(r'[?]P<.*?>', '', pattern)}" for source, (pattern, _) in _FORMS.items())


@dataclass(frozen=True, slots=True)
class Reference:
    """Where one secret is: its source, and there a `place` (stack, mount, service), a `path` and a `name` or key."""

    source: Source
    name: str
    place: str = ""
    path: str = ""


def reference_of(text: str) -> Reference:
    """Return the reference that `text` is. Raises ValueError, which does not repeat it: it may be a secret."""
    source, _, rest = text.partition(":")
    if source not in tuple(Source) or not (match := re.fullmatch(_FORMS[Source(source)][0], rest)):
        raise ValueError(_EXPECTED)
    return Reference(Source(source), **match.groupdict())


def _reference(text: str) -> str:
    reference_of(text)
    return text


SecretReference = Annotated[
    str, AfterValidator(_reference), WithJsonSchema({"type": "string", "pattern": f"^({_PLAIN})$"})
]


def _readable_first(text: str) -> str:
    if reference_of(text).source not in (Source.ENV, Source.FILE, Source.KEYRING):
        raise ValueError("expected env:NAME, file:/PATH or keyring:SERVICE/NAME: the token opens all else")
    return text


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, use_attribute_docstrings=True)


class VaultSettings(_Frozen):
    """How Vault is reached; what is left out comes from VAULT_ADDR, VAULT_NAMESPACE and VAULT_TOKEN."""

    address: Annotated[str, Field(pattern=r"^https?://[^\s@]+$")] | None = None
    """Where Vault answers: https://vault.example.org:8200."""
    namespace: str | None = None
    """The namespace, in Vault Enterprise."""
    token: Annotated[SecretReference, AfterValidator(_readable_first)] | None = None
    """A reference to the token: env:NAME, file:/PATH or keyring:SERVICE/NAME."""


class Secrets(_Frozen):
    """Which secrets of a region are kept elsewhere. Heat makes those that are not named."""

    database_password: SecretReference | None = None
    """Of Heat's user in the database."""
    messaging_password: SecretReference | None = None
    """Of Heat's user in the broker."""
    encryption_key: SecretReference | None = None
    """What Heat encrypts with in its database: 32 characters, the same for as long as the database lives."""
    service_password: SecretReference | None = None
    """Of the user that Heat works as."""
    stack_domain_password: SecretReference | None = None
    """Of the admin of the domain that stacks' users are in."""
    canary_password: SecretReference | None = None
    """Of the pipeline's own customer."""
    lock_url: SecretReference | None = None
    """Of the URL of a team's lock, instead of lock.url, where a password is part of it."""
    vault: VaultSettings = VaultSettings()
    """How Vault is reached."""

    def references(self) -> dict[str, str]:
        """Return the references by the name of their key, in order."""
        given: dict[str, Any] = self.model_dump(exclude={"vault"}, exclude_none=True)
        return given
