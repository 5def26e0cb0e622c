"""Progress: what is going on, told to people as it happens and kept as (stage, seconds) for the record."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape

from pipeline.edges.clock import Clock
from pipeline.terminal import harmless_lines

__all__ = ["Progress"]


class Progress:
    """Prints stages and lines to `console`, what hosts wrote as harmless text; `stages` holds what ended, in order."""

    def __init__(self, console: Console, clock: Clock) -> None:
        self.console = console
        self.stages: list[tuple[str, float]] = []
        self._clock = clock
        self._began = clock.monotonic()
        self._lock = threading.Lock()
        self._listeners: list[Callable[[str], None]] = []

    @contextmanager
    def heard(self, listener: Callable[[str], None]) -> Iterator[None]:
        """Let `listener` hear every line too, while the body runs."""
        self._listeners.append(listener)
        try:
            yield
        finally:
            self._listeners.remove(listener)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Announce stage `name`, and when its body ended well, how many seconds it took."""
        started = self._clock.monotonic()
        self._print(f"[bold cyan]▶ {escape(name)}[/]", plain=f"begin {name}")
        yield
        seconds = self._clock.monotonic() - started
        self.stages.append((name, round(seconds, 2)))
        self._print(f"[green]✓ {escape(name)}[/] [dim]{seconds:.1f} s[/]", plain=f"end {name}: {seconds:.1f} s")

    def say(self, text: str) -> None:
        """Tell one line below the stage."""
        self._print(f"  {text}", markup=False, plain=text)

    def _print(self, text: str, *, plain: str, markup: bool = True) -> None:
        stamp = f"{self._clock.monotonic() - self._began:6.1f} "
        for listener in tuple(self._listeners):
            listener(plain)
        with self._lock:
            self.console.print(stamp, end="", style="dim", highlight=False)
            self.console.print(harmless_lines(text), markup=markup, emoji=False, highlight=False, soft_wrap=True)
