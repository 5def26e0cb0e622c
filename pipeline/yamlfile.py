"""A YAML file, read as a document: its values, and the line that every key is on.

What PyYAML lets pass is refused: a key given twice, aliases that write out more than any file of ours ever holds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from pipeline.errors import ConfigurationInvalid
from pipeline.yamlnodes import MISREAD, Key, marked, measure

__all__ = ["MOST", "Document", "Key", "read"]

MOST = 10_000  # values in one document, with each alias written out: the shipped files have some 100
_MERGE = "tag:yaml.org,2002:merge"
_HALF = re.compile("[\ud800-\udfff]")  # of a pair, as \u of JSON has them


@dataclass(frozen=True, slots=True)
class Document:
    """What a file says: its `values`, and in `lines` where each key stands, the first line being 1."""

    path: Path
    values: Mapping[str, Any]
    lines: Mapping[Key, int]


def read(path: Path) -> Document:
    """Return the document that a file holds; whoever gets it must not change its values.

    Raises ConfigurationInvalid naming file and line: what is no YAML, no mapping, twice in one mapping, or too much.
    """
    try:
        stamp = path.stat()
        return _read(path, stamp.st_mtime_ns, stamp.st_size, stamp.st_ino)
    except FileNotFoundError as error:
        raise ConfigurationInvalid(f"{path}: cannot be read: {error.strerror}", hint=f"restore {path}") from error
    except OSError as error:
        raise ConfigurationInvalid(f"{path}: cannot be read: {error.strerror}", hint=f"ls -ld {path}") from error


@lru_cache(maxsize=1024)
def _read(path: Path, *_stamp: int) -> Document:
    """Read a file once for as long as it stays as it is: every environment of a directory starts from the same one."""
    try:
        node, values = _parse(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationInvalid(_place(path, error), hint=f"edit {path}") from error
    except RecursionError as error:
        raise ConfigurationInvalid(f"{path}: is nested too deep", hint=f"edit {path}") from error
    if not isinstance(values, dict):
        raise ConfigurationInvalid(f"{path}: expected a mapping of keys to values", hint=f"edit {path}")
    return Document(path, values, dict(_lines(node)))


def _parse(text: str) -> tuple[yaml.Node | None, Any]:
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None, None
        measure(node, MOST)
        return node, loader.construct_document(node)
    finally:
        loader.dispose()


def _lines(node: yaml.Node | None, key: Key = ()) -> Iterator[tuple[Key, int]]:
    """Yield every key below `node` with its line; what came by a merge (<<) stands where it was written."""
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            here = (*key, str(name.value))
            yield here, name.start_mark.line + 1
            yield from _lines(value, here)


class _Loader(yaml.SafeLoader):
    """YAML that refuses a key given twice or half a character, and says where it could not make a value of a scalar."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except MISREAD as error:
            raise marked(f"no value can be made of this: {str(error).splitlines()[0]}", node) from error

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> Any:
        value = super().construct_scalar(node)
        if isinstance(value, str) and _HALF.search(value):
            raise marked("half a character cannot be stored or sent: write the whole one", node)
        return value


def _unique_mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    own = [key_node for key_node, _ in node.value]  # as written: building the mapping expands merges in place
    mapping = loader.construct_mapping(node)
    seen: set[object] = set()
    for key_node in own:
        if key_node.tag == _MERGE:
            continue
        key = loader.construct_object(key_node)
        if key in seen:
            raise marked(f"key {key!r} is given twice", key_node)
        seen.add(key)
    return mapping


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _unique_mapping)


def _place(path: Path, error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    line = f":{mark.line + 1}" if mark else ""
    return f"{path}{line}: {getattr(error, 'problem', None) or 'is not UTF-8 YAML'}"
