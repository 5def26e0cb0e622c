"""Looking up the secrets that an environment refers to: all that a run needs, before its first change."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.edges.heat import Heat
from pipeline.edges.secretsources import Unreadable, open_sources, read_secret
from pipeline.environment import Environment, layers
from pipeline.errors import ConfigurationInvalid
from pipeline.secrets import Secret

__all__ = ["LOCK_URL", "Lookup"]

LOCK_URL = "lock_url"
_PLAIN = re.compile(r"[A-Za-z0-9._~-]{1,255}")  # what addresses, heat.conf and SQL all take as it is
_KEY_LENGTH = 32  # Heat's auth_encryption_key, as its own generated ones


@dataclass(frozen=True, slots=True)
class Lookup:
    """The secrets looked up so far, each read once in a run: what was checked before the first change is what is used.

    `directory` is where the environments are.
    """

    directory: Path
    _read: dict[tuple[str, str], Secret] = field(default_factory=dict, repr=False)

    def region(self, environment: Environment, cloud: Callable[[], Heat]) -> Mapping[str, Secret]:
        """Return the secrets of a region that its environment refers to, by key; Heat made the others.

        Raises ConfigurationInvalid with file, line and key where one cannot be read or would not do.
        """
        wanted = [key for key in environment.secrets.references() if key != LOCK_URL]
        return self._all(environment, wanted, cloud)

    def lock_url(self, environment: Environment, cloud: Callable[[], Heat]) -> str | None:
        """Return the URL of the environment's lock where it is a secret, else None. Raises as `region` does."""
        wanted = [key for key in environment.secrets.references() if key == LOCK_URL]
        found = self._all(environment, wanted, cloud).get(LOCK_URL)
        return found.reveal() if found else None

    def _all(self, environment: Environment, keys: list[str], cloud: Callable[[], Heat]) -> Mapping[str, Secret]:
        found = {key: self._one(environment, key, cloud) for key in keys}
        wrong = [error for error in found.values() if isinstance(error, Unreadable)]
        if wrong:
            more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
            raise ConfigurationInvalid(f"{wrong[0].message}{more}", hint=wrong[0].hint) from wrong[0]
        return {key: secret for key, secret in found.items() if isinstance(secret, Secret)}

    def _one(self, environment: Environment, key: str, cloud: Callable[[], Heat]) -> Secret | Unreadable:
        if known := self._read.get((environment.name, key)):
            return known
        reference = environment.secrets.references()[key]
        try:
            secret = read_secret(open_sources(environment.secrets.vault, cloud), reference)
            if unfit := _unfit(key, secret):
                raise Unreadable(f"{reference}: {unfit}", hint="put another one there")
        except Unreadable as error:
            place = layers(environment.name, self.directory).nearest(("secrets", key))
            return Unreadable(f"{place}: secrets.{key}: {error.message}", hint=error.hint)
        self._read[environment.name, key] = secret
        return secret


def _unfit(key: str, secret: Secret) -> str:
    """Return why a secret would not do, without a word of it, or ""."""
    text = secret.reveal()
    if key == LOCK_URL:
        return ""
    if not _PLAIN.fullmatch(text):
        return "it may have 255 characters, only letters, digits and . _ ~ - of ASCII"
    if key == "encryption_key" and len(text) != _KEY_LENGTH:
        return f"it must have {_KEY_LENGTH} characters, and has {len(text)}"
    return ""
