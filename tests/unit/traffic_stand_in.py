"""What tests of traffic stand on: a Heat that knows nested and waiting stacks, and a clock that threads share."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from heat_stand_in import StandInHeat

from pipeline import chain
from pipeline.edges.clock import Clock, FakeClock
from pipeline.edges.heat import HeatRefused
from pipeline.stacks import Answer, Resource, Stack
from pipeline.traffic.ledger import Line

PASSWORD = "s3cret-signature"


class SharedClock(FakeClock):
    """A FakeClock for `threads` of them: time passes when all sleep, and then to when the first wakes."""

    def __init__(self, threads: int) -> None:
        super().__init__()
        self._threads = threads
        self._asleep: dict[object, float] = {}
        self._turn = threading.Condition()

    def sleep(self, seconds: float) -> None:
        sleeper = object()
        with self._turn:
            self._asleep[sleeper] = self._seconds + seconds
            self._advance()
            assert self._turn.wait_for(lambda: sleeper not in self._asleep, timeout=10)

    @contextmanager
    def member(self) -> Iterator[None]:
        """Be one of the threads, until the end of the block."""
        try:
            yield
        finally:
            with self._turn:
                self._threads -= 1
                self._advance()

    def _advance(self) -> None:
        if self._asleep and len(self._asleep) >= self._threads:
            self._seconds = min(self._asleep.values())
            self._asleep = {one: wake for one, wake in self._asleep.items() if wake > self._seconds}
            self._turn.notify_all()


class HookedClock(FakeClock):
    """A FakeClock that calls `hook` when `at` seconds have passed."""

    def __init__(self, at: float, hook: Callable[[], None]) -> None:
        super().__init__()
        self._at, self._hook = at, hook

    def sleep(self, seconds: float) -> None:
        if self.monotonic() < self._at <= self.monotonic() + seconds:
            self._hook()
        super().sleep(seconds)


@dataclass
class TrafficHeat(StandInHeat):
    """A WaitCondition opens `opens_after` seconds after its stack was asked for, and closes when it is signalled."""

    clock: Clock = field(default_factory=FakeClock)
    opens_after: float = 0
    data: Callable[[Any], Any] = lambda signalled: signalled
    signal_answers: list[int | HeatRefused] = field(default_factory=list)  # to give before the signal is taken
    line: Line | None = None
    made: list[dict[str, Any]] = field(default_factory=list)
    opened: dict[str, float] = field(default_factory=dict)
    signalled: dict[str, float] = field(default_factory=dict)
    alone: list[str] = field(default_factory=list)  # those that closed when no other was open

    def create(self, name: str, **body: Any) -> str:
        made = super().create(name, **body)
        self.made.append(body)
        self.stacks[name]["at"] = self.clock.monotonic()
        if _waits(body):
            self.opened[name] = self.clock.monotonic() + self.opens_after
        return made

    def send(self, method: str, url: str, *, body: bytes = b"", **more: Any) -> Answer:
        if method != "PUT":
            return super().send(method, url, **more)
        answer = self.signal_answers.pop(0) if self.signal_answers else 200
        refused = isinstance(answer, HeatRefused)
        if self.line:
            self.line.exchanged(method, url, 0 if refused else answer, str(answer) if refused else "")
        if isinstance(answer, HeatRefused):
            raise answer
        if answer == 200:
            name, signal = url.partition("?")[0].rpartition("/")[2], json.loads(body)
            self.stacks[name].update(signalled=True, data={signal["UniqueId"]: signal["Data"]})
            self.signalled[name] = self.clock.monotonic()
            if not any(self._is_open(other) for other in list(self.opened) if other not in self.signalled):
                self.alone.append(name)
        return Answer(answer, "")

    def resources(self, stack_id: str, *, depth: int = 3) -> tuple[Resource, ...]:
        name = stack_id.partition("/")[0]
        status = "CREATE_IN_PROGRESS" if self._is_open(name) else "INIT_COMPLETE"
        return (Resource(chain.CONDITION, "AWS::CloudFormation::WaitCondition", status, "", "", name),)

    def _is_open(self, name: str) -> bool:
        return self.clock.monotonic() >= self.opened[name]

    def _stack(self, name: str, found: dict[str, Any]) -> Stack:
        stack, body = super()._stack(name, found), found["body"]
        if "chain.yaml" in body.get("files", {}):
            word = body["parameters"]["word"]
            return replace(stack, outputs={"secret": "s3", "result": f"{word}-s3.left+{word}-s3.right"})
        if _waits(body):
            url = f"http://heat.test:8000/v1/waitcondition/{name}?Signature={PASSWORD}&Expires=1"
            data = json.dumps(self.data(found.get("data", {})))
            return replace(stack, outputs={"url": url if self._is_open(name) else "handle", "data": data})
        return stack


def _waits(body: dict[str, Any]) -> bool:
    return chain.CONDITION in body["template"]["resources"]
