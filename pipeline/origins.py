"""Where each setting of an environment comes from: which file said it last, and in which line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.environment import layers, load
from pipeline.layers import leaves

__all__ = ["BUILT_IN", "Setting", "settings"]

BUILT_IN = "built in"


@dataclass(frozen=True, slots=True)
class Setting:
    """One key ("policies.drain.timeout") of an environment, its value as JSON has it, and FILE:LINE or BUILT_IN."""

    key: str
    value: Any
    origin: str

    def to_json(self) -> Mapping[str, Any]:
        """Return plain values: {key, value, file, line}, the last two null for what is built in."""
        file, _, line = self.origin.rpartition(":")
        return {"key": self.key, "value": self.value, "file": file or None, "line": int(line) if file else None}


def settings(name: str, directory: Path) -> tuple[Setting, ...]:
    """Return every setting of environment `name` of `directory`; files are named from the directory's parent.

    Raises ConfigurationInvalid as pipeline.environment.load does.
    """
    whole = load(name, directory).model_dump(mode="json", exclude={"name"})
    layered = layers(name, directory)

    def origin(key: tuple[str, ...]) -> str:
        place = layered.origin(key)
        return f"{place.path.relative_to(directory.parent)}:{place.line}" if place else BUILT_IN

    return tuple(Setting(".".join(key), value, origin(key)) for key, value in leaves(whole))
