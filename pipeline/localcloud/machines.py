"""The machines service: what Nova is to a large cloud, this is to the local one. Heat's plugin is its customer.

    GET /network                      {cidr, gateway}
    GET, POST /machines               {id, name, address?, user_data?} -> 201 {id, name, address, state}
    GET, DELETE /machines/ID          POST /machines/ID/reboot
    POST /addresses                   {id, name} -> 201 {id, name, address}
    GET, DELETE /addresses/ID

An id is a UUID that the caller makes up, so that it can take back a request whose answer it never saw.

It listens on the cloud's loopback address; every request carries the token of secrets.json as X-Auth-Token. Errors are
{"error": "one line"} with 400, 401, 404, 409 or 500. Run as: python -m pipeline.localcloud.machines STATE IMAGE
"""

from __future__ import annotations

import hmac
import json
import sys
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pipeline.edges.clock import SystemClock
from pipeline.errors import PipelineError
from pipeline.localcloud import cgroups, cloud, credentials
from pipeline.localcloud.hosts import Hosts
from pipeline.localcloud.registry import Conflict, Invalid, NotFound, Registry

__all__ = ["answer", "serve"]

LONGEST_BODY = 4 << 20
STATUS = {Invalid: 400, NotFound: 404, Conflict: 409}


def answer(registry: Registry, method: str, path: str, body: Mapping[str, Any]) -> tuple[int, Any]:
    """Return the HTTP status and the JSON document that `method` on `path` with `body` comes to."""
    try:
        return _route(registry, method, path, body)
    except (Invalid, NotFound, Conflict) as error:
        return STATUS[type(error)], {"error": str(error)}
    except (PipelineError, OSError) as error:
        return 500, {"error": " ".join(str(error).split())}


def _route(registry: Registry, method: str, path: str, body: Mapping[str, Any]) -> tuple[int, Any]:
    match method, path.strip("/").split("/"):
        case "GET", ["network"]:
            return 200, registry.network()
        case "GET", ["machines"]:
            return 200, {"machines": registry.machines()}
        case "POST", ["machines"]:
            address, user_data = _text(body, "address", "") or None, _text(body, "user_data", "")
            return 201, registry.create(_text(body, "id"), _text(body, "name"), address, user_data)
        case "GET", ["machines", identity]:
            return 200, registry.machine(identity)
        case "DELETE", ["machines", identity]:
            registry.delete(identity)
            return 204, None
        case "POST", ["machines", identity, "reboot"]:
            return 202, registry.reboot(identity)
        case "POST", ["addresses"]:
            return 201, registry.reserve(_text(body, "id"), _text(body, "name"))
        case "GET", ["addresses", identity]:
            return 200, registry.address(identity)
        case "DELETE", ["addresses", identity]:
            registry.release(identity)
            return 204, None
    raise NotFound(f"{method} {path}: no such call")


def _text(body: Mapping[str, Any], key: str, default: str | None = None) -> str:
    value = body.get(key, default)
    if not isinstance(value, str):
        raise Invalid(f"{key!r} must be text")
    return value


class _Handler(BaseHTTPRequestHandler):
    """Speaks HTTP: token, length, JSON; the meaning is in `answer`."""

    protocol_version = "HTTP/1.1"
    server: _Server

    def _serve(self) -> None:
        given = self.headers.get("X-Auth-Token", "").encode()
        if not hmac.compare_digest(given, self.server.token.encode()):
            return self._reply(401, {"error": "X-Auth-Token is missing or wrong"})
        try:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if 0 < length <= LONGEST_BODY else {}
        except ValueError:
            return self._reply(400, {"error": "the body is not JSON"})
        if not isinstance(body, dict) or length > LONGEST_BODY:
            return self._reply(400, {"error": "the body must be a JSON object of at most 4 MiB"})
        return self._reply(*answer(self.server.registry, self.command, urlsplit(self.path).path, body))

    do_GET = do_POST = do_DELETE = _serve

    def _reply(self, status: int, document: Any) -> None:
        content = b"" if document is None else json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        if status in (400, 401):  # the body may be unread, so what follows on this connection is not a request
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)


class _Server(ThreadingHTTPServer):
    """One thread per connection, which end with the process."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], registry: Registry, token: str) -> None:
        self.registry = registry
        self.token = token
        super().__init__(address, _Handler)


def serve(directory: Path, image: Path) -> None:
    """Serve the cloud in `directory`, booting hosts from `image`, until ended. Hosts outlive the service."""
    record = cloud.load(directory)
    if record is None:
        raise SystemExit(f"{directory}: there is no local cloud")
    registry = Registry(Hosts(record, cgroups.find(record.name), image, SystemClock()))
    for failure in registry.resume():
        print(failure, file=sys.stderr, flush=True)
    url = urlsplit(record.machines_url)
    _Server((str(url.hostname), url.port or 0), registry, credentials.load(directory).machines_token).serve_forever()


if __name__ == "__main__":
    serve(Path(sys.argv[1]), Path(sys.argv[2]))
