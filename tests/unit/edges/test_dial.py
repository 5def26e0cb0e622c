"""Dialling: it ends as socket.create_connection does, and soon after nobody wants it any more."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.edges.ssh.dial import dial


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


@pytest.fixture
def deaf() -> Iterator[int]:
    """Return a port where nobody answers: the one place in its queue is taken."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        port = int(server.getsockname()[1])
        with socket.create_connection(("127.0.0.1", port)):
            yield port


def _wanted() -> bool:
    return False


@pytest.mark.parametrize("address", ["127.0.0.1", "localhost"])
def test_an_address_and_a_name_are_reached(listener: socket.socket, address: str) -> None:
    with dial(address, listener.getsockname()[1], timeout=5, unwanted=_wanted) as sock:
        there, _ = listener.accept()
        with there:
            sock.sendall(b"here")
            assert there.recv(10) == b"here"
        assert sock.gettimeout() == 5


def test_a_later_address_of_a_name_is_tried_too(listener: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    port, known = listener.getsockname()[1], socket.getaddrinfo

    def both(address: str, port: int, type: int) -> list[object]:
        return [*known("::1", port, type=type), *known("127.0.0.1", port, type=type)]

    monkeypatch.setattr(socket, "getaddrinfo", both)
    with dial("some.name", port, timeout=5, unwanted=_wanted) as sock:
        assert sock.getpeername() == ("127.0.0.1", port)


def test_where_nobody_listens_it_is_refused(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    listener.close()
    with pytest.raises(ConnectionRefusedError, match="Connection refused"):
        dial("127.0.0.1", port, timeout=5, unwanted=_wanted)


def test_where_nobody_answers_it_ends_at_its_deadline(deaf: int) -> None:
    with pytest.raises(TimeoutError, match="timed out"):
        dial("127.0.0.1", deaf, timeout=0.2, unwanted=_wanted)


def test_where_nobody_answers_it_ends_once_it_is_unwanted(deaf: int) -> None:
    looks = iter([False, False, True])
    with pytest.raises(EOFError, match="the run is over"):
        dial("127.0.0.1", deaf, timeout=600, unwanted=lambda: next(looks))


def test_what_is_given_up_leaves_no_socket_open(deaf: int) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(EOFError):
        dial("127.0.0.1", deaf, timeout=600, unwanted=lambda: True)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
