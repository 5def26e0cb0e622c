"""Routes: over which jump hosts a host is reached, from the environment or from an OpenSSH client configuration."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paramiko

from pipeline.edges.ssh.keys import text_of
from pipeline.environment import Ssh
from pipeline.errors import ConfigurationInvalid
from pipeline.inventory import Host

__all__ = ["Hop", "Routes"]

_FORM = "USER@HOST:PORT, of which USER@ and :PORT may be left out"


@dataclass(frozen=True, slots=True)
class Hop:
    """One server on the way to a host, or the host itself: where it listens, who logs in, and which keys are pinned."""

    name: str
    address: str
    port: int
    user: str
    host_keys: tuple[str, ...]

    @property
    def where(self) -> str:
        """How it is told to people."""
        return f"{self.name} ({self.address})"


class Routes:
    """Finds the hops to each host: jump hosts from `ssh.jump`, or from the file `ssh.config` as OpenSSH reads it."""

    def __init__(self, settings: Ssh) -> None:
        self._settings = settings
        self._config = _config(settings.config)
        self._known: paramiko.HostKeys | None = None

    def to(self, host: Host) -> tuple[Hop, ...]:
        """Return the hops to `host`, itself last. Raises ConfigurationInvalid for a jump host that is not pinned."""
        settings = self._settings
        last = Hop(host.name, host.address, settings.port, settings.user, host.host_keys)
        return (*self._jumps(host), last)

    def _jumps(self, host: Host) -> tuple[Hop, ...]:
        named = self._settings.jump or self._proxy_jump(host.address) or self._proxy_jump(host.name)
        return tuple(hop for name in named for hop in self._expanded(name, ()))

    def _proxy_jump(self, name: str) -> tuple[str, ...]:
        found = self._config.lookup(name).get("proxyjump", "none") if self._config else "none"
        return () if found == "none" else tuple(part.strip() for part in found.split(","))

    def _expanded(self, text: str, seen: tuple[str, ...]) -> tuple[Hop, ...]:
        """Return the hops to jump host `text`, which may have a ProxyJump of its own."""
        user, name, port = _parsed(text)
        if name in seen:
            raise ConfigurationInvalid(
                f"ssh: jump hosts go round in a circle: {' → '.join((*seen, name))}", hint="mend ProxyJump"
            )
        found: dict[str, Any] = dict(self._config.lookup(name)) if self._config else {}
        address = str(found.get("hostname", name))
        hop = Hop(
            name,
            address,
            port or int(found.get("port", 22)),
            user or str(found.get("user", self._settings.user)),
            self._pinned(address, port or int(found.get("port", 22)), name),
        )
        before = (one for jump in self._proxy_jump(name) for one in self._expanded(jump, (*seen, name)))
        return (*before, hop)

    def _pinned(self, address: str, port: int, name: str) -> tuple[str, ...]:
        if self._known is None:
            self._known = _known_hosts(self._settings.known_hosts)
        keys: list[str] = []
        for known in (address, name):
            entry = self._known.lookup(known if port == 22 else f"[{known}]:{port}")
            keys += [text_of(key) for key in entry.values()] if entry else []
        if not keys:
            where = self._settings.known_hosts or "ssh.known_hosts (not set)"
            raise ConfigurationInvalid(
                f"ssh: no key of jump host {name} is pinned in {where}",
                hint=f"ssh-keyscan -p {port} {address}, compare the fingerprint with its operator's, and add the line",
            )
        return tuple(dict.fromkeys(keys))


def _parsed(text: str) -> tuple[str, str, int]:
    """Return user ("" for none), name and port (0 for none) of USER@HOST:PORT. Raises ConfigurationInvalid."""
    user, _, rest = text.rpartition("@")
    name, _, port = rest.rpartition(":") if ":" in rest and not rest.endswith("]") else (rest, "", "")
    if not name or (port and not port.isdigit()) or text.startswith("@"):
        raise ConfigurationInvalid(f"ssh: {text!r} is no jump host", hint=f"write {_FORM}")
    return user, name.strip("[]"), int(port or 0)


def _config(path: Path | None) -> paramiko.SSHConfig | None:
    if path is None:
        return None
    try:
        return paramiko.SSHConfig.from_path(str(path.expanduser()))
    except (OSError, paramiko.ConfigParseError) as error:
        raise ConfigurationInvalid(
            f"{path}: cannot be read: {error}", hint="see ssh.config of the environment"
        ) from error


def _known_hosts(path: Path | None) -> paramiko.HostKeys:
    if path is None:
        return paramiko.HostKeys()
    try:
        return paramiko.HostKeys(str(path.expanduser()))
    except OSError as error:
        raise ConfigurationInvalid(f"{path}: cannot be read: {error}", hint="see ssh.known_hosts") from error
