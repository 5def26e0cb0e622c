"""Spreading a file: by answers that hosts could give, and for real between directories of this machine."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from builders import FETCH, GIVE, HAS, KEY, STOP_GIVING, Receivers, ScriptedRemote

from pipeline.edges.spread import Arrival, spread
from pipeline.edges.ssh import Result, failure
from pipeline.environment import Role
from pipeline.errors import CommandFailed, HostKeyRefused, HostUnreachable
from pipeline.handover import read_url
from pipeline.inventory import Host

DATA = os.urandom(500_000)
SHA256 = hashlib.sha256(DATA).hexdigest()
TARGET = "/home/pipeline/heat.tar.gz"
HOSTS = tuple(Host(f"engine-{index}", Role.ENGINE, f"127.0.7.{index + 1}", (KEY,)) for index in range(9))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "heat.tar.gz"
    path.write_bytes(DATA)
    return path


class Fleet(ScriptedRemote):
    """Hosts that do what the scripts of a spreading ask; `there` are those that have the file."""

    def __init__(self, *there: str) -> None:
        super().__init__()
        Receivers(self, *there)

    @property
    def put_to(self) -> list[str]:
        return [name for name, _, _ in self.copied]


def _ways(arrivals: tuple[Arrival, ...]) -> dict[str, str]:
    return {one.host.name: one.way.name if one.way else "-" for one in arrivals}


def test_one_host_gets_it_from_here_and_the_others_from_each_other(source: Path) -> None:
    fleet = Fleet()
    told: list[str] = []
    arrivals = spread(fleet, HOSTS, source, TARGET, SHA256, report=told.append)
    assert [one.host for one in arrivals] == list(HOSTS)
    assert _ways(arrivals) == {host.name: "GIVEN" if host.name != "engine-0" else "UPLOADED" for host in HOSTS}
    assert fleet.copied == [("engine-0", source, TARGET)]
    assert sorted(told) == sorted(map(str, arrivals))
    assert {str(one) for one in arrivals} >= {"engine-0 got it from here"}
    assert re.fullmatch(r"engine-8 was given it by engine-\d", str(arrivals[8]))


def test_hosts_that_have_it_get_nothing(source: Path) -> None:
    fleet = Fleet(*(host.name for host in HOSTS))
    assert set(_ways(spread(fleet, HOSTS, source, TARGET, SHA256)).values()) == {"HAD"}
    assert (fleet.copied, fleet.scripts(GIVE), fleet.scripts(FETCH), fleet.scripts(STOP_GIVING)) == ([], [], [], [])


def test_who_served_is_told_to_stop(source: Path) -> None:
    fleet = Fleet()
    spread(fleet, HOSTS, source, TARGET, SHA256)
    served = [step.split()[1] for step in fleet.steps(give=GIVE)]
    assert served[0] == "engine-0"
    assert sorted(step.split()[1] for step in fleet.steps(stop=STOP_GIVING)) == sorted(served)


def test_the_servers_alone_are_started_as_root(source: Path) -> None:
    class Watched(Fleet):
        def run(self, host: Host, script: str, *, root: bool = True, **options: object) -> Result:
            assert root == bool(re.search(f"{GIVE}|{STOP_GIVING}", script, re.MULTILINE))
            return super().run(host, script, root=root, **options)  # type: ignore[arg-type]

    assert "-" not in _ways(spread(Watched(), HOSTS, source, TARGET, SHA256)).values()


def test_a_host_that_cannot_fetch_gets_it_from_here(source: Path) -> None:
    fleet = Fleet()
    fleet.on(FETCH, CommandFailed("curl ended with 23", status=1), host="engine-4")
    told: list[str] = []
    ways = _ways(spread(fleet, HOSTS, source, TARGET, SHA256, report=told.append))
    assert told.count("curl ended with 23: another way is tried") == 2
    assert (ways["engine-4"], [*ways.values()].count("GIVEN")) == ("UPLOADED", 7)
    assert fleet.put_to == ["engine-0", "engine-4"]


def test_a_host_that_is_gone_keeps_its_error_and_nobody_elses_file(source: Path) -> None:
    fleet = Fleet()
    fleet.on(HAS, HostUnreachable("engine-0 is gone"), host="engine-0")
    fleet.cut["engine-0"] = 9
    arrivals = spread(fleet, HOSTS, source, TARGET, SHA256)
    assert arrivals[0].error is not None
    assert "it is gone" in arrivals[0].error.message
    assert str(arrivals[0]).startswith("engine-0: ")
    assert _ways(arrivals[1:2]) == {"engine-1": "UPLOADED"}
    assert set(_ways(arrivals[2:]).values()) == {"GIVEN"}


def test_a_host_that_shows_another_key_is_no_matter_of_the_others(source: Path) -> None:
    fleet = Fleet()
    fleet.on(".", HostKeyRefused("engine-3 shows another key"), host="engine-3")
    arrivals = spread(fleet, HOSTS, source, TARGET, SHA256)
    assert [one.host.name for one in arrivals if one.error] == ["engine-3"]
    assert isinstance(arrivals[3].error, HostKeyRefused)


def test_a_copy_from_here_that_is_cut_is_insisted_on(source: Path) -> None:
    fleet = Fleet()
    fleet.on(FETCH, HostUnreachable("engine-2 is gone"), host="engine-2")
    fleet.cut["engine-2"] = 2
    asked = 0

    def insist(act: object) -> None:
        nonlocal asked
        while True:
            asked += 1
            try:
                return act()  # type: ignore[operator,no-any-return]
            except HostUnreachable:
                assert asked < 5

    assert _ways(spread(fleet, HOSTS, source, TARGET, SHA256, insist=insist))["engine-2"] == "UPLOADED"
    assert asked == 3


def test_where_hosts_do_not_reach_one_another_all_get_it_from_here(source: Path) -> None:
    fleet = Fleet()
    fleet.on(FETCH, CommandFailed("curl ended with 28", status=1))
    assert set(_ways(spread(fleet, HOSTS, source, TARGET, SHA256)).values()) == {"UPLOADED"}
    assert len(fleet.scripts(FETCH)) <= 4


@pytest.mark.parametrize("answer", [CommandFailed("no systemd-run", status=127), "http://198.18.7.1/etc/passwd\n"])
def test_where_hosts_cannot_serve_all_get_it_from_here(source: Path, answer: CommandFailed | str) -> None:
    fleet = Fleet()
    fleet.on(GIVE, answer)
    assert set(_ways(spread(fleet, HOSTS, source, TARGET, SHA256)).values()) == {"UPLOADED"}
    assert fleet.scripts(FETCH) == []


def test_a_copy_that_arrived_damaged_is_no_arrival(source: Path) -> None:
    fleet = Fleet()
    fleet.on(HAS, Result(1, "", ""), host="engine-0")
    (arrival,) = spread(fleet, HOSTS[:1], source, TARGET, SHA256)
    assert str(arrival) == "engine-0: heat.tar.gz arrived damaged"


def test_with_a_release_url_hosts_fetch_it_there(source: Path) -> None:
    fleet = Fleet()
    url = "https://releases.example.org/heat.tar.gz"
    assert set(_ways(spread(fleet, HOSTS, source, TARGET, SHA256, url=url)).values()) == {"FETCHED"}
    assert all(url in script for script in fleet.scripts(FETCH))
    assert (fleet.copied, fleet.scripts(GIVE)) == ([], [])


def test_a_host_without_a_way_to_the_url_is_given_it_by_another(source: Path) -> None:
    fleet = Fleet()
    fleet.on("https:", CommandFailed("curl ended with 7", status=1), host="engine-5")
    ways = _ways(spread(fleet, HOSTS, source, TARGET, SHA256, url="https://releases.example.org/heat.tar.gz"))
    assert ways.pop("engine-5") == "GIVEN"
    assert set(ways.values()) == {"FETCHED"}


def test_where_the_url_is_gone_the_hosts_still_get_it(source: Path) -> None:
    fleet = Fleet()
    fleet.on("https:", CommandFailed("curl ended with 22", status=1))
    arrivals = spread(fleet, HOSTS, source, TARGET, SHA256, url="https://releases.example.org/heat.tar.gz")
    assert fleet.put_to == ["engine-0"]
    assert "-" not in _ways(arrivals).values()


def test_an_interrupt_stops_the_servers(source: Path) -> None:
    fleet = Fleet("engine-0")

    def interrupted(*_: object) -> str:
        raise KeyboardInterrupt

    fleet.on(FETCH, interrupted)
    with pytest.raises(KeyboardInterrupt):
        spread(fleet, HOSTS, source, TARGET, SHA256)
    assert fleet.steps(stop=STOP_GIVING) == ["stop engine-0"]


# --- for real


SYSTEMD_RUN = """\
#!/bin/sh
while [ $# -gt 0 ]; do
    case $1 in
    --property=StandardInput=file:*) input=${1#*file:} ;;
    --property=StandardOutput=file:*) output=${1#*file:} ;;
    --*) ;;
    *) break ;;
    esac
    shift
done
"$@" <"$input" >"$output" 2>/dev/null 9>&- &
echo $! >"$HOME/pid"
"""
SYSTEMCTL = """\
#!/bin/sh
[ -f "$HOME/pid" ] || exit 5
kill "$(cat "$HOME/pid")"
rm "$HOME/pid"
"""


class Loopback:
    """A Remote whose hosts are directories and loopback addresses of this machine, with a systemd of few words."""

    def __init__(self, home: Path) -> None:
        self.home, self.uploads, self.urls = home, 0, []  # type: tuple[Path, int, list[str]]
        tools = home / "tools"
        tools.mkdir()
        for name, text in {"systemd-run": SYSTEMD_RUN, "systemctl": SYSTEMCTL}.items():
            (tools / name).write_text(text)
            (tools / name).chmod(0o755)
        self._path = f"{tools}:{os.environ['PATH']}"
        self._lock = threading.Lock()

    def folder(self, host: Host) -> Path:
        folder = self.home / host.name
        folder.mkdir(exist_ok=True)
        return folder

    def run(self, host: Host, script: str, *, check: bool = True, **_: object) -> Result:
        folder = self.folder(host)
        text = script.replace("/home/pipeline/", f"{folder}/").replace("/run/heat-pipeline", f"{folder}/run")
        done = subprocess.run(
            ["sh", "-s"],
            input=f"{{\n{text}\n}} </dev/null\n",
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
            env={"PATH": self._path, "HOME": str(folder)},
        )
        result = Result(done.returncode, done.stdout, done.stderr)
        if url := read_url(done.stdout):
            with self._lock:
                self.urls.append(url)
        if check and result.status:
            raise failure(host, result)
        return result

    def put(self, host: Host, source: Path, target: str) -> None:
        with self._lock:
            self.uploads += 1
        shutil.copy(source, self.folder(host) / Path(target).name)

    def close(self) -> None:
        pass


@pytest.fixture
def loopback(tmp_path: Path) -> Iterator[Loopback]:
    remote = Loopback(tmp_path)
    yield remote
    for pid in tmp_path.glob("*/pid"):
        os.kill(int(pid.read_text()), 9)


def test_nine_hosts_have_the_file_after_one_upload_and_nothing_serves_any_more(
    source: Path, loopback: Loopback, tmp_path: Path
) -> None:
    arrivals = spread(loopback, HOSTS, source, TARGET, SHA256)
    assert loopback.uploads == 1
    for host in HOSTS:
        assert (tmp_path / host.name / "heat.tar.gz").read_bytes() == DATA
        assert not (tmp_path / host.name / "heat.tar.gz.fetched").exists()
    givers = {one.giver for one in arrivals} - {""}
    assert {url.split(":")[1].removeprefix("//") for url in loopback.urls} >= {
        host.address for host in HOSTS if host.name in givers
    }
    assert not list(tmp_path.glob("*/pid"))


def test_it_is_done_once(source: Path, loopback: Loopback) -> None:
    spread(loopback, HOSTS[:4], source, TARGET, SHA256)
    again = spread(loopback, HOSTS[:4], source, TARGET, SHA256)
    assert set(_ways(again).values()) == {"HAD"}
    assert loopback.uploads == 1


def test_a_damaged_file_on_a_host_is_replaced_and_never_passed_on(
    source: Path, loopback: Loopback, tmp_path: Path
) -> None:
    (loopback.folder(HOSTS[0]) / "heat.tar.gz").write_bytes(DATA[:-1] + b"!")
    (loopback.folder(HOSTS[3]) / "heat.tar.gz").write_bytes(DATA)
    (loopback.folder(HOSTS[1]) / "heat.tar.gz.fetched").write_bytes(DATA[:1000])
    arrivals = spread(loopback, HOSTS[:4], source, TARGET, SHA256)
    assert _ways(arrivals) == {"engine-0": "GIVEN", "engine-1": "GIVEN", "engine-2": "GIVEN", "engine-3": "HAD"}
    assert {(tmp_path / host.name / "heat.tar.gz").read_bytes() for host in HOSTS[:4]} == {DATA}
    assert loopback.uploads == 0
