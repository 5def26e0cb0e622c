"""What an environment asks of a release before it is promoted to it, and of its own hosts when they are verified."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StrictInt

from pipeline.quantities import Seconds

__all__ = ["Evidence", "Promotion", "Verification"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, use_attribute_docstrings=True)


class Evidence(StrEnum):
    """What a release may have proved in an environment: a rollout is a deploy or an upgrade."""

    ROLLOUT = "rollout"
    VERIFY = "verify"
    SMOKE = "smoke"


class Promotion(_Frozen):
    """What the environment before (promotes_from) must have seen of a release."""

    evidence: Annotated[tuple[Evidence, ...], Field(min_length=1)] = tuple(Evidence)
    """Of each of these a passing record, newer than any failure."""
    max_age: Seconds | None = None
    """How old each of these records may be; null for any age."""
    soak: Seconds = 0
    """How long the release must have been in the environment before, since its rollout passed."""


class Verification(_Frozen):
    """Where verify draws its lines."""

    clock_skew: Seconds = 2
    """How far clocks of hosts and of this machine may be apart: tokens and engines' rows are compared by them."""
    free_mib: StrictInt = Field(default=1024, ge=1)
    """MiB that must be free on every host: what installing the next release takes, with room for logs."""
    certificate: Seconds = 14 * 86400
    """How long a certificate must still last: time to notice, and to have it renewed."""
