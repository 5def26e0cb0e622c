"""Secrets in the keyring of the operator's own system. The only importer of keyring."""

from __future__ import annotations

from pipeline.edges.secretsources.source import Unreadable
from pipeline.secrets import Reference, Secret

__all__ = ["SystemKeyring"]


class SystemKeyring:
    """The keyring that the system has: Secret Service, macOS Keychain, Windows Credential Locker."""

    def read(self, reference: Reference) -> Secret:
        """Return what the keyring has for `name` of service `place`."""
        import keyring  # takes a fifth of a second to load, which few tasks need
        from keyring import errors

        try:
            text = keyring.get_password(reference.place, reference.name)
        except errors.NoKeyringError as error:
            raise Unreadable("this system has no keyring", hint="keyring diagnose, or keep it elsewhere") from error
        except (errors.KeyringError, RuntimeError) as error:
            raise Unreadable(f"the keyring does not give it: {error}", hint="unlock it: keyring diagnose") from error
        if text is None:
            raise Unreadable("there is no such secret", hint=f"keyring set {reference.place} {reference.name}")
        return Secret(text)
