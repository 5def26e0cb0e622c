"""Layers: documents laid one on the other, key by key, and which of them set each key.

Laying is associative: it does not matter in which pairs a chain is merged. So a key that is a mapping in one document
and anything else in another is refused, for what came of it would depend on that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import ConfigurationInvalid
from pipeline.yamlfile import Document, Key

__all__ = ["Layered", "Place", "lay", "leaves", "merge"]


@dataclass(frozen=True, slots=True)
class Place:
    """A file, and a line in it; 0 for the file as a whole."""

    path: Path
    line: int = 0

    def __str__(self) -> str:
        return f"{self.path}:{self.line}" if self.line else str(self.path)


@dataclass(frozen=True, slots=True)
class Layered:
    """What a chain of documents says together; the last one is the most particular."""

    documents: tuple[Document, ...]
    values: Mapping[str, Any]

    def origin(self, key: Key) -> Place | None:
        """Return where `key` was set: by the last document that has it, None where none does."""
        for document in reversed(self.documents):
            if key in document.lines:
                return Place(document.path, document.lines[key])
        return None

    def nearest(self, key: Key) -> Place:
        """Return where the longest known part of `key` was set, else the last document: to point at a mistake."""
        parts = (key[:length] for length in range(len(key), 0, -1))
        found = (place for part in parts if (place := self.origin(part)))
        return next(found, Place(self.documents[-1].path))


def lay(*documents: Document) -> Layered:
    """Return `documents` laid one on the other, the last on top.

    Raises ConfigurationInvalid where a key is a mapping in one of them and none in another, naming both lines.
    """
    known: dict[Key, tuple[bool, Place]] = {}
    values: dict[str, Any] = {}
    for document in documents:
        for key, is_mapping in _kinds(document.values):
            place = Place(document.path, document.lines.get(key, 0))
            before, where = known.setdefault(key, (is_mapping, place))
            if before is not is_mapping:
                expected = "a mapping of keys to values" if before else "one value, not a mapping"
                raise ConfigurationInvalid(
                    f"{place}: {'.'.join(key)}: expected {expected}, as in {where}", hint=f"edit {document.path}"
                )
        values = merge(values, document.values)
    return Layered(documents, values)


def merge(base: Mapping[str, Any], overlay: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with `overlay` laid on it: mappings merge key by key, anything else is replaced."""
    result = dict(base)
    for key, value in overlay.items():
        known = result.get(key)
        both = isinstance(known, Mapping) and isinstance(value, Mapping)
        result[key] = merge(known, value) if both and isinstance(known, Mapping) else value
    return result


def leaves(values: Mapping[str, Any], key: Key = ()) -> Iterator[tuple[Key, Any]]:
    """Yield every key with a value that is no mapping, or an empty one, in the order of `values`."""
    for name, value in values.items():
        here = (*key, str(name))
        if isinstance(value, Mapping) and value:
            yield from leaves(value, here)
        else:
            yield here, value


def _kinds(values: Mapping[str, Any], key: Key = ()) -> Iterator[tuple[Key, bool]]:
    for name, value in values.items():
        here = (*key, str(name))
        yield here, isinstance(value, Mapping)
        if isinstance(value, Mapping):
            yield from _kinds(value, here)
