"""YAML as nodes, before values are made of them: how much it would become, and where in the text an error is."""

from __future__ import annotations

from collections.abc import Iterator

import yaml

__all__ = ["DEEPEST", "MISREAD", "Key", "marked", "measure"]

Key = tuple[str, ...]
"""Where a value is in a document: ("topology", "engine", "count")."""

DEEPEST = 100  # levels of one document: the shipped files have a dozen, and whoever walks one may recurse
MISREAD = (ValueError, LookupError, ArithmeticError, AttributeError)  # of PyYAML's own reading of one scalar


def measure(node: yaml.Node, most: int) -> None:
    """Raise yaml.MarkedYAMLError where `node` with its aliases written out is more than `most` values, or too deep."""
    _measured(node, (), {}, most)


def marked(problem: str, node: yaml.Node) -> yaml.MarkedYAMLError:
    """Return an error that tells where `node` is."""
    return yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)


def _measured(node: yaml.Node, key: Key, known: dict[int, tuple[int, int]], most: int) -> tuple[int, int]:
    """Return how many values `node` is, and of how many levels."""
    if id(node) in known:
        if not known[id(node)][0]:
            raise marked(f"{_dotted(key)}an alias stands for what it is in itself", node)
        return known[id(node)]
    if len(key) > DEEPEST:
        raise marked("is nested too deep", node)
    known[id(node)] = 0, 0  # under way
    size = levels = 1
    for name, child in _children(node):
        more, below = _measured(child, (*key, name), known, most)
        size, levels = size + more, max(levels, below + 1)
        if size > most:
            raise marked(f"{_dotted(key)}its aliases write out more than {most} values", node)
        if levels > DEEPEST:
            raise marked(f"{_dotted((*key, name))}its aliases are nested too deep", child)
    known[id(node)] = size, levels
    return size, levels


def _children(node: yaml.Node) -> Iterator[tuple[str, yaml.Node]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield "?", key
            yield str(key.value) if isinstance(key, yaml.ScalarNode) else "?", value
    elif isinstance(node, yaml.SequenceNode):
        yield from ((str(index), child) for index, child in enumerate(node.value))


def _dotted(key: Key) -> str:
    return f"{'.'.join(key)}: " if key else ""
