"""Endpoints behind TLS for real: the environment signs its own certificate, and who trusts it is served."""

from __future__ import annotations

import shutil
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.demo import Proof
from pipeline.workflow import Pipeline
from pipeline.workspace import Workspace
from tests.integration.conftest import NEW

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def secured(story: Proof, pipeline: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    """The demo's region with TLS; without it again at the end."""
    root = tmp_path_factory.mktemp("checkout")
    for name in ("environments", "templates"):
        shutil.copytree(getattr(pipeline.workspace, name), root / name)
    with (root / "environments" / "local.yaml").open("a", encoding="utf-8") as stream:
        stream.write("tls: {}\n")
    made = Pipeline(Workspace(root, pipeline.workspace.state), pipeline.clock, pipeline.progress)
    assert made.deploy("local", NEW)
    yield made
    assert pipeline.deploy("local", NEW)
    pipeline.require_green("local")


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
