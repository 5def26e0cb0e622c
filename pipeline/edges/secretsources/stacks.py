"""Secrets that are outputs of stacks in the environment's own cloud."""

from __future__ import annotations

from collections.abc import Callable

from pipeline.edges.heat import Heat, HeatRefused
from pipeline.edges.secretsources.source import Unreadable, text_of
from pipeline.secrets import Reference, Secret

__all__ = ["StackOutputs"]


class StackOutputs:
    """Outputs of stacks; `cloud` returns the Heat that has them."""

    def __init__(self, cloud: Callable[[], Heat]) -> None:
        self._cloud = cloud

    def read(self, reference: Reference) -> Secret:
        """Return the value of output `name` of stack `place`."""
        stack, output = reference.place, reference.name
        try:
            found = self._cloud().find(stack)
        except HeatRefused as error:
            raise Unreadable(
                f"Heat does not give it: {error.message}", hint=error.hint or "look at the cloud"
            ) from error
        if found is None:
            raise Unreadable("there is no such stack", hint="openstack stack list")
        if output not in found.outputs:
            raise Unreadable("the stack has no such output", hint=f"openstack stack output list {stack}")
        return text_of(found.outputs[output])
