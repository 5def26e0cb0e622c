"""A YAML file that people write, in which one value is changed and everything else stays, comments too."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["set_value"]


def set_value(path: Path, keys: Sequence[str], value: Any) -> Any:
    """Set the value that `keys` lead to in file `path`, making the mappings on the way; return the one before.

    None where there was none. A file that has the value already is not written. Raises OSError.
    """
    from ruamel.yaml import YAML  # where it is used: one command edits files, and all others would load it

    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 1 << 16
    document = yaml.load(path.read_text("utf-8"))
    place = document
    for key in keys[:-1]:
        place = place.setdefault(key, {})
    before = place.get(keys[-1])
    if before != value:
        place[keys[-1]] = value
        text = io.StringIO()
        yaml.dump(document, text)
        partial = path.with_name(f".{path.name}.partial")
        partial.write_text(text.getvalue(), "utf-8")
        partial.chmod(path.stat().st_mode & 0o777)
        partial.replace(path)
    return before
