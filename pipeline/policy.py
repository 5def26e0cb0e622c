"""The policy of a rollout: in which batches hosts move, when one counts as healthy, and what happens when one is not.

Fields are named as in Nomad's update block, Ansible's serial and Kubernetes' Deployment.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, model_validator

from pipeline.quantities import Seconds, Share, WrongKey

__all__ = ["AutoRevert", "Backup", "Canary", "DatabasePolicy", "Drain", "Health", "Order", "Policy"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)


class Order(StrEnum):
    """In which order the hosts of a role move, by name."""

    SORTED = "sorted"
    REVERSE_SORTED = "reverse_sorted"


class AutoRevert(StrEnum):
    """What goes back by itself when a host never gets healthy: nothing, its batch, or all that the run moved."""

    NONE = "none"
    BATCH = "batch"
    ALL = "all"


class Backup(StrEnum):
    """Whether a rollout may migrate the schema without a backup."""

    REQUIRED = "required"
    SKIP = "skip"


class Drain(_Frozen):
    """How long the pipeline waits for an engine to finish what it does, and how often it looks.

    After `timeout` the run ends as inconclusive; the engine goes on draining, and the same command goes on waiting.
    """

    timeout: Seconds
    poll: Seconds
    idle_polls: StrictInt = Field(ge=1)


class Health(_Frozen):
    """When a host counts as healthy: for `min_healthy_time` on end, within `healthy_deadline` of its start.

    A failed check starts the time again. A check that could not be made is an error, not a failure: so many
    `consecutive_errors` end the wait.
    """

    interval: Seconds
    min_healthy_time: Seconds
    healthy_deadline: Seconds
    consecutive_errors: StrictInt = Field(ge=1, le=100)

    @model_validator(mode="after")
    def _in_time(self) -> Health:
        if self.min_healthy_time >= self.healthy_deadline:
            raise WrongKey("min_healthy_time", "must be shorter than healthy_deadline, or no host is ever healthy")
        return self


class Canary(_Frozen):
    """How long the first batch proves itself, and whether the rollout then goes on without a person's word."""

    soak: Seconds
    auto_promote: StrictBool


class DatabasePolicy(_Frozen):
    """What must be done before the schema is migrated."""

    backup: Backup


class Policy(_Frozen):
    """How a rollout proceeds.

    `serial` are the sizes of the batches of each role, the last for ever; `max_unavailable` bounds how many hosts of a
    role are down at once within a batch; `max_fail` how many hosts may fail in the whole run before it halts;
    `progress_deadline` how long it may take from one healthy host to the next.
    """

    serial: Annotated[tuple[Share, ...], Field(min_length=1)]
    max_unavailable: Share
    order: Order
    health: Health
    drain: Drain
    batch_wait: Seconds
    canary: Canary
    progress_deadline: Seconds
    max_fail: StrictInt = Field(ge=0)
    auto_revert: AutoRevert
    database: DatabasePolicy
