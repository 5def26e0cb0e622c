"""Watched sessions: every exchange on the wire is told once, with what went wrong, and nothing is tried again."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from keystoneauth1.identity.v3 import Password
from keystoneauth1.session import Session
from keystoneauth1.token_endpoint import Token

from pipeline.edges.heat import Heat, HeatRefused
from pipeline.edges.sessions import root_cause


class Seen:
    def __init__(self) -> None:
        self.exchanges: list[tuple[str, str, int, str]] = []
        self.said: list[str] = []

    def exchanged(self, method: str, url: str, status: int, error: str, said: str = "") -> None:
        self.exchanges.append((method, url.partition("/v1")[2], status, error))
        self.said.append(said)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self.server.hits += 1  # type: ignore[attr-defined]
        if self.path.endswith("/cut"):
            self.send_response(200)
            self.send_header("Content-Length", "100")
            self.end_headers()
            self.wfile.write(b"half")
            self.close_connection = True
            return
        if self.path.endswith("/silent"):
            self.server.wake.wait(10)  # type: ignore[attr-defined]
            self.close_connection = True
            return
        if self.path.endswith("/stacks/moved"):
            self.send_response(302)
            self.send_header("Location", f"{self.headers['Host'] and 'http://' + self.headers['Host']}/v1/stacks/there")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if self.path.endswith(("/heat", "/proxy")):
            fault = b'{"error": {"type": "MessagingTimeout", "message": "Timed out\\nwaiting", "traceback": "s3cret"}}'
            body = fault if self.path.endswith("/heat") else b"<html><h1>504 Gateway Time-out</h1>\n" + b"x" * 900
            self.send_response(504)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            return
        status = int(self.path.rpartition("/")[2]) if self.path.rpartition("/")[2].isdigit() else 404
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.hits, server.wake = 0, threading.Event()  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server
    server.wake.set()  # type: ignore[attr-defined]
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
def heat(server: ThreadingHTTPServer, seen: Seen) -> Heat:
    endpoint = f"http://127.0.0.1:{server.server_port}/v1"
    return Heat(Session(Token(endpoint, "token"), timeout=5), "test").watched(seen)


def test_an_answer_is_told_with_its_status(heat: Heat, seen: Seen) -> None:
    assert heat.send("GET", f"{heat.endpoint()}/503").status == 503
    assert seen.exchanges == [("GET", "/503", 503, "")]


def test_nothing_is_tried_again_behind_our_back(heat: Heat, seen: Seen, server: ThreadingHTTPServer) -> None:
    with pytest.raises(HeatRefused):
        heat.send("GET", f"{heat.endpoint()}/cut")
    assert server.hits == 1  # type: ignore[attr-defined]
    [(_, path, status, error)] = seen.exchanges
    assert (path, status) == ("/cut", 0)
    assert "IncompleteRead" in error


def test_a_refused_connection_is_told_by_its_innermost_cause_and_without_the_query(seen: Seen) -> None:
    heat = Heat(Session(Token("http://127.0.0.1:1/v1", "token"), timeout=5), "test").watched(seen)
    with pytest.raises(HeatRefused, match="Connection refused") as refusal:
        heat.send("PUT", "http://127.0.0.1:1/v1/signal?Signature=secret", body=b"{}")
    assert (refusal.value.status, refusal.value.timed_out) == (0, False)
    assert "secret" not in str(refusal.value)
    [(method, _, status, error)] = seen.exchanges
    assert (method, status) == ("PUT", 0)
    assert "Connection refused" in error
    assert "secret" not in error


def test_silence_is_told_from_refusal(heat: Heat, seen: Seen) -> None:
    with pytest.raises(HeatRefused) as refusal:
        heat.send("GET", f"{heat.endpoint()}/silent", timeout=0.2)
    assert refusal.value.timed_out
    assert seen.exchanges[0][2] == 0


def test_a_redirect_is_two_exchanges(heat: Heat, seen: Seen) -> None:
    assert heat.find("moved") is None
    assert [exchange[1:3] for exchange in seen.exchanges] == [("/stacks/moved", 302), ("/stacks/there", 404)]


@pytest.mark.parametrize("auth_url", ["{0}", "{0}/", "{0}/v3", "{0}/v3/"])
def test_identity_is_not_counted_and_heat_on_the_same_address_is(
    auth_url: str, server: ThreadingHTTPServer, seen: Seen
) -> None:
    address = f"http://127.0.0.1:{server.server_port}"
    session = Session(Password(auth_url.format(address), username="u", password="p"), timeout=5)
    heat = Heat(session, "test").watched(seen)
    for path in ("", "/", "/v3", "/v3/auth/tokens", "/heat/v1/200", "/v1/200"):
        heat.send("GET", f"{address}{path}")
    assert [exchange[1] for exchange in seen.exchanges] == ["/200", "/200"]


def test_hanging_up_opens_a_new_connection(heat: Heat, seen: Seen) -> None:
    heat.send("GET", f"{heat.endpoint()}/200")
    heat.hang_up()
    heat.send("GET", f"{heat.endpoint()}/200")
    assert [exchange[2] for exchange in seen.exchanges] == [200, 200]


def test_the_root_cause_is_the_innermost_error() -> None:
    outer = RuntimeError("outer")
    outer.__cause__ = ConnectionResetError(104, "reset by peer")
    assert root_cause(outer) == "ConnectionResetError: [Errno 104] reset by peer"
    assert root_cause(TimeoutError()) == "TimeoutError"


def test_what_a_servers_error_says_is_told_in_a_line_and_after_how_long(heat: Heat, seen: Seen) -> None:
    for what in ("heat", "proxy", "404"):
        heat.send("GET", f"{heat.endpoint()}/{what}")
    assert re.fullmatch(r"MessagingTimeout: Timed out waiting, after \d+\.\d s", seen.said[0])
    assert seen.said[1].startswith("504 Gateway Time-out xxx")
    assert len(seen.said[1]) < 230
    assert seen.said[2] == ""
