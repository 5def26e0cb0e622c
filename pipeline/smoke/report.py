"""What a climb of the ladder came to."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from pipeline import junit

__all__ = ["RungResult", "SmokeReport"]


@dataclass(frozen=True, slots=True)
class RungResult:
    """One rung: what was seen, or why it was skipped (`detail`), and what is probably wrong (`likely_cause`)."""

    name: str
    outcome: junit.Outcome
    seconds: float
    detail: str
    likely_cause: str = ""


@dataclass(frozen=True, slots=True)
class SmokeReport:
    """Every rung, in the order of the climb."""

    region: str
    rungs: tuple[RungResult, ...]

    @property
    def ok(self) -> bool:
        """Whether no rung failed."""
        return not self.count("failed")

    def count(self, outcome: junit.Outcome) -> int:
        """Return how many rungs ended so."""
        return sum(rung.outcome == outcome for rung in self.rungs)

    @property
    def told(self) -> str:
        """The rungs that failed, in one line: what an error or a record says of them."""
        return "; ".join(f"{rung.name}: {rung.detail}" for rung in self.rungs if rung.outcome == "failed")

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain values, for a record."""
        outcomes: tuple[junit.Outcome, ...] = ("passed", "failed", "skipped")
        counts: dict[str, int] = {outcome: self.count(outcome) for outcome in outcomes}
        return {"region": self.region, **counts, "rungs": [asdict(rung) for rung in self.rungs]}

    def to_junit(self) -> str:
        """Return the report as a JUnit XML document."""
        suite = f"smoke.{self.region}"
        return junit.document(suite, (self._case(suite, rung) for rung in self.rungs))

    @staticmethod
    def _case(suite: str, rung: RungResult) -> junit.Case:
        cause = f"\nlikely cause: {rung.likely_cause}" if rung.likely_cause else ""
        return junit.Case(suite, rung.name, rung.seconds, rung.outcome, rung.detail + cause)
