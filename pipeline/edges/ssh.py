"""SSH: one connection per host for a whole run, pinned host keys, scripts that travel on standard input.

The only importer of paramiko.
"""

from __future__ import annotations

import base64
import hashlib
import shlex
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol

import paramiko
from paramiko.ssh_exception import IncompatiblePeer
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from pipeline.environment import Ssh
from pipeline.errors import CommandFailed, ConfigurationInvalid, HostKeyRefused, HostUnreachable
from pipeline.inventory import Host

__all__ = ["Remote", "Result", "SshRemote", "failure", "fingerprint", "generate_key"]

_CHUNK = 1 << 17
_STALLED = 60  # seconds in which a copy must move on


@dataclass(frozen=True, slots=True)
class Result:
    """How a command on a host ended."""

    status: int
    stdout: str
    stderr: str


class Remote(Protocol):
    """What the pipeline asks of a way to reach hosts."""

    def run(self, host: Host, script: str, *, timeout: float = 300, check: bool = True, root: bool = True) -> Result:
        """Run a POSIX sh `script` on `host` and return its Result.

        `timeout` seconds; `root` runs it by sudo. With `check`, a status other than 0 raises CommandFailed.
        Raises HostUnreachable and HostKeyRefused.
        """

    def put(self, host: Host, source: Path, target: str) -> None:
        """Copy file `source` to path `target` on `host`, owned by the login user, whole or not at all."""

    def close(self) -> None:
        """End every connection."""


class SshRemote:
    """Remote over paramiko, with one connection per host, opened when first used."""

    def __init__(self, settings: Ssh, key: Path) -> None:
        self._settings = settings
        self._key = key
        self._transports: dict[str, paramiko.Transport] = {}
        self._locks: dict[str, threading.Lock] = {}
        self._guard = threading.Lock()

    def __enter__(self) -> SshRemote:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def run(self, host: Host, script: str, *, timeout: float = 300, check: bool = True, root: bool = True) -> Result:
        """Run a POSIX sh `script` on `host`; see Remote.run."""
        result = self._exec(host, script, timeout, "sudo -n sh -s" if root else "sh -s")
        if check and result.status != 0:
            raise failure(host, result)
        return result

    def put(self, host: Host, source: Path, target: str) -> None:
        """Copy file `source` to `target` on `host`; see Remote.put."""
        partial, final = shlex.quote(f"{target}.partial"), shlex.quote(target)
        # A lost connection ends cat's input as a whole file does: only the size tells them apart.
        whole = f'[ "$(wc -c <{partial})" -eq {source.stat().st_size} ]'
        with self._reaching(host, f"copying {source.name}"), self._session(host) as channel:
            channel.settimeout(_STALLED)
            channel.exec_command(f"umask 077; cat >{partial} && {whole} && mv -f {partial} {final}")
            with source.open("rb") as stream:
                while block := stream.read(_CHUNK):
                    channel.sendall(block)
            channel.shutdown_write()
            status = _status(channel, _STALLED)
        if status != 0:
            raise CommandFailed(f"{host.name}: {source.name} could not be written to {target}", status=status)

    def close(self) -> None:
        """End every connection."""
        with self._guard:
            transports, self._transports = self._transports, {}
        for transport in transports.values():
            transport.close()

    def _exec(self, host: Host, script: str, timeout: float, shell: str) -> Result:
        deadline = time.monotonic() + timeout
        with self._reaching(host, "connection lost"), self._session(host) as channel:
            channel.settimeout(timeout)
            channel.exec_command(shell)
            # The shell parses the whole braced block before it runs it, so commands in it cannot eat the script.
            channel.sendall(f"{{\n{script}\n}} </dev/null\n".encode())
            channel.shutdown_write()
            channel.settimeout(None)  # from here on the readers wait, and the deadline is kept below
            readers = _Reader(channel.recv), _Reader(channel.recv_stderr)
            stdout, stderr = (reader.text(deadline) for reader in readers)
            if stdout is None or stderr is None:
                raise CommandFailed(
                    f"{host.name}: no end within {timeout:.0f} s", status=-1, hint="it may still be running there"
                )
            return Result(_status(channel, deadline - time.monotonic()), stdout, stderr)

    @contextmanager
    def _reaching(self, host: Host, doing: str) -> Iterator[None]:
        try:
            yield
        except (paramiko.SSHException, OSError, EOFError) as error:
            self._drop(host)
            raise HostUnreachable(
                f"{host.name} ({host.address}): {doing}: {error}", hint="run the same command again"
            ) from error

    def _session(self, host: Host) -> paramiko.Channel:
        with self._guard:
            lock = self._locks.setdefault(host.name, threading.Lock())
        with lock:
            transport = self._transports.get(host.name)
            if transport is None or not transport.is_active():
                transport = self._transports[host.name] = self._connect(host)
        return transport.open_session(timeout=self._settings.connect_timeout)

    def _connect(self, host: Host) -> paramiko.Transport:
        key = _private_key(self._key)
        # Only connecting is tried again: a command never is, for it may have run.
        attempts = Retrying(
            stop=stop_after_delay(self._settings.connect_timeout),
            wait=wait_random_exponential(multiplier=0.3, max=3),
            retry=retry_if_exception_type((OSError, paramiko.SSHException)),
            reraise=True,
        )
        return attempts(self._open, host, key)

    def _open(self, host: Host, key: paramiko.PKey) -> paramiko.Transport:
        sock = socket.create_connection((host.address, self._settings.port), timeout=self._settings.connect_timeout)
        # paramiko leaves Nagle on, which with delayed ACKs costs 40 ms on every connect and exec.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        transport = paramiko.Transport(sock)
        transport.set_keepalive(15)
        try:
            transport.get_security_options().key_types = _key_types(host)
            transport.start_client(timeout=self._settings.connect_timeout)
            _refuse_other_keys(host, transport.get_remote_server_key())
            transport.auth_publickey(self._settings.user, key)
        except paramiko.AuthenticationException as error:
            transport.close()
            raise ConfigurationInvalid(
                f"{host.name} ({host.address}) refuses user {self._settings.user} with key {self._key}",
                hint="check ssh.user and the environment's key",
            ) from error
        except IncompatiblePeer as error:
            transport.close()
            if "host key" not in str(error):
                raise
            raise _refusal(host, "no key of a pinned type") from error
        except BaseException:
            transport.close()
            raise
        return transport

    def _drop(self, host: Host) -> None:
        with self._guard:
            transport = self._transports.pop(host.name, None)
        if transport is not None:
            transport.close()


def failure(host: Host, result: Result) -> CommandFailed:
    """Return the error that a command on `host` ended in: its status, and its last words."""
    said = (result.stderr.strip() or result.stdout.strip()).splitlines()
    return CommandFailed(
        f"{host.name}: status {result.status}: {' | '.join(said[-3:]) or 'it said nothing'}",
        status=result.status,
        stdout=result.stdout,
        stderr=result.stderr,
    )


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
    key = paramiko.Ed25519Key.from_private_key_file(str(path))
    return f"{key.get_name()} {key.get_base64()}"


def _key_types(host: Host) -> tuple[str, ...]:
    """Ask the server for a key of a type we hold, or it may show another one that proves nothing."""
    types = {key.split()[0] for key in host.host_keys}
    wanted: list[str] = [name for name in ("ssh-ed25519", "ecdsa-sha2-nistp256") if name in types]
    if "ssh-rsa" in types:
        wanted += ["rsa-sha2-512", "rsa-sha2-256"]
    return tuple(wanted) or ("ssh-ed25519",)


def _refuse_other_keys(host: Host, shown: paramiko.PKey) -> None:
    key = f"{shown.get_name()} {shown.get_base64()}"
    if key not in host.host_keys:
        raise _refusal(host, f"host key {fingerprint(key)}")


def _refusal(host: Host, shown: str) -> HostKeyRefused:
    pinned = ", ".join(fingerprint(known) for known in host.host_keys) or "none"
    return HostKeyRefused(
        f"{host.name} ({host.address}) shows {shown}; pinned: {pinned}",
        hint="find out who answers there; a rebuilt host is pinned anew by inv deploy",
    )


def _private_key(path: Path) -> paramiko.PKey:
    try:
        return paramiko.Ed25519Key.from_private_key_file(str(path))
    except (OSError, paramiko.SSHException) as error:
        raise ConfigurationInvalid(
            f"{path}: no usable ed25519 private key: {error}", hint="inv deploy makes one; keep it with .state"
        ) from error


def _status(channel: paramiko.Channel, timeout: float) -> int:
    """Return the command's exit status. Raises EOFError where the connection ended before it came."""
    if not channel.status_event.wait(max(timeout, 1)):
        raise EOFError(f"no exit status within {timeout:.0f} s")
    status = channel.recv_exit_status()
    if status == -1:
        raise EOFError("it ended without an exit status")
    return status


class _Reader:
    """Collects one stream of a channel while another is read."""

    def __init__(self, receive: Callable[[int], bytes]) -> None:
        self._receive = receive
        self._parts: list[bytes] = []
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def text(self, deadline: float) -> str | None:
        """Return the stream's text, or None where it had not ended by `deadline` (monotonic seconds)."""
        self._thread.join(max(0, deadline - time.monotonic()))
        return None if self._thread.is_alive() else b"".join(self._parts).decode(errors="replace")

    def _read(self) -> None:
        while block := self._receive(_CHUNK):
            self._parts.append(block)
