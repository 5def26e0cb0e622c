"""HOT as text: YAML read as Heat reads it, with libyaml where there is one; a key given twice and a bomb refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import yaml

from pipeline.yamlnodes import DEEPEST, MISREAD, marked, measure

__all__ = ["MOST", "parse"]

MOST = 100_000  # values in one template, with each alias written out: one of 200 hosts has some 20 000

_OPENERS = ("[", "{", "- ", "? ")
_HARMLESS = 5000  # levels that libyaml's composer, which recurses in C, bears on the stack of a thread

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _HotLoader(_Loader):  # type: ignore[misc]
    """Dates stay words, as 2021-04-16 of heat_template_version."""


def _unique_mapping(loader: Any, node: yaml.MappingNode) -> dict[Any, Any]:
    own = [key for key, _ in node.value]  # as written: building the mapping expands merges in place
    mapping: dict[Any, Any] = loader.construct_mapping(node, deep=True)
    if len(mapping) < len(own):
        seen: set[object] = set()
        for key in own:
            if key.value in seen:
                raise marked(f"key {key.value!r} is given twice", key)
            seen.add(key.value)
    return mapping


def _marking(construct: Callable[[Any, yaml.Node], Any]) -> Callable[[Any, yaml.Node], Any]:
    """Return what reads a scalar as `construct` does, and says where it could not."""

    def read(loader: Any, node: yaml.Node) -> Any:
        try:
            return construct(loader, node)
        except MISREAD as error:
            raise marked(f"no value can be made of this: {error}", node) from error

    return read


_HotLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _unique_mapping)
_HotLoader.add_constructor("tag:yaml.org,2002:timestamp", lambda loader, node: loader.construct_scalar(node))
for _tag in ("tag:yaml.org,2002:bool", "tag:yaml.org,2002:float", "tag:yaml.org,2002:int"):
    _HotLoader.add_constructor(_tag, _marking(_HotLoader.yaml_constructors[_tag]))


@lru_cache(maxsize=256)
def parse(text: str) -> Any:
    """Return what `text` says; nobody may change it, for the same text gives the same object.

    Raises yaml.MarkedYAMLError, with the place, for what is no YAML, and for more of it than any template is.
    """
    try:
        return _parse(text)
    except yaml.reader.ReaderError as error:
        raise _unprintable(text) from error
    except UnicodeEncodeError as error:  # half a character: libyaml reads bytes
        raise _at(text, error.start, "no character") from error
    except RecursionError as error:  # of PyYAML without libyaml
        raise yaml.MarkedYAMLError(problem="is nested too deep") from error


def _parse(text: str) -> Any:
    if sum(text.count(opener) for opener in _OPENERS) > _HARMLESS:
        _require_shallow(text)
    loader = _HotLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        measure(node, MOST)
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _unprintable(text: str) -> yaml.MarkedYAMLError:
    """Return the error with the line, of which PyYAML's own says nothing."""
    found = yaml.reader.Reader.NON_PRINTABLE.search(text)
    place = found.start() if found else 0
    return _at(text, place, f"character #x{ord(text[place]):04x} is not allowed")


def _at(text: str, place: int, problem: str) -> yaml.MarkedYAMLError:
    line = text.count("\n", 0, place)
    return yaml.MarkedYAMLError(problem=problem, problem_mark=yaml.Mark("", place, line, 0, None, 0))


def _require_shallow(text: str) -> None:
    """Raise yaml.MarkedYAMLError where `text` is nested too deep: composing it would end the process, not raise."""
    levels = 0
    events: Iterator[Any] = yaml.parse(text, Loader=_HotLoader)
    for event in events:
        if isinstance(event, yaml.CollectionStartEvent):
            levels += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            levels -= 1
        if levels > DEEPEST:
            raise yaml.MarkedYAMLError(problem="is nested too deep", problem_mark=event.start_mark)
