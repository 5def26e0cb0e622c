"""What Heat tells of stacks: values, and nothing that asks for them (pipeline.edges.heat does)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

__all__ = ["Answer", "Content", "Event", "Kind", "Resource", "ResourceChange", "Service", "Stack"]

_NEVER_WORKED = ("CREATE_FAILED", "DELETE_FAILED")


@dataclass(frozen=True, slots=True)
class Stack:
    """One stack: `status` is Heat's stack_status, for instance CREATE_COMPLETE."""

    id: str
    name: str
    status: str
    reason: str
    updated: str
    outputs: Mapping[str, Any]
    tags: tuple[str, ...] = ()

    @property
    def identity(self) -> str:
        """Name and id: Heat finds a stack by them without a redirect, wherever it takes a stack's id."""
        return f"{self.name}/{self.id}"

    @property
    def in_progress(self) -> bool:
        """Whether an action is under way."""
        return self.status.endswith("_IN_PROGRESS")

    @property
    def complete(self) -> bool:
        """Whether the last action ended well."""
        return self.status.endswith("_COMPLETE")

    @property
    def as_sent(self) -> bool:
        """Whether it is what was last sent: an update that was rolled back ends complete too, with the tags of it."""
        return self.complete and not self.rolled_back

    def was_sent(self, tag: str) -> bool:
        """Whether it has the content that `tag` names: one that was rolled back has the tags of what failed."""
        return tag in self.tags and not self.rolled_back

    @property
    def rolled_back(self) -> bool:
        """Whether its last action was rolled back, or that failed too."""
        return self.status.startswith("ROLLBACK")

    @property
    def never_worked(self) -> bool:
        """Whether its creation failed, or it is a rest that could not be deleted; it must be known with its outputs.

        A creation that was rolled back leaves a stack of an empty template, without outputs.
        """
        return self.status in _NEVER_WORKED or (self.rolled_back and not self.outputs)

    @property
    def is_rest(self) -> bool:
        """Whether it could not be deleted: what is left of it may be of use yet."""
        return self.status == "DELETE_FAILED"

    @property
    def was_launched(self) -> bool:
        """Whether it was launched to its end once, whatever became of later updates and checks."""
        return self.complete or self.status.startswith(("UPDATE_", "CHECK_", "ROLLBACK_"))


@dataclass(frozen=True, slots=True)
class Content:
    """What a stack was last sent: its template as Heat parsed it, its files, and its heat environment."""

    template: Mapping[str, Any]
    files: Mapping[str, str]
    environment: Mapping[str, Any]


class Kind(StrEnum):
    """What an update does to a resource, in Heat's words."""

    ADDED = "added"
    UPDATED = "updated"
    REPLACED = "replaced"
    DELETED = "deleted"
    UNCHANGED = "unchanged"


@dataclass(frozen=True, slots=True, order=True)
class ResourceChange:
    """What an update does to one resource; `path` is its name, after those of the resources it is nested in."""

    path: str
    kind: Kind
    type: str

    @property
    def head(self) -> str:
        """The name of the resource of the stack itself that this one is, or is nested in."""
        return self.path.partition("/")[0]


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a stack or of a stack nested in it."""

    id: str
    stack: str
    resource: str
    status: str
    reason: str
    time: str


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource; `path` is its name, after those of the resources it is nested in, below the stack asked for."""

    path: str
    kind: str
    status: str
    reason: str
    physical_id: str
    stack: str

    @property
    def name(self) -> str:
        """Its name in its own stack."""
        return self.path.rpartition("/")[2]

    @property
    def depth(self) -> int:
        """How many stacks it is nested in."""
        return self.path.count("/")

    @property
    def failed(self) -> bool:
        """Whether the last action on it failed."""
        return self.status.endswith("_FAILED")


@dataclass(frozen=True, slots=True)
class Service:
    """One engine worker as Heat's service table knows it; `status` is "up" or "down"."""

    engine_id: str
    host: str
    status: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What a plain HTTP request was answered."""

    status: int
    text: str
