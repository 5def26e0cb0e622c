"""Evidence: records survive the trip through JSON, and the gate lets through what was proved and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from pydantic import ValidationError

from pipeline.errors import ConfigurationInvalid, GateRefused
from pipeline.evidence import Operation, Record, from_json, gate, to_json
from pipeline.promotion import Promotion

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Named:
    """A release, as far as the gate cares."""

    id: str
    digest: str


NEW = Named("26.0.2-0123456789ab", "0123456789abcdef")
OLD = Named("25.0.2-ba9876543210", "ba9876543210cdef")


def _record(
    operation: Operation,
    minute: float,
    *,
    passed: bool = True,
    release: Named = NEW,
    environment: str = "local",
    detail: str = "",
    **more: int,
) -> Record:
    """Return a record that began `minute` minutes after noon and took half a minute; `more` are further counts."""
    started = NOON + timedelta(minutes=minute)
    ended = started + timedelta(seconds=30)
    counts = {"stacks_completed": 45, "requests_longest_gap_s": 0.25, **more}
    return Record(
        operation,
        environment,
        release.id,
        release.digest,
        passed,
        counts,
        started,
        ended,
        "ada@laptop",
        "0.1.0",
        detail,
    )


ANY = Promotion()
PROVED = (_record("upgrade", 0), _record("verify", 1), _record("smoke", 2))


def _gate(records: Sequence[Record], release: Named = NEW, rules: Promotion = ANY, now: datetime = NOON) -> None:
    """Ask the gate between local and staging."""
    gate(records, "staging", "local", release, rules=rules, now=now)


def _refusal(*records: Record, release: Named = NEW, rules: Promotion = ANY, now: datetime = NOON) -> GateRefused:
    with pytest.raises(GateRefused) as caught:
        _gate(records, release, rules, now)
    assert caught.value.exit_code == 4
    assert "\n" not in caught.value.message
    assert caught.value.message.startswith(f"{release.id} may not go from local to staging: ")
    return caught.value


# --- records


def test_a_record_survives_the_trip_through_json() -> None:
    record = _record("upgrade", 0, detail="45 stacks, 0 failed — ü")
    assert from_json(to_json(record)) == record


def test_json_of_a_record_is_canonical() -> None:
    record = _record("upgrade", 0)
    shuffled = replace(record, counts=dict(reversed(record.counts.items())))
    assert to_json(shuffled) == to_json(record)
    assert to_json(from_json(to_json(record))) == to_json(record)
    assert to_json(record).startswith('{"counts":{"requests_longest_gap_s":0.25,"stacks_completed":45},"detail":"",')
    assert '"started":"2026-05-01T12:00:00.000000Z"' in to_json(record)


def test_whole_counts_stay_whole() -> None:
    counts = from_json(to_json(_record("upgrade", 0))).counts
    assert isinstance(counts["stacks_completed"], int)


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('"operation":"upgrade"', '"operation":"guess"', "operation: Input should be"),
        ('"passed":true', '"passed":"yes"', "passed: Input should be a valid boolean"),
        ('"stacks_completed":45', '"stacks_completed":"45"', "counts.stacks_completed"),
        ('"who":"ada@laptop"', '"whom":"ada@laptop"', "who"),
        ('"ended":"2026-05-01T12:00:30.000000Z"', '"ended":"2026-05-01T11:00:00.000000Z"', "ended: is before started"),
        ("12:00:30.000000Z", "12:00:30.000000+02:00", "must be UTC"),
        ('"environment":"local"', '"environment":"../etc"', "environment: '../etc' is no name"),
        ('"release_digest":"0123456789abcdef"', '"release_digest":""', "release_digest: is empty"),
        ("}", "", "Invalid JSON"),
    ],
)
def test_a_damaged_record_is_refused_by_field(old: str, new: str, complaint: str) -> None:
    text = to_json(_record("upgrade", 0))
    assert old in text
    with pytest.raises(ConfigurationInvalid) as caught:
        from_json(text.replace(old, new))
    assert caught.value.message.startswith("not a record: ")
    assert complaint in caught.value.message


@pytest.mark.parametrize(
    "wrong",
    [
        {"started": NOON.replace(tzinfo=None)},
        {"ended": NOON.astimezone(timezone(timedelta(hours=2)))},
        {"ended": NOON - timedelta(seconds=1)},
        {"counts": {"requests_longest_gap_s": float("nan")}},
        {"release_id": "a/b"},
        {"release_digest": ""},
    ],
)
def test_a_record_that_could_mislead_is_never_made(wrong: dict[str, object]) -> None:
    with pytest.raises((ValueError, TypeError)):
        replace(_record("upgrade", 0), **wrong)  # type: ignore[arg-type]


# --- the gate opens


def test_an_environment_that_is_promoted_from_nowhere_has_no_gate() -> None:
    gate((), "local", None, NEW, rules=Promotion(), now=NOON)


@pytest.mark.parametrize("rollout", ["deploy", "upgrade"])
def test_a_release_that_was_rolled_out_verified_and_smoked_goes_through(rollout: Operation) -> None:
    _gate((_record(rollout, 0), *PROVED[1:]))


def test_the_order_of_the_records_does_not_matter() -> None:
    _gate(PROVED[::-1])


def test_a_failure_that_everything_was_done_again_after_is_forgiven() -> None:
    _gate((_record("smoke", -5, passed=False), *PROVED))


def test_evidence_outlives_the_release_on_the_hosts() -> None:
    _gate((*PROVED, _record("upgrade", 9, release=OLD)))


def test_a_failure_of_another_release_revokes_nothing() -> None:
    _gate((*PROVED, _record("verify", 9, passed=False, release=OLD)))


def test_a_failure_in_another_environment_revokes_nothing() -> None:
    _gate((*PROVED, _record("verify", 9, passed=False, environment="staging")))


# --- the gate stays shut


def test_without_any_record_the_whole_way_is_shown() -> None:
    error = _refusal()
    assert error.message.endswith("no passing deploy or upgrade of it; no passing verify of it; no passing smoke of it")
    assert error.hint == f"inv deploy local --release {NEW.id} && inv verify local && inv smoke local"


def test_an_environment_that_runs_something_is_upgraded_and_not_deployed() -> None:
    error = _refusal(_record("deploy", 0, release=OLD))
    assert error.hint.startswith(f"inv upgrade local --release {NEW.id} && ")


@pytest.mark.parametrize(
    ("left_out", "reason", "hint"),
    [
        (0, "no passing deploy or upgrade of it", f"inv deploy local --release {NEW.id}"),
        (1, "no passing verify of it", "inv verify local"),
        (2, "no passing smoke of it", "inv smoke local"),
    ],
)
def test_only_what_is_missing_is_asked_for(left_out: int, reason: str, hint: str) -> None:
    error = _refusal(*PROVED[:left_out], *PROVED[left_out + 1 :])
    assert error.message.endswith(f"to staging: {reason}")
    assert error.hint == hint


def test_a_missing_check_of_a_release_that_is_gone_needs_it_back_first() -> None:
    error = _refusal(*PROVED[:2], _record("upgrade", 9, release=OLD))
    assert error.hint == f"inv upgrade local --release {NEW.id} && inv smoke local"


@pytest.mark.parametrize("operation", ["deploy", "upgrade", "verify", "smoke", "promote"])
def test_any_later_failure_revokes_everything(operation: Operation) -> None:
    error = _refusal(*PROVED, _record(operation, 9, passed=False))
    assert error.message.endswith(
        "its upgrade of 2026-05-01 12:00:30 UTC, verify of 2026-05-01 12:01:30 UTC, smoke of 2026-05-01 12:02:30 UTC "
        f"are revoked by the {operation} of 2026-05-01 12:09:30 UTC by ada@laptop, which failed"
    )
    assert error.hint == f"inv upgrade local --release {NEW.id} && inv verify local && inv smoke local"


def test_a_revocation_says_why_the_check_failed_in_one_line() -> None:
    error = _refusal(*PROVED, _record("verify", 9, passed=False, detail="2 checks failed on api-0\nport 8004"))
    assert error.message.endswith("which failed (2 checks failed on api-0)")


def test_evidence_older_than_a_failure_is_not_saved_by_newer_evidence_of_another_kind() -> None:
    failure = _record("verify", 9, passed=False)
    error = _refusal(*PROVED, failure, _record("upgrade", 10), _record("verify", 11))
    assert "its smoke of 2026-05-01 12:02:30 UTC is revoked by the verify" in error.message
    assert error.hint == "inv smoke local"


def test_evidence_that_began_before_a_failure_ended_is_not_newer() -> None:
    failure = _record("upgrade", 1.9, passed=False)
    assert "smoke of 2026-05-01 12:02:30 UTC" in _refusal(*PROVED, failure).message


def test_a_check_that_only_ever_failed_is_named_as_missing_with_its_failure() -> None:
    error = _refusal(PROVED[0], _record("verify", 1, passed=False, detail="clock off by 9 s"))
    failed = "the verify of 2026-05-01 12:01:30 UTC by ada@laptop failed (clock off by 9 s)"
    assert f"no passing verify of it ({failed})" in error.message


def test_evidence_of_another_release_does_not_count() -> None:
    records = [replace(record, release_id=OLD.id, release_digest=OLD.digest) for record in PROVED]
    assert "no passing verify of it" in _refusal(*records).message


def test_evidence_of_a_namesake_with_another_digest_is_pointed_out() -> None:
    records = [replace(record, release_digest="feedfeed") for record in PROVED]
    assert "(that of 2026-05-01 12:01:30 UTC is of another build, feedfeed)" in _refusal(*records).message


def test_evidence_of_another_environment_does_not_count() -> None:
    records = [replace(record, environment="staging") for record in PROVED]
    assert "no passing smoke of it" in _refusal(*records).message


# --- what an environment may ask beside that


def _after(minutes: float) -> datetime:
    return NOON + timedelta(minutes=minutes)


def test_an_environment_may_ask_for_less_evidence() -> None:
    _gate((_record("smoke", 0),), rules=Promotion(evidence=("smoke",)))
    error = _refusal(_record("smoke", 0), rules=Promotion(evidence=("smoke", "verify")))
    assert error.message.endswith("to staging: no passing verify of it")


def test_a_failure_revokes_what_little_is_asked_for() -> None:
    records = (_record("smoke", 0), _record("verify", 1, passed=False))
    assert "smoke of" in _refusal(*records, rules=Promotion(evidence=("smoke",))).message


def test_evidence_may_be_as_old_as_it_is_allowed_to_be() -> None:
    rules = Promotion(max_age="1h")
    _gate(PROVED, rules=rules, now=_after(60.5))
    error = _refusal(*PROVED, rules=rules, now=_after(61.6))
    assert error.message.endswith(
        "its upgrade of 2026-05-01 12:00:30 UTC, verify of 2026-05-01 12:01:30 UTC are older than 1:00:00"
    )
    assert error.hint == f"inv deploy local --release {NEW.id} && inv verify local"


def test_old_evidence_of_a_release_that_is_gone_needs_it_back_first() -> None:
    moved_on = _record("upgrade", 9, release=OLD)
    error = _refusal(*PROVED, moved_on, rules=Promotion(max_age="1h"), now=_after(600))
    assert error.hint == f"inv upgrade local --release {NEW.id} && inv verify local && inv smoke local"


def test_evidence_that_is_revoked_is_not_called_old_too() -> None:
    error = _refusal(*PROVED, _record("smoke", 9, passed=False), rules=Promotion(max_age="1h"), now=_after(600))
    assert "revoked" in error.message
    assert "older" not in error.message


def test_a_release_soaks_from_its_rollout_on() -> None:
    rules = Promotion(soak="1h")
    _gate(PROVED, rules=rules, now=_after(60.5))
    error = _refusal(*PROVED, rules=rules, now=_after(59.5))
    assert error.message.endswith("it must soak until 2026-05-01 13:00:30 UTC, 60 s more")
    assert error.hint.startswith(f"inv promote --release {NEW.id} --to staging ")


def test_a_deploy_that_changes_nothing_does_not_begin_the_soak_anew() -> None:
    _gate((*PROVED, _record("deploy", 30)), rules=Promotion(soak="1h"), now=_after(61))


@pytest.mark.parametrize(
    "broken_by",
    [
        (_record("upgrade", 20, release=OLD), _record("upgrade", 30)),
        (_record("rollback", 20, release=OLD), _record("upgrade", 30)),
        (_record("verify", 20, passed=False), _record("upgrade", 30), _record("verify", 31), _record("smoke", 32)),
    ],
    ids=["another release", "a rollback", "a failure"],
)
def test_what_comes_between_begins_the_soak_anew(broken_by: tuple[Record, ...]) -> None:
    records = (*PROVED, *broken_by)
    assert "until 2026-05-01 13:30:30 UTC" in _refusal(*records, rules=Promotion(soak="1h"), now=_after(70)).message
    _gate(records, rules=Promotion(soak="1h"), now=_after(91))


def test_a_release_that_is_gone_does_not_soak() -> None:
    records = (*PROVED, _record("upgrade", 20, release=OLD))
    error = _refusal(*records, rules=Promotion(soak="1h"), now=_after(600))
    assert error.message.endswith("it is not there, where it must soak for 1:00:00")


def test_an_upgrade_to_another_that_was_put_back_took_nothing_away() -> None:
    back = _record("upgrade", 20, passed=False, release=OLD, reverted=1)
    _gate((*PROVED, back), rules=Promotion(soak="1h"), now=_after(61))


@pytest.mark.parametrize(
    "gone",
    [_record("upgrade", 20, passed=False, release=OLD), _record("destroy", 20)],
    ids=["half of it is on another", "destroyed"],
)
def test_a_release_that_is_not_there_as_a_whole_any_more_does_not_soak(gone: Record) -> None:
    rules = Promotion(soak="1h")
    assert "it is not there, where it must soak" in _refusal(*PROVED, gone, rules=rules, now=_after(600)).message
    _gate((*PROVED, gone, _record("deploy", 30)), rules=rules, now=_after(91))


def test_what_was_destroyed_is_deployed_again_and_not_upgraded() -> None:
    assert (
        _refusal(*PROVED[:2], _record("destroy", 20)).hint == f"inv deploy local --release {NEW.id} && inv smoke local"
    )


# --- what customers lost

LOST = _record("upgrade", 0, passed=False, detail="customers noticed: stack a", stacks_failed=1, hosts_settled=0)
CHECKED = (_record("verify", 21), _record("smoke", 22))


@pytest.mark.parametrize(
    "rest",
    [_record("upgrade", 20, hosts_settled=2), _record("deploy", 20, hosts=7)],
    ids=["the rest of it", "nothing"],
)
def test_what_went_on_after_customers_lost_something_does_not_make_up_for_it(rest: Record) -> None:
    error = _refusal(LOST, rest, *CHECKED)
    assert "customers lost something in the upgrade of 2026-05-01 12:00:30 UTC" in error.message
    assert "(customers noticed: stack a): only one of all hosts makes up for it" in error.message
    assert error.hint == f"inv rollback local && inv upgrade local --release {NEW.id}"


def test_an_upgrade_of_all_hosts_makes_up_for_what_customers_lost_before() -> None:
    again = (_record("rollback", 10, release=OLD), _record("upgrade", 20, hosts_settled=0))
    _gate((LOST, *again, *CHECKED))
    _gate((LOST, *again, _record("deploy", 20.5), *CHECKED))


def test_a_failure_that_no_customer_noticed_needs_no_whole_upgrade() -> None:
    paused = _record("upgrade", 0, passed=False, stacks_failed=0, requests_errors=0)
    _gate((paused, _record("upgrade", 20, hosts_settled=1), *CHECKED))


def test_a_promotion_asks_for_some_evidence() -> None:
    with pytest.raises(ValidationError):
        Promotion(evidence=())
