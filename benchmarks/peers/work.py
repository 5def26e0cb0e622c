"""What a tool is given to do, and where it says what came of it: plain files, for any interpreter."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Work", "given"]


@dataclass(frozen=True, slots=True)
class Work:
    """Log in to each of `hosts` ({name: address}); run `commands` there one by one, or copy `source` to `target`.

    `results` is the file that takes what the commands printed.
    """

    hosts: Mapping[str, str]
    host_keys: Mapping[str, str]
    port: int
    user: str
    key: str
    known_hosts: str
    commands: Sequence[str]
    source: str
    home: str
    results: str

    def target(self, name: str) -> str:
        """Return the path that `source` gets on host `name`: hosts share a file system, so each has its own."""
        return f"{self.home}/{name}.bin"

    def save(self, printed: Mapping[str, Sequence[str]]) -> None:
        """Write what each host's commands printed."""
        Path(self.results).write_text(json.dumps({name: list(texts) for name, texts in printed.items()}), "utf-8")


def given() -> Work:
    """Return the work that the command line names."""
    return Work(**json.loads(Path(sys.argv[1]).read_text("utf-8")))
