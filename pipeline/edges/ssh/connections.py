"""Connections: one to each host, opened when first used; a jump host's is shared by all that lie behind it."""

from __future__ import annotations

import socket
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import paramiko
from paramiko.ssh_exception import IncompatiblePeer
from tenacity import (
    Retrying,
    retry_if_exception_type,
    sleep_using_event,
    stop_after_delay,
    stop_when_event_set,
    wait_random_exponential,
)

from pipeline.edges.ssh.dial import dial
from pipeline.edges.ssh.keys import Identity, fingerprint, key_types, refusal, text_of
from pipeline.edges.ssh.route import Hop, Routes
from pipeline.environment import Ssh
from pipeline.errors import ConfigurationInvalid
from pipeline.inventory import Host

__all__ = ["Connections"]

_ALIVE = 15  # seconds between keepalives
# AES with Galois mode is one pass over the data where others take two; both sides have it in hardware.
_CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes128-ctr", "aes256-ctr")


class Connections:
    """Opens connections as `identity`, and channels on them. Safe to use from many threads.

    Of connections through one jump host, `ssh.starts` are opened at once: its sshd drops more (MaxStartups). Only
    connecting is tried again, for ssh.connect_timeout, with jitter: a command never is, for it may have run.
    """

    def __init__(self, settings: Ssh, identity: Identity) -> None:
        self._settings = settings
        self._identity = identity
        self._routes = Routes(settings)
        self._transports: dict[Hop, paramiko.Transport] = {}
        self._opening: defaultdict[Hop, threading.Lock] = defaultdict(threading.Lock)
        self._starts: defaultdict[Hop, threading.Semaphore] = defaultdict(lambda: threading.Semaphore(settings.starts))
        self._failures: dict[Hop, tuple[float, Exception]] = {}  # when the last attempt failed, and how
        self._guard = threading.Lock()
        self._logging_in: set[paramiko.Transport] = set()
        self._over = threading.Event()

    def session(self, host: Host) -> paramiko.Channel:
        """Return a new session on `host`. Raises SSHException, OSError or EOFError, and what `transport` raises."""
        return self.transport(host).open_session(timeout=self._settings.connect_timeout)

    def transport(self, host: Host) -> paramiko.Transport:
        """Return the connection to `host`, opened where there is none.

        Raises HostKeyRefused and ConfigurationInvalid; SSHException, OSError or EOFError where it cannot be reached.
        """
        return self._to(self._routes.to(host), time.monotonic())

    def drop(self, host: Host) -> None:
        """Close the connection to `host`, so that the next use opens another."""
        with self._guard:
            transport = self._transports.pop(self._routes.to(host)[-1], None)
        if transport is not None:
            transport.close()

    def close(self) -> None:
        """Close all, those of jump hosts last; who tries to connect still gives up."""
        with self._guard:
            transports, self._transports = [*self._transports.values(), *self._logging_in], {}
            self._over.set()
        for transport in reversed(transports):
            _shut(transport)

    def _to(self, hops: Sequence[Hop], asked: float) -> paramiko.Transport:
        """Return the connection to the last hop, for a host that was `asked` for at that time.monotonic()."""
        hop = hops[-1]
        with self._guard:
            opening = self._opening[hop]
        with opening:
            transport = self._transports.get(hop)
            if transport is None or not transport.is_active():
                transport = self._connect(hops, asked)
                self._keep(hop, transport)
        return transport

    def _keep(self, hop: Hop, transport: paramiko.Transport) -> None:
        with self._guard:
            if self._over.is_set():
                transport.close()
                raise EOFError("the run is over")
            self._transports[hop] = transport

    def _connect(self, hops: Sequence[Hop], asked: float) -> paramiko.Transport:
        failed = self._failures.get(hops[-1])
        if failed and failed[0] > asked:  # of many behind a jump host that is down, one tries, and all hear of it
            raise failed[1]
        attempts = Retrying(
            stop=stop_after_delay(self._settings.connect_timeout) | stop_when_event_set(self._over),
            sleep=sleep_using_event(self._over),
            wait=wait_random_exponential(multiplier=0.3, max=3),
            retry=retry_if_exception_type((OSError, EOFError, paramiko.SSHException)),
            reraise=True,
        )
        try:
            with self._identity.keys() as keys:
                return attempts(self._open, hops, keys, asked)
        except Exception as error:
            self._failures[hops[-1]] = (time.monotonic(), error)
            raise

    def _open(self, hops: Sequence[Hop], keys: Sequence[paramiko.PKey], asked: float) -> paramiko.Transport:
        self._require_open()
        if len(hops) == 1:
            return self._log_in(hops[-1], self._socket(hops[-1]), keys)
        with self._guard:
            starts = self._starts[hops[-2]]
        with starts:
            return self._log_in(hops[-1], self._through(hops, asked), keys)

    def _socket(self, hop: Hop) -> socket.socket:
        timeout = self._settings.connect_timeout
        sock = dial(hop.address, hop.port, timeout=timeout, unwanted=self._over.is_set)
        # paramiko leaves Nagle on, which with delayed ACKs costs 40 ms on every connect and exec.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        # A peer that died in silence is found by our keepalives' going unanswered, and not when TCP gives up (15 min).
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 3 * _ALIVE * 1000)
        return sock

    def _through(self, hops: Sequence[Hop], asked: float) -> paramiko.Channel:
        """Return a way to the last hop through the one before it, whose connection is shared."""
        jump, last = self._to(hops[:-1], asked), hops[-1]
        return jump.open_channel(
            "direct-tcpip", (last.address, last.port), ("127.0.0.1", 0), timeout=self._settings.connect_timeout
        )

    def _log_in(
        self, hop: Hop, sock: socket.socket | paramiko.Channel, keys: Sequence[paramiko.PKey]
    ) -> paramiko.Transport:
        transport = paramiko.Transport(sock)
        transport.set_keepalive(_ALIVE)
        try:
            with self._beginning(transport):
                self._prove(transport, hop)
                self._authenticate(transport, hop, keys)
        except IncompatiblePeer as error:
            _end(transport)
            if "host key" not in str(error):
                raise
            raise refusal(hop.where, "no key of a pinned type", hop.host_keys) from error
        except BaseException:
            _end(transport)
            raise
        return transport

    @contextmanager
    def _beginning(self, transport: paramiko.Transport) -> Iterator[None]:
        """Have `close` end `transport` too while it is no connection yet."""
        with self._guard:
            self._require_open()
            self._logging_in.add(transport)
        try:
            yield
        finally:
            with self._guard:
                self._logging_in.discard(transport)

    def _require_open(self) -> None:
        if self._over.is_set():
            raise EOFError("the run is over")

    def _prove(self, transport: paramiko.Transport, hop: Hop) -> None:
        """Have the other side show that it is `hop`. Raises HostKeyRefused where its key is another."""
        options = transport.get_security_options()
        options.key_types = key_types(hop.host_keys)
        options.ciphers = [name for name in _CIPHERS if name in options.ciphers]
        transport.start_client(timeout=self._settings.connect_timeout)
        shown = text_of(transport.get_remote_server_key())
        if shown not in hop.host_keys:
            raise refusal(hop.where, f"host key {fingerprint(shown)}", hop.host_keys)

    def _authenticate(self, transport: paramiko.Transport, hop: Hop, keys: Sequence[paramiko.PKey]) -> None:
        for key in keys:
            try:
                transport.auth_publickey(hop.user, key)
            except paramiko.AuthenticationException as error:
                if "saw EOF" in str(error) or "timeout" in str(error):  # paramiko's words for a host that was lost
                    raise EOFError("it was lost while logging in") from error
                refused = error
            else:
                return
        raise ConfigurationInvalid(
            f"{hop.where} refuses user {hop.user} with key {self._identity.path}",
            hint="check ssh.user and the environment's key",
        ) from refused


def _end(transport: paramiko.Transport) -> None:
    """Close a connection that never came to be, and end the timer of its handshake, which would stay for 15 s."""
    _shut(transport)
    transport.packetizer.complete_handshake()


def _shut(transport: paramiko.Transport) -> None:
    """Close a connection, and its socket too where no handshake has begun: there close() alone does nothing."""
    transport.close()
    transport.sock.close()
