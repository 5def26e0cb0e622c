"""A Region: what the stacks of an environment made. Hosts, endpoints, names, and secrets that print as ***."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.certificate import Certificate
from pipeline.environment import Environment, Role
from pipeline.errors import ConfigurationInvalid
from pipeline.inventory import Inventory, hosts_of
from pipeline.secrets import Secret

__all__ = ["Identity", "Region", "inventory_of", "region_of"]

_NONE: Mapping[str, Secret] = {}


@dataclass(frozen=True, slots=True)
class Identity:
    """Heat's names and passwords in Keystone. `auth_url` ends in /v3; domains of users and projects are Default."""

    auth_url: str
    service_user: str
    service_project: str
    service_password: Secret
    stack_domain: str
    stack_domain_admin: str
    stack_domain_password: Secret
    canary: str
    canary_password: Secret


@dataclass(frozen=True, slots=True)
class Region:
    """One deployed region: its hosts, where its APIs answer, and what its services share."""

    inventory: Inventory
    address: str
    identity: Identity
    database_password: Secret
    messaging_password: Secret
    encryption_key: Secret
    certificate: Certificate | None = None
    """What the endpoints show; None without TLS."""
    internal: Mapping[str, Certificate] = field(default_factory=dict)
    """What the hosts of database and broker show, by the host's name; none without TLS among hosts."""
    authority: str = ""
    """The certificate, in PEM, of who signed what is shown among hosts."""
    messaging_cookie: Secret | None = None
    """What members of a broker's cluster know one another by; None where the broker is one host."""

    @property
    def secrets(self) -> tuple[str, ...]:
        """Every secret in plain text, for whoever has to keep them out of what is shown."""
        identity = self.identity
        own = (self.database_password, self.messaging_password, self.encryption_key)
        theirs = (identity.service_password, identity.stack_domain_password, identity.canary_password)
        shown = (*([self.certificate] if self.certificate else []), *self.internal.values())
        keys = tuple(certificate.key for certificate in shown)
        cookie = (self.messaging_cookie,) if self.messaging_cookie else ()
        return tuple(secret.reveal() for secret in (*own, *theirs, *keys, *cookie))


def inventory_of(environment: Environment, outputs: Mapping[str, Mapping[str, Any]]) -> Inventory:
    """Return the hosts that stack `outputs` describe, for whoever needs nothing else. Raises as region_of does."""
    try:
        stacks = {role: outputs[environment.topology.stack_of(role)] for role in Role}
        hosts = tuple(host for role, found in stacks.items() for host in hosts_of(role, found["hosts"]))
    except KeyError as error:
        raise _not_deployed(environment, error) from error
    there = tuple(host for host in hosts if host.host_keys)
    return Inventory(environment.name, there, tuple(host for host in hosts if not host.host_keys))


def region_of(
    environment: Environment,
    outputs: Mapping[str, Mapping[str, Any]],
    *,
    auth_url: str,
    secrets: Mapping[str, Secret] = _NONE,
) -> Region:
    """Return the region that stack `outputs` ({stack: {key: value}}) describe; `auth_url` is the cloud's
    Keystone, ending in /v3; `secrets`, by their keys in the environment, are those that no stack made.

    Raises ConfigurationInvalid where a stack or an output is missing: the region is not deployed whole.
    """

    def secret(key: str, stack: str, output: str) -> Secret:
        return secrets[key] if key in secrets else Secret(outputs[stack][output])

    def password(role: Role) -> Secret:
        stack = environment.topology.stack_of(role)
        return secret(f"{role.value}_password", stack, "password" if stack == role else f"{role.value}_password")

    inventory = inventory_of(environment, outputs)
    messaging = outputs[environment.topology.stack_of(Role.MESSAGING)]
    try:
        return Region(
            inventory=inventory,
            address=outputs["network"]["public_address"],
            identity=_identity(environment, outputs["identity"], auth_url, secret),
            database_password=password(Role.DATABASE),
            messaging_password=password(Role.MESSAGING),
            encryption_key=secret("encryption_key", "identity", "encryption_key"),
            messaging_cookie=Secret(cookie) if (cookie := messaging.get("cookie")) else None,
        )
    except KeyError as error:
        raise _not_deployed(environment, error) from error


def _not_deployed(environment: Environment, error: KeyError) -> ConfigurationInvalid:
    return ConfigurationInvalid(
        f"environment {environment.name} is not deployed: there is no {error.args[0]!r} among its stacks' outputs",
        hint=f"inv deploy {environment.name} --release R",
    )


def _identity(
    environment: Environment, outputs: Mapping[str, Any], auth_url: str, secret: Callable[[str, str, str], Secret]
) -> Identity:
    def password(key: str) -> Secret:
        return secret(key, "identity", key)

    return Identity(
        auth_url=auth_url,
        service_user=outputs["service_user"],
        service_project=outputs["service_project"],
        service_password=password("service_password"),
        stack_domain=outputs["stack_domain"],
        stack_domain_admin=outputs["stack_domain_admin"],
        stack_domain_password=password("stack_domain_password"),
        canary=f"{environment.name}-canary",
        canary_password=password("canary_password"),
    )
