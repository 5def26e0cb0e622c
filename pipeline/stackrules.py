"""Rules for the stacks of a region: what becomes of one that fails, how long each may take, which are protected."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field, StrictBool

from pipeline.quantities import Seconds

__all__ = ["OnFailure", "StackRule", "StackRules"]


class OnFailure(StrEnum):
    """What becomes of a stack whose action failed."""

    STOP = "stop"
    ROLLBACK = "rollback"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)


class StackRule(_Frozen):
    """The rules of one stack."""

    timeout: Seconds | None = Field(default=None, description="how long an action may take; deadlines.stack where null")
    protected: StrictBool = Field(default=False, description="nothing in it is replaced or deleted unless it is named")


class StackRules(_Frozen):
    """What becomes of a stack that fails, and the rules of each, by its name."""

    on_failure: OnFailure = Field(
        default=OnFailure.STOP,
        description="stop: it stays as it is, to be looked at; rollback: a new one is deleted, another goes back",
    )
    each: Mapping[str, StackRule] = {}

    def of(self, name: str) -> StackRule:
        """Return the rules of stack `name`."""
        return self.each.get(name, StackRule())

    @property
    def protected(self) -> frozenset[str]:
        """The names of the protected stacks."""
        return frozenset(name for name, rule in self.each.items() if rule.protected)
