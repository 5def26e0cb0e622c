"""Access to a deployed region: its stacks' outputs become a Site with connections that open when they are used."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from pipeline.certificate import Certificate
from pipeline.edges.clock import Clock
from pipeline.edges.heat import Heat, connect
from pipeline.edges.refusals import untouched
from pipeline.edges.ssh import SshRemote
from pipeline.edges.ssh.route import Hop, Routes
from pipeline.environment import CLUSTERED, Environment, Role, Ssh
from pipeline.errors import ConfigurationInvalid
from pipeline.inventory import LOOPBACK, Host, Inventory
from pipeline.lookup import Lookup
from pipeline.privatefile import write_private
from pipeline.progress import Progress
from pipeline.region import Region, inventory_of, region_of
from pipeline.secrets import Secret
from pipeline.site import Site
from pipeline.stacks import Stack
from pipeline.workspace import Workspace

__all__ = [
    "cloud_of",
    "forget",
    "identity_url",
    "is_deployed",
    "open_site",
    "read_region",
    "ssh_command",
]

_NONE: Mapping[str, Secret] = {}


def cloud_of(workspace: Workspace, environment: Environment) -> Heat:
    """Return the Heat that launches an environment's hosts. Raises ConfigurationInvalid where it is not configured."""
    clouds = workspace.clouds(environment)
    if clouds is not None and not clouds.exists():
        raise ConfigurationInvalid("the local cloud is not up", hint="inv local.up")
    # In a region of the cloud's own Keystone, the Heat that it launched is listed beside the one that launched it.
    return connect(environment.cloud, clouds, region=environment.region, other_than=f"{environment.name}-heat")


def identity_url(cloud: Heat) -> str:
    """Return the URL of the cloud's Keystone, ending in /v3."""
    root = str(cloud.session.auth.auth_url).rstrip("/").removesuffix("/v3")
    return f"{root}/v3"


def read_region(environment: Environment, cloud: Heat, secrets: Mapping[str, Secret] = _NONE) -> Region:
    """Return the region as its stacks' outputs describe it, and `secrets` that no stack made.

    Raises ConfigurationInvalid where an output is missing.
    """
    return region_of(environment, _outputs(environment, cloud), auth_url=identity_url(cloud), secrets=secrets)


def _outputs(environment: Environment, cloud: Heat) -> dict[str, Mapping[str, Any]]:
    with untouched():
        found = {name: cloud.find(f"{environment.name}-{name}") for name in _stacks(environment)}
    return {name: stack.outputs for name, stack in found.items() if stack is not None and stack.outputs}


def _stacks(environment: Environment) -> tuple[str, ...]:
    return ("network", "identity", *environment.topology.stacks)


def is_deployed(environment: Environment, cloud: Heat) -> bool:
    """Return whether every stack of a region was launched to its end once."""
    with untouched():
        found = [cloud.find(f"{environment.name}-{name}", outputs=False) for name in _stacks(environment)]
        return all(stack is not None and _was_launched(stack, cloud) for stack in found)


def _was_launched(stack: Stack, cloud: Heat) -> bool:
    told = cloud.find(stack.identity) if stack.rolled_back else stack
    return stack.was_launched and told is not None and not told.never_worked


@contextmanager
def open_site(
    workspace: Workspace,
    environment: Environment,
    clock: Clock,
    progress: Progress,
    *,
    lookup: Lookup | None = None,
    deploying: bool = False,
) -> Iterator[Site]:
    """Open the deployed region of `environment`, and close every connection at the end.

    `lookup` has the secrets that the environment refers to, where some were looked up before. Writes the host keys that
    the region's hosts signalled as known_hosts, and a clouds.yaml for the canary customer. Certificates are renewed,
    and must be good, only where one is `deploying`: else hosts do not get them, and others must not fail for them.
    """
    cloud = cloud_of(workspace, environment)
    secrets = (lookup or Lookup(workspace.environments)).region(environment, lambda: cloud)
    region = read_region(environment, cloud, secrets)
    for host in region.inventory.absent:
        progress.say(f"{host.name}: has not signalled, and is left out; inv deploy {environment.name} waits for it")
    certificate, trusted = _certificate(workspace, environment, region.address, clock, deploying)
    authority, internal = _internal(workspace, environment, region.inventory, clock, deploying)
    region = replace(region, certificate=certificate, authority=authority, internal=internal)
    customer_clouds = workspace.customer_clouds(environment.name)
    write_private(customer_clouds, _clouds_yaml(environment, region, trusted))
    write_private(workspace.known_hosts(environment.name), _known_hosts(region.inventory, environment.ssh.port))
    customer = connect(environment.name, customer_clouds, password=region.identity.canary_password)
    with SshRemote(environment.ssh, workspace.key(environment.name)) as remote:
        yield Site(environment, region, workspace.templates, remote, customer, clock, progress)


def ssh_command(workspace: Workspace, environment: Environment, name: str) -> list[str]:
    """Return the OpenSSH command that logs in to host `name` as the pipeline does, and heeds nothing of the user's own.

    It goes over the same jump hosts, with the same keys, pinned and of its own.
    """
    inventory = inventory_of(environment, _outputs(environment, cloud_of(workspace, environment)))
    hops = Routes(environment.ssh).to(inventory.host(name))
    known_hosts = workspace.known_hosts(environment.name)
    write_private(known_hosts, _known_hosts(inventory, environment.ssh.port) + _known_jumps(hops[:-1]))
    options = {
        "UserKnownHostsFile": _quoted(known_hosts),
        "StrictHostKeyChecking": "yes",
        **_identity(environment.ssh, workspace.key(environment.name)),
    }
    return _over(hops, [text for key, value in options.items() for text in ("-o", f"{key}={value}")])


def _identity(settings: Ssh, key: Path) -> dict[str, str]:
    """Return the options by which OpenSSH shows what SshRemote does; the certificate beside a key it finds itself."""
    certificate = {"CertificateFile": _quoted(settings.certificate)} if settings.certificate else {}
    only = {} if settings.agent else {"IdentitiesOnly": "yes"}
    return {"IdentityFile": _quoted(settings.identity or key), **certificate, **only}


def _over(hops: Sequence[Hop], flags: Sequence[str], *more: str) -> list[str]:
    """Return the command that logs in to the last of `hops` over those before it: -J would not hand `flags` on."""
    *jumps, last = hops
    if jumps:
        way = shlex.join(_over(jumps, flags, "-W", f"[{last.address}]:{last.port}"))
        more = (*more, "-o", f"ProxyCommand={_literal(way)}")
    return ["ssh", "-F", "/dev/null", *flags, "-o", f"Port={last.port}", *more, f"{last.user}@{last.address}"]


def _known_jumps(jumps: Sequence[Hop]) -> str:
    """Return the lines of known_hosts that pin `jumps`."""
    places = ((hop.address if hop.port == 22 else f"[{hop.address}]:{hop.port}", hop.host_keys) for hop in jumps)
    return "".join(f"{place} {key}\n" for place, keys in places for key in keys)


def _quoted(path: Path) -> str:
    """Return a path as OpenSSH's options take it, in which a blank or a quote would mean something."""
    text = _literal(str(path.expanduser()))
    escaped = text.replace("\\", "\\\\").replace('"', r"\"")
    return text if shlex.quote(text) == text else f'"{escaped}"'


def _literal(text: str) -> str:
    """Return `text` for an option of OpenSSH's in which % would begin a token."""
    return text.replace("%", "%%")


def forget(workspace: Workspace, name: str) -> None:
    """Remove what is kept of an environment whose cloud is gone: its key, pinned host keys and clouds.yaml."""
    shutil.rmtree(workspace.key(name).parent, ignore_errors=True)


def _certificate(
    workspace: Workspace, environment: Environment, address: str, clock: Clock, deploying: bool
) -> tuple[Certificate | None, Path | None]:
    """Return what the endpoints at `address` show, and the file of who signed it, for customers to trust."""
    tls, now = environment.tls, clock.now()
    if tls is None:
        return None, None
    from pipeline.edges.authority import Authority, read_certificate  # regions without TLS need no cryptography for it

    if tls.certificate is not None and tls.key is not None:
        chain, key = tls.certificate.expanduser(), tls.key.expanduser()
        return read_certificate(chain, key, address, now if deploying else None), tls.authority
    authority = Authority(workspace.authority(environment.name), environment.name, now)
    return authority.issue("endpoints", [address], renewing=deploying), authority.path


def _internal(
    workspace: Workspace, environment: Environment, inventory: Inventory, clock: Clock, deploying: bool
) -> tuple[str, Mapping[str, Certificate]]:
    """Return who signs what database and broker show, in PEM, and what each of their hosts shows."""
    if environment.internal_tls is None:
        return "", {}
    from pipeline.edges.authority import TEN_YEARS, Authority  # as above

    authority = Authority(workspace.authority(environment.name), environment.name, clock.now())
    # Heat comes to a cluster's members through a proxy on its own host, and asks for the name that it connected to.
    proxied = [LOOPBACK] if environment.topology.is_cluster(Role.DATABASE) else []

    def names(host: Host) -> list[str]:
        return [host.address, host.name, *(proxied if host.role is Role.DATABASE else [])]

    hosts = inventory.of(*CLUSTERED)
    return authority.certificate, {
        host.name: authority.issue(host.name, names(host), days=TEN_YEARS, renewing=deploying) for host in hosts
    }


def _clouds_yaml(environment: Environment, region: Region, trusted: Path | None) -> str:
    identity = region.identity
    # A password that is kept elsewhere is in memory alone; Heat's own stacks hold the others too.
    known = {} if environment.secrets.canary_password else {"password": identity.canary_password.reveal()}
    auth = {
        "auth_url": identity.auth_url,
        "username": identity.canary,
        **known,
        "project_name": identity.canary,
        "user_domain_name": "Default",
        "project_domain_name": "Default",
    }
    entry = {"auth": auth, "region_name": environment.heat.region, "interface": "public", "identity_api_version": "3"}
    entry |= {"orchestration_service_name": f"{environment.name}-heat"}
    entry |= {"cloudformation_service_name": f"{environment.name}-heat-cfn"}
    trust = {"cacert": str(trusted.expanduser())} if trusted else {}
    return yaml.safe_dump({"clouds": {environment.name: {**entry, **trust}}})


def _known_hosts(inventory: Inventory, port: int) -> str:
    def pattern(address: str) -> str:
        return address if port == 22 else f"[{address}]:{port}"

    hosts = inventory.machines
    return "".join(f"{pattern(host.address)},{host.name} {key}\n" for host in hosts for key in host.host_keys)
