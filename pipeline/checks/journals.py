"""What a unit wrote to its journal since it was last started, as far as it is an error."""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["errors_in"]

# oslo.log: date, time, process, level, logger; the lines of a traceback begin as that of their error does.
_LINE = re.compile(r"^(\S+ \S+) (\d+) (?:ERROR|CRITICAL) (\S+) ?(.*)$")

# A connection that is lost is made again, and other checks tell where it was not.
_LOST = re.compile(
    r"AMQP server|Connection (?:refused|reset|failed|lost)|Lost connection|gone away|Can't connect|Broken pipe"
    r"|DBConnectionError|timed out|Timeout|Server unexpectedly closed|ECONNREFUSED|ConnectionError|is unreachable"
    r"|vhost .* is down|CONNECTION_FORCED|Unable to establish connection|ServiceUnavailable"
)


def errors_in(lines: Iterable[str]) -> tuple[str, ...]:
    """Return the first line of each error among the log's `lines`, lost connections left out, the oldest first."""
    errors: dict[tuple[str, str, str], list[str]] = {}
    for line in lines:
        if found := _LINE.match(line):
            when, process, logger, text = found.groups()
            errors.setdefault((when, process, logger), []).append(text)
    kept = {key: texts for key, texts in errors.items() if not _LOST.search("\n".join(texts))}
    return tuple(f"{when} {logger} {texts[0]}" for (when, _, logger), texts in kept.items())
