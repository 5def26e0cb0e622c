"""Keys: the user's own, made once and kept private, and those of hosts, pinned."""

from __future__ import annotations

import base64
import hashlib
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import paramiko
from paramiko.pkey import UnknownKeyType

from pipeline.errors import ConfigurationInvalid, HostKeyRefused

__all__ = ["Identity", "fingerprint", "generate_key", "key_types", "refusal", "text_of"]


class Identity:
    """Who logs in: private key file `path`, with the certificate beside it or given, and what an agent holds if asked.

    A key's certificate is the file that OpenSSH would take: KEY-cert.pub. It is read when first used.
    """

    def __init__(self, path: Path, *, certificate: Path | None = None, agent: bool = False) -> None:
        self.path = path.expanduser()
        beside = self.path.with_name(f"{path.name}-cert.pub")
        self._certificate = certificate.expanduser() if certificate else beside
        self._given = certificate is not None
        self._agent = agent
        self._keys: tuple[paramiko.PKey, ...] = ()
        self._reading = threading.Lock()

    @contextmanager
    def keys(self) -> Iterator[tuple[paramiko.PKey, ...]]:
        """Give the keys to try, in order. Raises ConfigurationInvalid where the file holds none that is usable.

        Each time over a connection of its own to the agent: one takes no questions from two threads.
        """
        if not self._agent:
            yield self._own(needed=True)
            return
        with closing(paramiko.Agent()) as agent:
            held = agent.get_keys()
            yield (*self._own(needed=not held), *held)

    def _own(self, *, needed: bool) -> tuple[paramiko.PKey, ...]:
        with self._reading:
            self._keys = self._keys or tuple(self._read(needed=needed))
            return self._keys

    def _read(self, *, needed: bool) -> Iterator[paramiko.PKey]:
        if not needed and not self.path.exists():
            return
        try:
            key = paramiko.PKey.from_path(self.path)
            if self._given or self._certificate.exists():
                key.load_certificate(str(self._certificate))
        except (OSError, TypeError, ValueError, paramiko.SSHException, UnknownKeyType) as error:
            if not needed:  # encrypted, as keys are that an agent holds
                return
            raise ConfigurationInvalid(
                f"{self.path}: no usable private key: {error}", hint="inv deploy makes one; keep it with .state"
            ) from error
        yield key


def text_of(key: paramiko.PKey) -> str:
    """Return a public key as known_hosts writes it: its type, a space, its base64."""
    return f"{key.get_name()} {key.get_base64()}"


def fingerprint(public_key: str) -> str:
    """Return an OpenSSH public key's SHA256 fingerprint, as `ssh-keygen -l` prints it."""
    digest = hashlib.sha256(base64.b64decode(public_key.split()[1])).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def generate_key(path: Path) -> str:
    """Return the OpenSSH public key of private key file `path`, making an ed25519 pair (0600) where none is."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        pair = Ed25519PrivateKey.generate()
        partial = path.with_suffix(".partial")
        partial.touch(mode=0o600)
        partial.write_bytes(pair.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
        partial.rename(path)
    return text_of(paramiko.Ed25519Key.from_private_key_file(str(path)))


def key_types(pinned: Sequence[str]) -> tuple[str, ...]:
    """Return the key types to ask a server for: those that are pinned, or it may show another, which proves nothing."""
    types = {key.split()[0] for key in pinned}
    wanted: list[str] = [name for name in ("ssh-ed25519", "ecdsa-sha2-nistp256") if name in types]
    if "ssh-rsa" in types:
        wanted += ["rsa-sha2-512", "rsa-sha2-256"]
    return tuple(wanted) or ("ssh-ed25519",)


def refusal(where: str, shown: str, pinned: Sequence[str]) -> HostKeyRefused:
    """Return the error for a server that showed another key than one of `pinned`, with the fingerprints of both."""
    known = ", ".join(fingerprint(key) for key in pinned) or "none"
    return HostKeyRefused(
        f"{where} shows {shown}; pinned: {known}",
        hint="find out who answers there; a rebuilt host is pinned anew by inv deploy",
    )
