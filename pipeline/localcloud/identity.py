"""What the seed Heat needs in Keystone: its user, its domain for stacks' users, its place in the catalog."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml
from keystoneauth1 import exceptions, session
from keystoneauth1.identity import v3

from pipeline.errors import PipelineError
from pipeline.localcloud.cloud import LocalCloud
from pipeline.localcloud.credentials import Secrets
from pipeline.localcloud.settings import HEAT_USER, STACK_DOMAIN, STACK_DOMAIN_ADMIN
from pipeline.privatefile import write_private

__all__ = ["register", "write_clouds_yaml"]


def register(cloud: LocalCloud, secrets: Secrets) -> None:
    """Have everything of the seed Heat in Keystone; what is there is left alone.

    Raises PipelineError if Keystone refuses. Roles and domain after Heat's installation guide.
    """
    try:
        _register(_Keystone(cloud, secrets), cloud, secrets)
    except exceptions.ClientException as error:
        raise PipelineError(
            f"Keystone refused to register the seed Heat: {error}", hint="inv local.logs keystone"
        ) from error


def write_clouds_yaml(cloud: LocalCloud, secrets: Secrets) -> None:
    """Write the cloud's own clouds.yaml, readable by root only. The user's is never touched."""
    entry = {
        "auth": {
            "auth_url": cloud.keystone_url,
            "username": "admin",
            "password": secrets.admin_password,
            "project_name": "admin",
            "user_domain_name": "Default",
            "project_domain_name": "Default",
        },
        "region_name": cloud.region,
        "interface": "public",
        "identity_api_version": "3",
    }
    write_private(cloud.clouds_yaml, yaml.safe_dump({"clouds": {cloud.cloud: entry}}, sort_keys=False))


class _Keystone:
    """The few calls of the identity API that are needed, as the cloud's admin."""

    def __init__(self, cloud: LocalCloud, secrets: Secrets) -> None:
        auth = v3.Password(
            auth_url=cloud.keystone_url, username="admin", password=secrets.admin_password,
            project_name="admin", user_domain_name="Default", project_domain_name="Default",
        )  # fmt: skip
        self._session = session.Session(auth=auth)
        self._root = cloud.keystone_url

    def have(self, kind: str, key: Mapping[str, str], extra: Mapping[str, str] | None = None) -> str:
        """Return the id of the `kind` (singular) that has all of `key`, made with `extra` if there is none."""
        listing = self._session.get(f"{self._root}/{kind}s", params=dict(key)).json()
        for found in listing[f"{kind}s"]:
            return str(found["id"])
        made: Any = self._session.post(f"{self._root}/{kind}s", json={kind: {**key, **(extra or {})}}).json()
        return str(made[kind]["id"])

    def grant(self, role: str, user: str, where: str) -> None:
        """Give `user` the `role` on `where`, such as "projects/ID"; given twice is given once."""
        self._session.put(f"{self._root}/{where}/users/{user}/roles/{role}")


def _register(keystone: _Keystone, cloud: LocalCloud, secrets: Secrets) -> None:
    admin = keystone.have("role", {"name": "admin"})
    keystone.have("role", {"name": "heat_stack_owner"})
    keystone.have("role", {"name": "heat_stack_user"})

    project = keystone.have("project", {"name": "service", "domain_id": "default"})
    user = keystone.have("user", {"name": HEAT_USER, "domain_id": "default"}, {"password": secrets.heat_password})
    keystone.grant(admin, user, f"projects/{project}")

    domain = keystone.have("domain", {"name": STACK_DOMAIN})
    domain_admin = keystone.have(
        "user",
        {"name": STACK_DOMAIN_ADMIN, "domain_id": domain},
        {"password": secrets.stack_domain_password},
    )
    keystone.grant(admin, domain_admin, f"domains/{domain}")

    for kind, url in (("orchestration", cloud.heat_url), ("cloudformation", cloud.cfn_url)):
        service = keystone.have("service", {"type": kind}, {"name": f"heat-{kind}"})
        for interface in ("public", "internal", "admin"):
            keystone.have(
                "endpoint",
                {"service_id": service, "interface": interface, "region_id": cloud.region},
                {"url": url},
            )
