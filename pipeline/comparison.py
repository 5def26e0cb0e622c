"""Comparing two environments, or two releases: what differs, key by key, and templates line by line."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from difflib import unified_diff
from typing import Any

from pipeline.environment import Environment
from pipeline.release import Release, upgrade_mode
from pipeline.render import RenderedStack

__all__ = ["Comparison", "Difference", "compare_environments", "compare_releases"]

_SAME_NAME = "region"  # both are rendered under it: every name of a stack's would differ otherwise


@dataclass(frozen=True, slots=True)
class Difference:
    """One key that differs; "" stands for what one of the two does not have."""

    section: str
    key: str
    left: str
    right: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """What differs between `left` and `right`; `templates` are unified diffs by the stack's name."""

    left: str
    right: str
    differences: tuple[Difference, ...]
    templates: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self)


def compare_environments(
    left: Environment, right: Environment, render: Callable[[Environment], Sequence[RenderedStack]]
) -> Comparison:
    """Return what differs in the settings, stacks, parameters and templates of two environments, names left out.

    Raises what `render` raises.
    """
    ours, theirs = (_rendered(one, render) for one in (left, right))
    differences = [
        *_differences("settings", _flat(_settings(left)), _flat(_settings(right))),
        *_differences("stacks", dict.fromkeys(ours, "rendered"), dict.fromkeys(theirs, "rendered")),
    ]
    templates = {}
    for name in sorted(ours.keys() & theirs.keys()):
        one, other = ours[name], theirs[name]
        differences += _differences(f"parameters of {name}", _parameters(one), _parameters(other))
        if lines := tuple(_diff(one, other, left.name, right.name)):
            templates[name] = lines
    return Comparison(left.name, right.name, tuple(differences), templates)


def compare_releases(left: Release, right: Release) -> Comparison:
    """Return what differs in the packages of two releases, their RPC versions and their schemas."""
    facts = [_facts(one) for one in (left, right)]
    packages = [{package.name: package.version for package in one.packages} for one in (left, right)]
    built = [{package.name: package.sha256 for package in one.packages} for one in (left, right)]
    rebuilt = {
        name: f"{version}, another build"
        for name, version in packages[1].items()
        if packages[0].get(name) == version and built[0][name] != built[1][name]
    }
    return Comparison(
        left.id,
        right.id,
        (
            *_differences("release", *facts),
            *_differences("packages", packages[0], {**packages[1], **rebuilt}),
            *_road(left, right),
        ),
    )


def _facts(release: Release) -> dict[str, str]:
    return {
        "heat": str(release.heat),
        "series": release.heat.series,
        "engine RPC": release.engine_rpc,
        "worker RPC": release.worker_rpc,
        "schema (Alembic head)": release.alembic_head,
        "python": release.python,
    }


def _road(left: Release, right: Release) -> Iterator[Difference]:
    """Yield by which road an upgrade goes from the older to the newer of two releases, where there is one."""
    if left.heat < right.heat and right.heat.major - left.heat.major <= 1:
        yield Difference("upgrade", "mode", "", str(upgrade_mode(left, right)))


def _rendered(
    environment: Environment, render: Callable[[Environment], Sequence[RenderedStack]]
) -> dict[str, RenderedStack]:
    return {stack.name: stack for stack in render(environment.model_copy(update={"name": _SAME_NAME}))}


def _settings(environment: Environment) -> dict[str, Any]:
    return environment.model_dump(mode="json", exclude={"name"})


def _flat(value: Any, path: str = "") -> dict[str, str]:
    if isinstance(value, Mapping) and value:
        return {key: text for name, inner in value.items() for key, text in _flat(inner, f"{path}.{name}").items()}
    return {path.removeprefix("."): "null" if value is None else str(value)}


def _parameters(stack: RenderedStack) -> dict[str, str]:
    inputs = {name: f"from {'.'.join(path)}" for name, path in stack.inputs.items()}
    return {name: str(value) for name, value in stack.parameters.items()} | inputs


def _differences(section: str, left: Mapping[str, str], right: Mapping[str, str]) -> Iterator[Difference]:
    for key in sorted({*left, *right}):
        if left.get(key) != right.get(key):
            yield Difference(section, key, left.get(key, ""), right.get(key, ""))


def _diff(one: RenderedStack, other: RenderedStack, left: str, right: str) -> Iterator[str]:
    pairs = [(f"{one.name}.yaml", one.template, other.template)]
    pairs += [(name, one.files.get(name, ""), other.files.get(name, "")) for name in sorted({*one.files, *other.files})]
    for name, before, after in pairs:
        yield from unified_diff(
            before.splitlines(), after.splitlines(), f"{left}/{name}", f"{right}/{name}", lineterm="", n=1
        )
