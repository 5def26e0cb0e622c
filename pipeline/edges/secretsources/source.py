"""What every source of secrets promises."""

from __future__ import annotations

from typing import Protocol

from pipeline.errors import ConfigurationInvalid
from pipeline.secrets import Reference, Secret

__all__ = ["SecretSource", "Unreadable", "text_of"]


class Unreadable(ConfigurationInvalid):
    """A secret is not there, or its source does not give it; never says what it is."""


class SecretSource(Protocol):
    """One place where secrets are kept."""

    def read(self, reference: Reference) -> Secret:
        """Return the secret. Raises Unreadable with what is wrong and, as its hint, what to do."""


def text_of(found: object) -> Secret:
    """Return what a source holds as a secret. Raises Unreadable where it is no text: a number may have lost zeros."""
    if not isinstance(found, str):
        raise Unreadable(f"it is no text but {type(found).__name__}", hint="keep it as text there")
    return Secret(found)
