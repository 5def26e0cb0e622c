"""Dialling: a TCP connection that is given up as soon as nobody wants it any more."""

from __future__ import annotations

import errno
import os
import select
import socket
import time
from collections.abc import Callable
from typing import Any

__all__ = ["dial"]

_LOOK = 0.1  # seconds between two looks whether it is still wanted


def dial(address: str, port: int, *, timeout: float, unwanted: Callable[[], bool]) -> socket.socket:
    """Return a connection to `address`, which may be a name, as socket.create_connection does.

    Each address that a name has is given `timeout` seconds. Raises the last one's OSError or TimeoutError where none
    answers, and EOFError soon after it is `unwanted`.
    """
    failed = OSError(f"{address} has no address")
    for family, kind, protocol, _, where in socket.getaddrinfo(address, port, type=socket.SOCK_STREAM):
        try:
            return _connected(socket.socket(family, kind, protocol), where, timeout, unwanted)
        except OSError as error:
            failed = error
    raise failed


def _connected(sock: socket.socket, where: Any, timeout: float, unwanted: Callable[[], bool]) -> socket.socket:
    try:
        sock.setblocking(False)
        _await(sock, sock.connect_ex(where), time.monotonic() + timeout, unwanted)
        sock.settimeout(timeout)
    except BaseException:
        sock.close()
        raise
    return sock


def _await(sock: socket.socket, code: int, deadline: float, unwanted: Callable[[], bool]) -> None:
    """Wait for the end of a connect that has come to errno `code` so far."""
    poll = select.poll()
    poll.register(sock, select.POLLOUT)
    while code == errno.EINPROGRESS:
        if unwanted():
            raise EOFError("the run is over")
        if time.monotonic() >= deadline:
            raise TimeoutError("timed out")
        if poll.poll(_LOOK * 1000):
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code:
        raise OSError(code, os.strerror(code))
