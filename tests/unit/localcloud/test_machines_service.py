from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from pipeline.edges.clock import SystemClock
from pipeline.localcloud.cgroups import Cgroups
from pipeline.localcloud.cloud import LocalCloud
from pipeline.localcloud.hosts import Hosts
from pipeline.localcloud.machines import _Server
from pipeline.localcloud.registry import Registry


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, int]]:
    cloud = LocalCloud(tmp_path, IPv4Network("198.18.5.0/24"))
    hosts = Hosts(cloud, Cgroups((tmp_path / "cgroup",)), tmp_path, SystemClock())
    serving = _Server(("127.0.0.1", 0), Registry(hosts), "right")
    thread = threading.Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield ("127.0.0.1", serving.server_port)
    serving.shutdown()
    thread.join()
    serving.server_close()


def ask(server: tuple[str, int], path: str, token: str, body: bytes | None = None) -> tuple[int, object]:
    connection = http.client.HTTPConnection(*server, timeout=5)
    connection.request("GET" if body is None else "POST", path, body, {"X-Auth-Token": token})
    response = connection.getresponse()
    document = json.loads(response.read())
    connection.close()
    return response.status, document


def test_the_token_opens(server: tuple[str, int]) -> None:
    assert ask(server, "/network", "right") == (200, {"cidr": "198.18.5.0/24", "gateway": "198.18.5.1"})
    assert ask(server, "/machines", "right") == (200, {"machines": []})


@pytest.mark.parametrize("token", ["", "wrong", "right "[:-2], "\xe9"])
def test_any_other_token_does_not(server: tuple[str, int], token: str) -> None:
    assert ask(server, "/network", token)[0] == 401


@pytest.mark.parametrize("body", [b"{", b"[]", b'"x"', b"\xff"])
def test_a_body_that_is_no_object_is_the_callers_mistake(server: tuple[str, int], body: bytes) -> None:
    assert ask(server, "/machines", "right", body)[0] == 400
