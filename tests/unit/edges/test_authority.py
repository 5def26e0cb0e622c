"""The small certificate authority: what it issues is trusted by those who trust it, and by nobody else."""

from __future__ import annotations

import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pipeline.certificate import Certificate
from pipeline.edges.authority import Authority, read_certificate
from pipeline.errors import ConfigurationInvalid

NOW = datetime.now(UTC)
HOSTS = ("127.0.0.1", "heat.example.com")


def _greet(issued: Certificate, authority: Authority, hostname: str, folder: Path) -> str:
    """Shake hands by TLS with a server that shows `issued`, as one who trusts `authority`; return what it says."""
    shown = folder / "shown.pem"
    shown.write_text(issued.with_key)
    theirs = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    theirs.load_cert_chain(shown)
    ours = ssl.create_default_context(cafile=str(authority.path))
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            try:
                with theirs.wrap_socket(connection, server_side=True) as secured:
                    secured.sendall(b"heat")
            except OSError:
                return

        threading.Thread(target=serve, daemon=True).start()
        with (
            socket.create_connection(listener.getsockname(), timeout=5) as plain,
            ours.wrap_socket(plain, server_hostname=hostname) as secured,
        ):
            return secured.recv(10).decode()


@pytest.mark.parametrize("hostname", HOSTS)
def test_who_trusts_it_trusts_what_it_issued_by_address_and_by_name(hostname: str, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "own", "local", NOW)
    assert _greet(authority.issue("api", HOSTS), authority, hostname, tmp_path) == "heat"


def test_another_host_and_another_authority_are_not_trusted(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "own", "local", NOW)
    issued = authority.issue("api", HOSTS)
    with pytest.raises(ssl.SSLCertVerificationError):
        _greet(issued, authority, "127.0.0.2", tmp_path)
    with pytest.raises(ssl.SSLCertVerificationError):
        _greet(issued, Authority(tmp_path / "other", "local", NOW), HOSTS[0], tmp_path)


def test_what_is_good_is_kept_and_no_key_is_open_to_others(tmp_path: Path) -> None:
    first = Authority(tmp_path / "own", "local", NOW)
    issued = first.issue("api", HOSTS)
    again = Authority(tmp_path / "own", "local", NOW + timedelta(days=59))
    assert again.certificate == first.certificate
    assert again.issue("api", HOSTS) == issued
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "own").iterdir()} == {0o600}
    assert (tmp_path / "own").stat().st_mode & 0o777 == 0o700
    assert "PRIVATE" not in f"{issued} {issued!r}"


def test_what_is_about_to_end_or_is_for_others_is_issued_anew(tmp_path: Path) -> None:
    issued = Authority(tmp_path, "local", NOW).issue("api", HOSTS)
    later = Authority(tmp_path, "local", NOW + timedelta(days=61))
    renewed = later.issue("api", HOSTS)
    assert renewed.ends - (NOW + timedelta(days=61)) > timedelta(days=89)
    assert renewed != issued
    assert later.issue("api", ("127.0.0.9",)) != renewed


def test_another_authoritys_certificate_is_not_kept(tmp_path: Path) -> None:
    issued = Authority(tmp_path, "local", NOW).issue("api", HOSTS)
    for suffix in ("key", "pem"):
        (tmp_path / f"authority.{suffix}").unlink()
    assert Authority(tmp_path, "local", NOW).issue("api", HOSTS) != issued


@pytest.mark.parametrize("theirs", ["", "other"])
def test_an_authority_whose_key_is_gone_or_anothers_is_not_replaced_by_one_that_nobody_trusts(
    theirs: str, tmp_path: Path
) -> None:
    authority = Authority(tmp_path, "local", NOW)
    other = authority.issue("other", HOSTS).key.reveal()
    (tmp_path / "authority.key").unlink()
    if theirs:
        (tmp_path / "authority.key").write_text(other)
    with pytest.raises(ConfigurationInvalid, match=r"authority\.pem: its key, .* is gone or another's") as caught:
        Authority(tmp_path, "local", NOW)
    assert "from your backup; or remove" in caught.value.hint
    assert authority.path.read_text("utf-8") == authority.certificate
    assert "PRIVATE" not in str(caught.value)


def test_an_authority_that_a_killed_run_began_is_made_anew(tmp_path: Path) -> None:
    first = Authority(tmp_path, "local", NOW)
    first.path.unlink()
    second = Authority(tmp_path, "local", NOW)
    assert second.certificate != first.certificate
    assert Authority(tmp_path, "local", NOW).certificate == second.certificate


def test_files_of_two_keys_are_made_anew_and_what_is_no_certificate_is_told(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "local", NOW)
    one, other = authority.issue("one", HOSTS), authority.issue("other", HOSTS)
    (tmp_path / "one.key").write_text(other.key.reveal())
    assert authority.issue("one", HOSTS) not in (one, other)
    (tmp_path / "one.pem").write_text("spoilt")
    with pytest.raises(ConfigurationInvalid, match=r"one\.pem: cannot be used"):
        authority.issue("one", HOSTS)


def test_files_are_taken_where_they_are_right(tmp_path: Path) -> None:
    issued = Authority(tmp_path / "own", "local", NOW).issue("api", HOSTS)
    (tmp_path / "chain.pem").write_text(issued.chain)
    (tmp_path / "key.pem").write_text(issued.key.reveal())
    for host in HOSTS:
        assert read_certificate(tmp_path / "chain.pem", tmp_path / "key.pem", host, NOW) == issued
    assert issued.ends - NOW > timedelta(days=89)


@pytest.mark.parametrize(
    ("spoil", "host", "days", "told"),
    [
        ("", "127.0.0.9", 0, "is not for 127.0.0.9"),
        ("", "127.0.0.1", 91, "is good from .* to .* only"),
        ("key", "127.0.0.1", 0, "is not the key of"),
        ("chain", "127.0.0.1", 0, "cannot be used"),
        ("missing", "127.0.0.1", 0, "cannot be used"),
    ],
)
def test_files_that_a_customer_would_not_trust_are_refused(
    spoil: str, host: str, days: int, told: str, tmp_path: Path
) -> None:
    authority = Authority(tmp_path / "own", "local", NOW)
    issued, other = authority.issue("api", HOSTS), authority.issue("other", HOSTS)
    (tmp_path / "chain.pem").write_text("spoilt" if spoil == "chain" else issued.chain)
    (tmp_path / "key.pem").write_text((other if spoil == "key" else issued).key.reveal())
    key = tmp_path / ("none.pem" if spoil == "missing" else "key.pem")
    with pytest.raises(ConfigurationInvalid, match=told) as caught:
        read_certificate(tmp_path / "chain.pem", key, host, NOW + timedelta(days=days))
    assert "PRIVATE" not in str(caught.value)


def test_who_does_not_renew_gets_what_is_shown_now_however_old(tmp_path: Path) -> None:
    issued = Authority(tmp_path, "local", NOW).issue("api", HOSTS)
    for days in (61, 91):
        later = Authority(tmp_path, "local", NOW + timedelta(days=days))
        assert later.issue("api", HOSTS, renewing=False) == issued
    assert later.issue("api", HOSTS) != issued


def test_of_files_that_hosts_have_already_it_does_not_matter_that_they_ended(tmp_path: Path) -> None:
    issued = Authority(tmp_path / "own", "local", NOW - timedelta(days=91)).issue("api", HOSTS)
    (tmp_path / "chain.pem").write_text(issued.chain)
    (tmp_path / "key.pem").write_text(issued.key.reveal())
    assert read_certificate(tmp_path / "chain.pem", tmp_path / "key.pem", HOSTS[0], None) == issued
