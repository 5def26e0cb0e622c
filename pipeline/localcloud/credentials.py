"""The cloud's own passwords: made at random once, kept in one file that only root reads."""

from __future__ import annotations

import json
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.errors import ConfigurationInvalid
from pipeline.privatefile import write_private

__all__ = ["Secrets", "ensure", "load"]

NAME = "secrets.json"


@dataclass(frozen=True, slots=True)
class Secrets:
    """Passwords of the users that a local cloud needs, the machines service's token, the seed Heat's encryption key."""

    admin_password: str
    heat_password: str
    stack_domain_password: str
    machines_token: str
    encryption_key: str  # 32 characters, as Heat's auth_encryption_key wants them

    def __repr__(self) -> str:
        return "Secrets(...)"


def ensure(directory: Path) -> Secrets:
    """Return the secrets of the cloud in `directory`, making them the first time."""
    if not (directory / NAME).is_file():
        made = Secrets(*(secrets.token_hex(16) for _ in range(5)))
        write_private(directory / NAME, json.dumps(asdict(made), indent=2))
    return load(directory)


def load(directory: Path) -> Secrets:
    """Return the secrets in `directory`. Raises ConfigurationInvalid if the file is not as `ensure` wrote it."""
    try:
        return Secrets(**json.loads((directory / NAME).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise ConfigurationInvalid(
            f"{directory / NAME}: not the secrets of a local cloud", hint="inv local.down"
        ) from error
