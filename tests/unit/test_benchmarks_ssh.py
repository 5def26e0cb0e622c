"""Benchmarks of SSH: what they make of many runs, which runs they refuse to count, and what they draw."""

from __future__ import annotations

import json
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import metering, plot, tables
from benchmarks.figures import Measured, ssh_verdicts, summary, verify_verdicts
from benchmarks.peers.work import Work
from benchmarks.ssh import COMMAND, Case, Plan, failures, wrong_answer
from benchmarks.sshd import count_connections
from benchmarks.tools import OURS, PEERS, prepared, printed_by_ansible, tools
from benchmarks.verify import WAYS, passed
from pipeline.errors import ConfigurationInvalid

RUN = Measured(wall_s=2, cpu_s=1, peak_mb=50, connections=8, host_cpu_s=0.5)
KEYS = {"median_s", "min_s", "max_s", "peak_mb", "cpu_s", "connections"}


def test_a_tool_is_told_by_its_median_and_its_spread() -> None:
    found = summary([replace(RUN, wall_s=wall, cpu_s=wall / 2) for wall in (3, 1, 9, 2, 4)], warm_up=RUN)
    assert (found["median_s"], found["min_s"], found["max_s"], found["cpu_s"]) == (3, 1, 9, 1.5)
    assert found.keys() >= KEYS
    assert "failed" not in found


def test_memory_is_the_highest_seen_in_the_warm_up_too() -> None:
    assert summary([RUN], warm_up=replace(RUN, peak_mb=80, wall_s=99))["peak_mb"] == 80
    assert summary([RUN], warm_up=replace(RUN, wall_s=99))["max_s"] == 2


def test_a_failed_run_is_told_and_does_not_count() -> None:
    found = summary([RUN, replace(RUN, wall_s=0.1, failed="status 1")], warm_up=RUN)
    assert (found["min_s"], found["runs"], found["failed"]) == (2, 1, "1 of 3 runs: status 1")


def test_a_tool_that_never_came_to_an_end_has_no_figures() -> None:
    assert summary([], warm_up=replace(RUN, failed="status 2: no route")) == {
        "failed": "1 of 1 runs: status 2: no route"
    }


def test_every_round_measures_all_and_begins_with_another() -> None:
    order: list[tuple[int, str]] = []

    def measure(name: str, number: int) -> Measured:
        order.append((number, name))
        return replace(RUN, failed="broken" if name == "c" else "")

    found = metering.alternate(["a", "b", "c"], 2, measure)
    assert order == [(0, "a"), (0, "b"), (0, "c"), (1, "b"), (1, "a"), (2, "a"), (2, "b")]
    assert [len(runs) for _, runs in found.values()] == [2, 2, 0]


def test_connections_are_counted_where_they_failed_too() -> None:
    log = """\
Server listening on 127.77.0.1 port 7722.
Connection from 127.0.0.1 port 55058 on 127.77.0.1 port 7722 rdomain ""
Accepted publickey for root from 127.0.0.1 port 55058 ssh2: ED25519 SHA256:La2
Disconnected from user root 127.0.0.1 port 55058
Connection from 127.0.0.1 port 55060 on 127.77.0.1 port 7722 rdomain ""
Connection closed by 127.0.0.1 port 55060 [preauth]
"""
    assert count_connections(log) == 2


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("0.10 0.20 0.30 1/234 56\n0\n127.0.0.1 4242 127.77.0.1 7722\n", False),
        ("0.10 0.20 0.30 1/234 56\r\n0\r\n127.0.0.1 4242 127.77.0.1 7722", False),
        ("0.10 0.20 0.30 1/234 56\n0\n127.0.0.1 4242 127.77.0.2 7722\n", True),
        ("0.10 0.20 0.30 1/234 56\n1000\n127.0.0.1 4242 127.77.0.1 7722\n", True),
        ("", True),
    ],
)
def test_an_answer_is_right_when_it_is_whole_and_from_the_host_that_was_asked(text: str, wrong: bool) -> None:
    assert wrong_answer(text, "127.77.0.1", 7722) is wrong


def test_what_ansible_prints_is_read_by_host() -> None:
    output = "a | CHANGED | rc=0 >>\n0.1\n0\nb | CHANGED | rc=0 >>\n0.2\n0\na | CHANGED | rc=0 >>\n0.3\n0\n"
    assert printed_by_ansible(output) == {"a": ["0.1\n0\n", "0.3\n0\n"], "b": ["0.2\n0\n"]}
    assert printed_by_ansible("a | UNREACHABLE! => {}\n") == {}


def test_a_plan_makes_a_case_of_each_pair_and_copies_files_to_few_hosts() -> None:
    cases = Plan(hosts=(8, 64), commands=(1, 10), pushes=(60,), push_hosts=(8,)).cases()
    assert [str(case) for case in cases] == [
        "8 hosts × 1 command",
        "8 hosts × 10 commands",
        "8 hosts × a file of 60 MB",
        "64 hosts × 1 command",
        "64 hosts × 10 commands",
    ]


def test_a_plan_knows_its_tools() -> None:
    assert Plan().names() == tools()
    assert Plan(tools=("asyncssh", OURS)).names() == (OURS, "asyncssh")
    with pytest.raises(ConfigurationInvalid, match="no tool rsh"):
        Plan(tools=("rsh",)).names()


@pytest.mark.parametrize("tool", tools())
def test_every_tool_gets_the_same_work_and_nothing_of_the_users_own(tool: str, tmp_path: Path) -> None:
    (tmp_path / "venv/lib/python3/site-packages/ansible_mitogen/plugins/strategy").mkdir(parents=True)
    run = prepared(tool, _work(tmp_path), tmp_path / "place", tmp_path / "venv")
    given = run.specification(watch=False, timeout=1)
    play = json.loads((tmp_path / "place" / "work.json").read_text("utf-8"))
    assert play["commands"] == [COMMAND] * 3
    assert given["env"]["HOME"] == given["cwd"] == str(tmp_path / "place")
    assert Path(given["argv"][0]).is_relative_to(tmp_path / "venv") is (tool in PEERS)


def test_ansible_pipelines_and_has_a_fork_for_every_host(tmp_path: Path) -> None:
    prepared("ansible", _work(tmp_path), tmp_path / "place", tmp_path / "venv")
    settings = (tmp_path / "place" / "ansible.cfg").read_text("utf-8")
    (play,) = json.loads((tmp_path / "place" / "play.json").read_text("utf-8"))
    assert "forks = 2" in settings
    assert "pipelining = true" in settings
    assert (play["gather_facts"], len(play["tasks"])) == (False, 3)


def test_a_target_is_met_or_missed_by_so_much() -> None:
    ours, floor = _tool(1, cpu_s=1.2), _tool(0.7, cpu_s=0.75)
    cases = [
        {
            "hosts": 64,
            "commands": 10,
            "tools": {OURS: ours, "startup": _tool(0.1), "handshakes": floor, "fabric": _tool(3)},
        },
        {"hosts": 200, "commands": 10, "tools": {OURS: _tool(4, peak_mb=299), "fabric": {"failed": "1 of 1 runs"}}},
    ]
    found = ssh_verdicts(cases)
    assert [one.met for one in found] == [True, False, False, True]
    assert found[0].seen == "3.0 × (1.00 s, fabric 3.00 s)"
    assert found[1].seen == "1.60 × (1.20 s, handshakes 0.75 s)"
    assert found[2].seen == "20.0 ms a host (4.00 s), at 64 hosts 15.6 ms"


def test_no_verdict_is_given_on_what_was_not_measured() -> None:
    assert ssh_verdicts([{"hosts": 8, "commands": 10, "tools": {OURS: _tool(1)}}]) == []


def test_verification_is_compared_with_testinfras_fastest_way() -> None:
    case = {"hosts": 8, "checks": 12, "tools": {OURS: _tool(1), "ssh": _tool(60), "ssh-shared": _tool(4)}}
    (found,) = verify_verdicts([case])
    assert (found.met, found.seen) == (False, "4.0 × (1.00 s, ssh-shared 4.00 s)")


def test_checks_passed_are_read_from_pytests_last_line() -> None:
    assert passed("........\n96 passed, 2 warnings in 4.20s\n") == 96
    assert passed("1 failed, 95 passed in 4.20s\n") == 0
    assert WAYS[0] == OURS


def test_only_the_pipelines_own_failure_fails_a_benchmark() -> None:
    cases = [{"hosts": 8, "tools": {OURS: _tool(1), "ansible": {"failed": "1 of 1 runs: x"}}}]
    assert failures({"cases": cases}) == ""
    assert (
        failures({"cases": [{"hosts": 8, "tools": {OURS: {"failed": "1 of 1 runs: x"}}}]}) == "8 hosts: 1 of 1 runs: x"
    )


def test_tables_show_every_tool_and_why_one_has_no_figures() -> None:
    text = tables.markdown(_figures(), [])
    assert "**8 hosts × 10 commands**" in text
    assert "| fabric | 3.00 s | 3.00 – 3.00 s | 3.0 × | 1.00 s | 0.50 s | 50 MB | 8 |" in text
    assert "| ansible | failed: 1 of 1 runs: x |" in text
    assert {line.count("|") for line in text.splitlines() if line.startswith("|")} == {len(tables.COLUMNS) + 1}


def test_what_a_tool_said_stays_in_its_cell() -> None:
    figures = _figures()
    figures["cases"][0]["tools"]["ansible"]["failed"] = "1 of 1 runs: 0.5 | 0"
    assert r"| ansible | failed: 1 of 1 runs: 0.5 \| 0 |" in tables.markdown(figures, [])


def test_a_plot_is_well_formed_and_longer_bars_take_longer() -> None:
    drawn = ET.fromstring(plot.svg(_figures()))  # noqa: S314 (our own)
    bars = [float(one.get("width", 0)) for one in drawn.iter("{http://www.w3.org/2000/svg}rect") if one.get("x")]
    words = {text.text for text in drawn.iter("{http://www.w3.org/2000/svg}text")}
    assert 0 < bars[0] < bars[1]
    assert words >= {"8 hosts × 10 commands", "pipeline", "fabric", "3.00 s"}
    assert "ansible" not in words


def test_a_plot_of_nothing_is_still_a_plot() -> None:
    assert ET.fromstring(plot.svg({"cases": []})).tag.endswith("svg")  # noqa: S314


def test_the_meter_counts_what_a_program_leaves_running_and_ends_it(tmp_path: Path) -> None:
    burn = "import time; end = time.process_time() + 0.2\nwhile time.process_time() < end: pass"
    burner = f"({sys.executable} -I -S -c '{burn}'; echo >burnt; exec sleep 60) >/dev/null & echo $! >left"
    script = f"{burner}; until [ -e burnt ]; do sleep 0.02; done"
    figures = _metered(tmp_path, ["sh", "-c", script])
    left = int((tmp_path / "left").read_text("utf-8"))
    assert figures["status"] == 0
    assert 0.2 <= figures["wall_s"] < 30
    assert figures["cpu_s"] >= 0.2
    assert not Path(f"/proc/{left}").exists()


def test_the_meter_sees_the_memory_of_all_processes_together(tmp_path: Path) -> None:
    hold = f"{sys.executable} -I -S -c 'import time; held = bytearray(40 << 20); time.sleep(1)'"
    figures = _metered(tmp_path, ["sh", "-c", f"{hold} & {hold} & wait"])
    assert 80 <= figures["peak_mb"] < 160


def test_the_meter_ends_a_program_that_takes_too_long(tmp_path: Path) -> None:
    assert _metered(tmp_path, ["sleep", "60"], timeout=0.2)["status"] == -9


def _metered(place: Path, argv: list[str], timeout: float = 60) -> dict[str, Any]:
    specification = {
        "argv": argv, "env": {"PATH": "/usr/bin:/bin"}, "cwd": str(place), "output": str(place / "output"),
        "timeout": timeout, "watch": True,
    }  # fmt: skip
    (place / "meter.json").write_text(json.dumps(specification), "utf-8")
    command = [sys.executable, "-I", "-S", str(metering._METER), str(place / "meter.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


def _tool(median_s: float, **others: float) -> dict[str, Any]:
    run = replace(RUN, wall_s=median_s, **others)
    return summary([run], warm_up=run)


def _figures() -> dict[str, Any]:
    measured = {OURS: _tool(1), "fabric": _tool(3), "ansible": {"failed": "1 of 1 runs: x"}}
    return {"cases": [{"hosts": 8, "commands": 10, "tools": measured}]}


def _work(place: Path) -> Work:
    return Work(
        hosts={"host-000": "127.77.0.1", "host-001": "127.77.0.2"},
        host_keys={"host-000": "ssh-ed25519 AAAA", "host-001": "ssh-ed25519 BBBB"},
        port=7722,
        user="root",
        key=str(place / "key"),
        known_hosts=str(place / "known_hosts"),
        commands=[COMMAND] * 3,
        source="",
        home="/run/home",
        results=str(place / "results.json"),
    )


def test_a_case_is_told_by_what_it_does() -> None:
    assert str(Case(200, commands=1)) == "200 hosts × 1 command"
