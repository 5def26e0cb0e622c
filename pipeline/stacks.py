"""What Heat tells of stacks: values, and nothing that asks for them (pipeline.edges.heat does)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Answer", "Event", "Resource", "Service", "Stack"]


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
    """One resource; `depth` counts how many stacks it is nested in below the one asked for."""

    name: str
    kind: str
    status: str
    reason: str
    physical_id: str
    stack: str
    depth: int


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
