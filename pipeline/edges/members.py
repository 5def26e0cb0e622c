"""The hosts of a role that know the same, one or a cluster: any of them is asked, and whoever answered last first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from pipeline.errors import HostUnreachable, Unanswered
from pipeline.inventory import Host

__all__ = ["Members"]

T = TypeVar("T")


class Members:
    """`hosts`, in the order in which they are asked. Threads may share it: at worst one asks a host that is away."""

    def __init__(self, hosts: Sequence[Host]) -> None:
        self._hosts = tuple(hosts)

    @property
    def last(self) -> Host:
        """Whoever answered last; the first, where none was asked."""
        return self._hosts[0]

    def ask(self, act: Callable[[Host], T]) -> T:
        """Return what `act` gives for the first host that answers.

        `act` raises HostUnreachable or Unanswered where its host does not; where none does, the first one's is raised.
        """
        errors: list[HostUnreachable | Unanswered] = []
        for host in self._hosts:
            try:
                answer = act(host)
            except (HostUnreachable, Unanswered) as error:
                errors.append(error)
                continue
            if errors:
                self._hosts = (host, *(other for other in self._hosts if other is not host))
            return answer
        raise errors[0]
