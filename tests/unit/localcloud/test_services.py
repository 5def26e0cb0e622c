from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.edges.clock import FakeClock
from pipeline.errors import ConfigurationInvalid
from pipeline.localcloud import services
from pipeline.localcloud.cgroups import Cgroups
from pipeline.localcloud.services import Service


def service(**changes: object) -> Service:
    return replace(Service("x", ("true",), "http://x", healthy=lambda: False), **changes)  # type: ignore[arg-type]


def test_a_changed_file_or_command_makes_another_service(tmp_path: Path) -> None:
    file = tmp_path / "x.conf"
    file.write_text("1")
    before = service(made_of=(file,)).digest()
    assert service(made_of=(file,)).digest() == before
    assert service(made_of=(file,), command=("false",)).digest() != before
    file.write_text("2")
    assert service(made_of=(file,)).digest() != before


def test_a_taken_port_is_told_with_the_command_that_shows_who_has_it(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        wanting = service(listens=(("127.0.0.1", port),))
        with pytest.raises(ConfigurationInvalid, match=f"127.0.0.1:{port}") as caught:
            services.ensure(wanting, Cgroups((tmp_path / "group",)), tmp_path, FakeClock())
    assert f"sport = :{port}" in caught.value.hint


def test_services_inherit_no_credentials_of_the_caller() -> None:
    inherited = services._clean({"PATH": "/bin", "OS_PASSWORD": "x", "LANG": "C", "SSH_AUTH_SOCK": "/x"})
    assert inherited == {"PATH": "/bin", "LANG": "C"}


def test_the_end_of_a_log_is_shown_and_a_missing_log_is_no_second_error(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    assert "no log" in services.tail(log)
    log.write_text("\n".join(str(number) for number in range(100)))
    assert services.tail(log, lines=2) == "98\n99"
