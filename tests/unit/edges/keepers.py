"""Where secrets are kept, as far as their real clients ask: Vault, and a cloud's Keystone and Barbican, on loopback."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import NAMESPACE_URL, uuid5

import keyring.backend
import keyring.errors

TOKEN = "hvs.t0ken-of-vault"
Answer = tuple[int, Any]


@dataclass
class Keeper:
    """What a server keeps; `broken` is the status it answers everything with, where it is not 0."""

    url: str = ""
    kept: dict[str, Any] = field(default_factory=dict)
    broken: int = 0
    asked: list[str] = field(default_factory=list)


@contextmanager
def serving(keeper: Keeper, answer: Any) -> Iterator[Keeper]:
    """Serve `answer(keeper, method, path, headers)`, which gives a status and a body, until the context ends."""

    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            keeper.asked.append(f"{self.command} {self.path}")
            found: Answer = (keeper.broken, "<html>sorry</html>") if keeper.broken else (0, None)
            status, body = found if keeper.broken else answer(keeper, self.command, self.path, self.headers)
            data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
            self.send_response(status)
            if self.path.endswith("/auth/tokens"):
                self.send_header("X-Subject-Token", "token")
            self.send_header("Content-Type", "text/plain" if isinstance(body, str) else "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = _serve

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    keeper.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield keeper
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def vault(keeper: Keeper, _method: str, path: str, headers: Any) -> Answer:
    """Answer as Vault does for key-value stores: {"MOUNT/PATH": {key: value}}, None for what was deleted."""
    if headers.get("X-Vault-Token") != TOKEN:
        return 403, {"errors": ["permission denied"]}
    mount, _, name = urlsplit(path).path.removeprefix("/v1/").partition("/data/")
    key = f"{mount}/{name}"
    if key not in keeper.kept:
        return 404, {"errors": []}
    found = keeper.kept[key]
    if found is None:
        return 404, {"data": {"data": None, "metadata": {"deletion_time": "2026-01-01T00:00:00Z", "version": 2}}}
    return 200, {"data": {"data": found, "metadata": {"version": 1}}}


def barbican(keeper: Keeper, method: str, path: str, headers: Any) -> Answer:
    """Answer as Keystone does for a token, and Barbican for secrets: {name: text}, bytes for no text, None for none."""
    where = urlsplit(path)
    version = {"id": "v1", "status": "CURRENT", "links": [{"rel": "self", "href": f"{keeper.url}/v1/"}]}
    if where.path in ("/", "/v1/"):
        return (300, {"versions": [version]}) if where.path == "/" else (200, {"version": version})
    if where.path == "/v3":
        link = [{"rel": "self", "href": f"{keeper.url}/v3/"}]
        return 200, {"version": {"id": "v3.14", "status": "stable", "links": link}}
    if where.path == "/v3/auth/tokens" and method == "POST":
        return 201, _token(keeper)
    if headers.get("X-Auth-Token") != "token":
        return 401, {"title": "Unauthorized"}
    if where.path == "/v1/secrets":
        wanted = parse_qs(where.query)["name"][0]
        found = [_described(keeper, name) for name in keeper.kept if name.partition("@")[0] == wanted]
        return 200, {"secrets": found, "total": len(found)}
    by_id = {identity(name): name for name in keeper.kept}
    name = by_id.get(where.path.removeprefix("/v1/secrets/").partition("/")[0])
    if name is None:
        return 404, {"title": "Not Found", "description": "Secret not found."}
    kept = keeper.kept[name]
    if isinstance(kept, bytes):
        return 406, {"title": "Not Acceptable"}
    return (403, {"title": "Forbidden"}) if kept is None else (200, kept)


def identity(name: str) -> str:
    """Return the id that Barbican gave to a secret."""
    return str(uuid5(NAMESPACE_URL, name))


def _described(keeper: Keeper, name: str) -> dict[str, Any]:
    return {
        "name": name.partition("@")[0],
        "secret_ref": f"{keeper.url}/v1/secrets/{identity(name)}",
        "status": "ACTIVE",
    }


def _token(keeper: Keeper) -> dict[str, Any]:
    endpoint = {"interface": "public", "region": "east", "region_id": "east", "url": keeper.url, "id": "e"}
    catalog = [{"type": "key-manager", "name": "barbican", "id": "s", "endpoints": [endpoint]}]
    project = {"id": "p", "name": "p", "domain": {"id": "default", "name": "Default"}}
    user = {"id": "u", "name": "ada", "domain": {"id": "default", "name": "Default"}}
    times = {"issued_at": "2026-01-01T00:00:00.000000Z", "expires_at": "2999-01-01T00:00:00.000000Z"}
    return {
        "token": {"methods": ["password"], "catalog": catalog, "project": project, "user": user, "roles": [], **times}
    }


class MemoryKeyring(keyring.backend.KeyringBackend):
    """A keyring in memory; one that is `locked` gives nothing."""

    priority = 1  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.kept: dict[tuple[str, str], str] = {}
        self.locked = False

    def get_password(self, service: str, username: str) -> str | None:
        if self.locked:
            raise keyring.errors.KeyringLocked("it is locked")
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.kept[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        del self.kept[service, username]
