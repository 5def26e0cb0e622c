"""The testinfra backend: testinfra's own modules run over a Remote, here one to this machine."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from pipeline.edges.ssh import Heard, Result
from pipeline.edges.testinfra_backend import GivesUp, connected
from pipeline.environment import Role
from pipeline.errors import HostKeyRefused, HostUnreachable
from pipeline.inventory import Host

ENGINE = Host("engine-0", Role.ENGINE, "127.1.1.1", ())


class ThisMachine:
    """A Remote that runs scripts with this machine's own sh, as whoever runs the tests."""

    def run(
        self,
        host: Host,
        script: str,
        *,
        timeout: float = 300,
        check: bool = True,
        root: bool = True,
        heard: Heard | None = None,
    ) -> Result:
        done = subprocess.run(["sh", "-s"], input=script, capture_output=True, text=True, timeout=timeout)
        return Result(done.returncode, done.stdout, done.stderr)

    def put(self, host: Host, source: Path, target: str) -> None:
        Path(target).write_bytes(source.read_bytes())

    def close(self) -> None:
        self.closed = True


class Flaky(ThisMachine):
    """A Remote that cannot reach its host, and counts how often it tried."""

    def __init__(self, error: HostUnreachable | HostKeyRefused) -> None:
        self.error = error
        self.tries = 0

    def run(
        self,
        host: Host,
        script: str,
        *,
        timeout: float = 300,
        check: bool = True,
        root: bool = True,
        heard: Heard | None = None,
    ) -> Result:
        self.tries += 1
        raise self.error


def test_status_and_both_streams_come_back() -> None:
    result = connected(ThisMachine(), ENGINE).run("echo out; echo err >&2; exit 3")
    assert (result.rc, result.stdout, result.stderr) == (3, "out\n", "err\n")


def test_arguments_are_quoted(tmp_path: Path) -> None:
    odd = tmp_path / "it's; $(touch nothing)"
    odd.write_text("x")
    host = connected(ThisMachine(), ENGINE)
    assert host.run("cat -- %s", str(odd)).stdout == "x"
    assert host.file(str(odd)).size == 1


def test_testinfras_own_modules_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("héat")
    host = connected(ThisMachine(), ENGINE)
    assert host.file(str(tmp_path / "file")).content_string == "héat"
    assert host.system_info.type == "linux"


@pytest.mark.parametrize("error", [HostUnreachable("gone", hint="later"), HostKeyRefused("other key")])
def test_a_host_that_is_lost_is_asked_once(error: HostUnreachable | HostKeyRefused) -> None:
    flaky = Flaky(error)
    remote = GivesUp(flaky)
    for _ in range(3):
        with pytest.raises(type(error)) as caught:
            remote.run(ENGINE, "true")
        assert (caught.value.message, caught.value.hint) == (error.message, error.hint)
    assert flaky.tries == 1


def test_other_hosts_are_still_asked() -> None:
    flaky = Flaky(HostUnreachable("gone"))
    remote = GivesUp(flaky)
    for name in ("engine-0", "engine-1"):
        with pytest.raises(HostUnreachable):
            remote.run(Host(name, Role.ENGINE, "127.1.1.1", ()), "true")
    assert flaky.tries == 2


def test_copies_and_the_end_pass_through(tmp_path: Path) -> None:
    inner = ThisMachine()
    remote = GivesUp(inner)
    (tmp_path / "a").write_text("a")
    remote.put(ENGINE, tmp_path / "a", str(tmp_path / "b"))
    remote.close()
    assert (tmp_path / "b").read_text() == "a"
    assert inner.closed


def test_many_questions_are_asked_in_one_round_trip_and_answered_from_memory(tmp_path: Path) -> None:
    class Counting(ThisMachine):
        """Counts round trips."""

        trips = 0

        def run(self, host: Host, script: str, **options: Any) -> Result:
            self.trips += 1
            return super().run(host, script, **options)

    remote = Counting()
    host = connected(remote, ENGINE)
    began, ended = host.backend.ask([("echo %s", "it's"), ("echo err >&2; exit 4",)])
    assert 0 <= ended - began < 60
    assert host.run("echo %s", "it's").stdout == "it's\n"
    failed = host.run("echo err >&2; exit 4")
    assert (failed.rc, failed.stderr, remote.trips) == (4, "err\n", 1)
    host.run("echo another")
    assert remote.trips == 2


def test_after_the_end_nobody_is_asked() -> None:
    remote = GivesUp(ThisMachine())
    assert remote.run(ENGINE, "echo a").stdout == "a\n"
    remote.end()
    with pytest.raises(HostUnreachable, match="the run has ended"):
        remote.run(ENGINE, "echo a")
