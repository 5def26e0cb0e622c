"""Evidence: what a run left behind about a release in an environment, and the gate that reads it.

A Record says how one operation ended. `gate` answers whether the records of one environment let a release go on to the
next. Both are values in, values out: pipeline.edges.store keeps the records on disk.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import ClassVar, Literal, Protocol

from pydantic import ConfigDict, TypeAdapter, ValidationError

from pipeline.errors import ConfigurationInvalid, GateRefused
from pipeline.promotion import Evidence, Promotion

__all__ = ["Operation", "Record", "ReleaseLike", "StackOperation", "from_json", "gate", "to_json"]

Operation = Literal["deploy", "upgrade", "rollback", "verify", "smoke", "promote", "scale", "destroy"]
StackOperation = Literal["apply", "drift"]
"""What leaves a run, and no record about a release."""

# Which operations' records are evidence of what.
_KINDS: Mapping[Evidence, tuple[Operation, ...]] = {
    Evidence.ROLLOUT: ("deploy", "upgrade"),
    Evidence.VERIFY: ("verify",),
    Evidence.SMOKE: ("smoke",),
}
_ROLLOUT = _KINDS[Evidence.ROLLOUT]
_LOSSES = ("stacks_failed", "stacks_stuck", "requests_errors")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")


class ReleaseLike(Protocol):
    """What the gate needs to know of a release: the name people use, and the digest that it is."""

    @property
    def id(self) -> str:
        """Return the release's id."""

    @property
    def digest(self) -> str:
        """Return the digest of everything in the release."""


@dataclass(frozen=True, slots=True)
class Record:
    """How one operation on one environment ended, for one release.

    `counts` are whole numbers, or seconds where the name ends in _s: stacks_completed, requests_errors,
    requests_longest_gap_s, checks_failed, rungs_skipped... `started` and `ended` are UTC; `who` is user@host, or the
    CI's actor; `detail` is for people: what failed, in a line. Raises ValueError for names that could not be a file's,
    times that are not UTC or run backwards, and counts that are not finite.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)

    operation: Operation
    environment: str
    release_id: str
    release_digest: str
    passed: bool
    counts: Mapping[str, int | float]
    started: datetime
    ended: datetime
    who: str
    tool_version: str
    detail: str = ""

    def __post_init__(self) -> None:
        for name in ("environment", "release_id"):
            if not _NAME.fullmatch(getattr(self, name)):
                raise ValueError(f"{name}: {getattr(self, name)!r} is no name")
        if not self.release_digest:
            raise ValueError("release_digest: is empty")
        if any(moment.utcoffset() != timedelta(0) for moment in (self.started, self.ended)):
            raise ValueError("started and ended: must be UTC")
        if self.ended < self.started:
            raise ValueError("ended: is before started")
        if not all(math.isfinite(count) for count in self.counts.values()):
            raise ValueError("counts: must be finite")


def to_json(record: Record) -> str:
    """Return `record` as canonical JSON: sorted keys, no spaces, UTC times to the microsecond, one line."""
    values = {field.name: getattr(record, field.name) for field in fields(record)}
    values |= {"counts": dict(record.counts), "started": _iso(record.started), "ended": _iso(record.ended)}
    return json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def from_json(text: str | bytes) -> Record:
    """Return the record that to_json wrote. Raises ConfigurationInvalid, naming the field and what is wrong with it."""
    try:
        return TypeAdapter(Record).validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ConfigurationInvalid(f"not a record: {place + ': ' if place else ''}{first['msg']}") from error


def gate(
    records: Sequence[Record],
    environment: str,
    upstream: str | None,
    release: ReleaseLike,
    *,
    rules: Promotion,
    now: datetime,
) -> None:
    """Let `release` be promoted from `upstream` to `environment`, or raise GateRefused saying what is missing.

    It passes when `upstream` has, for exactly this release (by digest), a passing record of each kind that `rules` ask
    for, none older than they allow at `now`, each begun after any failure of this release there had ended, whatever
    operation failed; and when the release has been there for as long as it is to soak. Where customers lost something
    in an upgrade, one that went on from there is none of its own: only an upgrade of all hosts is. Evidence stays valid
    when `upstream` moves on to another release, but a release that is to soak must be there still; evidence never
    counts for another release. An environment that is promoted from nowhere (`upstream` None) has no gate. A refusal
    is no failure: record none.
    """
    if upstream is None:
        return
    history = [record for record in records if record.environment == upstream]
    findings = _findings(history, release, rules, now)
    reasons = [_told_absent(f, history, release) for f in findings if f.passing is None] + _told_revoked(findings)
    reasons += _told_old(findings, rules)
    commands = _commands(history, upstream, release, findings)
    if soaking := _told_soaking(history, release, rules, now):
        reasons.append(soaking)
        commands = commands or [f"inv promote --release {release.id} --to {environment} when it has soaked"]
    if reasons:
        raise GateRefused(
            f"{release.id} may not go from {upstream} to {environment}: {'; '.join(reasons)}",
            hint=" && ".join(commands),
        )


@dataclass(frozen=True, slots=True)
class _Finding:
    """For one requirement: its newest passing record, the newest failure of any operation, its own newest failure.

    `lost` is an upgrade in which customers lost something, and which none of all hosts came after.
    """

    kinds: tuple[Operation, ...]
    passing: Record | None
    failure: Record | None
    own_failure: Record | None
    not_before: datetime | None
    lost: Record | None

    @property
    def revoked(self) -> bool:
        """Whether it passed, and that counts no more because of a later failure."""
        return self.passing is not None and self.failure is not None and self.passing.started <= self.failure.ended

    @property
    def old(self) -> bool:
        """Whether it passed longer ago than counts."""
        return self.passing is not None and self.not_before is not None and self.passing.ended < self.not_before

    @property
    def holds(self) -> bool:
        return self.passing is not None and not self.revoked and not self.old


def _findings(history: Sequence[Record], release: ReleaseLike, rules: Promotion, now: datetime) -> tuple[_Finding, ...]:
    own = [record for record in history if record.release_digest == release.digest]
    failures = [record for record in own if not record.passed]
    failure = max(failures, key=_ended, default=None)
    not_before = None if rules.max_age is None else now - timedelta(seconds=rules.max_age)
    lost = _lost(history, release)

    def counts(record: Record, kinds: tuple[Operation, ...]) -> bool:
        rest = kinds == _ROLLOUT and lost is not None and record.started >= lost.ended
        return record.passed and record.operation in kinds and not rest

    return tuple(
        _Finding(
            kinds,
            max((r for r in own if counts(r, kinds)), key=_started, default=None),
            failure,
            max((r for r in failures if r.operation in kinds), key=_ended, default=None),
            not_before,
            lost if kinds == _ROLLOUT else None,
        )
        for kinds in (_KINDS[kind] for kind in rules.evidence)
    )


def _lost(history: Sequence[Record], release: ReleaseLike) -> Record | None:
    """Return the newest upgrade in which customers lost something, None where one of all hosts passed after it."""
    lost = None
    for record in sorted(history, key=_ended):
        upgrade = record.operation == "upgrade" and record.release_digest == release.digest
        if record.operation == "destroy" or (upgrade and record.passed and not record.counts.get("hosts_settled")):
            lost = None
        elif upgrade and any(record.counts.get(loss) for loss in _LOSSES):
            lost = record
    return lost


def _told_absent(finding: _Finding, history: Sequence[Record], release: ReleaseLike) -> str:
    """Say that a requirement has no passing record, and what may look like one."""
    text = f"no passing {' or '.join(finding.kinds)} of it"
    if lost := finding.lost:
        return (
            f"{text} (customers lost something in the {_told(lost)}{_why(lost)}: only one of all hosts makes up for it)"
        )
    if finding.own_failure:
        return f"{text} (the {_told(finding.own_failure)} failed{_why(finding.own_failure)})"
    passing = [r for r in history if r.passed and r.operation in finding.kinds]
    namesake = max((r for r in passing if r.release_id == release.id), key=_ended, default=None)
    if namesake:
        return f"{text} (that of {_when(namesake.ended)} is of another build, {namesake.release_digest})"
    return text


def _told_revoked(findings: Sequence[_Finding]) -> list[str]:
    """Say which passing records a later failure revoked, and by which record."""
    revoked = [finding.passing for finding in findings if finding.passing and finding.revoked]
    failure = findings[0].failure
    if not revoked or failure is None:
        return []
    what = ", ".join(f"{record.operation} of {_when(record.ended)}" for record in revoked)
    verb = "is" if len(revoked) == 1 else "are"
    return [f"its {what} {verb} revoked by the {_told(failure)}, which failed{_why(failure)}"]


def _told_old(findings: Sequence[_Finding], rules: Promotion) -> list[str]:
    """Say which passing records nothing but their age keeps from counting."""
    old = [finding.passing for finding in findings if finding.passing and finding.old and not finding.revoked]
    if not old or rules.max_age is None:
        return []
    what = ", ".join(f"{record.operation} of {_when(record.ended)}" for record in old)
    return [f"its {what} {'is' if len(old) == 1 else 'are'} older than {timedelta(seconds=rules.max_age)}"]


def _told_soaking(history: Sequence[Record], release: ReleaseLike, rules: Promotion, now: datetime) -> str:
    """Say for how long a release must be there yet, or "" where it has soaked."""
    if not rules.soak:
        return ""
    needed, since = timedelta(seconds=rules.soak), _there_since(history, release)
    if since is None:
        return f"it is not there, where it must soak for {needed}"
    left = since + needed - now
    return (
        f"it must soak until {_when(since + needed)}, {left.total_seconds():.0f} s more" if left > timedelta() else ""
    )


def _there_since(history: Sequence[Record], release: ReleaseLike) -> datetime | None:
    """Return since when a release has been the environment's on end, None where it is not there or failed last."""
    since = None
    for record in sorted(history, key=_ended):
        own = record.release_digest == release.digest
        if (own and not record.passed) or record.operation == "destroy":
            since = None
        elif record.operation in (*_ROLLOUT, "rollback"):
            stays = own or (not record.passed and bool(record.counts.get("reverted")))
            since = (since or (record.ended if own else None)) if stays else None
    return since


def _commands(
    history: Sequence[Record], upstream: str, release: ReleaseLike, findings: Sequence[_Finding]
) -> list[str]:
    """Return what to type, in order. Checks say nothing of a release that is no longer there: roll out first."""
    rollouts = [r for r in history if r.passed and r.operation in (*_ROLLOUT, "destroy")]
    newest = max(rollouts, key=_ended, default=None)
    running = None if newest is None or newest.operation == "destroy" else newest
    elsewhere = running is None or running.release_digest != release.digest
    lacking = [finding.kinds for finding in findings if not finding.holds]
    # A deploy of what is there already changes nothing, and is evidence that it is there.
    only_old = not elsewhere and any(f.old and not f.revoked for f in findings if f.kinds == _ROLLOUT)
    rollout = "upgrade" if running and not only_old else "deploy"
    first = [f"inv {rollout} {upstream} --release {release.id}"] if elsewhere or _ROLLOUT in lacking else []
    if not elsewhere and any(finding.lost and not finding.holds for finding in findings):
        first = [f"inv rollback {upstream}", f"inv upgrade {upstream} --release {release.id}"]
    return first + [f"inv {kinds[0]} {upstream}" for kinds in lacking if kinds != _ROLLOUT]


def _told(record: Record) -> str:
    return f"{record.operation} of {_when(record.ended)} by {record.who}"


def _why(record: Record) -> str:
    lines = record.detail.strip().splitlines()
    return f" ({lines[0]})" if lines else ""


def _when(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S UTC")


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _started(record: Record) -> datetime:
    return record.started


def _ended(record: Record) -> datetime:
    return record.ended
