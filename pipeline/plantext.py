"""Plans, comparisons and drift as people read them; coloured where somebody watches, plain where nobody does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.comparison import Comparison
from pipeline.consequences import consequences
from pipeline.errors import ConfigurationInvalid, PipelineError
from pipeline.plan import Act, Parameter, ParameterChange, Plan, StackPlan, from_json, to_json
from pipeline.privatefile import write_private
from pipeline.stackdrift import Drift, StackDrift
from pipeline.stacks import Kind
from pipeline.terminal import harmless

__all__ = ["plan_lines", "read_plan", "save_plan", "show_comparison", "show_drift", "show_plan"]

_KINDS = {
    Kind.ADDED: ("+  ", "green"),
    Kind.UPDATED: ("~  ", "yellow"),
    Kind.REPLACED: ("-/+", "red"),
    Kind.DELETED: ("-  ", "red"),
}
_ACTS = {Act.CREATE: ("+", "green"), Act.RECREATE: ("-/+", "red"), Act.UPDATE: ("~", "yellow"), Act.NONE: ("=", "dim")}
_SAID = {
    Act.CREATE: "to be created",
    Act.RECREATE: "it never worked, or could not be deleted: to be deleted and created",
    Act.UPDATE: "to be updated",
    Act.NONE: "nothing to do",
}
_DIFF = {"+": "green", "-": "red", "@": "cyan"}


def show_plan(plan: Plan, console: Console) -> None:
    """Print a plan."""
    _print(plan_lines(plan), console)


def save_plan(plan: Plan, path: Path) -> None:
    """Write a plan that `inv apply` takes, for its owner alone. Raises PipelineError where it cannot be written."""
    try:
        write_private(path, to_json(plan))
    except OSError as error:
        raise PipelineError(f"{path}: cannot be written: {error.strerror}", hint="name another file") from error


def read_plan(path: Path) -> Plan:
    """Return the plan in a file. Raises ConfigurationInvalid where it cannot be read, or is none."""
    try:
        return from_json(path.read_bytes(), str(path))
    except OSError as error:
        raise ConfigurationInvalid(
            f"{path}: cannot be read: {error.strerror}", hint="inv plan ENV --out FILE"
        ) from error


def show_comparison(found: Comparison, console: Console) -> None:
    """Print what differs between two environments or releases."""
    if not found.differences and not found.templates:
        console.print(f"{found.left} and {found.right}: nothing differs", markup=False)
        return
    made = Table(
        "what", "key", found.left, found.right, title=f"{found.left} beside {found.right}", title_justify="left"
    )
    for one in found.differences:
        made.add_row(*map(_text, (one.section, one.key, one.left, one.right)))
    console.print(made)
    for name, lines in found.templates.items():
        _print([_text(f"template of {name}", "bold"), *_diff_lines(lines)], console)


def show_drift(drift: Drift, console: Console) -> None:
    """Print what of a region is not as it was launched, or as it is rendered now."""
    _print((line for stack in drift.stacks for line in _drifted(stack)), console)
    for one in drift.hosts:
        _print([_text(f"! {one.host}: {one.check}", "red")], console)
        _print((_text(f"        {line}") for line in one.found.splitlines()), console)
    if drift.unseen:
        _print([_text(f"? hosts were not looked at: {drift.unseen}", "yellow")], console)
    console.print(
        f"{drift.environment}: {drift.found or 'no'} stacks or hosts have drifted", style="bold", markup=False
    )


def _drifted(stack: StackDrift) -> Iterator[Text]:
    yield _text(f"{'!' if stack.found else '='} {stack.stack}: {stack.status}", "red" if stack.found else "dim")
    yield from (_text(f"    ! {line}", "red") for line in stack.changed)
    if stack.rendered:
        yield _text(f"    ~ is not as it is rendered now: it would have {stack.rendered}", "yellow")
    yield from _diff_lines(stack.diff)


def _text(line: str, style: str = "") -> Text:
    """Return a line that may be a host's or Heat's own."""
    return Text(harmless(line), style)


def _print(lines: Iterable[Text], console: Console) -> None:
    for line in lines:
        console.print(line, soft_wrap=True)


def plan_lines(plan: Plan) -> Iterator[Text]:
    """Yield a plan line by line; nothing in it is read as markup."""
    means = consequences(plan)
    for stack in plan.stacks:
        yield from _stack(stack, means.get(stack.name, ()))
    acts = Counter(stack.act for stack in plan.stacks)
    counts = ", ".join(f"{acts[act]} {_SAID[act]}" for act in Act if acts[act])
    yield _text(
        f"{plan.environment}: {counts}" + (f"; hosts are brought up on {plan.release}" if plan.release else ""), "bold"
    )


def _stack(stack: StackPlan, means: tuple[str, ...]) -> Iterator[Text]:
    sign, style = _ACTS[stack.act]
    later = ", but may change with those it takes values from" if stack.unforeseen and stack.act is Act.NONE else ""
    failed = f" (it is {stack.live.status})" if stack.live and not stack.live.status.endswith("_COMPLETE") else ""
    yield _text(f"{sign} {stack.stack_name}: {_SAID[stack.act]}{later}{failed}", style)
    for change in stack.changes:
        sign, style = _KINDS[change.kind]
        yield _text(f"    {sign} {change.path} ({change.type}): {change.kind}", style)
    unchanged = len(stack.resources) - len(stack.changes)
    if unchanged and stack.act is not Act.NONE:
        yield _text(f"    =   {unchanged} resources stay as they are", "dim")
    yield from (_parameter(one) for one in stack.parameters)
    yield from _diff_lines(stack.diff)
    yield from (_text(f"    ! {line}", "bold red") for line in means)
    if stack.lost:
        yield _text(f"    ! protected: it is done only with --allow-replace {','.join(stack.lost)}", "bold red")


def _parameter(one: Parameter) -> Text:
    match one.change:
        case ParameterChange.ADDED:
            was = f" (the template's default was {one.before})" if one.before else ""
            return _text(f"    +   parameter {one.name}: {one.after}{was}", "green")
        case ParameterChange.CHANGED if one.before == one.after:
            return _text(
                f"    ~   parameter {one.name}: {one.before}: it may be another, for Heat tells no such value", "yellow"
            )
        case ParameterChange.CHANGED:
            return _text(f"    ~   parameter {one.name}: {one.before} → {one.after}", "yellow")
        case ParameterChange.DROPPED:
            return _text(f"    -   parameter {one.name}: {one.before} is dropped", "red")
        case ParameterChange.DEFAULT:
            said = f"    -   parameter {one.name}: {one.before} → {one.after}, the template's default"
            return _text(said, "red")
        case ParameterChange.UNKNOWN:
            return _text(f"    ?   parameter {one.name}: {_of_now(one)}, known once {_source(one)}", "magenta")


def _of_now(one: Parameter) -> str:
    return f"{one.before or one.after} now" if one.before or one.after else "nothing yet"


def _source(one: Parameter) -> str:
    return "it is deployed from here" if one.source == "given" else f"stack {one.source} is done"


def _diff_lines(lines: Iterable[str]) -> Iterator[Text]:
    """Yield the lines of a unified diff, set in and coloured by what they begin with."""
    for line in lines:
        yield _text(f"        {line}", _DIFF.get(line[:1], "dim"))
