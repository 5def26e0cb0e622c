"""A Certificate: what a server shows, the private key that belongs to it, and who is to be trusted for it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from pipeline.secrets import Secret

__all__ = ["Certificate"]


@dataclass(frozen=True, slots=True)
class Certificate:
    """A server's certificate, with its chain, and its key, both in PEM. The key never shows."""

    chain: str
    key: Secret

    @property
    def with_key(self) -> str:
        """Both in one text, as HAProxy reads them."""
        return self.chain + self.key.reveal()

    @property
    def ends(self) -> datetime:
        """When the server's own certificate, the first of the chain, ends (UTC)."""
        from cryptography import x509  # where it is used: the host files of every environment know certificates

        return x509.load_pem_x509_certificate(self.chain.encode()).not_valid_after_utc
