"""HOT as text: YAML read as Heat reads it, with libyaml where there is one, and a key given twice refused."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import yaml

__all__ = ["parse"]

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
                raise yaml.MarkedYAMLError(problem=f"key {key.value!r} is given twice", problem_mark=key.start_mark)
            seen.add(key.value)
    return mapping


_HotLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _unique_mapping)
_HotLoader.add_constructor("tag:yaml.org,2002:timestamp", lambda loader, node: loader.construct_scalar(node))


@lru_cache(maxsize=256)
def parse(text: str) -> Any:
    """Return what `text` says; nobody may change it, for the same text gives the same object.

    Raises yaml.MarkedYAMLError, with the place, for what is no YAML.
    """
    return yaml.load(text, Loader=_HotLoader)  # noqa: S506 (a SafeLoader)
