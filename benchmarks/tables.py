"""Tables of what benchmarks of SSH measured: for a console, and as Markdown for docs/benchmarks.md."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console

from benchmarks.figures import Verdict
from pipeline.show import table

__all__ = ["COLUMNS", "markdown", "rows", "show", "title"]

COLUMNS = ("tool", "median", "least – most", "to pipeline", "CPU", "CPU of hosts", "peak", "connections")
_OF_HOSTS = ("CPU of hosts", "connections")


def title(case: Mapping[str, Any]) -> str:
    """Return what a case is called."""
    if "environments" in case:
        return f"{case['environments']} environments, {case['stacks']} stacks"
    if "checks" in case:
        what = f"{case['checks']} checks"
    elif size := case.get("push_mb"):
        what = f"a file of {size} MB"
    else:
        what = f"{case['commands']} command{'s' if case['commands'] > 1 else ''}"
    return f"{case['hosts']} hosts × {what}"


def rows(tools: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, ...]]:
    """Yield one row of COLUMNS for each tool; of one that did not come to an end, why."""
    ours = tools.get("pipeline", {}).get("median_s")
    for name, tool in tools.items():
        if "median_s" not in tool:
            yield (name, f"failed: {tool['failed']}", *[""] * (len(COLUMNS) - 2))
            continue
        yield (
            f"{name} ({tool['failed']})" if "failed" in tool else name,
            f"{tool['median_s']:.2f} s",
            f"{tool['min_s']:.2f} – {tool['max_s']:.2f} s",
            f"{tool['median_s'] / ours:.1f} ×" if ours else "",
            f"{tool['cpu_s']:.2f} s",
            f"{tool['host_cpu_s']:.2f} s",
            f"{tool['peak_mb']:.0f} MB",
            str(tool["connections"]),
        )


def _cells(case: Mapping[str, Any]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return columns and rows of a case, without those of hosts where it has none."""
    used = [i for i, name in enumerate(COLUMNS) if "environments" not in case or name not in _OF_HOSTS]
    return tuple(COLUMNS[i] for i in used), [tuple(row[i] for i in used) for row in rows(case["tools"])]


def show(figures: Mapping[str, Any], verdicts: Sequence[Verdict], console: Console) -> None:
    """Print a table for each case, and a line for each target."""
    for case in figures["cases"]:
        table(title(case), *_cells(case), console)
    for one in verdicts:
        mark, style = ("✓", "green") if one.met else ("✗", "red")
        console.print(f"{mark} {one.target}: {one.seen}", style=style, markup=False, highlight=False)


def markdown(figures: Mapping[str, Any], verdicts: Sequence[Verdict]) -> str:
    """Return the same in Markdown."""
    lines: list[str] = []
    if verdicts:
        lines += _table(("target", "seen", "met"), [(one.target, one.seen, _word(one.met)) for one in verdicts])
    for case in figures["cases"]:
        lines += [f"**{title(case)}**", "", *_table(*_cells(case))]
    return "\n".join(lines)


def _word(met: bool) -> str:
    return "yes" if met else "**no**"


def _table(columns: Sequence[str], cells: Any) -> list[str]:
    rows = [[cell.replace("|", r"\|") for cell in row] for row in cells]  # what a tool said may have some
    lines = [f"| {' | '.join(row)} |" for row in (columns, ["---"] * len(columns), *rows)]
    return [*lines, ""]
