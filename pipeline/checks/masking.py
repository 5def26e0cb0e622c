"""Masking: what a report may show of a text that holds secrets, known ones and others."""

from __future__ import annotations

import re
from collections.abc import Iterable

from pipeline.region import Region
from pipeline.secrets import MASK

__all__ = ["MASK", "masked", "secrets_of"]

# A host's file may hold a secret that is not the region's, which is why it differs: keys tell, and addresses.
_KEYED = re.compile(r"^([-+ ]?\s*[\w.-]*(?:password|secret|_key|token|credential)\w*\s*[=:]\s*)\S.*$", re.I | re.M)
# A broker's address has one credential a member: rabbit://heat:PW@A,heat:PW@B/vhost.
_IN_ADDRESS = re.compile(r"(://|,(?=[^\s,:@]*:))[^\s,]*@")
# A log says what it likes, where it likes.
_IN_TEXT = re.compile(r"""((?:password|secret|token|_key)["']?\s*[:=]\s*["']?)[^\s"',;}&]+""", re.I)
_PRIVATE = re.compile(r"(-----BEGIN [A-Z ]*PRIVATE KEY-----).*?(-----END|\Z)", re.S)
_TOKEN = re.compile(r"\bgAAAA[\w=-]{20,}")  # Keystone's, of Fernet


def secrets_of(region: Region) -> tuple[str, ...]:
    """Return the secrets of a region, the longest first."""
    return tuple(sorted(set(region.secrets) - {""}, key=len, reverse=True))


def masked(text: str, secrets: Iterable[str] = ()) -> str:
    """Return `text` with MASK for `secrets`, for what is called one, and before an address's @."""
    for secret in secrets:
        text = text.replace(secret, MASK)
    text = _PRIVATE.sub(rf"\g<1>{MASK}\g<2>", text)
    text = _IN_ADDRESS.sub(rf"\g<1>{MASK}@", _KEYED.sub(rf"\g<1>{MASK}", text))
    return _TOKEN.sub(MASK, _IN_TEXT.sub(rf"\g<1>{MASK}", text))
