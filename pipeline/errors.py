"""Everything that can go wrong, with the exit code it ends in.

PipelineError                 1   internal error
├── ConfigurationInvalid      3   invalid configuration or template, nothing touched
├── GateRefused               4   a promotion's gate said no
├── ProtectedRefused          4   what is protected would be lost, and was not named
├── LockHeld                  5   another run owns the environment
├── PlanStale                 6   the world changed since the plan was made
├── FleetMixed                7   halted half-way, hosts on two releases or out of service
├── FailedAndReverted         8   failed, and what was changed is back
├── PreflightUnreachable      9   a host cannot be reached, nothing touched
├── VerificationFailed       10   checks or smoke rungs failed
├── Inconclusive             11   a deadline passed with no answer either way
│   └── Unanswered           11   database, broker or load balancer did not answer what was asked of it
├── OutcomeUnknown           12   a step was started and its end was not seen
├── StackFailed               7   a stack of the region failed
├── HostsFailed               7   a command failed on some of its hosts, or some could not be reached
├── HostUnreachable           7   a host was lost in the middle of a run
├── HostKeyRefused            9   a host showed a key other than the pinned one
└── CommandFailed             7   a command on a host ended with another status than 0
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "CommandFailed",
    "ConfigurationInvalid",
    "FailedAndReverted",
    "FleetMixed",
    "GateRefused",
    "HostKeyRefused",
    "HostUnreachable",
    "HostsFailed",
    "Inconclusive",
    "LockHeld",
    "OutcomeUnknown",
    "PipelineError",
    "PlanStale",
    "PreflightUnreachable",
    "ProtectedRefused",
    "StackFailed",
    "Unanswered",
    "VerificationFailed",
]


class PipelineError(Exception):
    """An error an operator can act on: what happened, and the next command to type.

    `message` is one line; `hint` is the next command or place to look; `exit_code` is the process's status.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  next: {self.hint}" if self.hint else self.message


class ConfigurationInvalid(PipelineError):
    """Configuration, template or argument is wrong; nothing was touched."""

    exit_code = 3


class GateRefused(PipelineError):
    """A promotion's gate said no."""

    exit_code = 4


class ProtectedRefused(PipelineError):
    """A protected host or stack would be replaced or deleted, and nobody named it; nothing was touched."""

    exit_code = 4


class LockHeld(PipelineError):
    """Another run owns the environment."""

    exit_code = 5


class PlanStale(PipelineError):
    """The world changed since the plan was made."""

    exit_code = 6


class FleetMixed(PipelineError):
    """The run halted half-way: hosts are on two releases, out of service, or not brought up yet."""

    exit_code = 7


class FailedAndReverted(PipelineError):
    """The run failed, and what it had changed is back as it was."""

    exit_code = 8


class PreflightUnreachable(PipelineError):
    """A host cannot be reached; nothing was touched."""

    exit_code = 9


class VerificationFailed(PipelineError):
    """Checks or smoke rungs failed."""

    exit_code = 10


class Inconclusive(PipelineError):
    """A deadline passed with no answer either way."""

    exit_code = 11


class Unanswered(Inconclusive):
    """A service of a region (database, broker, load balancer) is away: what was asked of it is not known."""


class OutcomeUnknown(PipelineError):
    """A step was started and its end was not seen."""

    exit_code = 12


class StackFailed(PipelineError):
    """A stack of the region ended in a failed state: its name, its deepest failed resource, Heat's reason."""

    exit_code = 7


class HostsFailed(PipelineError):
    """A command that many hosts ran failed on some, or some could not be reached: all are named."""

    exit_code = 7


class HostUnreachable(PipelineError):
    """A host that answered before no longer does."""

    exit_code = 7


class HostKeyRefused(PipelineError):
    """A host showed a key other than the one pinned for it."""

    exit_code = 9


class CommandFailed(PipelineError):
    """A command on a host ended with a status other than 0; carries the status and what it wrote."""

    exit_code = 7

    def __init__(self, message: str, *, status: int, stdout: str = "", stderr: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.stdout = stdout
        self.stderr = stderr
