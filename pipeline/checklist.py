"""The checklist: what a verification found, for people. A host whose checks pass takes one line."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from pipeline.edges.clock import Clock
from pipeline.errors import PipelineError
from pipeline.terminal import harmless
from pipeline.verify import CheckResult, VerifyReport

__all__ = ["checks", "watched"]

_OF_DIFF = {"+": "green", "-": "red"}


def checks(report: VerifyReport, console: Console) -> None:
    """Print checks: a line for each host, and below it each check that did not pass: expected, found, likely cause."""
    by_host: dict[str, list[CheckResult]] = {}
    for result in report.results:
        by_host.setdefault(result.host, []).append(result)
    console.print(f"Checks of {report.environment} on {report.release_id}", style="italic", markup=False)
    width = max(map(len, by_host), default=0)
    for host, results in by_host.items():
        _host_line(host.ljust(width), results, console)
        for result in results:
            if result.outcome != "passed":
                _wrong(result, console)
    failed = f", {report.failed} did not" if report.failed else ""
    console.print(f"{report.passed} checks passed{failed}, in {report.seconds:.1f} s", markup=False, highlight=False)


def watched(found: VerifyReport | PipelineError, clock: Clock, console: Console) -> None:
    """Print one look of a watch in place of the one before; where nobody watches a terminal, below it."""
    if console.is_terminal:
        console.clear()
    console.print(f"{clock.now():%H:%M:%S} UTC; Ctrl-C ends it", style="dim", highlight=False)
    if isinstance(found, PipelineError):
        console.print(_lines(f"cannot be checked: {found}"), style="red")
    else:
        checks(found, console)


def _host_line(host: str, results: Sequence[CheckResult], console: Console) -> None:
    wrong = sum(result.outcome != "passed" for result in results)
    counts = f"{len(results) - wrong:3} passed" + (f", {wrong} did not" if wrong else "")
    took = f"{sum(result.seconds for result in results):6.2f} s"
    line = f"{'✗' if wrong else '✓'} {host}  {results[0].role:12} {took}  {counts}"
    console.print(line, style="red" if wrong else "green", markup=False, highlight=False)


def _wrong(result: CheckResult, console: Console) -> None:
    """Print one check that did not pass: what it tells in parts, or in one where it could not be made."""
    console.print(f"    {result.name}", style="bold", markup=False, highlight=False)
    parts = {"expected": result.expected, "found": result.found, "likely": result.likely}
    told = parts if result.expected else {result.outcome: result.message}
    grid = Table.grid("label", "text", padding=(0, 2, 0, 0))
    for label, text in told.items():
        grid.add_row(label, _lines(text))
    console.print(Padding(grid, (0, 0, 0, 6)))
    for line in result.detail.splitlines():
        console.print(f"      {harmless(line)}", style=_OF_DIFF.get(line[:1], "dim"), markup=False, highlight=False)


def _lines(text: str) -> Text:
    """Return text that may be a host's own, line by line."""
    return Text("\n".join(map(harmless, text.splitlines())))
