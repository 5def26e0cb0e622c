"""The plan by which a file spreads over hosts: who has it gives it to who lacks it, so givers double: 1, 2, 4, 8 …

Pure: told what ended, it says what may begin. What goes wrong costs the host that it went wrong with, and no other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field
from enum import Enum

from pipeline.inventory import Host

__all__ = ["Act", "Giver", "Plan", "Task"]

_PER_GIVER = 2  # that one giver serves at once: more would each get less, and one alone may be slow
_TRIES = 2  # of a host that fetches, and of a giver in a row
_DOUBT = 3  # failures before any success: these hosts do not reach one another


class Act(Enum):
    """What is done about one host."""

    PUT = "put"  # it gets the file from the controller
    GIVE = "give"  # it has the file, and begins to serve it
    FETCH = "fetch"  # it fetches the file from another host


@dataclass(slots=True, eq=False)
class Giver:
    """A host that serves the file at `url`; `room` more may fetch it there now, `failures` in a row have failed to."""

    host: Host
    url: str
    room: int = _PER_GIVER
    failures: int = 0


@dataclass(frozen=True, slots=True)
class Task:
    """An act on `host`; `giver` is where it fetches from."""

    act: Act
    host: Host
    giver: Giver | None = None


@dataclass(slots=True)
class Plan:
    """Who lacks the file, who has it, and who serves it. `rest` are those that no other host could give it to."""

    lacking: deque[Host] = field(default_factory=deque)
    rest: list[Host] = field(default_factory=list)
    givers: list[Giver] = field(default_factory=list)
    _idle: deque[Host] = field(default_factory=deque)
    _tried: dict[str, list[Giver]] = field(default_factory=dict)
    _failures: int = 0
    _given: int = 0

    def has(self, host: Host) -> None:
        """Learn that `host` has the file, and may give it."""
        self._idle.append(host)

    def begin(self, running: Collection[Task]) -> list[Task]:
        """Return what may begin beside what is `running`; nothing where nothing runs either is the end."""
        if not self.lacking or self._doubtful:
            return []
        begun = self._gives(sum(task.act is Act.GIVE for task in running)) + self._fetches()
        if not begun and not running:
            begun = [Task(Act.PUT, self.lacking.popleft())]
        return begun

    def end(self) -> None:
        """Learn that no more will run: whoever still lacks the file is one of the rest."""
        self.rest.extend(self.lacking)
        self.lacking.clear()

    def succeeded(self, task: Task, url: str = "") -> None:
        """Learn that a task went well; `url` is where a giver now serves."""
        if task.act is Act.GIVE:
            self.givers.append(Giver(task.host, url))
            return
        if task.giver is not None:
            task.giver.room += 1
            task.giver.failures = 0
            self._given += 1
        self.has(task.host)

    def failed(self, task: Task) -> None:
        """Learn that a task failed. Of a fetch it is not known who is at fault: both may try with another one."""
        self._failures += 1
        if task.act is Act.PUT:
            self.rest.append(task.host)
        if task.giver is None:
            return
        task.giver.room += 1
        task.giver.failures += 1
        if task.giver.failures >= _TRIES:
            self.givers = [giver for giver in self.givers if giver is not task.giver]
        tried = self._tried.setdefault(task.host.name, [])
        tried.append(task.giver)
        (self.rest if len(tried) >= _TRIES else self.lacking).append(task.host)

    @property
    def _doubtful(self) -> bool:
        return self._failures >= _DOUBT and not self._given

    def _gives(self, starting: int) -> list[Task]:
        """Return who begins to serve: no more hosts than there are others to fetch from them."""
        ready = starting + sum(giver.room > 0 for giver in self.givers)
        count = min(len(self._idle), max(0, len(self.lacking) - ready))
        return [Task(Act.GIVE, self._idle.popleft()) for _ in range(count)]

    def _fetches(self) -> list[Task]:
        """Return who fetches from whom: from the giver with most room, and where it failed before from another."""
        begun = []
        while self.lacking and (free := [giver for giver in self.givers if giver.room]):
            host = self.lacking.popleft()
            tried = self._tried.get(host.name, [])
            giver = max(free, key=lambda one: (one not in tried, one.room))
            giver.room -= 1
            begun.append(Task(Act.FETCH, host, giver))
        return begun
