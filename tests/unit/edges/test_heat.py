"""Heat through the real client, against HTTP answers on loopback: what is asked, what is read, how errors are told."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, ClassVar

import pytest
from keystoneauth1.session import Session
from keystoneauth1.token_endpoint import Token
from loopback import served

from pipeline.edges.heat import Heat, HeatRefused, connect, session_of
from pipeline.errors import ConfigurationInvalid
from pipeline.secrets import Secret
from pipeline.stacks import Content, Kind, ResourceChange, Service


@dataclass
class Cloud:
    """Answers (method, path) with (status, body), and keeps what it was asked."""

    url: str
    answers: dict[tuple[str, str], tuple[int, Any]] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[str, str, Any]] = field(default_factory=list)
    tokens: list[str | None] = field(default_factory=list)
    content_type: str = "application/json"
    lines: list[int] = field(default_factory=list)  # the client's port of each request: one per connection

    def answer(self, method: str, path: str, status: int, body: Any = None) -> None:
        """Answer `method path` (its query left out) in this way."""
        self.answers[method, path] = (status, body)

    def redirect(self, path: str, target: str) -> None:
        """Send whoever gets `path` on to `target`, as Heat does from an id to a name and an id."""
        self.answers["GET", path] = (302, {"location": f"{self.url}{target}"})


def _handler(cloud: Callable[[], Cloud]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # connections are kept alive

        def _serve(self) -> None:
            here = cloud()
            size = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(size)
            here.asked.append((self.command, self.path, json.loads(body) if body else None))
            here.tokens.append(self.headers.get("X-Auth-Token"))
            here.lines.append(self.client_address[1])
            status, answer = here.answers.get((self.command, self.path.partition("?")[0]), (404, None))
            data = answer if isinstance(answer, bytes) else json.dumps(answer).encode() if answer is not None else b""
            self.send_response(status)
            if status == 302:
                self.send_header("Location", answer["location"])
            for name, value in here.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Type", here.content_type)
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
    with served(_handler(lambda: box[0])) as url:
        box.append(Cloud(url))
        yield box[0]


@pytest.fixture
def heat(cloud: Cloud) -> Heat:
    return Heat(Session(auth=Token(f"{cloud.url}/v1/p", "token"), timeout=5), "local")


def _links(cloud: Cloud, name: str, stack_id: str) -> list[dict[str, str]]:
    return [
        {"rel": "self", "href": f"{cloud.url}/v1/p/whatever"},
        {"rel": "stack", "href": f"{cloud.url}/v1/p/stacks/{name}/{stack_id}"},
    ]


def _stack(**facts: Any) -> dict[str, Any]:
    return {
        "id": "s1",
        "stack_name": "local-api",
        "stack_status": "CREATE_COMPLETE",
        "stack_status_reason": "Stack CREATE completed successfully",
        "updated_time": None,
        "links": [],
        **facts,
    }


def _resource(cloud: Cloud, name: str, physical_id: str, stack: str, status: str = "CREATE_COMPLETE") -> dict[str, Any]:
    return {
        "resource_name": name,
        "resource_type": "Region::Host",
        "resource_status": status,
        "resource_status_reason": "",
        "physical_resource_id": physical_id,
        "links": _links(cloud, f"name-of-{stack}", stack),
    }


# --- stacks


def test_a_stack_is_found_with_its_outputs(cloud: Cloud, heat: Heat) -> None:
    outputs = [{"output_key": "hosts", "output_value": {"api-0": {}}}, {"output_key": "vip"}]
    cloud.answer("GET", "/v1/p/stacks/local-api", 200, {"stack": _stack(outputs=outputs)})
    found = heat.find("local-api")
    assert found is not None
    assert (found.id, found.name, found.status, found.updated) == ("s1", "local-api", "CREATE_COMPLETE", "")
    assert found.outputs == {"hosts": {"api-0": {}}, "vip": None}


def test_a_stack_that_is_not_there_is_none(heat: Heat) -> None:
    assert heat.find("local-api") is None


@pytest.mark.parametrize(
    ("status", "in_progress", "complete"),
    [
        ("CREATE_COMPLETE", False, True),
        ("UPDATE_IN_PROGRESS", True, False),
        ("DELETE_FAILED", False, False),
        ("ROLLBACK_COMPLETE", False, True),
    ],
)
def test_a_status_says_whether_an_action_goes_on(
    cloud: Cloud, heat: Heat, status: str, in_progress: bool, complete: bool
) -> None:
    cloud.answer("GET", "/v1/p/stacks/local-api", 200, {"stack": _stack(stack_status=status)})
    found = heat.find("local-api")
    assert found is not None
    assert (found.in_progress, found.complete) == (in_progress, complete)


def test_stacks_are_listed_with_filters(cloud: Cloud, heat: Heat) -> None:
    cloud.answer("GET", "/v1/p/stacks", 200, {"stacks": [_stack()]})
    assert [one.name for one in heat.list(status="FAILED")] == ["local-api"]
    assert "status=FAILED" in cloud.asked[-1][1]


def test_creating_sends_the_template_and_returns_the_id(cloud: Cloud, heat: Heat) -> None:
    cloud.answer("POST", "/v1/p/stacks", 201, {"stack": {"id": "s1", "links": []}})
    assert heat.create("local-api", template={"heat_template_version": "2021-04-16"}, parameters={"n": 1}) == "s1"
    sent = cloud.asked[-1][2]
    assert (sent["stack_name"], sent["parameters"]) == ("local-api", {"n": 1})


def test_updating_goes_to_the_stack_by_id(cloud: Cloud, heat: Heat) -> None:
    cloud.answer("PUT", "/v1/p/stacks/s1", 202)
    heat.update("s1", template={})
    assert cloud.asked[-1][:2] == ("PUT", "/v1/p/stacks/s1")


def test_deleting_a_stack_that_is_gone_is_fine(heat: Heat) -> None:
    heat.delete("s1")


def test_a_preview_names_the_resources(cloud: Cloud, heat: Heat) -> None:
    resources = [{"resource_name": "api-0"}, {"resource_name": "api-1"}]
    cloud.answer("POST", "/v1/p/stacks/preview", 200, {"stack": _stack(resources=resources)})
    assert heat.preview("local-api", template={}) == ("api-0", "api-1")


def test_a_preview_of_an_update_sorts_resources_by_what_happens(cloud: Cloud, heat: Heat) -> None:
    changes = {"replaced": [_change("api-1")], "unchanged": [_change("api-0")]}
    cloud.redirect("/v1/p/stacks/s1", "/v1/p/stacks/local-api/s1")
    cloud.answer("PUT", "/v1/p/stacks/local-api/s1/preview", 200, {"resource_changes": changes})
    assert heat.preview_update("s1", template={}) == (
        ResourceChange("api-0", Kind.UNCHANGED, "Region::Host"),
        ResourceChange("api-1", Kind.REPLACED, "Region::Host"),
    )


def test_a_preview_of_an_update_finds_what_is_nested_by_its_way_down(cloud: Cloud, heat: Heat) -> None:
    machine = {"resource_type": "Local::Machine", "stack_name": "local-api-api-0-x", "parent_resource": "api-0"}
    disk = {"resource_name": "disk", "resource_type": "Disk", "stack_name": "deep", "parent_resource": "machine"}
    changes = {
        "updated": [{**_change("api-0"), "nested_stack_id": {"stack_name": "local-api-api-0-x"}}],
        "replaced": [{**_change("machine"), **machine, "nested_stack_id": {"stack_name": "deep"}}],
        "deleted": [disk],
        "added": [
            {**machine, "resource_name": "port", "stack_name": "local-api-api-9-made-up", "parent_resource": "api-9"}
        ],
    }
    cloud.answer("PUT", "/v1/p/stacks/local-api/s1/preview", 200, {"resource_changes": changes})
    assert [f"{one.path} {one.kind}" for one in heat.preview_update("local-api/s1", template={})] == [
        "api-0 updated",
        "api-0/machine replaced",
        "api-0/machine/disk deleted",
        "api-9/port added",
    ]
    assert cloud.asked[-1][1].endswith("/preview?show_nested=True")


def _change(name: str) -> dict[str, Any]:
    return {"resource_name": name, "resource_type": "Region::Host", "stack_name": "local-api"}


def test_what_a_stack_was_sent_is_read_back(cloud: Cloud, heat: Heat) -> None:
    for part, answer in (("template", {"resources": {}}), ("files", {"a.yaml": "b: 1"}), ("environment", {})):
        cloud.answer("GET", f"/v1/p/stacks/local-api/s1/{part}", 200, answer)
    assert heat.content("local-api/s1") == Content({"resources": {}}, {"a.yaml": "b: 1"}, {})


def test_a_check_is_an_action_of_the_stack(cloud: Cloud, heat: Heat) -> None:
    cloud.answer("POST", "/v1/p/stacks/local-api/s1/actions", 200, {})
    heat.check("local-api/s1")
    assert cloud.asked[-1] == ("POST", "/v1/p/stacks/local-api/s1/actions", {"check": None})


@pytest.mark.parametrize("status", [200, 500, 503])
def test_html_in_heats_place_is_told_in_one_line(cloud: Cloud, heat: Heat, status: int) -> None:
    cloud.answer("GET", "/v1/p/stacks/local-api/s1", status, b"<html>\n<body>I am a proxy</body></html>")
    cloud.content_type = "text/html"
    with pytest.raises(HeatRefused) as caught:
        heat.find("local-api/s1")
    assert "\n" not in caught.value.message
    assert caught.value.status in (0, status)


def test_a_preview_names_the_resources_of_nested_stacks_too(cloud: Cloud, heat: Heat) -> None:
    resources = [{"resource_name": "vip"}, [{"resource_name": "port"}, [{"resource_name": "server"}]]]
    cloud.answer("POST", "/v1/p/stacks/preview", 200, {"stack": _stack(resources=resources)})
    assert heat.preview("local-api", template={}) == ("vip", "port", "server")


def test_a_stack_has_its_tags_and_an_identity_that_is_not_redirected(cloud: Cloud, heat: Heat) -> None:
    cloud.answer("GET", "/v1/p/stacks/local-api", 200, {"stack": _stack(tags=["heat-deploys-heat", "content-1"])})
    found = heat.find("local-api")
    assert found is not None
    assert found.tags == ("heat-deploys-heat", "content-1")
    assert found.identity == "local-api/s1"


def test_a_stack_may_be_looked_at_without_the_cost_of_its_outputs(cloud: Cloud, heat: Heat) -> None:
    cloud.answer("GET", "/v1/p/stacks/local-api", 200, {"stack": _stack()})
    heat.find("local-api", outputs=False)
    assert "resolve_outputs=False" in cloud.asked[-1][1]


def test_deleting_goes_to_the_stack_by_id(cloud: Cloud, heat: Heat) -> None:
    cloud.redirect("/v1/p/stacks/s1", "/v1/p/stacks/local-api/s1")
    cloud.answer("DELETE", "/v1/p/stacks/local-api/s1", 204)
    heat.delete("s1")
    assert cloud.asked[-1][0] == "DELETE"


SIGNAL = {"Status": "SUCCESS", "UniqueId": "canary", "Reason": "it is over", "Data": ""}


def test_a_signal_goes_to_the_resource_of_its_stack_as_the_user(cloud: Cloud, heat: Heat) -> None:
    path = "/v1/p/stacks/canary-1/s1/resources/handle/signal"
    cloud.answer("POST", path, 200)
    heat.signal("canary-1/s1", "handle", SIGNAL)
    assert cloud.asked == [("POST", path, SIGNAL)]
    assert cloud.tokens == ["token"]


def test_a_signal_may_name_its_stack_by_id_alone(cloud: Cloud, heat: Heat) -> None:
    path = "/v1/p/stacks/canary-1/s1/resources/handle/signal"
    cloud.redirect("/v1/p/stacks/s1", "/v1/p/stacks/canary-1/s1")
    cloud.answer("POST", path, 200)
    heat.signal("s1", "handle", SIGNAL)
    assert cloud.asked[-1] == ("POST", path, SIGNAL)


@pytest.mark.parametrize("status", [400, 403, 404, 500])
def test_a_signal_that_is_not_taken_is_refused(cloud: Cloud, heat: Heat, status: int) -> None:
    path = "/v1/p/stacks/canary-1/s1/resources/handle/signal"
    cloud.answer("POST", path, status, {"error": {"message": "nobody waits"}})
    error = _refused(lambda: heat.signal("canary-1/s1", "handle", SIGNAL))
    assert error.status == status
    assert error.message.startswith("signalling handle of stack canary-1/s1: ")


def test_validating_returns_heats_reading(cloud: Cloud, heat: Heat) -> None:
    cloud.answer("POST", "/v1/p/validate", 200, {"Parameters": {"image": {}}})
    assert heat.validate(template={}) == {"Parameters": {"image": {}}}


# --- what happens in a stack


def test_events_carry_the_stack_they_happened_in(cloud: Cloud, heat: Heat) -> None:
    event = {
        "id": "e1",
        "resource_name": "api-0",
        "resource_status": "CREATE_FAILED",
        "resource_status_reason": None,
        "event_time": "2026-05-01T12:00:00Z",
        "links": _links(cloud, "local-api", "s1"),
    }
    cloud.answer("GET", "/v1/p/stacks/s1/events", 200, {"events": [event]})
    (found,) = heat.events("s1")
    assert (found.resource, found.status, found.reason) == ("api-0", "CREATE_FAILED", "")
    assert found.stack == "s1"
    assert "nested_depth=3" in cloud.asked[-1][1]
    assert "sort_dir=asc" in cloud.asked[-1][1]


def test_events_of_a_stack_without_resources_are_asked_of_it_alone(cloud: Cloud, heat: Heat) -> None:
    cloud.answer("GET", "/v1/p/stacks/s1/events", 200, {"events": []})
    assert heat.events("s1") == ()
    assert ["nested_depth" in path for _, path, _ in cloud.asked] == [True, False]


def test_resources_know_what_they_are_nested_in(cloud: Cloud, heat: Heat) -> None:
    resources = [
        _resource(cloud, "group", "s2", "s1", "CREATE_FAILED"),
        _resource(cloud, "0", "s3", "s2", "CREATE_FAILED"),
        _resource(cloud, "server", "machine", "s3", "CREATE_FAILED"),
        _resource(cloud, "port", "", "s1"),
    ]
    cloud.answer("GET", "/v1/p/stacks/s1/resources", 200, {"resources": resources})
    found = {resource.name: resource for resource in heat.resources("s1")}
    assert [resource.path for resource in found.values()] == ["group", "group/0", "group/0/server", "port"]
    assert [resource.depth for resource in found.values()] == [0, 1, 2, 0]
    assert (found["server"].kind, found["server"].stack, found["port"].physical_id) == ("Region::Host", "s3", "")


def test_build_info_is_what_one_api_and_one_engine_say(cloud: Cloud, heat: Heat) -> None:
    info = {"api": {"revision": "26.0.2"}, "engine": {"revision": "25.0.2"}}
    cloud.answer("GET", "/v1/p/build_info", 200, info)
    assert heat.build_info() == info


def test_engines_are_told_with_their_host_and_status(cloud: Cloud, heat: Heat) -> None:
    row = {"engine_id": "e1", "host": "engine-0", "status": "up", "binary": "heat-engine"}
    cloud.answer("GET", "/v1/p/services", 200, {"services": [row]})
    assert heat.services() == (Service("e1", "engine-0", "up"),)


def test_those_who_are_no_admin_are_told_so(cloud: Cloud, heat: Heat) -> None:
    cloud.answer("GET", "/v1/p/services", 403, {"error": {"message": "You are not authorized."}})
    assert _refused(heat.services).status == 403


# --- plain requests


@pytest.mark.parametrize("status", [200, 302, 401, 404, 500])
def test_a_plain_request_returns_whatever_it_is_answered(cloud: Cloud, heat: Heat, status: int) -> None:
    cloud.answer("GET", "/v1/p/plain", status, {"location": f"{cloud.url}/elsewhere", "word": "said"})
    answer = heat.send("GET", f"{cloud.url}/v1/p/plain")
    assert answer.status == status
    assert "said" in answer.text
    assert len(cloud.asked) == 1


def test_the_token_is_sent_only_where_it_is_told_to(cloud: Cloud, heat: Heat) -> None:
    cloud.answer("PUT", "/v1/signal", 200, {})
    heat.send("PUT", f"{cloud.url}/v1/signal", body=b'{"status": "SUCCESS"}')
    heat.send("PUT", f"{cloud.url}/v1/signal", token=True)
    assert cloud.tokens == [None, "token"]
    assert cloud.asked[0][2] == {"status": "SUCCESS"}


def test_a_refused_connection_is_told_without_the_secret_in_the_address(heat: Heat) -> None:
    error = _refused(lambda: heat.send("PUT", "http://127.0.0.1:9/v1/signal?Signature=hunter2"))
    assert (error.status, error.timed_out) == (0, False)
    assert "http://127.0.0.1:9/v1/signal" in error.message
    assert "hunter2" not in str(error)


def test_silence_is_told_from_a_refused_connection(heat: Heat) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1?Signature=hunter2"
        error = _refused(lambda: heat.send("GET", url, timeout=0.2))
    assert error.timed_out
    assert error.message.endswith("no answer in time")
    assert "hunter2" not in str(error)


_SECRET = "/v1/signal?Signature=hunter2&Expires='1'"


def test_a_tls_error_is_told_without_the_secret_in_the_address(cloud: Cloud, heat: Heat) -> None:
    url = cloud.url.replace("http:", "https:")
    error = _refused(lambda: heat.send("PUT", url + _SECRET))
    assert error.message.startswith(f"PUT {url}/v1/signal: SSL exception connecting to {url}/v1/signal")
    assert "Max retries exceeded with url: /v1/signal" in error.message
    assert "wrong version number" in error.message.lower().replace("_", " ")
    assert "hunter2" not in str(error)


@pytest.mark.parametrize("host", ["ftp://cloud", "http://127.0.0.1:99999"])
def test_an_address_that_nobody_can_reach_is_told_without_its_secret(heat: Heat, host: str) -> None:
    error = _refused(lambda: heat.send("PUT", host + _SECRET))
    assert error.message.startswith(f"PUT {host}/v1/signal: Unexpected exception for {host}/v1/signal")
    assert "hunter2" not in str(error)


@pytest.mark.parametrize("host", ["http://[::1", f"http://{64 * 'a'}.cloud", "http://a b", "http://*.cloud", "handle"])
def test_an_address_that_is_none_is_refused_without_its_secret(heat: Heat, host: str) -> None:
    error = _refused(lambda: heat.send("PUT", host + _SECRET))
    assert (error.status, error.timed_out) == (0, False)
    assert error.message.startswith(f"PUT {host}/v1/signal: ")
    assert "hunter2" not in str(error)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ('"http://h/x?Signature=hunter2==" is not a valid URL', '"http://h/x" is not a valid URL'),
        (
            "Failed to fetch http://h/x?t=hunter2: 403 (http://h?hunter2).",
            "Failed to fetch http://h/x: 403 (http://h).",
        ),
        ("what is /dev/vda? Is it a disk?", "what is /dev/vda? Is it a disk?"),
    ],
)
def test_what_heat_quotes_is_told_without_queries(cloud: Cloud, heat: Heat, said: str, told: str) -> None:
    cloud.answer("GET", "/v1/p/stacks", 400, {"error": {"message": said}})
    assert _refused(heat.list).message == f"listing stacks: Heat answered 400: {told}"


def test_what_keystone_quotes_is_told_without_queries(cloud: Cloud, clouds_yaml: Path) -> None:
    message = "no redirect to http://h/x?Signature=hunter2"
    cloud.answer("POST", "/v3/auth/tokens", 403, {"error": {"message": message, "code": 403, "title": "Forbidden"}})
    error = _refused(lambda: connect("seed", clouds_yaml).find("local-api"))
    assert "no redirect to http://h/x" in error.message
    assert "hunter2" not in str(error)


def test_connections_are_kept_until_it_hangs_up(cloud: Cloud, heat: Heat) -> None:
    cloud.answer("GET", "/v1/p/stacks", 200, {"stacks": []})
    for _ in range(2):
        heat.list()
    heat.hang_up()
    heat.list()
    first, second, third = cloud.lines
    assert first == second != third


def test_a_watched_heat_tells_of_each_exchange_and_leaves_the_first_alone(cloud: Cloud, heat: Heat) -> None:
    class Observer:
        seen: ClassVar[list[tuple[str, str, int, str]]] = []

        def exchanged(self, method: str, url: str, status: int, error: str, said: str = "") -> None:
            self.seen.append((method, url.removeprefix(cloud.url), status, error))

    cloud.answer("GET", "/v1/p/build_info", 200, {})
    heat.build_info()
    heat.watched(Observer()).build_info()
    assert Observer.seen == [("GET", "/v1/p/build_info", 200, "")]
    assert cloud.tokens == ["token", "token"]


# --- errors


def _refused(doing: Callable[[], object]) -> HeatRefused:
    with pytest.raises(HeatRefused) as caught:
        doing()
    assert "\n" not in caught.value.message
    return caught.value


def test_heats_own_words_and_status_are_passed_on(cloud: Cloud, heat: Heat) -> None:
    body = {"code": 409, "error": {"message": "The Stack (local-api) already exists.", "type": "StackExists"}}
    cloud.answer("POST", "/v1/p/stacks", 409, {**body, "title": "Conflict", "explanation": ""})
    error = _refused(lambda: heat.create("local-api", template={}))
    assert error.status == 409
    assert error.message.startswith("creating stack local-api: Heat answered 409: ")
    assert "already exists" in error.message


@pytest.mark.parametrize("status", [400, 403, 404, 500, 503])
def test_every_http_error_is_translated(cloud: Cloud, heat: Heat, status: int) -> None:
    cloud.answer("GET", "/v1/p/stacks", status, {"error": {"message": "no"}})
    assert _refused(heat.list).status == status


def test_a_page_of_a_proxy_is_no_crash(cloud: Cloud, heat: Heat) -> None:
    cloud.answer("GET", "/v1/p/stacks", 502, b"<html>\n<body>\nBad gateway\n</body></html>")
    assert _refused(heat.list).status == 502


def test_a_cloud_that_does_not_answer_is_told_with_the_next_step() -> None:
    heat = Heat(Session(auth=Token("http://127.0.0.1:9/v1/p", "token"), timeout=1), "local")
    error = _refused(lambda: heat.find("local-api"))
    assert error.status == 0
    assert error.message.startswith("looking for stack local-api: ")
    assert error.hint.startswith("inv local.status")


def test_finding_a_stack_is_not_fooled_by_other_errors(cloud: Cloud, heat: Heat) -> None:
    cloud.answer("GET", "/v1/p/stacks/local-api", 403, {"error": {"message": "no"}})
    assert _refused(lambda: heat.find("local-api")).status == 403


# --- from clouds.yaml to the catalog


@pytest.fixture
def clouds_yaml(cloud: Cloud, tmp_path: Path) -> Path:
    endpoint = {"interface": "public", "region": "local", "region_id": "local", "url": f"{cloud.url}/v1/p", "id": "e"}
    heat = {"type": "orchestration", "name": "heat", "id": "h", "endpoints": [endpoint]}
    token = {
        "issued_at": "2098-12-31T20:00:00.000000Z",
        "expires_at": "2099-01-01T00:00:00.000000Z",
        "project": {"id": "p"},
        "catalog": [heat],
    }
    version = {"id": "v3.14", "status": "stable", "links": [{"rel": "self", "href": f"{cloud.url}/v3"}]}
    cloud.headers["X-Subject-Token"] = "token"
    cloud.answer("POST", "/v3/auth/tokens", 201, {"token": token})
    cloud.answer("GET", "/v3", 200, {"version": version})
    auth = {
        "auth_url": f"{cloud.url}/v3",
        "username": "ada",
        "password": "hunter2",
        "project_name": "p",
        "user_domain_id": "default",
        "project_domain_id": "default",
    }
    path = tmp_path / "clouds.yaml"
    path.write_text(json.dumps({"clouds": {"seed": {"auth": auth, "region_name": "local"}}}), encoding="utf-8")
    return path


def test_a_cloud_is_reached_by_its_name_in_its_region(cloud: Cloud, clouds_yaml: Path) -> None:
    cloud.answer("GET", "/v1/p/stacks/local-api", 200, {"stack": _stack()})
    heat = connect("seed", clouds_yaml)
    assert heat.region == "local"
    assert heat.find("local-api") is not None


def test_a_password_that_is_in_no_file_is_given_beside_it(cloud: Cloud, clouds_yaml: Path) -> None:
    clouds = json.loads(clouds_yaml.read_text("utf-8"))
    del clouds["clouds"]["seed"]["auth"]["password"]
    clouds_yaml.write_text(json.dumps(clouds), encoding="utf-8")
    assert connect("seed", clouds_yaml, password=Secret("kept-elsewhere")).endpoint() == f"{cloud.url}/v1/p"
    (login,) = (body for method, _, body in cloud.asked if method == "POST")
    assert login["auth"]["identity"]["password"]["user"]["password"] == "kept-elsewhere"
    assert login["auth"]["identity"]["password"]["user"]["name"] == "ada"


def test_the_catalog_gives_the_public_endpoint(cloud: Cloud, clouds_yaml: Path) -> None:
    assert connect("seed", clouds_yaml).endpoint() == f"{cloud.url}/v1/p"


def test_a_token_tells_for_how_long_it_is_good(cloud: Cloud, clouds_yaml: Path) -> None:
    assert connect("seed", clouds_yaml).token_seconds() == 4 * 3600


def test_the_root_of_an_api_is_what_stands_before_its_version(cloud: Cloud, clouds_yaml: Path) -> None:
    assert connect("seed", clouds_yaml).root() == f"{cloud.url}/"


def test_a_region_may_be_named_where_the_file_names_none(cloud: Cloud, clouds_yaml: Path) -> None:
    clouds_yaml.write_text(clouds_yaml.read_text().replace(', "region_name": "local"', ""), encoding="utf-8")
    heat = connect("seed", clouds_yaml, region="local")
    assert heat.region == "local"
    assert heat.endpoint() == f"{cloud.url}/v1/p"


def test_a_region_that_the_file_does_not_know_is_refused(clouds_yaml: Path) -> None:
    with pytest.raises(ConfigurationInvalid, match="moon is not a valid region"):
        connect("seed", clouds_yaml, region="moon")


def test_a_service_that_the_catalog_lacks_is_named_with_its_region(clouds_yaml: Path) -> None:
    heat = connect("seed", clouds_yaml)
    message = _refused(lambda: heat.endpoint("cloudformation")).message
    assert "cloudformation" in message.removeprefix("reading the catalog for cloudformation")
    assert "local" in message


def test_a_wrong_password_is_told_without_it(cloud: Cloud, clouds_yaml: Path) -> None:
    message = "The request you have made requires authentication."
    cloud.answer("POST", "/v3/auth/tokens", 401, {"error": {"message": message, "code": 401, "title": "Unauthorized"}})
    error = _refused(lambda: connect("seed", clouds_yaml).find("local-api"))
    assert error.status == 401
    assert "hunter2" not in str(error)


def test_every_request_has_a_deadline(clouds_yaml: Path) -> None:
    session, region, names = session_of("seed", clouds_yaml, timeout=7)
    assert (session.timeout, region, names) == (7, "local", {})


def test_a_cloud_that_is_not_in_the_file_is_a_matter_of_configuration(clouds_yaml: Path) -> None:
    with pytest.raises(ConfigurationInvalid, match=r"clouds\.yaml: cloud 'moon': ") as caught:
        connect("moon", clouds_yaml)
    assert caught.value.hint.startswith("inv local.up")


def test_the_users_own_clouds_are_left_alone(clouds_yaml: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OS_REGION_NAME", "elsewhere")
    assert connect("seed", clouds_yaml).region == "local"


# --- a region with several Heats: the cloud's own, and the one that it launched


@pytest.fixture(params=[0, 1])
def crowded(request: pytest.FixtureRequest, cloud: Cloud, clouds_yaml: Path) -> Cloud:
    """Return a cloud whose catalog lists `local-heat` too, before or after its own `heat`."""
    _, answer = cloud.answers["POST", "/v3/auth/tokens"]
    endpoint = {
        "interface": "public",
        "region": "local",
        "region_id": "local",
        "url": f"{cloud.url}/local/p",
        "id": "l",
    }
    launched = {"type": "orchestration", "name": "local-heat", "id": "g", "endpoints": [endpoint]}
    answer["token"]["catalog"].insert(request.param, launched)
    return cloud


def test_the_heat_that_launches_is_not_the_one_that_it_launched(crowded: Cloud, clouds_yaml: Path) -> None:
    crowded.answer("GET", "/v1/p/stacks/local-api", 200, {"stack": _stack()})
    heat = connect("seed", clouds_yaml, other_than="local-heat")
    assert heat.endpoint() == f"{crowded.url}/v1/p"
    assert heat.find("local-api") is not None


def test_a_heat_is_found_by_the_name_that_its_cloud_gives_it(crowded: Cloud, clouds_yaml: Path) -> None:
    clouds = json.loads(clouds_yaml.read_text("utf-8"))
    clouds["clouds"]["seed"]["orchestration_service_name"] = "local-heat"
    clouds_yaml.write_text(json.dumps(clouds), encoding="utf-8")
    crowded.answer("GET", "/local/p/stacks/web", 200, {"stack": _stack()})
    heat = connect("seed", clouds_yaml)
    assert heat.endpoint() == f"{crowded.url}/local/p"
    assert heat.find("web") is not None


def test_a_cloud_with_one_heat_is_asked_for_no_name(cloud: Cloud, clouds_yaml: Path) -> None:
    assert connect("seed", clouds_yaml, other_than="local-heat").endpoint() == f"{cloud.url}/v1/p"
