"""The JSON Schema of an environment's files, for editors: what may be said, of what kind, and what it means.

One schema serves them all: a file is laid on others, so it needs no key. `stage` is only a region's to say.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pipeline.environment import Environment
from pipeline.errors import ConfigurationInvalid

__all__ = ["FILE", "require_current", "schema_text", "write"]

FILE = "schema.json"  # beside the defaults; the first line of every file names it
_NAMED = ("properties", "$defs")
_OF_A_WHOLE = ("required", "default", "title")


def schema_text() -> str:
    """Return the schema as JSON, the same bytes each time."""
    made = _partial(Environment.model_json_schema())
    del made["properties"]["name"]  # a file is called as its environment is
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A file of an environment",
        "description": "Made by inv env.schema: change pipeline/environment.py instead.",
    }
    return json.dumps({**made, **head}, indent=2, ensure_ascii=False) + "\n"


def write(path: Path) -> None:
    """Write the schema to `path`. Raises ConfigurationInvalid where that cannot be written."""
    try:
        path.write_text(schema_text(), encoding="utf-8")
    except OSError as error:
        raise ConfigurationInvalid(
            f"{path}: cannot be written: {error.strerror}", hint=f"move {path} away, then inv env.schema"
        ) from error


def require_current(path: Path) -> None:
    """Raise ConfigurationInvalid where `path` is not what `write` would write, or cannot be read."""
    try:
        # Bytes: what is no text at all is not current either.
        current = path.is_file() and path.read_bytes() == schema_text().encode()
    except OSError as error:
        raise ConfigurationInvalid(f"{path}: cannot be read: {error.strerror}", hint=f"ls -ld {path}") from error
    if not current:
        raise ConfigurationInvalid(f"{path}: is not what the models say", hint="inv env.schema")


def _partial(schema: Any) -> Any:
    """Return `schema` where nothing is required and nothing has a default: the files below an overlay say the rest."""
    if isinstance(schema, list):
        return [_partial(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: _named(value) if key in _NAMED else _partial(value)
        for key, value in schema.items()
        if key not in _OF_A_WHOLE
    }


def _named(schemas: dict[str, Any]) -> dict[str, Any]:
    """Return schemas by names that are ours, and may be words of JSON Schema too."""
    return {name: _partial(schema) for name, schema in schemas.items()}
