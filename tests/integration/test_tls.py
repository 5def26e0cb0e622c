"""Endpoints behind TLS for real: the environment signs its own certificate, and who trusts it is served."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.demo import Proof
from pipeline.environment import Role
from pipeline.errors import ConfigurationInvalid
from pipeline.workflow import Pipeline
from tests.integration.conftest import NEW, saying

pytestmark = pytest.mark.long


def _with_tls(pipeline: Pipeline, root: Path, tls: str) -> Pipeline:
    return saying(pipeline, root, "local", f"tls: {tls}\n")


@pytest.fixture(scope="module")
def secured(story: Proof, pipeline: Pipeline, checkout: Path) -> Iterator[Pipeline]:
    """The demo's region with TLS everywhere; without it again at the end."""
    assert _with_tls(pipeline, checkout, "{internal: used}").deploy("local", NEW)
    made = _with_tls(pipeline, checkout, "{internal: required}")
    assert made.deploy("local", NEW)
    yield made
    for step in ("{internal: used}", "{internal: offered}"):
        assert _with_tls(pipeline, checkout, step).deploy("local", NEW)
    assert pipeline.deploy("local", NEW)
    pipeline.require_green("local")


def test_a_step_that_would_cut_off_what_runs_is_refused(story: Proof, pipeline: Pipeline, checkout: Path) -> None:
    with pytest.raises(ConfigurationInvalid, match="would cut off api-0, api-1, engine-0, engine-1: they come without"):
        _with_tls(pipeline, checkout, "{internal: required}").deploy("local", NEW)


def test_customers_use_the_region_over_tls_and_every_check_passes(secured: Pipeline) -> None:
    checks, rungs = secured.require_green("local")
    assert "check_certificate_of_the_endpoints_lasts" in {f"check_{result.name}" for result in checks.results}
    assert rungs.ok
    with secured.site("local") as site:
        assert site.customer.endpoint().startswith("https://")
        assert site.customer.endpoint("cloudformation").startswith("https://")


def test_who_does_not_trust_the_environment_is_not_served(secured: Pipeline) -> None:
    with secured.site("local") as site:
        place = (site.region.address, site.environment.heat.api_port)
    trusting = ssl.create_default_context(cafile=str(secured.workspace.authority("local") / "authority.pem"))
    with socket.create_connection(place, 10) as plain, trusting.wrap_socket(plain, server_hostname=place[0]) as shown:
        assert shown.version() in ("TLSv1.2", "TLSv1.3")
    with socket.create_connection(place, 10) as plain, pytest.raises(ssl.SSLCertVerificationError):
        ssl.create_default_context().wrap_socket(plain, server_hostname=place[0])


def test_hosts_speak_tls_among_themselves_and_nothing_else_is_taken(secured: Pipeline, pipeline: Pipeline) -> None:
    with secured.site("local") as site:
        inventory = site.region.inventory
        database, broker, engine = (inventory.of(role)[0] for role in (Role.DATABASE, Role.MESSAGING, Role.ENGINE))
        dial = "timeout 5 bash -c ': </dev/tcp/{}/{}' && echo open || echo closed"
        for port, state in ((5672, "closed"), (5671, "open")):
            assert site.remote.run(engine, dial.format(broker.address, port)).stdout == f"{state}\n"
        users = "rabbitmqctl -q --no-table-headers list_connections ssl | sort -u"
        assert site.remote.run(broker, users).stdout == "true\n"
        assert site.remote.run(engine, _LOG_IN.format(tls="ssl_ca=trusted")).status == 0
        without = site.remote.run(engine, _LOG_IN.format(tls="ssl_disabled=True"), check=False)
        assert "OperationalError: (1045, " in without.stderr, "the same name and password, without TLS"
        ciphers = site.remote.run(database, "mariadb -BNe \"SHOW GLOBAL STATUS LIKE 'Ssl_accepts'\"").stdout
        assert int(ciphers.split()[1]) > 0
    with pytest.raises(ConfigurationInvalid, match=r"none would cut off .*: they come over TLS"):
        pipeline.deploy("local", NEW)


_LOG_IN = """\
/opt/heat/current/venv/bin/python - <<'END'
import configparser, urllib.parse, pymysql
trusted = "/opt/heat/current/etc/authority.pem"
conf = configparser.ConfigParser(interpolation=None)
conf.read("/opt/heat/current/etc/heat.conf")
url = urllib.parse.urlsplit(conf["database"]["connection"])
pymysql.connect(host=url.hostname, user=url.username, password=url.password, {tls})
END"""


def test_deploying_again_changes_nothing_with_tls_either(secured: Pipeline) -> None:
    assert secured.deploy("local", NEW) is False


def test_the_key_is_in_no_record_and_in_no_file_that_others_can_read(secured: Pipeline) -> None:
    with secured.site("local") as site:
        assert site.region.certificate is not None
        key = site.region.certificate.key.reveal().splitlines()[1]
    kept = [path for path in secured.workspace.state.rglob("*") if path.is_file() and _holds(path, key)]
    assert {path.name for path in kept} == {"endpoints.key"}
    assert all(path.stat().st_mode & 0o077 == 0 for path in kept)


def _holds(path: Path, text: str) -> bool:
    if path.stat().st_size > 1 << 22 or "machines" in path.parts:
        return False  # the hosts' own disks
    return text in path.read_text("utf-8", errors="replace")
