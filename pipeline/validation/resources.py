"""The resources of a template against the schemas of their types, those of nested templates among them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pipeline.validation.expressions import Either, Scope
from pipeline.validation.references import Found, dangling
from pipeline.validation.schemas import Catalogue, ResourceType
from pipeline.validation.template import Finding, Template, Unreadable
from pipeline.validation.values import Mismatch, advised, check_all, nearest

__all__ = ["Checker"]


@dataclass(eq=False)
class Checker:
    """Checks templates against `catalogue`. `files` are the texts of nested templates, `registry` says which type is
    made of which; both by the names of files that findings use."""

    catalogue: Catalogue
    files: Mapping[str, str]
    registry: Mapping[str, str]
    _nested: dict[str, Template] = field(default_factory=dict)
    _sound: dict[str, tuple[Found, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.unreadable: list[Finding] = []
        for kind, file in self.registry.items():
            try:
                self._nested[kind] = Template(file, self.files[file], self.catalogue)
            except Unreadable as unreadable:
                self.unreadable.append(unreadable.finding)
            except KeyError:
                self.unreadable.append(Finding(file, "", "", f"a template, for {kind} is made of it", "none"))

    def check(self, template: Template, given: Mapping[str, Any]) -> Iterator[Found]:
        """Yield what is wrong with a template whose parameters are as `given`, and with those nested in it."""
        yield from self._check(template, given, ())

    def _check(self, template: Template, given: Mapping[str, Any], above: tuple[str, ...]) -> Iterator[Found]:
        if template.file in above:
            circle = " → ".join((*above, template.file))
            yield Finding(template.file, "", "", "templates that do not contain themselves", circle), self._all
            return
        yield from (
            self._sound[template.file]
            if template.file in self._sound
            else self._soundness(template, nested=bool(above))
        )
        scope = template.scope(given)
        for name, resource in template.resources.items():
            condition = resource.get("condition")
            made = scope.holds(condition) if condition is not None else True
            within = scope if made is not False else scope.blind
            yield from self._resource(template, name, resource, within, (*above, template.file))

    def _soundness(self, template: Template, *, nested: bool) -> tuple[Found, ...]:
        """Return what is wrong with a template whatever its parameters are; of a nested one it is kept."""
        unsound = ((found, self._all) for found in template.unsound)
        found = (*unsound, *dangling(template, self._nested, self.catalogue))
        if nested:
            self._sound[template.file] = found
        return found

    @property
    def _all(self) -> frozenset[str]:
        return self.catalogue.releases

    def _resource(
        self, template: Template, name: str, resource: Mapping[str, Any], scope: Scope, above: tuple[str, ...]
    ) -> Iterator[Found]:
        kind = resource.get("type")
        given = resource.get("properties") or {}
        if not isinstance(kind, str) or not isinstance(given, dict):
            yield Finding(template.file, name, "", "a type, and properties by name", str(kind)), self._all
        elif kind in self._nested:
            yield from self._own(template, name, kind, given, scope, above)
        elif kind not in self.registry:
            yield from self._plain(template, name, kind, given, scope)

    def _own(
        self,
        template: Template,
        name: str,
        kind: str,
        given: Mapping[str, Any],
        scope: Scope,
        above: tuple[str, ...],
    ) -> Iterator[Found]:
        inner = self._nested[kind]
        wrong = [*check_all(given, inner.properties, "properties.", kind, scope)]
        yield from ((_placed(one, template, name), self._all) for one in wrong)
        passed = {key: scope.resolved(value) for key, value in given.items() if key in inner.properties}
        for found, releases in self._check(inner, passed, above):
            yield (
                replace(found, resource=" > ".join(str(part) for part in (name, found.resource) if part != "")),
                releases,
            )

    def _plain(
        self, template: Template, name: str, kind: str, given: Mapping[str, Any], scope: Scope
    ) -> Iterator[Found]:
        found = self.catalogue.of(kind)
        if lacking := self._all - frozenset().union(*(releases for _, releases in found)):
            near = nearest(kind, dict.fromkeys(self.catalogue.names)) if not found else ""
            yield Finding(template.file, name, "type", f"a type of resource{near}", kind), lacking
        for made, releases in found:
            if made.advice is not None:
                yield _placed(advised("type", made.advice), template, name), releases
            for mismatch in check_all(given, made.properties, "properties.", kind, scope):
                yield _placed(mismatch, template, name), releases
            for one, other in _at_once(made, given, scope):
                expected = f"only one of {one} and {other}: Heat takes not both"
                yield Finding(template.file, name, "properties", expected, "both"), releases


def _at_once(made: ResourceType, given: Mapping[str, Any], scope: Scope) -> Iterator[tuple[str, str]]:
    """Yield the pairs of properties that exclude each other and are both there for sure."""
    for one, other in made.exclusive:
        if one in given and other in given and not any(_may_lack(given[key], scope) for key in (one, other)):
            yield one, other


def _may_lack(value: Any, scope: Scope) -> bool:
    reduced = scope.reduced(value)
    return reduced is None or isinstance(reduced, Either)


def _placed(mismatch: Mismatch, template: Template, resource: str) -> Finding:
    return Finding(template.file, resource, mismatch.path, mismatch.expected, mismatch.found, advice=mismatch.advice)
