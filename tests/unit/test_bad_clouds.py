"""Clouds that are away, refuse or talk nonsense, through the real client on loopback: one message, nothing done."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
import yaml
from builders import R26, ROOT, progress
from kept_releases import build_nothing, keep
from loopback import served

from pipeline.edges.clock import FakeClock
from pipeline.errors import PipelineError
from pipeline.workflow import Pipeline
from pipeline.workspace import Workspace

HTML = b"<html>\n<body>504 I am a proxy</body></html>"
QUOTA = {"code": 403, "error": {"message": "You have reached the maximum stacks per tenant, 3.", "type": "Forbidden"}}
INVALID = {"code": 400, "error": {"message": "Parameter 'image' is invalid", "type": "StackValidationFailed"}}
DENIED = {
    "error": {"code": 401, "message": "The request you have made requires authentication.", "title": "Unauthorized"}
}


@dataclass
class Cloud:
    """A Keystone and a Heat that answer as told: `heat` maps the beginning of "METHOD path" to (status, answer)."""

    url: str
    token: tuple[int, Any] = (201, None)
    heat: dict[str, tuple[int, Any]] = field(default_factory=dict)
    services: tuple[str, ...] = ("orchestration",)
    changed: list[str] = field(default_factory=list)

    def answer(self, method: str, path: str) -> tuple[int, Any]:
        if path.startswith("/v3/auth"):
            return self.token[0], self.token[1] or {"token": self._token()}
        if path.rstrip("/") == "/v3":
            links = [{"rel": "self", "href": f"{self.url}/v3/"}]
            return 200, {"version": {"id": "v3.14", "status": "stable", "links": links}}
        if method != "GET" and "preview" not in path and "validate" not in path:
            self.changed.append(f"{method} {path}")
        for beginning, answer in self.heat.items():
            if f"{method} {path}".startswith(beginning):
                return answer
        return (200, {"stacks": []}) if path.startswith("/heat/stacks?") else (404, {"error": {"message": "no stack"}})

    def _token(self) -> dict[str, Any]:
        endpoint = {"interface": "public", "region": "seed", "region_id": "seed", "url": f"{self.url}/heat", "id": "e"}
        catalog = [{"type": kind, "name": kind, "id": kind, "endpoints": [endpoint]} for kind in self.services]
        times = {"issued_at": "2026-01-01T00:00:00.0Z", "expires_at": "2099-01-01T00:00:00.0Z"}
        return {**times, "methods": ["password"], "user": {"id": "u", "name": "a", "domain": {"id": "d"}},
                "project": {"id": "p", "name": "p", "domain": {"id": "d"}}, "catalog": catalog}  # fmt: skip


def _handler(box: list[Cloud]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, answer = box[0].answer(self.command, self.path)
            raw = isinstance(answer, bytes)
            data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/html" if raw else "application/json")
            self.send_header("X-Subject-Token", "t")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve

        def log_message(self, *_: object) -> None:
            return

    return Handler


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    box: list[Cloud] = []
    with served(_handler(box)) as url:
        box.append(Cloud(url))
        yield box[0]


@pytest.fixture
def here(cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    build_nothing(monkeypatch)
    clock = FakeClock()
    made = Pipeline(Workspace(ROOT, tmp_path / "state"), clock, progress(clock))
    keep(made.workspace.cache, R26)
    _point(made, cloud.url)
    return made


def _point(here: Pipeline, url: str) -> None:
    auth = {"auth_url": f"{url}/v3", "username": "a", "password": "b", "project_name": "p",
            "user_domain_name": "d", "project_domain_name": "d"}  # fmt: skip
    here.workspace.cloud.mkdir(parents=True, exist_ok=True)
    entry = {"auth": auth, "region_name": "seed"}
    (here.workspace.cloud / "clouds.yaml").write_text(yaml.safe_dump({"clouds": {"seed": entry}}))


COMMANDS: dict[str, Callable[[Pipeline], object]] = {
    "plan": lambda it: it.plan_stacks("local"),
    "deploy": lambda it: it.deploy("local", "26.0.2"),
    "destroy": lambda it: it.destroy("local", allowed=("network", "identity", "database", "messaging")),
    "drift": lambda it: it.drift("local"),
}
each_command = pytest.mark.parametrize("command", COMMANDS)


def _refused(here: Pipeline, command: str) -> PipelineError:
    """Return how a command ended, which must be one line and the next command to type."""
    with pytest.raises(PipelineError) as caught:
        COMMANDS[command](here)
    assert "\n" not in caught.value.message
    assert caught.value.hint
    return caught.value


def test_the_stand_in_is_good_enough_to_plan_on(here: Pipeline, cloud: Cloud) -> None:
    cloud.heat["POST /heat/stacks/preview"] = (200, {"stack": {"resources": [{"resource_name": "network"}]}})
    cloud.heat["POST /heat/validate"] = (200, {})
    plan = here.plan_stacks("local")
    assert {stack.act.value for stack in plan.stacks} == {"create"}
    assert cloud.changed == []


@each_command
def test_a_cloud_that_is_away(here: Pipeline, cloud: Cloud, command: str) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        _point(here, f"http://127.0.0.1:{closed.getsockname()[1]}")
        error = _refused(here, command)
    assert error.exit_code == 9
    assert "Connection refused" in error.message


@each_command
def test_wrong_credentials(here: Pipeline, cloud: Cloud, command: str) -> None:
    cloud.token = (401, DENIED)
    error = _refused(here, command)
    assert (error.exit_code, "requires authentication" in error.message) == (3, True)
    assert "clouds.yaml" in error.hint
    assert cloud.changed == []


@each_command
@pytest.mark.parametrize(("status", "answer"), [(500, {"error": {"message": "boom"}}), (504, HTML), (200, HTML)])
def test_a_heat_that_is_broken(here: Pipeline, cloud: Cloud, command: str, status: int, answer: Any) -> None:
    cloud.heat["GET /heat"] = (status, answer)
    assert _refused(here, command).exit_code == 9
    assert cloud.changed == []


@each_command
def test_a_keystone_that_talks_html(here: Pipeline, cloud: Cloud, command: str) -> None:
    cloud.token = (200, HTML)
    assert _refused(here, command).exit_code == 9


@each_command
def test_a_cloud_without_a_heat(here: Pipeline, cloud: Cloud, command: str) -> None:
    cloud.services = ("compute",)
    assert _refused(here, command).exit_code == 9


@pytest.mark.parametrize("command", ["plan", "deploy"])
@pytest.mark.parametrize("answer", [QUOTA, INVALID], ids=["quota", "invalid"])
def test_what_heat_refuses_in_a_preview_is_never_begun(
    here: Pipeline, cloud: Cloud, command: str, answer: dict[str, Any]
) -> None:
    cloud.heat["POST /heat/stacks/preview"] = (answer["code"], answer)
    cloud.heat["POST /heat/validate"] = (200, {})
    error = _refused(here, command)
    assert error.exit_code == 3
    assert answer["error"]["message"] in error.message
    assert cloud.changed == []
