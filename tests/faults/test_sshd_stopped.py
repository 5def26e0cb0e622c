"""A host's sshd stops: before the run nothing is touched; in the middle of a step the run comes back to it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.faults.faults import NEW, Region

SILENCE = 10  # seconds
# Sessions outlive their sshd, so they are ended too; what they run is not.
CUT = """\
systemctl stop ssh.socket ssh.service
for look in 1 2 3 4 5; do
    pgrep -x sshd >/dev/null || break
    pgrep -x sshd | xargs kill -9
    sleep 0.1
done"""


@contextmanager
def silent(region: Region, host: str) -> Iterator[None]:
    """Have no sshd on `host` while the body runs, and end the connections that there were."""
    try:
        region.console(host, CUT)
        yield
    finally:
        region.console(host, "systemctl start ssh")


@pytest.mark.quick
def test_a_host_without_sshd_before_the_run_is_found_before_anything_is_touched(region: Region) -> None:
    before = region.marks()
    with silent(region, "engine-1"):
        run = region.upgrade()
        assert run.code == 9, run.output
        assert "engine-1" in run.message
    assert region.marks() == before
    assert run.steps == []


@pytest.mark.parametrize(
    ("step", "host"),
    [
        ("database", "engine-0"),
        ("drain", "engine-0"),
        ("start", "engine-0"),
        ("healthy", "engine-0"),
    ],
)
def test_a_run_comes_back_to_a_step_whose_connection_was_lost(region: Region, step: str, host: str) -> None:
    region.install()
    since = region.console(host, "date '+%F %T'")
    run = region.upgrade()
    run.await_step(step, "" if step == "database" else host)
    with silent(region, host):
        time.sleep(SILENCE)
    assert run.code == 0, run.output
    assert len(run.steps) == len(set(run.steps)), run.steps
    assert _starts(region, host, since) == 1
    region.is_whole(NEW)


def test_a_run_comes_back_to_an_upload_whose_connection_was_lost(region: Region) -> None:
    region.uninstall("engine-1")
    before = region.marks()
    run = region.upgrade()
    run.await_word("begin install")
    time.sleep(0.5)
    with silent(region, "engine-1"):
        time.sleep(SILENCE)
        assert region.marks() == before
    assert run.code == 0, run.output
    region.is_whole(NEW)


def _starts(region: Region, host: str, since: str) -> int:
    """Return how often the first unit of Heat on `host` was started since then."""
    unit = "heat-engine" if host.startswith("engine") else "heat-api"
    return int(region.console(host, f"journalctl --quiet --unit {unit} --since '{since}' | grep -c 'systemd.*Started'"))
