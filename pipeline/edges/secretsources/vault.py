"""Secrets in Vault's key-value store, version 2. The only importer of hvac."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

import requests

from pipeline.edges.secretsources.source import Unreadable, text_of
from pipeline.edges.sessions import root_cause
from pipeline.secrets import Reference, Secret, VaultSettings

if TYPE_CHECKING:
    import hvac

__all__ = ["Vault"]

_TIMEOUT = 10  # seconds
_TOKEN = "vault login, or set VAULT_TOKEN or secrets.vault.token"  # noqa: S105 (where it comes from)


class Vault:
    """Vault as `settings` say; what they leave out comes from VAULT_ADDR, VAULT_NAMESPACE and VAULT_TOKEN.

    `token` returns the token that the settings refer to, None where they do not.
    """

    def __init__(self, settings: VaultSettings, token: Callable[[], Secret | None]) -> None:
        self._settings = settings
        self._token = token

    def read(self, reference: Reference) -> Secret:
        """Return key `name` of the newest version of what is at `path` of mount `place`."""
        from hvac import exceptions

        client = self._client()
        try:
            answer = client.secrets.kv.v2.read_secret_version(
                path=reference.path, mount_point=reference.place, raise_on_deleted_version=True
            )
            found = answer["data"]["data"]
        except (exceptions.Forbidden, exceptions.Unauthorized) as error:
            raise Unreadable("Vault refuses its token", hint=_TOKEN) from error
        except exceptions.InvalidPath as error:
            where = f"-mount={reference.place} {reference.path}"
            raise Unreadable("there is nothing, or it was deleted", hint=f"vault kv get {where}") from error
        except (exceptions.VaultError, requests.RequestException, ValueError) as error:
            raise Unreadable(
                f"Vault at {client.url} did not answer: {root_cause(error).splitlines()[0]}", hint="vault status"
            ) from error
        except (KeyError, TypeError) as error:
            raise Unreadable("it is not in a key-value store of version 2", hint="vault secrets list") from error
        if not isinstance(found, dict) or reference.name not in found:
            raise Unreadable(f"it has no key {reference.name!r}", hint=f"vault kv get -mount={reference.place} …")
        return text_of(found[reference.name])

    def _client(self) -> hvac.Client:
        import hvac  # takes a third of a second to load, which few tasks need

        address = self._settings.address or os.environ.get("VAULT_ADDR")
        if not address:
            raise Unreadable("nobody says where Vault is", hint="set VAULT_ADDR or secrets.vault.address")
        token = self._token()
        namespace = self._settings.namespace or os.environ.get("VAULT_NAMESPACE")
        client = hvac.Client(address, token.reveal() if token else None, timeout=_TIMEOUT, namespace=namespace)
        if not client.token:
            raise Unreadable("there is no token for Vault", hint=_TOKEN)
        return client
