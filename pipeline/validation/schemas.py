"""The schemas of real Heats, as files beside this module: what `inv release.schemas` wrote of each.

    {"heat": "26.0.2",
     "versions": {VERSION OF HOT: {"functions": [NAME], "conditions": [NAME]}},
     "types": {TYPE: {"properties": {NAME: PROPERTY}, "attributes": {NAME: ADVICE}, "status": ADVICE, "open": bool,
                      "exclusive": [[NAME, NAME]]}}}

PROPERTY is {"type", "required", "default", "update", "constraints": [[KIND, …]], "status": ADVICE, "items": PROPERTY,
"keys": {NAME: PROPERTY}}; ADVICE is null, or [what, since which version, Heat's words]. Left out is false or empty.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline.errors import ConfigurationInvalid

__all__ = ["SCHEMAS", "Catalogue", "Properties", "Property", "ResourceType", "path_of", "read_property"]

SCHEMAS = Path(__file__).parent / "schemas"

Advice = tuple[str, str, str]


class Properties(dict[str, "Property"]):
    """Properties by name."""

    @cached_property
    def required(self) -> tuple[str, ...]:
        """The names of those that must be given."""
        return tuple(name for name, one in self.items() if one.required)


@dataclass(frozen=True, slots=True)
class Property:
    """What one property accepts. `loose` is a parameter of a template, which takes text for a list or a map."""

    type: str
    required: bool = False
    constraints: tuple[tuple[Any, ...], ...] = ()
    advice: Advice | None = None
    items: Property | None = None
    keys: Properties | None = None
    loose: bool = False


@dataclass(frozen=True, slots=True)
class ResourceType:
    """A type of resource. `open` ones have attributes that no schema tells of."""

    name: str
    properties: Properties
    attributes: Mapping[str, Advice | None]
    advice: Advice | None = None
    open: bool = False
    exclusive: tuple[tuple[str, str], ...] = ()


class Catalogue:
    """The types of several Heats at once; what is the same in some is looked at once for all of them."""

    def __init__(self, documents: Iterable[Mapping[str, Any]]) -> None:
        self._documents = {str(one["heat"]): one for one in documents}
        self._types: dict[str, tuple[tuple[ResourceType, frozenset[str]], ...]] = {}

    @classmethod
    def load(cls, releases: Iterable[str] = (), directory: Path = SCHEMAS) -> Catalogue:
        """Return the schemas of `releases` ("26.0.2", or "26"), of all there are where none is named.

        Raises ConfigurationInvalid for a release whose schemas are not there, or a file that cannot be read.
        """
        files = {path.stem.removeprefix("heat-"): path for path in sorted(directory.glob("heat-*.json"))}
        names = [_named(release, files) for release in releases] or list(files)
        return cls(_read(files[name]) for name in sorted(set(names)))

    @cached_property
    def releases(self) -> frozenset[str]:
        """The releases, as "26.0.2"."""
        return frozenset(self._documents)

    @cached_property
    def versions(self) -> Mapping[str, Mapping[str, Any]]:
        """The versions of HOT that every one of the releases knows, with their functions and conditions."""
        known = [one["versions"] for one in self._documents.values()]
        return {name: facts for name, facts in known[0].items() if all(name in one for one in known)}

    def of(self, name: str) -> tuple[tuple[ResourceType, frozenset[str]], ...]:
        """Return type `name` as each release has it, with the releases that have it so; nothing where none has it."""
        if name not in self._types:
            alike: list[tuple[Any, set[str]]] = []
            for release, document in self._documents.items():
                facts = document["types"].get(name)
                same = next((releases for known, releases in alike if known == facts), None)
                if same is not None:
                    same.add(release)
                elif facts is not None:
                    alike.append((facts, {release}))
            self._types[name] = tuple((_type(name, facts), frozenset(releases)) for facts, releases in alike)
        return self._types[name]

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names of all types, sorted."""
        return tuple(sorted({name for document in self._documents.values() for name in document["types"]}))


def path_of(release: str, directory: Path = SCHEMAS) -> Path:
    """Return where the schemas of a release ("26.0.2") are kept."""
    return directory / f"heat-{release}.json"


def _named(release: str, files: Mapping[str, Path]) -> str:
    found = [name for name in files if name == release or name.startswith(f"{release}.")]
    if len(found) != 1:
        known = ", ".join(files) or "none"
        raise ConfigurationInvalid(
            f"there are no schemas of Heat {release!r} (there are: {known})", hint="inv release.schemas --heat VERSION"
        )
    return found[0]


def _read(path: Path) -> Mapping[str, Any]:
    try:
        document: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        heat = path.stem.removeprefix("heat-")
        raise ConfigurationInvalid(
            f"{path}: cannot be read: {error}", hint=f"inv release.schemas --heat {heat}"
        ) from error
    return document


def _type(name: str, facts: Mapping[str, Any]) -> ResourceType:
    return ResourceType(
        name,
        Properties((key, read_property(one)) for key, one in facts.get("properties", {}).items()),
        {key: _advice(one) for key, one in facts.get("attributes", {}).items()},
        _advice(facts.get("status")),
        facts.get("open", False),
        tuple((one, other) for one, other in facts.get("exclusive", ())),
    )


def read_property(facts: Mapping[str, Any]) -> Property:
    """Return a property as a file of schemas tells of it."""
    keys = facts.get("keys")
    return Property(
        facts["type"],
        facts.get("required", False) and not facts.get("default", False),
        tuple(tuple(one) for one in facts.get("constraints", ())),
        _advice(facts.get("status")),
        read_property(facts["items"]) if "items" in facts else None,
        Properties((key, read_property(one)) for key, one in keys.items()) if keys is not None else None,
    )


def _advice(status: list[str] | None) -> Advice | None:
    return (status[0], status[1], status[2]) if status else None
