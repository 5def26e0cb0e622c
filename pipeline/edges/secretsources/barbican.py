"""Secrets in Barbican, the key manager of the environment's own cloud, through openstacksdk."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import keystoneauth1.exceptions as ksa_exceptions

from pipeline.edges.heat import Heat
from pipeline.edges.secretsources.source import Unreadable
from pipeline.edges.sessions import root_cause
from pipeline.secrets import Reference, Secret

__all__ = ["Barbican"]

_ID = re.compile(r"(?:https?://\S+/secrets/)?([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})")


class Barbican:
    """Barbican, with the session of the Heat that `cloud` returns."""

    def __init__(self, cloud: Callable[[], Heat]) -> None:
        self._cloud = cloud

    def read(self, reference: Reference) -> Secret:
        """Return the text of a secret by its id, its address, or a name that no other secret has."""
        from openstack import exceptions

        try:
            return self._read(reference.name)
        except (exceptions.ForbiddenException, ksa_exceptions.Unauthorized) as error:
            hint = "openstack acl get, or log in as another user"
            raise Unreadable("Barbican refuses this user", hint=hint) from error
        except exceptions.NotFoundException as error:
            raise Unreadable("there is no such secret", hint="openstack secret list") from error
        except exceptions.HttpException as error:
            told = "it is no text" if error.status_code == 406 else f"Barbican answered {error.status_code}"
            raise Unreadable(told, hint="openstack secret get --payload_content_type text/plain …") from error
        except (exceptions.SDKException, ksa_exceptions.ClientException, ValueError) as error:
            cause = root_cause(error).splitlines()[0]
            raise Unreadable(f"Barbican did not answer: {cause}", hint="openstack secret list") from error

    def _read(self, name: str) -> Secret:
        from openstack import exceptions
        from openstack.connection import Connection

        heat = self._cloud()
        manager = Connection(session=heat.session, region_name=heat.region or None).key_manager
        # The library's own way to a payload takes an error's page for one.
        answer = manager.get(f"/secrets/{_identity(manager, name)}/payload", headers={"Accept": "text/plain"})
        exceptions.raise_from_response(answer)
        return Secret(answer.content.decode())


def _identity(manager: Any, name: str) -> str:
    if match := _ID.fullmatch(name):
        return match[1]
    found = [str(secret.secret_ref).rpartition("/")[2] for secret in manager.secrets(name=name)]
    if len(found) != 1:
        told = f"{len(found)} secrets are called so" if found else "there is no such secret"
        raise Unreadable(told, hint=f"openstack secret list --name {name}")
    return found[0]
