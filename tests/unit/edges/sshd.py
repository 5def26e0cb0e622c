"""A real SSH server on loopback, in this process and without root; it runs what it is sent with the machine's sh."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path

import paramiko
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

__all__ = ["SshServer", "fake_sudo", "host_key"]

_CHUNK = 1 << 15
Address = tuple[str, int]


def host_key(directory: Path, name: str = "host") -> paramiko.PKey:
    """Return a fresh ed25519 host key; paramiko has no generator of its own for this type."""
    pair = Ed25519PrivateKey.generate()
    path = directory / f"{name}_ed25519"
    path.write_bytes(pair.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    return paramiko.Ed25519Key.from_private_key_file(str(path))


class SshServer:
    """Listens on a free port of loopback, lets one public key in, and counts what it is asked for."""

    def __init__(self, keys: list[paramiko.PKey], user: str, public_key: str, path: str = "") -> None:
        self.commands: list[str] = []
        self.forwarded: list[Address] = []
        self.connections = 0
        self.refuse_first = 0
        self.received = 0  # bytes of commands' input
        self._keys, self._user, self._public_key, self._path = keys, user, public_key, path
        self._transports: list[paramiko.Transport] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def public_keys(self) -> tuple[str, ...]:
        """Return the host keys as a host would signal them."""
        return tuple(f"{key.get_name()} {key.get_base64()}" for key in self._keys)

    def cut(self) -> None:
        """Break every connection there is, as a crash of the host would."""
        for transport in self._transports:
            transport.close()
            transport.packetizer.complete_handshake()  # its timer would stay for 15 s

    def stop(self) -> None:
        """Break every connection, and listen no more."""
        if self._listener.fileno() >= 0:
            # shutdown wakes the thread that waits in accept; close alone would leave it, and the port, alive
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
        self.cut()

    def lets_in(self, user: str, key: paramiko.PKey) -> bool:
        """Whether `user` may log in with `key`."""
        return user == self._user and f"{key.get_name()} {key.get_base64()}" == self._public_key

    def forward(self, channel: paramiko.Channel, target: socket.socket) -> None:
        """Pass on bytes between `channel` and `target`, as a jump host does."""
        with target, channel, target.makefile("rb") as answers:
            back = threading.Thread(target=_drain, args=(answers, channel.sendall), daemon=True)
            back.start()
            with suppress(OSError):
                while block := channel.recv(_CHUNK):
                    target.sendall(block)
            with suppress(OSError):
                target.shutdown(socket.SHUT_RDWR)
            back.join()

    def starts(self, channel: paramiko.Channel, command: str) -> bool:
        """Tell whether a command may start; one that takes its time keeps the connection from answering."""
        return True

    def execute(self, channel: paramiko.Channel, command: str) -> None:
        """Run `command` for `channel`, its three streams apart, and tell its exit status."""
        self.commands.append(command)
        environment = {"PATH": f"{self._path}:/usr/bin:/bin"}
        pipe = subprocess.PIPE
        with (
            suppress(BrokenPipeError),
            subprocess.Popen(  # what it left of its input breaks the pipe at its close
                ["/bin/sh", "-c", command],
                stdin=pipe,
                stdout=pipe,
                stderr=pipe,
                env=environment,
                start_new_session=True,
            ) as child,
        ):
            assert child.stdout is not None
            assert child.stderr is not None
            feeder = threading.Thread(target=self._feed, args=(channel, child), daemon=True)
            errors = threading.Thread(target=_drain, args=(child.stderr, channel.sendall_stderr), daemon=True)
            feeder.start()
            errors.start()
            _drain(child.stdout, channel.sendall)
            errors.join()
            status = child.wait()
        with suppress(OSError, EOFError):  # nobody listens any more
            channel.send_exit_status(status if status >= 0 else 128 - status)
            channel.shutdown_write()
            channel.close()

    def _feed(self, channel: paramiko.Channel, child: subprocess.Popen[bytes]) -> None:
        """Give the command its input; a connection that is lost ends it, as it does with sshd."""
        assert child.stdin is not None
        with suppress(OSError), child.stdin as stdin:  # the command may end before its input does
            while block := channel.recv(_CHUNK):
                self.received += len(block)
                stdin.write(block)
                stdin.flush()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            if self.connections <= self.refuse_first:
                connection.close()
                continue
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            transport = paramiko.Transport(connection)
            for key in self._keys:
                transport.add_server_key(key)
            self._transports.append(transport)
            transport.start_server(threading.Event(), _Session(self, transport))


class _Session(paramiko.ServerInterface):
    def __init__(self, server: SshServer, transport: paramiko.Transport) -> None:
        self._server = server
        self._transport = transport

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        return paramiko.AUTH_SUCCESSFUL if self._server.lets_in(username, key) else paramiko.AUTH_FAILED

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return paramiko.OPEN_SUCCEEDED

    def check_channel_direct_tcpip_request(self, chanid: int, origin: Address, destination: Address) -> int:
        self._server.forwarded.append(destination)
        try:
            target = socket.create_connection(destination)
        except OSError:
            return paramiko.OPEN_FAILED_CONNECT_FAILED
        threading.Thread(target=self._forward, args=(chanid, target), daemon=True).start()
        return paramiko.OPEN_SUCCEEDED

    def _forward(self, chanid: int, target: socket.socket) -> None:
        while (channel := self._transport._channels.get(chanid)) is None:  # it is made once this was allowed
            time.sleep(0.001)
        self._server.forward(channel, target)

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        if self._server.starts(channel, command.decode()):
            threading.Thread(target=self._server.execute, args=(channel, command.decode()), daemon=True).start()
        return True


def _drain(stream: object, send: object) -> None:
    with suppress(OSError, EOFError):  # nobody listens any more
        while block := stream.read1(_CHUNK):  # type: ignore[attr-defined]
            send(block)  # type: ignore[operator]


def fake_sudo(directory: Path) -> str:
    """Make a directory whose `sudo -n COMMAND` runs COMMAND with AS_ROOT=yes; return its path."""
    directory.mkdir()
    sudo = directory / "sudo"
    sudo.write_text('#!/bin/sh\n[ "$1" = -n ] || exit 99\nshift\nAS_ROOT=yes exec "$@"\n', encoding="utf-8")
    sudo.chmod(0o755)
    assert shutil.which("sudo", path=str(directory))
    return str(directory)
