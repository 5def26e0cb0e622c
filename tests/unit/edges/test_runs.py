"""Runs: a directory of its own for each, private and whole, and what is asked of the one under way."""

from __future__ import annotations

import json
import re
import resource
import stat
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from builders import Kept, progress

from pipeline.edges.clock import FakeClock
from pipeline.edges.runs import Run, Runs
from pipeline.errors import ConfigurationInvalid, PipelineError
from pipeline.journal import Journal
from pipeline.spans import Span


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def runs(tmp_path: Path, clock: FakeClock) -> Runs:
    return Runs(tmp_path / "runs", clock)


@pytest.fixture
def run(runs: Runs) -> Run:
    return runs.begin("local", runs.name("upgrade"))


def _lines(run: Run, name: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in (run.directory / name).read_text("utf-8").splitlines()]


# --- one run


def test_a_run_has_a_directory_that_is_its_users_alone(run: Run, tmp_path: Path) -> None:
    assert run.directory.parent == tmp_path / "runs/local"
    assert run.id.startswith("20260101T000000Z-upgrade-")
    assert stat.S_IMODE(run.directory.stat().st_mode) == 0o700


def test_two_runs_that_begin_in_the_same_second_are_two(runs: Runs) -> None:
    assert len({runs.begin("local", runs.name("deploy")).id for _ in range(20)}) == 20


def test_what_people_were_told_is_kept_with_its_moment(run: Run, clock: FakeClock) -> None:
    run.event("begin install")
    clock.sleep(1.5)
    run.event("[/] ünicode")
    assert _lines(run, "events.jsonl") == [
        {"at": "2026-01-01T00:00:00.000+00:00", "said": "begin install"},
        {"at": "2026-01-01T00:00:01.500+00:00", "said": "[/] ünicode"},
    ]


def test_every_file_is_its_users_alone(run: Run) -> None:
    run.event("a")
    run.write({"kind": "seen"})
    run.save("plan", {})
    assert {path.name for path in run.directory.iterdir()} == {"events.jsonl", "journal.jsonl", "plan.json"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in run.directory.iterdir()} == {0o600}


def test_lines_of_several_threads_are_not_mixed(run: Run) -> None:
    def write(number: int) -> None:
        for _ in range(20):
            run.write({"thread": number, "padding": "x" * 500})

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(_lines(run, "journal.jsonl")) == 160


def test_a_value_is_saved_over_the_one_before_and_leaves_nothing_else(run: Run) -> None:
    for value in ({"a": 1}, {"b": [2]}):
        run.save("plan", value)
        assert json.loads((run.directory / "plan.json").read_text("utf-8")) == value
    assert [path.name for path in run.directory.iterdir()] == ["plan.json"]


def test_a_run_that_goes_on_or_was_killed_has_no_summary(run: Run) -> None:
    assert run.summary is None
    run.save("summary", {"exit_code": 0})
    assert run.summary == {"exit_code": 0}


def test_a_damaged_summary_is_told_and_not_passed_over(run: Run) -> None:
    (run.directory / "summary.json").write_text("{", "utf-8")
    with pytest.raises(ConfigurationInvalid, match=r"summary\.json: cannot be read") as caught:
        run.summary  # noqa: B018 (asking is what fails)
    assert caught.value.hint


def test_spans_are_the_steps_of_the_journal_that_ended(run: Run, clock: FakeClock) -> None:
    journal = Journal(clock, run)
    with journal.step("drain", "engine-0"):
        clock.sleep(2)
    with suppress(ValueError), journal.step("start", "engine-0"):
        clock.sleep(1)
        raise ValueError("no")
    journal.note("drained", host="engine-0")
    killed = journal.step("healthy", "engine-0")
    killed.__enter__()
    assert run.spans == (Span("drain", "engine-0", 0, 2), Span("start", "engine-0", 2, 3))


def test_a_run_without_a_journal_has_no_spans(run: Run) -> None:
    assert run.spans == ()


def test_a_journal_in_memory_has_the_same_lines(run: Run, clock: FakeClock) -> None:
    kept = Kept()
    for lines in (kept, run):
        Journal(clock, lines).note("idle", polls=3)
    assert _lines(run, "journal.jsonl") == kept.lines


def test_a_value_that_cannot_be_kept_is_told(run: Run) -> None:
    run.directory.rmdir()
    run.directory.touch()
    with pytest.raises(PipelineError, match=r"a\.json: cannot be written: ") as caught:
        run.save("a", 1)
    assert caught.value.hint


@pytest.mark.parametrize(
    "keep", [lambda run: run.event("a"), lambda run: run.write({"step": "drain"})], ids=["event", "journal"]
)
def test_a_line_that_a_full_disk_does_not_take_is_told_once_and_ends_nothing(
    run: Run, keep: Callable[[Run], None], caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("events.jsonl", "journal.jsonl"):
        (run.directory / name).symlink_to("/dev/full")
    for _ in range(3):
        keep(run)
    (line,) = caplog.messages
    assert re.search(
        r"/(events|journal)\.jsonl: cannot be written: No space left .*; the run goes on, and its log", line
    )


def test_a_move_goes_on_and_ends_as_it_ends_where_its_steps_cannot_be_kept(run: Run, clock: FakeClock) -> None:
    (run.directory / "journal.jsonl").symlink_to("/dev/full")
    told, done = progress(clock), []
    with told.heard(run.event), Journal(clock, run).step("drain", "engine-0"):
        done.append("drained")
    with pytest.raises(ValueError, match="no"), Journal(clock, run).step("start", "engine-0"):
        raise ValueError("no")
    assert done == ["drained"]


def test_half_a_line_is_taken_back_so_that_the_next_one_can_be_read(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    run.write({"line": 1})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    room = (run.directory / "journal.jsonl").stat().st_size + 20
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
        run.write({"line": 2, "padding": "x" * 100})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    run.write({"line": 3})
    assert _lines(run, "journal.jsonl") == [{"line": 1}, {"line": 3}]
    assert len(caplog.messages) == 1


# --- all runs


def test_runs_are_listed_the_oldest_first_each_environments_own(runs: Runs, clock: FakeClock) -> None:
    begun = []
    for operation in ("upgrade", "deploy", "rollback"):
        begun.append(runs.begin("local", runs.name(operation)).id)
        clock.sleep(1)
    runs.begin("production", runs.name("deploy"))
    runs.ask("local", "pause", "ada@laptop")
    assert [one.id for one in runs.of("local")] == begun
    assert runs.of("nowhere") == ()


def test_a_directory_that_cannot_be_made_is_told(tmp_path: Path, clock: FakeClock) -> None:
    (tmp_path / "runs").write_text("")
    with pytest.raises(PipelineError, match=r"runs/local/.*: cannot be made: ") as caught:
        Runs(tmp_path / "runs", clock).begin("local", "r")
    assert caught.value.hint


# --- what is asked of a run


def test_nothing_is_asked_until_somebody_asks(runs: Runs) -> None:
    assert runs.asked("local") is None
    runs.ask("local", "pause", "ada@laptop")
    assert runs.asked("local") == ("pause", "ada@laptop")
    assert runs.asked("production") is None


def test_who_asks_last_is_heard(runs: Runs) -> None:
    runs.ask("local", "pause", "ada@laptop")
    runs.ask("local", "abort", "grace@desk")
    assert runs.asked("local") == ("abort", "grace@desk")


def test_what_was_asked_of_an_earlier_run_is_not_asked_of_the_next(runs: Runs) -> None:
    runs.ask("local", "abort", "ada@laptop")
    with runs.heeding("local"):
        assert runs.asked("local") is None
        runs.ask("local", "pause", "ada@laptop")
        assert runs.asked("local") == ("pause", "ada@laptop")
    assert runs.asked("local") is None


def test_a_run_that_fails_forgets_what_was_asked_too(runs: Runs) -> None:
    with suppress(ValueError), runs.heeding("local"):
        runs.ask("local", "pause", "ada@laptop")
        raise ValueError("no")
    assert runs.asked("local") is None


def test_what_is_asked_is_written_whole_or_not_at_all(runs: Runs, tmp_path: Path) -> None:
    runs.ask("local", "pause", "ada@laptop")
    reader = tmp_path / "opened-before"
    reader.hardlink_to(tmp_path / "runs/local/request.json")
    runs.ask("local", "abort", "grace@desk")
    assert json.loads(reader.read_text("utf-8"))["request"] == "pause"


def test_what_is_known_at_the_end_and_cannot_be_kept_is_told_and_ends_nothing(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    run.directory.rmdir()
    run.directory.touch()
    run.keep("summary", {"exit_code": 7})
    assert "summary.json: cannot be written: " in caplog.text
