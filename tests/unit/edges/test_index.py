"""Downloads from an index that wants a login; tests/integration/test_wheelhouse.py has the real uv resolve first."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
import requests
from loopback import served

from pipeline.edges.index import Index, Locked
from pipeline.errors import ConfigurationInvalid, Inconclusive

CONTENT = b"a wheel"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
USER, PASSWORD = "builder", "s3cret/\u00e9"


class Guarded(BaseHTTPRequestHandler):
    """Gives /wheel to who logs in, and fails as the number in any other path says."""

    asked: tuple[str, ...] = ()

    def do_GET(self) -> None:
        given = self.headers.get("Authorization", "")
        Guarded.asked = (*Guarded.asked, given)
        right = given == f"Basic {base64.b64encode(f'{USER}:{PASSWORD}'.encode()).decode()}"
        status = int(self.path[1:]) if self.path != "/wheel" else 200 if right else 401
        self.send_response(status)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """Return host and port of an index, of which neither uv's variables nor ~/.netrc know anything yet."""
    for name in [name for name in os.environ if name.startswith("UV_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setattr(Guarded, "asked", ())
    with served(Guarded) as address:
        yield address.removeprefix("http://")


def _download(host: str, into: Path, path: str = "wheel") -> None:
    file = Locked("heat", "26.0.2", "heat.whl", SHA256, f"http://{host}/{path}")
    Index("uv", python="3.11", machine="x86_64").download([file], into)


LOGIN = "builder:s3cret%2F%C3%A9"


@pytest.mark.parametrize(
    "variables",
    [
        {"UV_DEFAULT_INDEX": f"http://{LOGIN}@HOST/simple"},
        {"UV_DEFAULT_INDEX": f"corp=http://{LOGIN}@HOST/simple"},
        {"UV_INDEX": f"http://user:other@127.0.0.1:9/simple http://{LOGIN}@HOST/simple"},
        {
            "UV_INDEX": "my-corp.1=http://HOST/simple",
            "UV_INDEX_MY_CORP_1_USERNAME": USER,
            "UV_INDEX_MY_CORP_1_PASSWORD": PASSWORD,
        },
    ],
)
def test_a_file_is_fetched_with_the_login_that_uv_has_for_the_host(
    host: str, variables: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value.replace("HOST", host))
    _download(host, tmp_path)
    assert (tmp_path / SHA256 / "heat.whl").read_bytes() == CONTENT


@pytest.mark.parametrize("elsewhere", ["http://{}@127.0.0.1:9/simple", "https://{}@HOST/simple", "/srv/wheels"])
def test_a_login_goes_to_no_other_host_port_or_scheme(
    host: str, elsewhere: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_DEFAULT_INDEX", elsewhere.format(LOGIN).replace("HOST", host))
    with pytest.raises(ConfigurationInvalid):
        _download(host, tmp_path)
    assert Guarded.asked == ("",)


@pytest.mark.parametrize("user", ["", f"{USER}@"])
def test_a_password_may_be_in_netrc(host: str, user: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_DEFAULT_INDEX", f"http://{user}{host}/simple")
    monkeypatch.setattr(f"{__name__}.PASSWORD", "plain")
    Path(os.environ["NETRC"]).write_text(f"machine 127.0.0.1 login {USER} password plain\n")
    Path(os.environ["NETRC"]).chmod(0o600)
    _download(host, tmp_path)
    assert (tmp_path / SHA256 / "heat.whl").exists()


@pytest.mark.parametrize(("path", "status"), [("wheel", 401), ("403", 403)])
def test_a_login_that_is_missing_or_wrong_comes_with_where_to_put_it_and_is_not_shown(
    host: str, path: str, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_DEFAULT_INDEX", f"http://builder:wr0ng@{host}/simple")
    with pytest.raises(
        ConfigurationInvalid, match=rf"heat\.whl did not come from the index.* \(status {status}\)"
    ) as caught:
        _download(host, tmp_path, path)
    assert caught.value.hint == "put the index's login into ~/.netrc, then try again"
    assert "wr0ng" not in str(caught.value)
    assert host not in str(caught.value)


def test_an_index_that_fails_is_to_be_asked_again(host: str, tmp_path: Path) -> None:
    with pytest.raises(Inconclusive, match=r"heat\.whl did not come from the index \(status 503\)"):
        _download(host, tmp_path, "503")


@pytest.mark.parametrize(
    ("variables", "trusted"),
    [
        ({"SSL_CERT_FILE": "uv.pem"}, "uv.pem"),
        ({"SSL_CERT_FILE": "uv.pem", "REQUESTS_CA_BUNDLE": "requests.pem"}, "requests.pem"),
        ({"SSL_CERT_FILE": "gone.pem"}, True),
        ({}, True),
    ],
)
def test_who_signed_the_index_is_trusted_as_uv_does_unless_requests_is_told_otherwise(
    variables: dict[str, str], trusted: str | bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    Path("uv.pem").touch()
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    session = Index("uv", python="3.11", machine="x86_64")._session()
    asked: list[object] = []

    def send(_: requests.PreparedRequest, **settings: object) -> requests.Response:
        asked.append(settings["verify"])
        answer = requests.Response()
        answer.status_code = 200
        return answer

    monkeypatch.setattr(session, "send", send)
    session.get("https://127.0.0.1:9/wheel")
    assert asked == [trusted]
