"""Access: outputs of stacks become a site, pinned keys and credentials go into files that only their owner can read."""

from __future__ import annotations

import shlex
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from builders import KEY, LOCAL, SECRETS, progress, region, said
from cryptography import x509
from pydantic import ValidationError

from pipeline import access
from pipeline.edges.authority import Authority
from pipeline.edges.clock import FakeClock
from pipeline.edges.ssh import generate_key
from pipeline.environment import Environment, InternalTls, Role, Ssh, Tls
from pipeline.errors import ConfigurationInvalid
from pipeline.secrets import Secret, Secrets
from pipeline.stacks import Stack
from pipeline.workspace import Workspace

PORT = LOCAL.model_copy(update={"ssh": LOCAL.ssh.model_copy(update={"port": 2222})})


class Cloud:
    """The seed's Heat, as far as stacks and their outputs go."""

    def __init__(self, auth_url: str = "http://198.18.7.1:5000/v3") -> None:
        known = region()
        self.passwords: list[Any] = []
        self.session = SimpleNamespace(auth=SimpleNamespace(auth_url=auth_url))
        self.outputs: dict[str, dict[str, Any]] = {
            f"local-{role.value}": {
                "hosts": {
                    host.name: {"address": host.address, "signal": {"1": KEY}} for host in known.inventory.of(role)
                },
                "password": SECRETS.get(role.value),
            }
            for role in Role
        }
        self.outputs["local-network"] = {"public_address": known.address}
        identity = known.identity
        self.outputs["local-identity"] = {
            "service_user": identity.service_user,
            "service_project": identity.service_project,
            "stack_domain": identity.stack_domain,
            "stack_domain_admin": identity.stack_domain_admin,
            **SECRETS,
        }

    def find(self, name: str) -> Stack | None:
        outputs = self.outputs.get(name)
        return None if outputs is None else Stack("id", name, "CREATE_COMPLETE", "", "", outputs)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path, tmp_path / "state")


@pytest.fixture
def cloud(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    """Return a seed that is up: whatever is connected to is this cloud."""
    workspace.cloud.mkdir(parents=True)
    (workspace.cloud / "clouds.yaml").touch()
    made = Cloud()

    def connect(
        name: str,
        clouds: Path,
        *,
        region: str | None = None,
        password: Secret | None = None,
        other_than: str = "",
    ) -> Cloud:
        made.passwords.append(password)
        return made

    monkeypatch.setattr(access, "connect", connect)
    return made


def _mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def _opened(workspace: Workspace, environment: Environment = LOCAL) -> Any:
    clock = FakeClock()
    with access.open_site(workspace, environment, clock, progress(clock)) as site:
        return site


# --- the region


def test_a_region_is_read_from_the_outputs_of_its_stacks(cloud: Cloud) -> None:
    heat: Any = cloud
    assert access.read_region(LOCAL, heat) == region()


@pytest.mark.parametrize("name", ["local-network", "local-engine", "local-identity"])
def test_a_stack_that_is_missing_or_has_no_outputs_yet_is_named(cloud: Cloud, name: str) -> None:
    heat: Any = cloud
    cloud.outputs[name] = {}
    for _ in ("without outputs", "missing"):
        with pytest.raises(ConfigurationInvalid, match=f"there is no '{name.removeprefix('local-')}'"):
            access.read_region(LOCAL, heat)
        cloud.outputs.pop(name, None)


@pytest.mark.parametrize("url", ["http://k:5000", "http://k:5000/", "http://k:5000/v3", "http://k:5000/v3/"])
def test_the_identity_url_ends_in_v3_however_the_cloud_writes_it(url: str) -> None:
    heat: Any = Cloud(url)
    assert access.identity_url(heat) == "http://k:5000/v3"


def test_a_local_cloud_that_is_not_up_says_how_to_raise_it(workspace: Workspace) -> None:
    with pytest.raises(ConfigurationInvalid, match="the local cloud is not up") as caught:
        access.cloud_of(workspace, LOCAL)
    assert caught.value.hint == "inv local.up"


def test_a_cloud_is_asked_in_the_region_that_the_environment_names(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace.cloud.mkdir(parents=True)
    (workspace.cloud / "clouds.yaml").touch()
    asked: list[Any] = []
    monkeypatch.setattr(access, "connect", lambda *given, **more: asked.append((given[0], more)))
    for environment in (LOCAL, LOCAL.model_copy(update={"region": "east"})):
        access.cloud_of(workspace, environment)
    assert asked == [("seed", {"region": region, "other_than": "local-heat"}) for region in (None, "east")]


# --- the site


def test_an_open_site_knows_its_region_and_the_hosts_of_its_services(cloud: Cloud, workspace: Workspace) -> None:
    site = _opened(workspace)
    assert site.region == region()
    assert site.templates == workspace.templates
    assert site.customer is cloud


def test_the_files_of_an_environment_are_private(cloud: Cloud, workspace: Workspace) -> None:
    _opened(workspace)
    files = [workspace.known_hosts("local"), workspace.customer_clouds("local")]
    assert [_mode(path) for path in files] == [0o600, 0o600]
    assert _mode(files[0].parent) == 0o700


def test_the_canary_asks_the_heat_that_was_launched_and_no_other(cloud: Cloud, workspace: Workspace) -> None:
    _opened(workspace)
    entry = yaml.safe_load(workspace.customer_clouds("local").read_text("utf-8"))["clouds"]["local"]
    assert entry["orchestration_service_name"] == "local-heat"
    assert entry["cloudformation_service_name"] == "local-heat-cfn"


def test_a_host_that_did_not_come_up_is_told_and_left_out(cloud: Cloud, workspace: Workspace) -> None:
    hosts = cloud.outputs["local-engine"]["hosts"]
    cloud.outputs["local-engine"] = {"hosts": {**hosts, "engine-2": {"address": None, "signal": None}}}
    site = _opened(workspace)
    assert "engine-2: has not signalled, and is left out" in said(site.progress)
    assert "engine-2" not in {host.name for host in site.region.inventory.hosts}


def test_the_clouds_file_logs_the_canary_in_and_holds_no_other_secret(cloud: Cloud, workspace: Workspace) -> None:
    _opened(workspace)
    text = workspace.customer_clouds("local").read_text("utf-8")
    entry = yaml.safe_load(text)["clouds"]["local"]
    assert entry["auth"]["auth_url"] == region().identity.auth_url
    assert entry["auth"]["username"] == entry["auth"]["project_name"] == "local-canary"
    assert entry["auth"]["password"] == SECRETS["canary_password"]
    assert entry["region_name"] == LOCAL.heat.region
    assert [name for name, secret in SECRETS.items() if secret in text] == ["canary_password"]


def test_every_host_is_pinned_by_address_and_name(cloud: Cloud, workspace: Workspace) -> None:
    _opened(workspace)
    lines = workspace.known_hosts("local").read_text("utf-8").splitlines()
    assert lines == [f"{host.address},{host.name} {KEY}" for host in region().inventory.hosts]


def test_a_host_on_another_port_is_pinned_with_that_port(cloud: Cloud, workspace: Workspace) -> None:
    _opened(workspace, PORT)
    first = workspace.known_hosts("local").read_text("utf-8").splitlines()[0]
    assert first == f"[{region().inventory.hosts[0].address}]:2222,database-0 {KEY}"


def test_every_key_that_a_host_signalled_is_pinned(cloud: Cloud, workspace: Workspace) -> None:
    cloud.outputs["local-database"]["hosts"]["database-0"]["signal"] = {"1": f"{KEY}\nssh-rsa AAAAB3"}
    _opened(workspace)
    pinned = workspace.known_hosts("local").read_text("utf-8").splitlines()[:2]
    assert [line.split(maxsplit=1)[1] for line in pinned] == [KEY, "ssh-rsa AAAAB3"]


def test_secrets_kept_elsewhere_make_the_region_with_what_the_stacks_made(
    cloud: Cloud, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CANARY", "kept-elsewhere")
    kept = LOCAL.model_copy(update={"secrets": Secrets(canary_password="env:CANARY")})
    del cloud.outputs["local-identity"]["canary_password"]
    site = _opened(workspace, kept)
    assert site.region.identity.canary_password == Secret("kept-elsewhere")
    assert site.region.database_password == region().database_password
    assert cloud.passwords == [None, Secret("kept-elsewhere")]
    left = "".join(path.read_text("utf-8") for path in workspace.state.rglob("*") if path.is_file())
    assert "kept-elsewhere" not in left
    assert "local-canary" in left


# --- logging in


def test_a_login_uses_the_pinned_keys_and_nothing_of_the_users_own(cloud: Cloud, workspace: Workspace) -> None:
    command = access.ssh_command(workspace, PORT, "engine-1")
    assert command[:3] == ["ssh", "-F", "/dev/null"]
    assert command[-1] == f"pipeline@{region().inventory.host('engine-1').address}"
    options = {word for word in command if "=" in word}
    assert options == {
        f"IdentityFile={workspace.key('local')}",
        "IdentitiesOnly=yes",
        f"UserKnownHostsFile={workspace.known_hosts('local')}",
        "StrictHostKeyChecking=yes",
        "Port=2222",
    }
    assert _mode(workspace.known_hosts("local")) == 0o600
    assert not [secret for secret in SECRETS.values() if secret in shlex.join(command)]


def test_a_login_goes_the_way_that_the_pipeline_goes(cloud: Cloud, workspace: Workspace, tmp_path: Path) -> None:
    key, pinned = generate_key(tmp_path / "jump"), tmp_path / "pinned"
    pinned.write_text(f"[gate]:2222 {key}\nbastion {key}\n")
    settings = Ssh(
        jump=("ops@bastion", "gate:2222"), known_hosts=pinned, agent=True,
        identity=tmp_path / "my 100% id", certificate=tmp_path / "id-cert.pub",
    )  # fmt: skip
    ways = [access.ssh_command(workspace, LOCAL.model_copy(update={"ssh": settings}), "engine-1")]
    while proxy := [word for word in ways[-1] if word.startswith("ProxyCommand=")]:
        ways.append(shlex.split(proxy[0].removeprefix("ProxyCommand=").replace("%%", "%")))
    address = region().inventory.host("engine-1").address
    assert [way[-1] for way in ways] == [f"pipeline@{address}", "pipeline@gate", "ops@bastion"]
    assert [way[way.index("-W") + 1] for way in ways[1:]] == [f"[{address}]:22", "[gate]:2222"]
    own = [
        f"UserKnownHostsFile={workspace.known_hosts('local')}", "StrictHostKeyChecking=yes",
        f'IdentityFile="{tmp_path}/my 100%% id"', f"CertificateFile={tmp_path}/id-cert.pub",
    ]  # fmt: skip
    for way, port in zip(ways, (22, 2222, 22), strict=True):
        assert way[:3] == ["ssh", "-F", "/dev/null"]
        assert [word for word in way if "=" in word and "ProxyCommand" not in word] == [*own, f"Port={port}"]
    lines = workspace.known_hosts("local").read_text("utf-8").splitlines()
    assert lines[-2:] == [f"bastion {key}", f"[gate]:2222 {key}"]


def test_a_login_over_a_jump_host_that_is_not_pinned_is_refused(cloud: Cloud, workspace: Workspace) -> None:
    jumping = LOCAL.model_copy(update={"ssh": Ssh(jump=("bastion",))})
    with pytest.raises(ConfigurationInvalid, match="no key of jump host bastion is pinned"):
        access.ssh_command(workspace, jumping, "engine-1")


def test_a_login_needs_no_secret_kept_elsewhere(cloud: Cloud, workspace: Workspace) -> None:
    kept = LOCAL.model_copy(update={"secrets": Secrets(database_password="env:NOWHERE")})
    del cloud.outputs["local-database"]["password"]
    assert access.ssh_command(workspace, kept, "engine-1")[0] == "ssh"


def test_a_login_to_an_unknown_host_names_those_there_are(cloud: Cloud, workspace: Workspace) -> None:
    with pytest.raises(ConfigurationInvalid, match=r"no host 'engine-9' .*engine-0, engine-1"):
        access.ssh_command(workspace, LOCAL, "engine-9")


def test_what_is_kept_of_an_environment_can_be_forgotten(cloud: Cloud, workspace: Workspace) -> None:
    _opened(workspace)
    access.forget(workspace, "local")
    access.forget(workspace, "local")
    assert not workspace.known_hosts("local").parent.exists()
    assert workspace.cloud.exists()


# --- TLS of the endpoints


def test_an_environment_with_tls_signs_its_own_certificate_and_customers_trust_it(
    workspace: Workspace, cloud: Cloud
) -> None:
    secured = LOCAL.model_copy(update={"tls": Tls()})
    shown = _opened(workspace, secured).region.certificate
    assert shown is not None
    entry = yaml.safe_load(workspace.customer_clouds("local").read_text())["clouds"]["local"]
    authority = x509.load_pem_x509_certificate(Path(entry["cacert"]).read_bytes())
    certificate = x509.load_pem_x509_certificate(shown.chain.encode())
    certificate.verify_directly_issued_by(authority)
    assert _opened(workspace, secured).region.certificate == shown, "it is kept while it is good"
    assert _opened(workspace).region.certificate is None


def test_an_environment_with_a_certificate_of_its_operators_shows_that(
    workspace: Workspace, cloud: Cloud, tmp_path: Path
) -> None:
    issued = Authority(tmp_path / "theirs", "theirs", FakeClock().now()).issue("heat", [region().address])
    (tmp_path / "chain.pem").write_text(issued.chain)
    (tmp_path / "key.pem").write_text(issued.key.reveal())
    tls = Tls(certificate=tmp_path / "chain.pem", key=tmp_path / "key.pem", authority=tmp_path / "theirs/authority.pem")
    assert _opened(workspace, LOCAL.model_copy(update={"tls": tls})).region.certificate == issued
    entry = yaml.safe_load(workspace.customer_clouds("local").read_text())["clouds"]["local"]
    assert entry["cacert"] == str(tls.authority)
    plain = tls.model_copy(update={"authority": None})
    _opened(workspace, LOCAL.model_copy(update={"tls": plain}))
    assert "cacert" not in workspace.customer_clouds("local").read_text()


def test_database_and_broker_show_what_the_environment_signed_for_ten_years(workspace: Workspace, cloud: Cloud) -> None:
    secured = LOCAL.model_copy(update={"tls": Tls(internal=InternalTls.OFFERED)})
    found = _opened(workspace, secured).region
    assert set(found.internal) == {"database-0", "messaging-0"}
    authority = x509.load_pem_x509_certificate(found.authority.encode())
    for name, shown in found.internal.items():
        certificate = x509.load_pem_x509_certificate(shown.chain.encode())
        certificate.verify_directly_issued_by(authority)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert str(names.get_values_for_type(x509.IPAddress)[0]) == found.inventory.host(name).address
        assert shown.ends - FakeClock().now() > timedelta(days=3600), "nobody would see it end"
    assert _opened(workspace, secured).region.internal == found.internal, "it is kept"
    assert not _opened(workspace, LOCAL.model_copy(update={"tls": Tls()})).region.internal


def test_a_certificate_without_its_key_is_refused() -> None:
    with pytest.raises(ValidationError, match="certificate and key belong together"):
        Tls(certificate=Path("chain.pem"))
