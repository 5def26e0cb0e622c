"""A Region: what the stacks of an environment made. Hosts, endpoints, names, and secrets that print as ***."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import SecretStr

from pipeline.certificate import Certificate
from pipeline.environment import Environment, Role
from pipeline.errors import ConfigurationInvalid
from pipeline.inventory import Inventory, hosts_of

__all__ = ["Identity", "Region", "region_of"]


@dataclass(frozen=True, slots=True)
class Identity:
    """Heat's names and passwords in Keystone. `auth_url` ends in /v3; domains of users and projects are Default."""

    auth_url: str
    service_user: str
    service_project: str
    service_password: SecretStr
    stack_domain: str
    stack_domain_admin: str
    stack_domain_password: SecretStr
    canary: str
    canary_password: SecretStr


@dataclass(frozen=True, slots=True)
class Region:
    """One deployed region: its hosts, where its APIs answer, and what its services share."""

    inventory: Inventory
    address: str
    identity: Identity
    database_password: SecretStr
    messaging_password: SecretStr
    encryption_key: SecretStr
    certificate: Certificate | None = None
    """What the endpoints show; None without TLS."""

    @property
    def secrets(self) -> tuple[str, ...]:
        """Every secret in plain text, for whoever has to keep them out of what is shown."""
        identity = self.identity
        own = (self.database_password, self.messaging_password, self.encryption_key)
        theirs = (identity.service_password, identity.stack_domain_password, identity.canary_password)
        keys = (self.certificate.key,) if self.certificate else ()
        return tuple(secret.get_secret_value() for secret in (*own, *theirs, *keys))


def region_of(environment: Environment, outputs: Mapping[str, Mapping[str, Any]], *, auth_url: str) -> Region:
    """Return the region that stack `outputs` ({stack: {key: value}}) describe; `auth_url` is the cloud's
    Keystone, ending in /v3.

    Raises ConfigurationInvalid where a stack or an output is missing: the region is not deployed whole.
    """
    try:
        identity = outputs["identity"]
        hosts = tuple(host for role in Role for host in hosts_of(role, outputs[role.value]["hosts"]))
        return Region(
            inventory=Inventory(environment.name, hosts),
            address=outputs["network"]["public_address"],
            identity=_identity(environment, identity, auth_url),
            database_password=SecretStr(outputs["database"]["password"]),
            messaging_password=SecretStr(outputs["messaging"]["password"]),
            encryption_key=SecretStr(identity["encryption_key"]),
        )
    except KeyError as error:
        raise ConfigurationInvalid(
            f"environment {environment.name} is not deployed: there is no {error.args[0]!r} among its stacks' outputs",
            hint=f"inv deploy {environment.name} --release R",
        ) from error


def _identity(environment: Environment, outputs: Mapping[str, Any], auth_url: str) -> Identity:
    return Identity(
        auth_url=auth_url,
        service_user=outputs["service_user"],
        service_project=outputs["service_project"],
        service_password=SecretStr(outputs["service_password"]),
        stack_domain=outputs["stack_domain"],
        stack_domain_admin=outputs["stack_domain_admin"],
        stack_domain_password=SecretStr(outputs["stack_domain_password"]),
        canary=f"{environment.name}-canary",
        canary_password=SecretStr(outputs["canary_password"]),
    )
