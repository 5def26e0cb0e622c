"""Masking: what a report may show of a text that holds secrets, known ones and others."""

from __future__ import annotations

import re
from collections.abc import Iterable

from pipeline.region import Region

__all__ = ["MASK", "masked", "secrets_of"]

MASK = "***"

# A host's file may hold a secret that is not the region's, which is why it differs: keys tell, and addresses.
_KEYED = re.compile(r"^([-+ ]?\s*[\w.-]*(?:password|secret|_key|token|credential)\w*\s*[=:]\s*)\S.*$", re.I | re.M)
_IN_ADDRESS = re.compile(r"://[^\s,]*@")


def secrets_of(region: Region) -> tuple[str, ...]:
    """Return the secrets of a region, the longest first."""
    identity = region.identity
    secrets = (
        region.database_password,
        region.messaging_password,
        region.encryption_key,
        identity.service_password,
        identity.stack_domain_password,
        identity.canary_password,
    )
    return tuple(sorted({secret.get_secret_value() for secret in secrets} - {""}, key=len, reverse=True))


def masked(text: str, secrets: Iterable[str] = ()) -> str:
    """Return `text` with MASK for `secrets`, for values of keys that name one, and for names in front of addresses."""
    for secret in secrets:
        text = text.replace(secret, MASK)
    return _IN_ADDRESS.sub(f"://{MASK}@", _KEYED.sub(rf"\g<1>{MASK}", text))
