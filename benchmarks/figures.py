"""Figures of many runs: medians and spreads, and what they say about the targets of this project."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

__all__ = ["Measured", "Verdict", "case_of", "fastest", "render_verdicts", "ssh_verdicts", "summary", "verify_verdicts"]

_OURS, _STARTUP, _FLOOR = "pipeline", "startup", "handshakes"


@dataclass(frozen=True, slots=True)
class Measured:
    """One run of one tool: wall and CPU seconds, memory, connections, and the CPU seconds that the hosts spent on it.

    `failed` says why the run does not count, "" where it does.
    """

    wall_s: float
    cpu_s: float
    peak_mb: float
    connections: int
    host_cpu_s: float
    failed: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A target, and what was seen of it."""

    target: str
    seen: str
    met: bool


def summary(runs: Sequence[Measured], warm_up: Measured) -> dict[str, Any]:
    """Return what JSON says of a tool in a case: median, least and most of the counted `runs`, the rest as medians.

    Memory is the highest that was seen, in the warm-up too: there alone is all of a tool's tree watched.
    """
    counted = [run for run in runs if not run.failed]
    failures = [run.failed for run in (warm_up, *runs) if run.failed]
    failed = {"failed": f"{len(failures)} of {1 + len(runs)} runs: {failures[0]}"} if failures else {}
    if not counted:
        return failed
    walls = [run.wall_s for run in counted]
    return {
        "median_s": round(median(walls), 3),
        "min_s": round(min(walls), 3),
        "max_s": round(max(walls), 3),
        "peak_mb": round(max(run.peak_mb for run in (warm_up, *counted)), 1),
        "cpu_s": round(median(run.cpu_s for run in counted), 3),
        "connections": round(median(run.connections for run in counted)),
        "host_cpu_s": round(median(run.host_cpu_s for run in counted), 3),
        "runs": len(counted),
        **failed,
    }


def fastest(tools: Mapping[str, Mapping[str, Any]]) -> tuple[str, float] | None:
    """Return the peer with the least median and that median (s), or None where no peer came to an end."""
    found = {
        name: tool["median_s"]
        for name, tool in tools.items()
        if name not in (_OURS, _STARTUP, _FLOOR) and "median_s" in tool
    }
    return min(found.items(), key=lambda item: item[1]) if found else None


def case_of(cases: Iterable[Mapping[str, Any]], hosts: int, commands: int) -> Mapping[str, Any]:
    """Return the tools of the case with that many hosts and commands, {} where it was not measured."""
    for case in cases:
        if (case["hosts"], case["commands"]) == (hosts, commands) and not case.get("push_mb"):
            return dict(case["tools"])
    return {}


def ssh_verdicts(cases: Sequence[Mapping[str, Any]]) -> list[Verdict]:
    """Return the verdicts on bench.ssh, as far as what they need was measured."""
    at_64, at_200 = case_of(cases, 64, 10), case_of(cases, 200, 10)
    return [
        *_faster(at_64, 2, "64 hosts × 10 commands"),
        *_near_floor(at_64, 1.5),
        *_linear(at_64, at_200),
        *_small(at_200, 300),
    ]


def verify_verdicts(cases: Sequence[Mapping[str, Any]]) -> list[Verdict]:
    """Return the verdicts on bench.verify."""
    return [
        one for case in cases for one in _faster(case["tools"], 5, f"{case['hosts']} hosts × {case['checks']} checks")
    ]


def render_verdicts(cases: Sequence[Mapping[str, Any]]) -> list[Verdict]:
    """Return the verdicts on bench.render."""
    verdicts = []
    for case in cases:
        count, ours = case["environments"], case["tools"].get(_OURS, {}).get("median_s")
        if ours and count >= 200:
            verdicts.append(Verdict(f"{count} environments: within 10 s", f"{ours:.2f} s", ours <= 10))
        verdicts += _faster(case["tools"], 1, f"{count} environments")
    return verdicts


def _faster(tools: Mapping[str, Any], times: float, what: str) -> list[Verdict]:
    ours, peer = tools.get(_OURS, {}).get("median_s"), fastest(tools)
    if not ours or not peer:
        return []
    name, seconds = peer
    ratio = seconds / ours
    seen = f"{ratio:.1f} × ({ours:.2f} s, {name} {seconds:.2f} s)"
    return [Verdict(f"{what}: at least {times:g} × faster than the fastest peer", seen, ratio >= times)]


def _near_floor(tools: Mapping[str, Any], times: float) -> list[Verdict]:
    ours, floor = tools.get(_OURS, {}).get("cpu_s"), tools.get(_FLOOR, {}).get("cpu_s")
    if not ours or not floor:
        return []
    seen = f"{ours / floor:.2f} × ({ours:.2f} s, handshakes {floor:.2f} s)"
    return [Verdict(f"64 hosts × 10 commands: CPU within {times:g} × of the handshakes'", seen, ours / floor <= times)]


def _linear(at_64: Mapping[str, Any], at_200: Mapping[str, Any]) -> list[Verdict]:
    few, many = (tools.get(_OURS, {}).get("median_s") for tools in (at_64, at_200))
    if not few or not many:
        return []
    each = [1000 * seconds / hosts for seconds, hosts in ((few, 64), (many, 200))]
    seen = f"{each[1]:.1f} ms a host ({many:.2f} s), at 64 hosts {each[0]:.1f} ms"
    return [Verdict("200 hosts: linear, no more than 1.1 × the time of each of 64", seen, each[1] <= 1.1 * each[0])]


def _small(at_200: Mapping[str, Any], megabytes: float) -> list[Verdict]:
    if not (peak := at_200.get(_OURS, {}).get("peak_mb")):
        return []
    return [Verdict(f"200 hosts: under {megabytes:g} MB", f"{peak:.0f} MB", peak < megabytes)]
