"""Validation: rendered stacks against the resource schemas of real Heats, without a Heat and without a cloud.

What real Heat says of the same templates is asked in tests/integration/test_schemas.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from pipeline.render import GIVEN, RenderedStack
from pipeline.validation.expressions import Unknown
from pipeline.validation.references import Found
from pipeline.validation.resources import Checker
from pipeline.validation.schemas import Catalogue, path_of
from pipeline.validation.template import Finding, Template, Unreadable

__all__ = ["WRITER", "Catalogue", "Finding", "Problem", "path_of", "validate"]

WRITER = Path(__file__).with_name("write_schemas.py")
"""The program that writes the schemas of the Heat it is run in."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A Finding in an environment, and the releases of Heat that it is one for."""

    environment: str
    finding: Finding
    releases: tuple[str, ...]

    @property
    def is_error(self) -> bool:
        """Whether the stack could not be launched; else it is a warning."""
        return not self.finding.advice

    def to_json(self) -> dict[str, Any]:
        """Return {"environment", "severity", "file", "resource", "path", "expected", "found", "releases"}."""
        facts = asdict(self.finding)
        severity = "warning" if facts.pop("advice") else "error"
        return {"environment": self.environment, "severity": severity, **facts, "releases": list(self.releases)}


def validate(environment: str, stacks: Sequence[RenderedStack], catalogue: Catalogue) -> tuple[Problem, ...]:
    """Return what is wrong with an environment's stacks by the schemas of `catalogue`, each once, errors first."""
    releases: dict[Finding, set[str]] = {}
    for finding, seen in _findings(stacks, catalogue):
        releases.setdefault(finding, set()).update(seen)
    found = [Problem(environment, finding, tuple(sorted(seen))) for finding, seen in releases.items()]
    return tuple(sorted(found, key=lambda problem: not problem.is_error))


def _findings(stacks: Sequence[RenderedStack], catalogue: Catalogue) -> Iterator[Found]:
    checkers: list[Checker] = []
    outputs: dict[str, Mapping[str, Any]] = {}
    for stack in stacks:
        checker = _checker(catalogue, _named(stack.files.items()), _named((v, k) for k, v in stack.registry.items()))
        if checker not in checkers:
            checkers.append(checker)
        try:
            template = Template(f"templates/{stack.name}.yaml.j2", stack.template, catalogue)
        except Unreadable as unreadable:
            yield unreadable.finding, catalogue.releases
            continue
        outputs[stack.name] = template.outputs
        yield from ((found, catalogue.releases) for found in _launched(stack, template, outputs))
        unknown = {name: Unknown("any") for name in stack.inputs}
        yield from checker.check(template, {**stack.parameters, **unknown})
    for checker in checkers:
        yield from ((found, catalogue.releases) for found in checker.unreadable)


def _launched(stack: RenderedStack, template: Template, outputs: Mapping[str, Mapping[str, Any]]) -> Iterator[Finding]:
    """Yield what is wrong with how a stack is launched: parameters that are not there, not given, or given wrongly."""
    listing = "templates/stacks.yaml.j2"
    given = {**stack.parameters, **stack.inputs}
    for name in given:
        if name not in template.parameters:
            yield Finding(listing, stack.name, name, f"a parameter of {template.file}", "an unknown one")
    for name, one in template.parameters.items():
        if name not in given and not one.has_default:
            yield Finding(listing, stack.name, name, f"a value: {template.file} requires it", "none")
        elif stack.parameters.get(name) not in (None, ""):
            found = template.misread(name, stack.parameters[name], name)
            yield from (replace(one, file=listing, resource=stack.name) for one in found)
    for name, (source, *path) in stack.inputs.items():
        if source != GIVEN and path and path[0] not in outputs.get(source, {path[0]: None}):
            known = ", ".join(map(str, outputs[source]))
            yield Finding(listing, stack.name, name, f"an output of stack {source} ({known})", path[0])


def _named(files: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Return files, each called as people find it, with what there is to say of each."""
    return tuple(sorted((f"templates/{name}", told) for name, told in files))


@lru_cache(maxsize=8)
def _checker(catalogue: Catalogue, files: tuple[tuple[str, str], ...], kinds: tuple[tuple[str, str], ...]) -> Checker:
    """Return what checks stacks of which these are nested; environments of one provider share it."""
    return Checker(catalogue, dict(files), {kind: file for file, kind in kinds})
