"""What people look at: nothing that others wrote is read as markup, and files hold what machines read."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path

import pytest
from builders import R25, R26, printed
from rich.console import Console

from pipeline import show
from pipeline.edges.clock import FakeClock
from pipeline.edges.lock import Holder
from pipeline.edges.runs import Runs
from pipeline.edges.wheelhouse import Built
from pipeline.errors import ConfigurationInvalid, PipelineError, VerificationFailed
from pipeline.evidence import Record
from pipeline.localcloud import CloudStatus, HostStatus, ServiceStatus
from pipeline.smoke import RungResult, SmokeReport
from pipeline.status import HostStatus as RegionHost
from pipeline.traffic import RequestCounts, StackCounts, TrafficReport
from pipeline.validation import Problem
from pipeline.validation.template import Finding

HOSTILE = "[/] [red]no[/red] [link=x]"
ESCAPE, SHOWN = "a\x1b[2Jb\x1b]0;c\x07", r"a\x1b[2Jb\x1b]0;c\x07"
SMOKE = SmokeReport(
    "local",
    (
        RungResult("token", "passed", 0.1, "a token"),
        RungResult("signal", "failed", 2.0, f"no signal {HOSTILE}", f"heat-api-cfn is down {HOSTILE}"),
        RungResult("nested", "skipped", 0.0, "needs signal"),
    ),
)
TRAFFIC = TrafficReport(StackCounts(45, 1, 2), RequestCounts(900, 3, 0.256), (f"stack a: {HOSTILE}",), ())


def _row(console: Console, word: str) -> list[str]:
    """Return the cells of the row that begins with `word`."""
    lines = [line for line in printed(console).splitlines() if line.startswith("│")]
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]
    return next(row for row in rows if row[0] == word)


def test_every_rung_is_a_line_and_a_failed_one_has_its_cause(console: Console) -> None:
    show.rungs(SMOKE, console)
    first, second, cause, third = printed(console).splitlines()
    assert first.split() == ["passed", "token", "0.1", "s", "a", "token"]
    assert second.endswith(f"no signal {HOSTILE}")
    assert cause.strip() == f"likely cause: heat-api-cfn is down {HOSTILE}"
    assert third.startswith("skipped  nested")


def test_a_rung_is_one_line_however_narrow_the_console_and_whatever_was_answered() -> None:
    console = Console(file=StringIO(), width=40)
    show.rungs(SmokeReport("local", (RungResult("token", "failed", 0.1, f"{ESCAPE} {'long ' * 30}", ESCAPE),)), console)
    line, cause = printed(console).splitlines()
    assert line.rstrip().endswith(f"{SHOWN}{' long' * 30}")
    assert cause.endswith(f"likely cause: {SHOWN}")


def test_a_problem_is_one_line_however_narrow_the_console_and_whatever_is_in_the_template() -> None:
    console = Console(file=StringIO(), width=40)
    finding = Finding("engine.yaml", "server", f"properties.{ESCAPE}", "a flavor that there is", "something else " * 9)
    show.problems([Problem("local", finding, ("26.0.2",))], console)
    (line,) = printed(console).splitlines()
    assert f"properties.{SHOWN}: expected" in line
    assert line.endswith("(Heat 26.0.2)")


def test_what_hosts_say_in_a_table_or_a_failure_is_never_obeyed(console: Console) -> None:
    show.table("Hosts", ("host", "health"), [("api-0", f"{ESCAPE}\nand more")], console)
    show.traffic(replace(TRAFFIC, failures=(ESCAPE,)), console)
    assert _row(console, "api-0") == ["api-0", SHOWN]
    assert _row(console, "") == ["", "and more"]
    assert f"  {SHOWN}\n" in printed(console)
    assert "\x1b" not in printed(console)


def test_traffic_is_shown_with_each_failure(console: Console) -> None:
    show.traffic(TRAFFIC, console)
    assert _row(console, "stacks completed / failed / stuck")[1] == "45 / 1 / 2"
    assert _row(console, "requests / errors")[1] == "900 / 3"
    assert _row(console, "longest time without an answer")[1] == "0.26 s"
    assert HOSTILE in printed(console)


def test_the_proof_shows_stages_counts_revisions_and_results(console: Console) -> None:
    show.proof([("install", 12.34)], TRAFFIC, {"api revisions": "a → b"}, {"checks passed / failed": "2 / 0"}, console)
    assert _row(console, "install") == ["install", "12.3"]
    assert _row(console, "api revisions")[1] == "a → b"
    assert _row(console, "checks passed / failed")[1] == "2 / 0"
    assert _row(console, "requests / errors")[1] == "900 / 3"


def test_the_cloud_is_shown_with_what_runs_and_what_does_not(console: Console) -> None:
    services = (ServiceStatus("keystone", 42, True, "http://198.18.7.1:5000"), ServiceStatus("seed", None, False, "u"))
    show.cloud(CloudStatus(None, services, (HostStatus("local-api-0", "198.18.7.11", None, "stopped"),)), console)
    assert _row(console, "keystone") == ["keystone", "42", "yes", "http://198.18.7.1:5000"]
    assert _row(console, "seed") == ["seed", "", "no", "u"]
    assert _row(console, "local-api-0") == ["local-api-0", "198.18.7.11", "", "stopped"]


def test_releases_are_shown_with_what_decides_an_upgrade(console: Console) -> None:
    show.releases([Built(R25, Path("a.tar")), Built(R26, Path("b.tar"))], console)
    assert _row(console, R25.id) == [R25.id, "2025.2", "1.4", "c6214ca60943"]
    assert _row(console, R26.id) == [R26.id, "2026.1", "1.9", "97b2a986f922"]


def test_records_are_shown_with_their_end_and_what_was_seen(console: Console) -> None:
    noon = datetime(2026, 5, 1, 12, tzinfo=UTC)
    good = Record(
        "upgrade", "local", R26.id, R26.digest, True, {"stacks_completed": 45, "requests_longest_gap_s": 0.25},
        noon, noon + timedelta(seconds=90), "ada@laptop", "0.1.0",
    )  # fmt: skip
    bad = Record("verify", "local", R26.id, R26.digest, False, {}, noon, noon, "ada@laptop", "0.1.0", HOSTILE)
    show.history([good, bad], console)
    rows = [line for line in printed(console).splitlines() if line.startswith("│ 2026")]
    cells = [[cell.strip() for cell in row.strip("│").split("│")] for row in rows]
    seen = "stacks_completed 45, requests_longest_gap_s 0.25"
    assert cells[0] == ["2026-05-01 12:00:00", "upgrade", R26.id, "passed", "90 s", "ada@laptop", seen]
    assert (cells[1][3], cells[1][6]) == ("failed", HOSTILE)


# --- regions, locks and runs

ENGINE = RegionHost("engine-0", "engine", R26.id, R25.id, (R25.id, R26.id), "heat-26", "2/4 workers", "3", "engine-0")
GONE = RegionHost("api-0", "api", "", "", (), "", f"unreachable: {HOSTILE}", "", "api-0")


def test_every_host_of_a_region_is_a_line(console: Console) -> None:
    show.hosts([ENGINE, GONE], console)
    on_disk = f"{R25.id}, {R26.id}"
    assert _row(console, "engine-0") == ["engine-0", "engine", on_disk, R26.id, R25.id, "heat-26", "2/4 workers", "3"]
    assert _row(console, "api-0")[6] == f"unreachable: {HOSTILE}"


def test_a_host_that_shares_its_machine_is_told_with_it(console: Console) -> None:
    show.hosts([replace(GONE, machine="control-0"), ENGINE], console)
    assert _row(console, "api-0 on control-0")[1] == "api"
    assert _row(console, "engine-0")[1] == "engine"


def test_hosts_of_a_region_are_saved_for_machines(tmp_path: Path) -> None:
    show.save_hosts([ENGINE, GONE], tmp_path / "hosts.json")
    first, second = json.loads((tmp_path / "hosts.json").read_text("utf-8"))
    assert (first["host"], first["running"], first["on_disk"], first["batch"]) == (
        "engine-0",
        R25.id,
        [R25.id, R26.id],
        "3",
    )
    assert second["health"] == f"unreachable: {HOSTILE}"


def test_a_lock_is_shown_with_who_has_it_and_for_how_long(console: Console) -> None:
    clock = FakeClock()
    holder = Holder("ada@laptop", "upgrade", "run-1", "laptop", 4711, clock.now(), HOSTILE)
    clock.sleep(90)
    show.lock("local", holder, clock, console)
    assert _row(console, "ada@laptop") == ["ada@laptop", "upgrade", "90 s", "run-1", "laptop:4711", HOSTILE]


def test_a_lock_that_nobody_has_is_told(console: Console) -> None:
    show.lock("local", None, FakeClock(), console)
    assert printed(console) == "local: nobody holds it\n"


def test_where_the_time_of_each_run_went_is_shown_the_latest_last(console: Console, tmp_path: Path) -> None:
    clock = FakeClock()
    runs = Runs(tmp_path, clock)
    ended, killed = runs.begin("local", "1-upgrade-a"), runs.begin("local", "2-upgrade-b")
    ended.save("summary", {"exit_code": 7, "timing": {"moves_s": 120.04, "unavoidable_s": 96, "overhead": 0.2504}})
    show.timing(runs.of("local"), console)
    assert _row(console, ended.id) == [ended.id, "exit 7", "120.0 s", "96.0 s", "25.0%"]
    assert _row(console, killed.id) == [killed.id, "has not ended, or was killed", "", "", ""]


def test_changes_in_a_row_are_shown_with_what_customers_saw_of_each(console: Console) -> None:
    seen = {
        "stacks": {"completed": 40, "failed": 1, "stuck": 2},
        "requests": {"total": 1500, "errors": 3, "longest_gap_s": 0.756},
        "wait_conditions": {"held": 18, "longest_open_s": 6.2, "longest_gap_s": 0.0},
        "wall_s": 101.4,
        "overhead": 0.0412,
    }
    show.soak({"clients": 8, "changes": [{"round": 1, "change": "26.0.2 → 27.0.1", **seen}]}, console)
    row = ["1", "26.0.2 → 27.0.1", "40", "1", "2", "1500", "3", "0.76 s", "101 s", "18 / 0.0 s", "4.1%"]
    assert _row(console, "1") == row


def test_a_report_is_saved_where_a_file_is_named_and_nowhere_else(tmp_path: Path) -> None:
    show.save(SMOKE, junit=str(tmp_path / "out" / "smoke.xml"), json_file=str(tmp_path / "smoke.json"))
    show.save(SMOKE)
    assert ET.parse(tmp_path / "out" / "smoke.xml").getroot().tag == "testsuites"  # noqa: S314 (written above)
    assert json.loads((tmp_path / "smoke.json").read_text())["failed"] == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "smoke.json"]


def test_a_file_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PipelineError, match=r"file/smoke\.xml: cannot be written: ") as caught:
        show.save(SMOKE, junit=str(tmp_path / "file" / "smoke.xml"))
    assert caught.value.hint


@pytest.mark.parametrize("place", ["file/smoke.xml", "", "file/new/smoke.xml", "n" * 300])
def test_a_file_that_could_not_be_written_is_refused_and_nothing_is_left(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationInvalid, match="cannot be written: ") as caught:
        show.require_writable("", tmp_path / "good.json", tmp_path / place)
    assert (caught.value.exit_code, caught.value.hint) == (3, "name another file")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_file_that_can_be_written_is_left_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "old.json").write_text("old")
    show.require_writable()
    show.require_writable("", "old.json", "new.json", str(tmp_path / "new/directory/new.json"), "/dev/null")
    assert [path.name for path in tmp_path.iterdir()] == ["old.json"]
    assert (tmp_path / "old.json").read_text() == "old"


def test_a_file_that_cannot_be_written_hides_no_failure() -> None:
    failed = VerificationFailed("2 checks failed", hint="look there")
    with pytest.raises(VerificationFailed, match=r"^2 checks failed \(a: cannot be written\)\n  next: look there$"):
        _save_nothing(failed)
    with pytest.raises(PipelineError, match=r"^a: cannot be written$"):
        _save_nothing(None)


def _save_nothing(failed: PipelineError | None) -> None:
    with show.ending_in(failed):
        raise PipelineError("a: cannot be written")


def test_what_was_saved_ends_as_it_would_have_without() -> None:
    failed = VerificationFailed("2 checks failed")
    with pytest.raises(VerificationFailed, match=r"^2 checks failed$"), show.ending_in(failed):
        pass
    with show.ending_in(None):
        pass
