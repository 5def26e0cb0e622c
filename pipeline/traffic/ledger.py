"""The ledger: what became of every stack and of every request, written by many threads."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any

from pipeline.edges.clock import Clock
from pipeline.errors import VerificationFailed
from pipeline.traffic.relay import WaitCounts

__all__ = ["Counts", "Ledger", "Line", "Noticed", "RequestCounts", "StackCounts", "TrafficReport"]

_NAMED_FAILURES = 50
_STACK = re.compile(r"(?:(/stacks/)[^/?]+(?:/[0-9a-f-]{36})?|(/waitcondition/)[^?\s]+)")
_ANY = r"\1\2*"
_QUERY = re.compile(r"\?[^\s?'\"]*=[^\s'\"]*")


@dataclass(frozen=True, slots=True)
class StackCounts:
    """Stacks: created, updated and deleted well; ended in a FAILED state; never ended in time."""

    completed: int
    failed: int
    stuck: int


@dataclass(frozen=True, slots=True)
class RequestCounts:
    """HTTP requests to Heat: all, those that went wrong, and the longest time in which none succeeded."""

    total: int
    errors: int
    longest_gap_s: float


@dataclass(frozen=True, slots=True)
class Counts:
    """A snapshot, for people who watch."""

    stacks: StackCounts
    requests: RequestCounts


@dataclass(frozen=True, slots=True)
class TrafficReport:
    """What the customers saw from the first request to the last.

    `failures` names the first failed stacks, then the kinds of requests that went wrong, with how many of each;
    `revisions` are the (api, engine) pairs that build_info gave, as first seen.
    """

    stacks: StackCounts
    requests: RequestCounts
    failures: tuple[str, ...]
    revisions: tuple[tuple[str, str], ...]
    wait_conditions: WaitCounts = field(default_factory=WaitCounts)

    @property
    def told(self) -> str:
        """What the first few customers who were let down noticed, in a line; "" for nothing."""
        return f"customers noticed: {'; '.join(self.failures[:3])}" if not self.ok else ""

    @property
    def ok(self) -> bool:
        """Whether no customer was let down."""
        return not (self.stacks.failed or self.stacks.stuck or self.requests.errors or self.failures)

    def counts(self) -> dict[str, int | float]:
        """Return every count by its full name (stacks_failed, requests_longest_gap_s), for a record."""
        parts = ((part, asdict(getattr(self, part))) for part in ("stacks", "requests", "wait_conditions"))
        return {f"{part}_{name}": count for part, counts in parts for name, count in counts.items()}

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain values, for a record."""
        return {
            **asdict(self),
            "failures": list(self.failures),
            "revisions": [{"api": api, "engine": engine} for api, engine in self.revisions],
        }


class Noticed(VerificationFailed):
    """Customers lost a stack or a request in a rollout that ended well; `report` is what they saw."""

    def __init__(self, message: str, *, report: TrafficReport, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.report = report


@dataclass(frozen=True, slots=True)
class _Refusal:
    """How often a kind of request went wrong, when first, and what was said then."""

    count: int
    first: datetime
    said: str


class Ledger:
    """Counts of one run of traffic, safe to write from any thread."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._guard = threading.Lock()
        self._total = self._errors = self._completed = 0
        self._failed: list[str] = []
        self._stuck: list[str] = []
        self._failures: list[str] = []
        self._refusals: dict[str, _Refusal] = {}
        self._revisions: list[tuple[str, str]] = []
        self._last_success = clock.monotonic()
        self._longest_gap = 0.0
        self._closed = False

    def open(self) -> None:
        """Begin the count: time that passed until now is no gap."""
        with self._guard:
            self._last_success = self._clock.monotonic()

    def request(self, what: str, error: str, said: str = "") -> None:
        """Count one request: `what` was asked, `error` is "" where it went well, `said` what the server says of it."""
        with self._guard:
            self._total += 1
            if error:
                self._errors += 1
                # A dead API refuses hundreds of requests: named one by one they would hide everything else.
                kind = _public(f"{_STACK.sub(_ANY, what)}: {error}")
                known = self._refusals.get(kind) or _Refusal(0, self._clock.now(), _public(said and f": {said}"))
                self._refusals[kind] = replace(known, count=known.count + 1)
            else:
                self._longest_gap = self._gap()
                self._last_success = self._clock.monotonic()

    def completed(self) -> None:
        """Count a stack that went its whole way."""
        with self._guard:
            self._completed += 1

    def failed(self, stack: str, status: str, reason: str) -> None:
        """Count a stack that ended in a failed state, or with outputs it must not have."""
        with self._guard:
            self._failed.append(stack)
            self._failures.append(_public(f"stack {stack}: {status}: {reason}"))

    def stuck(self, stack: str, status: str, seconds: float) -> None:
        """Count a stack that was still in `status` after `seconds`."""
        with self._guard:
            self._stuck.append(stack)
            self._failures.append(f"stack {stack}: still {status} after {seconds:.0f} s")

    def note(self, failure: str) -> None:
        """Name a failure that is neither a stack's nor a request's."""
        with self._guard:
            self._failures.append(_public(failure))

    def revision(self, api: str, engine: str) -> None:
        """Take note that build_info gave these revisions."""
        with self._guard:
            if (api, engine) not in self._revisions:
                self._revisions.append((api, engine))

    def close(self) -> None:
        """End the count: time that passes from now on is no gap."""
        with self._guard:
            self._longest_gap = self._gap()
            self._closed = True

    @property
    def kept(self) -> frozenset[str]:
        """The stacks that failed or are stuck: they stay for a look."""
        with self._guard:
            return frozenset(self._failed + self._stuck)

    def counts(self) -> Counts:
        """Return the counts as they are now."""
        with self._guard:
            return Counts(
                StackCounts(self._completed, len(self._failed), len(self._stuck)),
                RequestCounts(self._total, self._errors, round(self._gap(), 3)),
            )

    def report(self) -> TrafficReport:
        """Return the whole account as it is now."""
        counts = self.counts()
        with self._guard:
            refusals = (
                f"{refusal.count} × {kind} (first at {refusal.first:%H:%M:%S} UTC{refusal.said})"
                for kind, refusal in self._refusals.items()
            )
            failures = (*self._failures[:_NAMED_FAILURES], *tuple(refusals)[:_NAMED_FAILURES])
            return TrafficReport(counts.stacks, counts.requests, failures, tuple(self._revisions))

    def _gap(self) -> float:
        if self._closed:
            return self._longest_gap
        return max(self._longest_gap, self._clock.monotonic() - self._last_success)


class Line:
    """One customer's line in the ledger: an observer of its own requests, which knows what it expects."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._expected: frozenset[int] = frozenset()
        self._demanded: frozenset[int] = frozenset()

    def exchanged(self, method: str, url: str, status: int, error: str, said: str = "") -> None:
        """Count one exchange; see pipeline.edges.sessions.Observer."""
        if not error and not self._right(status):
            error = f"HTTP {status}"
        self._ledger.request(f"{method} {url.partition('?')[0]}", error, said)

    @contextmanager
    def expecting(self, *statuses: int) -> Iterator[None]:
        """Count `statuses` as right answers for a while: 404 for a stack that is being deleted."""
        before, self._expected = self._expected, frozenset(statuses)
        try:
            yield
        finally:
            self._expected = before

    @contextmanager
    def demanding(self, *statuses: int) -> Iterator[None]:
        """Count nothing but `statuses` as right answers for a while."""
        before, self._demanded = self._demanded, frozenset(statuses)
        try:
            yield
        finally:
            self._demanded = before

    def _right(self, status: int) -> bool:
        if self._demanded:
            return status in self._demanded
        return status < 400 or status in self._expected


def _public(text: str) -> str:
    """Return `text` without the queries of addresses: a presigned one is a password, and errors quote addresses."""
    return _QUERY.sub("", text)
