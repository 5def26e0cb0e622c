"""Routes: over which jump hosts a host is reached, from the environment or from an OpenSSH client configuration."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paramiko
from paramiko.hostkeys import HostKeyEntry, InvalidHostKey

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
        self._revoked: frozenset[str] = frozenset()

    def to(self, host: Host) -> tuple[Hop, ...]:
        """Return the hops to `host`, itself last. Raises ConfigurationInvalid for a jump host that is not pinned."""
        settings = self._settings
        last = Hop(host.machine, host.address, settings.port, settings.user, host.host_keys)
        return (*self._jumps(host), last)

    def _jumps(self, host: Host) -> tuple[Hop, ...]:
        named = self._settings.jump or self._proxy_jump(host.address) or self._proxy_jump(host.name)
        return self._chain(named, ())

    def _proxy_jump(self, name: str) -> tuple[str, ...]:
        found = self._config.lookup(name).get("proxyjump", "none") if self._config else "none"
        return () if found == "none" else tuple(part.strip() for part in found.split(","))

    def _chain(self, named: tuple[str, ...], seen: tuple[str, ...]) -> tuple[Hop, ...]:
        """Return the hops over `named`; as with OpenSSH, the first alone may have jump hosts of its own before it."""
        rest = tuple(self._hop(*_parsed(text)) for text in named[1:])
        return (*self._expanded(named[0], seen), *rest) if named else ()

    def _expanded(self, text: str, seen: tuple[str, ...]) -> tuple[Hop, ...]:
        """Return the hops to jump host `text`, which may have a ProxyJump of its own."""
        user, name, port = _parsed(text)
        if name in seen:
            raise ConfigurationInvalid(
                f"ssh: jump hosts go round in a circle: {' → '.join((*seen, name))}", hint="mend ProxyJump"
            )
        return (*self._chain(self._proxy_jump(name), (*seen, name)), self._hop(user, name, port))

    def _hop(self, user: str, name: str, port: int) -> Hop:
        found: dict[str, Any] = dict(self._config.lookup(name)) if self._config else {}
        address, port = str(found.get("hostname", name)), port or int(found.get("port", 22))
        return Hop(
            name, address, port, user or str(found.get("user", self._settings.user)), self._pinned(address, port, name)
        )

    def _pinned(self, address: str, port: int, name: str) -> tuple[str, ...]:
        if self._known is None:
            self._known, self._revoked = _known_hosts(self._settings.known_hosts)
        keys: list[str] = []
        for known in (address, name):
            entry = self._known.lookup(known if port == 22 else f"[{known}]:{port}")
            keys += [text for key in (entry.values() if entry else ()) if (text := text_of(key)) not in self._revoked]
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


def _known_hosts(path: Path | None) -> tuple[paramiko.HostKeys, frozenset[str]]:
    """Return the keys of file `path`, and those it revokes: at a line with a marker paramiko's own reader gives up."""
    known, revoked = paramiko.HostKeys(), set()
    for number, line in enumerate(_lines(path), start=1):
        if line.startswith("@revoked "):
            revoked.add(" ".join(line.split()[2:4]))
        elif line and not line.startswith(("#", "@")):
            try:
                entry = HostKeyEntry.from_line(line, number)
            except InvalidHostKey as error:
                raise ConfigurationInvalid(
                    f"{path}:{number}: is no line of known_hosts", hint="see ssh.known_hosts"
                ) from error
            if entry is not None:
                for name in entry.hostnames:
                    known.add(name, entry.key.get_name(), entry.key)
    return known, frozenset(revoked)


def _lines(path: Path | None) -> list[str]:
    if path is None:
        return []
    try:
        return [line.strip() for line in path.expanduser().read_text("utf-8", "replace").splitlines()]
    except OSError as error:
        raise ConfigurationInvalid(f"{path}: cannot be read: {error}", hint="see ssh.known_hosts") from error
