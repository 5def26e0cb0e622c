"""A YAML file that people write, in which one value is changed and everything else stays, comments too."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from functools import reduce
from pathlib import Path
from typing import Any

__all__ = ["set_value"]


def set_value(path: Path, keys: Sequence[str], value: Any) -> Any:
    """Set the value that `keys` lead to in file `path`, making the mappings on the way; return the one before.

    None where there was none. A file that has the value already is not written. What other places have by an alias or a
    merge stays as it was there. Raises OSError.
    """
    from ruamel.yaml import YAML  # where it is used: one command edits files, and all others would load it

    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 1 << 16
    document = yaml.load(path.read_text("utf-8"))
    before = reduce(lambda place, key: (place or {}).get(key), keys, document)
    if before != value:
        reduce(lambda place, key: _own(document, place, key), keys[:-1], document)[keys[-1]] = value
        text = io.StringIO()
        yaml.dump(document, text)
        partial = path.with_name(f".{path.name}.partial")
        partial.write_text(text.getvalue(), "utf-8")
        partial.chmod(path.stat().st_mode & 0o777)
        partial.replace(path)
    return before


def _own(document: Any, place: Any, key: str) -> Any:
    """Return the mapping at `key` of `place`, made where there is none, as one that no other place has too."""
    node = place.get(key)
    if node is None:
        place[key] = {}
        return place[key]
    places = list(_places(document, node, set()))
    here = [holder is place and at == key for holder, at in places]
    if here == [True]:
        return node
    other = _copy(node)
    if here[:1] != [True]:
        place[key] = other
        return other
    # Its comments stay where they were written, and its name goes to those that go on sharing it.
    other.yaml_set_anchor(node.anchor.value)
    node.yaml_set_anchor(None)
    for holder, at in places[1:]:
        holder[at] = other
    return node


def _places(within: Any, node: Any, seen: set[int]) -> Iterator[tuple[Any, Any]]:
    """Yield what in `within` holds `node` itself, and where in it, in the order of the file; merges hold it too."""
    if id(within) in seen:
        return
    seen.add(id(within))
    for holder, at, inner in _held(within):
        if inner is node:
            yield holder, at
        yield from _places(inner, node, seen)


def _held(within: Any) -> Iterator[tuple[Any, Any, Any]]:
    if isinstance(within, dict):
        merge: Any = within.merge  # type: ignore[attr-defined]
        yield from ((merge, at, inner) for at, inner in enumerate(merge))
        if merge and merge.sequence is not None:
            yield from _held(merge.sequence)
        yield from ((within, key, inner) for key, inner in within.non_merged_items())  # type: ignore[attr-defined]
    elif isinstance(within, list):
        yield from ((within, at, inner) for at, inner in enumerate(within))


def _copy(node: Any) -> Any:
    """Return a mapping or list without its comments, which are said once, and with its merges written out."""
    copy = type(node)()
    if node.fa.flow_style():
        copy.fa.set_flow_style()
    if isinstance(node, dict):
        for key, inner in node.items():
            copy[key] = _part(inner)
    else:
        copy.extend(map(_part, node))
    return copy


def _part(node: Any) -> Any:
    shared = not isinstance(node, dict | list) or node.anchor.value  # type: ignore[union-attr]
    return node if shared else _copy(node)
