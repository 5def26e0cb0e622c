"""Handing a file from host to host, for real over loopback: by the very server and the very script, without systemd."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPResponse
from pathlib import Path

import pytest

from pipeline.handover import SERVE, File, fetch, give, has, read_url, server, stop_giving

DATA = os.urandom(3_000_000)
SHA256 = hashlib.sha256(DATA).hexdigest()


def _sh(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script as it reaches a host: in braces, on standard input."""
    text = f"{{\n{script}\n}} </dev/null\n"
    env = {**os.environ, **environment}
    return subprocess.run(["sh", "-s"], input=text, capture_output=True, text=True, timeout=30, check=False, env=env)


def _serve(path: Path, seconds: float = 20, address: str = "127.0.0.1") -> tuple[subprocess.Popen[str], str]:
    with path.open("rb") as file:
        arguments = shlex.split(server(address, seconds))
        running = subprocess.Popen(arguments, stdin=file, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert running.stdout is not None
    url = read_url(running.stdout.readline())
    assert url is not None
    return running, url


def _open(url: str, method: str = "GET", **headers: str) -> HTTPResponse:
    answer = urllib.request.urlopen(urllib.request.Request(url, method=method, headers=headers))  # noqa: S310
    assert isinstance(answer, HTTPResponse)
    return answer


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(DATA)
    return path


@pytest.fixture
def url(source: Path) -> Iterator[str]:
    running, url = _serve(source)
    yield url
    running.kill()
    running.communicate()


@pytest.fixture
def file(tmp_path: Path) -> File:
    return File(str(tmp_path / "a release's $(touch x) file"), SHA256, len(DATA))


def _partial(file: File) -> Path:
    return Path(f"{file.path}.fetched")


# --- what is served


def test_one_path_is_served_and_nothing_else(url: str) -> None:
    assert _open(url).read() == DATA
    root = url.rpartition("/")[0]
    for other in (root, f"{root}/", f"{url}/", f"{url}?", f"{root}/etc/passwd", f"{root}/{'x' * 43}"):
        with pytest.raises(urllib.error.HTTPError, match="404"):
            _open(other)


def test_no_two_servers_answer_to_one_path(source: Path, url: str) -> None:
    running, other = _serve(source)
    running.kill()
    running.communicate()
    assert other.rpartition("/")[2] != url.rpartition("/")[2]


def test_what_others_ask_for_with_other_words_is_refused(url: str) -> None:
    for method in ("PUT", "POST", "DELETE", "HEAD"):
        with pytest.raises(urllib.error.HTTPError, match="501"):
            _open(url, method)


def test_a_server_ends_by_itself_though_nobody_ends_it(source: Path) -> None:
    running, _ = _serve(source, seconds=0.5)
    assert running.wait(timeout=5) != 0


def test_it_listens_on_the_address_that_it_is_given_and_no_other(source: Path) -> None:
    running, url = _serve(source, address="127.0.0.2")
    port = int(url.split(":")[2].partition("/")[0])
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=2)
    socket.create_connection(("127.0.0.2", port), timeout=2).close()
    running.kill()
    running.communicate()


def test_several_are_served_at_once(url: str, tmp_path: Path) -> None:
    files = [File(str(tmp_path / f"copy-{number}"), SHA256, len(DATA)) for number in range(6)]
    with ThreadPoolExecutor(6) as pool:
        ended = list(pool.map(lambda one: _sh(fetch(one, url, 20)), files))
    assert [one.returncode for one in ended] == [0] * 6
    assert all(Path(one.path).read_bytes() == DATA for one in files)


# --- what is fetched


def test_a_file_is_fetched_whole_private_and_under_its_name_alone(file: File, url: str) -> None:
    done = _sh(fetch(file, url, 20))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert Path(file.path).read_bytes() == DATA
    assert Path(file.path).stat().st_mode & 0o777 == 0o600
    assert not _partial(file).exists()


def test_a_host_can_be_asked_whether_it_has_the_whole_file(file: File) -> None:
    assert _sh(has(file)).returncode == 1
    Path(file.path).write_bytes(DATA[:-1])
    assert _sh(has(file)).returncode == 1
    assert not _partial(file).exists()
    _partial(file).write_bytes(b"what broke off")
    assert _sh(has(file)).returncode == 1
    Path(file.path).write_bytes(DATA)
    assert _sh(has(file)).returncode == 0
    assert not _partial(file).exists()


def test_where_the_file_is_nothing_is_fetched(file: File) -> None:
    Path(file.path).write_bytes(DATA)
    assert _sh(fetch(file, "http://127.0.0.1:9/nobody", 20)).returncode == 0
    assert not _partial(file).exists()


def test_a_fetch_goes_on_where_one_broke_off(file: File, source: Path) -> None:
    _partial(file).write_bytes(DATA[:2_000_000])
    got: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                got.append(connection.recv(4096))
                rest = DATA[2_000_000:]
                head = f"HTTP/1.0 206 Partial\r\nContent-Length: {len(rest)}\r\n"
                connection.sendall(f"{head}Content-Range: bytes 2000000-2999999/3000000\r\n\r\n".encode() + rest)

        threading.Thread(target=answer, daemon=True).start()
        assert _sh(fetch(file, f"http://127.0.0.1:{listener.getsockname()[1]}/f", 20)).returncode == 0
    assert b"Range: bytes=2000000-\r\n" in got[0]
    assert Path(file.path).read_bytes() == DATA


def test_the_server_gives_the_rest_alone(file: File, url: str) -> None:
    _partial(file).write_bytes(DATA[:2_000_000])
    assert _sh(fetch(file, url, 20)).returncode == 0
    with _open(url, Range="bytes=2999999-") as answer:
        assert (answer.status, answer.read()) == (206, DATA[-1:])
        assert answer.headers["Content-Range"] == "bytes 2999999-2999999/3000000"


@pytest.mark.parametrize("rubbish", [b"x" * 1000, b"x" * len(DATA), b"x" * (len(DATA) + 9)])
def test_a_partial_of_something_else_is_thrown_away(file: File, url: str, rubbish: bytes) -> None:
    _partial(file).write_bytes(rubbish)
    assert _sh(fetch(file, url, 20)).returncode == 0
    assert Path(file.path).read_bytes() == DATA


def test_a_source_that_gives_something_else_is_found_by_the_digest(file: File, tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(DATA[:-1] + b"!")
    running, url = _serve(tmp_path / "other")
    done = _sh(fetch(file, url, 20))
    running.kill()
    running.communicate()
    assert (done.returncode, done.stderr) == (1, "it arrived damaged, or broke off again and again\n")
    assert not Path(file.path).exists()
    assert not _partial(file).exists() or _partial(file).stat().st_size in (0, len(DATA))


def test_a_source_that_is_gone_is_told_at_once(file: File) -> None:
    began = time.monotonic()
    done = _sh(fetch(file, "http://127.0.0.1:9/nobody", 20))
    assert done.returncode == 1
    assert "curl ended with 7" in done.stderr
    assert time.monotonic() - began < 3


def test_a_path_that_is_none_is_told(file: File, url: str) -> None:
    assert "curl ended with 22" in _sh(fetch(file, f"{url}x", 20)).stderr


def test_a_source_that_says_nothing_is_given_up(file: File) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        done = _sh(fetch(file, f"http://127.0.0.1:{mute.getsockname()[1]}/x", 1))
    assert (done.returncode, "curl ended with 28" in done.stderr) == (1, True)


def test_two_fetches_at_once_fetch_once(file: File, url: str) -> None:
    with ThreadPoolExecutor(2) as pool:
        ended = list(pool.map(lambda _: _sh(fetch(file, url, 20)), range(2)))
    assert [one.returncode for one in ended] == [0, 0]
    assert Path(file.path).read_bytes() == DATA


def test_neither_proxies_nor_a_curlrc_come_between_hosts(file: File, url: str, tmp_path: Path) -> None:
    (tmp_path / ".curlrc").write_text("fail-nothing\nurl = http://127.0.0.1:9/\n")
    assert _sh(fetch(file, url, 20), http_proxy="http://127.0.0.1:9", HOME=str(tmp_path)).returncode == 0


def test_the_url_is_in_no_list_of_processes(file: File, url: str) -> None:
    (line,) = [line for line in fetch(file, url, 20).splitlines() if "curl --disable" in line]
    assert url not in line.partition("| curl")[2]


def test_a_release_url_is_asked_by_https_alone(file: File) -> None:
    script = fetch(file, "https://releases.example.org/heat.tar.gz", 20)
    assert "--proto =https --proto-redir =https --location" in script
    assert "--noproxy" not in script


# --- the unit


FAKE_SYSTEMD_RUN = """\
#!/bin/sh
echo "$@" >>"$RAN"
while [ $# -gt 0 ]; do
    case $1 in
    --property=StandardInput=file:*) input=${1#*file:} ;;
    --property=StandardOutput=file:*) output=${1#*file:} ;;
    --*) ;;
    *) break ;;
    esac
    shift
done
[ -z "${BROKEN:-}" ] || exit 0
setsid "$@" <"$input" >"$output" 2>/dev/null &
"""


@pytest.fixture
def tools(tmp_path: Path) -> dict[str, str]:
    """Return the environment of a host whose systemd-run starts what it is given, with the files that it is told."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, text in {
        "systemd-run": FAKE_SYSTEMD_RUN,
        "systemctl": '#!/bin/sh\necho "systemctl $@" >>"$RAN"\n',
    }.items():
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    return {"PATH": f"{tools}:{os.environ['PATH']}", "RAN": str(tmp_path / "ran")}


def _give(file: File, tmp_path: Path, seconds: float = 3) -> str:
    return give(file, "127.0.0.1", seconds).replace("/run/heat-pipeline", str(tmp_path / "run"))


def test_a_giver_starts_a_unit_and_tells_where_the_file_is(source: Path, tmp_path: Path, tools: dict[str, str]) -> None:
    done = _sh(_give(File(str(source), SHA256, len(DATA)), tmp_path), **tools)
    url = read_url(done.stdout)
    assert (done.returncode, done.stderr) == (0, "")
    assert url is not None
    assert _open(url).read() == DATA
    assert not list((tmp_path / "run/spread").iterdir())
    assert (tmp_path / "run").stat().st_mode & 0o777 == 0o700


def test_the_unit_is_confined_and_ends_by_itself(source: Path, tmp_path: Path, tools: dict[str, str]) -> None:
    _sh(_give(File(str(source), SHA256, len(DATA)), tmp_path), **tools)
    stop, run = (tmp_path / "ran").read_text().splitlines()[:2]
    assert stop == "systemctl stop heat-pipeline-spread.service"
    for word in ("DynamicUser=yes", "RuntimeMaxSec=3", "ProtectHome=yes", "CapabilityBoundingSet= ", "--collect"):
        assert word in run
    assert f"StandardInput=file:{source}" in run


def test_a_server_that_does_not_come_is_told(source: Path, tmp_path: Path, tools: dict[str, str]) -> None:
    script = _give(File(str(source), SHA256, len(DATA)), tmp_path).replace("-lt 100 ", "-lt 2 ")
    done = _sh(script, BROKEN="yes", **tools)
    assert done.returncode == 1
    assert "says nothing: journalctl -u heat-pipeline-spread" in done.stderr
    assert not list((tmp_path / "run/spread").iterdir())


def test_a_stop_where_nothing_runs_is_well(tools: dict[str, str]) -> None:
    Path(tools["PATH"].partition(":")[0], "systemctl").write_text("#!/bin/sh\nexit 5\n")
    assert _sh(stop_giving(), **tools).returncode == 0


def test_systemd_finds_nothing_to_expand_in_the_server() -> None:
    assert not re.search(r"[$%]", SERVE)


@pytest.mark.parametrize(
    "answer", ["", "no", "http://198.18.7.11/x", f"file:///{'x' * 43}", f"http://a:1/{'x' * 43}\nb"]
)
def test_an_answer_that_is_no_url_is_none(answer: str) -> None:
    assert read_url(answer) is None
