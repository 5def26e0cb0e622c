"""Where secrets are kept: one source each, all asked in the same way, and only when a secret is needed.

What is read stays in memory, in a type that never shows it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pipeline.edges.heat import Heat
from pipeline.edges.secretsources.barbican import Barbican
from pipeline.edges.secretsources.own import Files, Variables
from pipeline.edges.secretsources.source import SecretSource, Unreadable
from pipeline.edges.secretsources.stacks import StackOutputs
from pipeline.edges.secretsources.systemkeyring import SystemKeyring
from pipeline.edges.secretsources.vault import Vault
from pipeline.secrets import Secret, Source, VaultSettings, reference_of

__all__ = ["SecretSource", "Unreadable", "open_sources", "read_secret"]

Sources = Mapping[Source, SecretSource]


def open_sources(vault: VaultSettings, cloud: Callable[[], Heat]) -> Sources:
    """Return every source; nothing is asked of any before a secret is. `cloud` returns the environment's own."""
    own: Sources = {Source.ENV: Variables(), Source.FILE: Files(), Source.KEYRING: SystemKeyring()}
    return {
        **own,
        Source.STACK: StackOutputs(cloud),
        Source.BARBICAN: Barbican(cloud),
        Source.VAULT: Vault(vault, lambda: read_secret(own, vault.token) if vault.token else None),
    }


def read_secret(sources: Sources, text: str) -> Secret:
    """Return the secret that reference `text` means.

    Raises Unreadable, which names the reference, where there is none or it is empty.
    """
    reference = reference_of(text)
    try:
        secret = sources[reference.source].read(reference)
    except Unreadable as error:
        raise Unreadable(f"{text}: {error.message}", hint=error.hint) from error
    if not secret.reveal():
        raise Unreadable(f"{text}: it is empty", hint="give it a value")
    return secret
