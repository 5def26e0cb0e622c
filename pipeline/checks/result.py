"""How one check of one host ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["CheckResult", "Outcome"]

Outcome = Literal["passed", "failed", "error"]


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One check of one host. An "error" is a check that could not be made, for example of a host that is gone.

    `seconds` is its own time; `message` tells all that is wrong ("" if it passed). A check that failed tells it in
    parts too: what was `expected`, what was `found`, the `likely` cause, and lines of `detail`, as a diff.
    """

    name: str
    host: str
    role: str
    environment: str
    outcome: Outcome
    seconds: float
    message: str = ""
    expected: str = ""
    found: str = ""
    likely: str = ""
    detail: str = ""

    @property
    def classname(self) -> str:
        """The host as reports name it: "local.engine.engine-0"."""
        return f"{self.environment}.{self.role}.{self.host}"

    def __str__(self) -> str:
        told = self.message.removesuffix(f"\n{self.detail}") if self.detail else self.message
        said = ": " + told.replace("\n", "; ") if told else ""
        return f"{self.host}: {self.name} {self.outcome}{said}"
