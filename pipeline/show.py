"""What people look at: reports as tables on a console, and as files for machines."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Protocol

from rich.console import Console
from rich.table import Table

from pipeline.edges.clock import Clock
from pipeline.edges.lock import Holder
from pipeline.edges.runs import Run
from pipeline.edges.wheelhouse import Built
from pipeline.errors import ConfigurationInvalid, PipelineError
from pipeline.evidence import Record
from pipeline.fanout import HostResult
from pipeline.localcloud import CloudStatus
from pipeline.origins import Setting
from pipeline.smoke import SmokeReport
from pipeline.status import HostStatus
from pipeline.terminal import harmless, harmless_lines
from pipeline.traffic import TrafficReport
from pipeline.validation import Problem

__all__ = [
    "cloud",
    "ending_in",
    "history",
    "hosts",
    "lock",
    "origins",
    "problems",
    "proof",
    "releases",
    "require_writable",
    "rollouts",
    "rungs",
    "save",
    "save_figures",
    "save_host_results",
    "save_hosts",
    "save_origins",
    "save_problems",
    "table",
    "timing",
    "traffic",
    "write",
]

_HELD = "WaitConditions held open / the longest"
_COLOUR = {"passed": "green", "failed": "red", "error": "red", "skipped": "yellow"}


class Report(Protocol):
    """A report that machines read too."""

    def to_json(self) -> Any:
        """Return plain values."""

    def to_junit(self) -> str:
        """Return a JUnit XML document."""


def save(report: Report, *, junit: str = "", json_file: str = "") -> None:
    """Write a report to the files named, each only where it is. Raises PipelineError where one cannot be written."""
    if junit:
        write(Path(junit), report.to_junit())
    if json_file:
        write(Path(json_file), json.dumps(report.to_json(), indent=2) + "\n")


def require_writable(*paths: str | Path) -> None:
    """Refuse a path that `write` could not write to, before a run works for what is to be in it; "" is no path.

    Leaves nothing behind. Raises ConfigurationInvalid.
    """
    for path in (Path(path) for path in paths if str(path)):
        if reason := _obstacle(path):
            raise ConfigurationInvalid(f"{path}: cannot be written: {reason}", hint="name another file")


def _obstacle(path: Path) -> str:
    """Return what keeps `path` from being written, "" for nothing; its directories may be yet to be made."""
    try:
        if path.is_dir():
            return os.strerror(errno.EISDIR)
        if path.exists():
            return "" if os.access(path, os.W_OK) else os.strerror(errno.EACCES)
        with TemporaryFile(dir=next(place for place in path.absolute().parents if place.exists())):
            return ""
    except OSError as error:
        return error.strerror or str(error)


@contextmanager
def ending_in(failed: PipelineError | None) -> Iterator[None]:
    """Let the body save what was shown, then raise what `failed`, if anything: what cannot be written hides nothing."""
    try:
        yield
    except PipelineError as error:
        if failed is None:
            raise
        failed.message += f" ({error.message})"
    if failed is not None:
        raise failed


def write(path: Path, text: str) -> None:
    """Write `text` to `path`, in directories made as needed. Raises PipelineError where that cannot be done."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise PipelineError(f"{path}: cannot be written: {error.strerror}", hint="name another file") from error


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], console: Console) -> None:
    """Print one table; markup and control characters in cells are shown as they are."""
    from rich.text import Text

    made = Table(*columns, title=title, title_justify="left")
    for row in rows:
        made.add_row(*(Text(harmless_lines(cell)) for cell in row))
    console.print(made)


def _line(text: str, console: Console, style: str | None = None) -> None:
    """Print what others wrote as one line, however long: a log's lines are not to be folded."""
    console.print(harmless(text), style=style, markup=False, emoji=False, soft_wrap=True)


def traffic(report: TrafficReport, console: Console) -> None:
    """Print what the canary's customers saw."""
    table("What customers saw during the upgrade", ("what", "seen"), _seen(report), console)
    for failure in report.failures:
        _line(f"  {failure}", console, "red")


def proof(
    stages: Sequence[tuple[str, float]],
    report: TrafficReport,
    revisions: Mapping[str, str],
    results: Mapping[str, str],
    console: Console,
) -> None:
    """Print the demo's proof: seconds per stage, what customers saw, who answered, what was checked."""
    table("How long it took", ("stage", "seconds"), [(name, f"{seconds:.1f}") for name, seconds in stages], console)
    rows = [*_seen(report), *revisions.items(), *results.items()]
    table("What was seen", ("what", "seen"), rows, console)


def _seen(report: TrafficReport) -> list[tuple[str, str]]:
    stacks, requests, waits = report.stacks, report.requests, report.wait_conditions
    return [
        ("stacks completed / failed / stuck", f"{stacks.completed} / {stacks.failed} / {stacks.stuck}"),
        ("requests / errors", f"{requests.total} / {requests.errors}"),
        ("longest time without an answer", f"{requests.longest_gap_s:.2f} s"),
        *([(_HELD, f"{waits.held} / {waits.longest_open_s:.1f} s")] if waits.held else []),
    ]


def rungs(report: SmokeReport, console: Console) -> None:
    """Print the rungs of a smoke test, each failed one with its likely cause."""
    for rung in report.rungs:
        told = f"{rung.outcome:8} {rung.name:28} {rung.seconds:6.1f} s  {rung.detail}"
        _line(told, console, _COLOUR[rung.outcome])
        if rung.likely_cause:
            _line(f"         likely cause: {rung.likely_cause}", console)


def cloud(found: CloudStatus, console: Console) -> None:
    """Print the local cloud's services and hosts."""
    services = [(one.name, str(one.pid or ""), "yes" if one.healthy else "no", one.url) for one in found.services]
    table("Services", ("service", "pid", "healthy", "url"), services, console)
    hosts = [(one.name, one.address, str(one.pid or ""), one.state) for one in found.hosts]
    table("Hosts", ("host", "address", "pid", "state"), hosts, console)


def hosts(found: Sequence[HostStatus], console: Console) -> None:
    """Print every host of a region, a line each; its machine too where others are on it."""
    rows = [
        (_placed(one), one.role, ", ".join(one.on_disk), one.current, one.running, one.vhost, one.health, one.batch)
        for one in found
    ]
    table("Hosts", ("host", "role", "on disk", "current", "running", "vhost", "health", "batch"), rows, console)


def _placed(one: HostStatus) -> str:
    return one.host if one.machine == one.host else f"{one.host} on {one.machine}"


def save_hosts(found: Sequence[HostStatus], path: Path) -> None:
    """Write every host of a region as JSON. Raises PipelineError where the file cannot be written."""
    write(path, json.dumps([asdict(one) for one in found], indent=2) + "\n")


def save_host_results(results: Sequence[HostResult], path: Path) -> None:
    """Write what each host made of a command as JSON. Raises PipelineError where the file cannot be written."""
    write(path, json.dumps([asdict(one) for one in results], indent=2) + "\n")


def origins(found: Sequence[Setting], console: Console) -> None:
    """Print every setting of an environment, and what set it."""
    rows = [(one.key, json.dumps(one.value, ensure_ascii=False), one.origin) for one in found]
    table("Settings", ("key", "value", "set by"), rows, console)


def save_origins(found: Sequence[Setting], path: Path) -> None:
    """Write every setting of an environment as JSON. Raises PipelineError where the file cannot be written."""
    write(path, json.dumps([one.to_json() for one in found], indent=2, ensure_ascii=False) + "\n")


def problems(found: Sequence[Problem], console: Console) -> None:
    """Print what is wrong with environments' templates, a line each."""
    for one in found:
        severity, style = ("error", "red") if one.is_error else ("warning", "yellow")
        heats = ", ".join(one.releases)
        _line(f"{severity:8} {one.environment}: {one.finding} (Heat {heats})", console, style)


def save_problems(found: Sequence[Problem], environments: Sequence[str], path: Path) -> None:
    """Write what is wrong with environments' templates as JSON. Raises PipelineError where it cannot be written."""
    document = {"environments": list(environments), "problems": [one.to_json() for one in found]}
    write(path, json.dumps(document, indent=2) + "\n")


def save_figures(figures: Mapping[str, Any], path: Path) -> None:
    """Write a benchmark's figures as JSON. Raises PipelineError where the file cannot be written."""
    write(path, json.dumps(figures, indent=2) + "\n")


_NOTICED = ("completed", "failed", "stuck", "requests", "errors", "longest gap", "wall")


def rollouts(figures: Mapping[str, Any], console: Console) -> None:
    """Print what customers saw of each way to upgrade, side by side."""
    rows = [(name, *_noticed(seen)) for name, seen in figures["rollouts"].items()]
    table(f"Heat {figures['from']} to {figures['to']}, three ways", ("rollout", *_NOTICED), rows, console)


def soak(figures: Mapping[str, Any], console: Console) -> None:
    """Print what customers saw of changes in a row, one a line."""
    rows = []
    for one in figures["changes"]:
        waits = one["wait_conditions"]
        held = f"{waits['held']} / {waits['longest_gap_s']:.1f} s"
        rows.append((str(one["round"]), one["change"], *_noticed(one), held, f"{one['overhead']:.1%}"))
    columns = ("round", "change", *_NOTICED, "WaitConditions held / none open", "overhead")
    table(f"{figures['clients']} customers, one change after the other", columns, rows, console)


def _noticed(figures: Mapping[str, Any]) -> tuple[str, ...]:
    stacks, requests = figures["stacks"], figures["requests"]
    counts = [str(stacks[kind]) for kind in ("completed", "failed", "stuck")]
    asked = [str(requests["total"]), str(requests["errors"]), f"{requests['longest_gap_s']:.2f} s"]
    return (*counts, *asked, f"{figures['wall_s']:.0f} s")


def lock(environment: str, holder: Holder | None, clock: Clock, console: Console) -> None:
    """Print who holds an environment."""
    if holder is None:
        console.print(f"{environment}: nobody holds it", markup=False)
        return
    age = (clock.now() - holder.started).total_seconds()
    row = (holder.owner, holder.operation, f"{age:.0f} s", holder.run_id, f"{holder.host}:{holder.pid}", holder.reason)
    table(f"Lock of {environment}", ("owner", "operation", "since", "run", "where", "reason"), [row], console)


def timing(runs: Sequence[Run], console: Console) -> None:
    """Print where the time of each run's moves went, the latest last."""
    rows = []
    for run in runs:
        summary = run.summary
        if summary is None:
            rows.append((run.id, "has not ended, or was killed", "", "", ""))
            continue
        spent = summary["timing"]
        figures = (f"{spent['moves_s']:.1f} s", f"{spent['unavoidable_s']:.1f} s", f"{spent['overhead']:.1%}")
        rows.append((run.id, f"exit {summary['exit_code']}", *figures))
    table("Where rollouts spent their time", ("run", "ended", "moves", "unavoidable", "overhead"), rows, console)


def releases(found: Sequence[Built], console: Console) -> None:
    """Print the releases built on this machine."""
    rows = [
        (built.release.id, built.release.heat.series, built.release.worker_rpc, built.release.alembic_head)
        for built in found
    ]
    table("Releases", ("id", "series", "worker RPC", "schema"), rows, console)


def history(records: Sequence[Record], console: Console) -> None:
    """Print records, oldest first."""
    rows = [
        (
            f"{record.started:%Y-%m-%d %H:%M:%S}",
            record.operation,
            record.release_id,
            "passed" if record.passed else "failed",
            f"{(record.ended - record.started).total_seconds():.0f} s",
            record.who,
            record.detail or ", ".join(f"{key} {value:g}" for key, value in record.counts.items()),
        )
        for record in records
    ]
    table("Records", ("when (UTC)", "operation", "release", "result", "took", "who", "seen"), rows, console)
