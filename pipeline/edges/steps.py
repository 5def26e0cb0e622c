"""Long steps on hosts: a lost connection, or a killed pipeline, neither ends one nor runs it twice."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import suppress

from pipeline import detached
from pipeline.detached import Answer, State
from pipeline.edges.clock import Clock
from pipeline.edges.ssh import Remote, Result, failure
from pipeline.errors import CommandFailed, HostUnreachable, Inconclusive, OutcomeUnknown, PipelineError
from pipeline.inventory import Host

__all__ = ["HostRebooted", "run_step"]

_ANSWER = 40.0  # seconds for one question; a stop takes up to ten, and may wait for the lock
_FIRST, _LAST, _GROWTH = 0.2, 2.0, 1.4  # seconds between questions


class HostRebooted(PipelineError):
    """A host rebooted in the middle of a step: how far it came was not seen."""

    exit_code = 12


def run_step(
    remote: Remote,
    clock: Clock,
    host: Host,
    name: str,
    script: str,
    *,
    timeout: float,
    report: Callable[[str], None] = lambda _: None,
) -> Result:
    """Run POSIX sh `script` as root on `host`, detached, as step `name`; return its Result once it has ended with 0.

    A lost connection is opened again, and the step asked about, for `timeout` seconds; `report` is told. The same
    script that runs under that name since an earlier run is adopted; the end of another one is waited for, and then
    ours has its whole `timeout`. An interrupt leaves the step alone: the same call again adopts it.

    Raises CommandFailed for a status other than 0, and at the timeout, once the step is stopped; HostRebooted;
    OutcomeUnknown where its end was not seen; Inconclusive where it was not started, for another one would not end.
    """
    return _Step(remote, clock, host, name, report).run(script, timeout)


class _Step:
    def __init__(self, remote: Remote, clock: Clock, host: Host, name: str, report: Callable[[str], None]) -> None:
        self._remote = remote
        self._clock = clock
        self._host = host
        self._name = name
        self._report = report
        self._nonce = secrets.token_hex(16)
        self._asked = False  # whether the first question, a start, may have arrived
        self._lost = ""  # why the last question that was lost, was
        self._began = clock.monotonic()
        self._told: set[str] = set()

    def run(self, script: str, timeout: float) -> Result:
        start = detached.start(self._name, self._nonce, script, timeout=timeout)
        answer = self._until(start, State.BUSY, self._began + timeout)
        if answer is not None and answer.state is State.RUNNING:
            answer = self._until(detached.look(self._name, self._nonce), State.RUNNING, self._began + timeout)
        stopped = answer is not None and answer.state is State.RUNNING
        if stopped:
            answer = self._ask(detached.stop(self._name, self._nonce))
        if answer is None:
            raise self._unknown(f"is not known to have ended: {self._lost}")
        if answer.state is not State.ENDED:
            raise self._unended(answer, timeout)
        self._forget()
        return self._result(answer, f"{timeout:.0f} s" if stopped else "the time it was given", stopped)

    def _until(self, question: str, state: State, deadline: float) -> Answer | None:
        """Return the first answer other than `state`, or at the deadline the last one, None where that was lost.

        A start is asked again as any question is, for a host starts a nonce only once.
        """
        pause = _FIRST
        while True:
            answer = self._ask(question)
            now = self._clock.monotonic()
            if (answer is not None and answer.state is not state) or now >= deadline:
                return answer
            self._clock.sleep(min(pause, deadline - now))
            pause = min(pause * _GROWTH, _LAST)

    def _ask(self, question: str) -> Answer | None:
        """Return what the host answers, None where the answer was lost."""
        first, self._asked = not self._asked, True
        try:
            result = self._remote.run(self._host, question, timeout=_ANSWER, check=False)
        except (HostUnreachable, CommandFailed) as error:
            self._lose(error.message)
            return None
        except PipelineError as error:  # another host answers there, or it lets us in no more
            if first:
                raise
            raise self._unknown(f"is not known to have ended: {error.message}") from error
        answer = detached.read_answer(result.stdout, result.stderr)
        if answer is not None:
            self._heed(answer)
        elif first:
            raise failure(self._host, result)
        else:
            self._lose(failure(self._host, result).message)
        return answer

    def _lose(self, why: str) -> None:
        self._lost = why
        self._tell(f"lost; step {self._name} goes on there, and is asked about again ({why})")

    def _heed(self, answer: Answer) -> None:
        if answer.state is State.BUSY:
            self._began = self._clock.monotonic()  # ours has not
            self._tell(f"another step {self._name} still runs since an earlier run; waiting for its end")
        elif answer.adopted and answer.state is State.RUNNING:
            self._tell(f"step {self._name} runs since an earlier run; waiting for its end")

    def _tell(self, text: str) -> None:
        """Report each kind of thing once."""
        if (kind := text.split()[0]) not in self._told:
            self._told.add(kind)
            self._report(f"{self._host.name}: {text}")

    def _unended(self, answer: Answer, timeout: float) -> PipelineError:
        if answer.state is State.BUSY:
            return Inconclusive(
                f"{self._host.name}: step {self._name} was not started: another one of an earlier run did not end"
                f" within {timeout:.0f} s",
                hint=f"systemctl status heat-pipeline-{self._name} on {self._host.name}",
            )
        if answer.state is State.REBOOTED:
            return HostRebooted(
                f"{self._host.name} rebooted in the middle of step {self._name}",
                hint=f"see {detached.folder(self._name)}/stderr there, then run the same command again",
            )
        reason = {
            State.RUNNING: f"did not end within {timeout:.0f} s, nor when it was stopped",
            State.VANISHED: "runs no more, and left no status",
        }
        return self._unknown(reason.get(answer.state, "is not known there: its result was read or replaced by another"))

    def _unknown(self, reason: str) -> OutcomeUnknown:
        return OutcomeUnknown(
            f"{self._host.name}: step {self._name} {reason}",
            hint="run the same command again: it adopts the step where that still runs",
        )

    def _forget(self) -> None:
        # The result is in hand: what stays is removed by the next step of that name.
        with suppress(PipelineError):
            self._remote.run(self._host, detached.forget(self._name, self._nonce), timeout=_ANSWER, check=False)

    def _result(self, answer: Answer, time: str, stopped: bool) -> Result:
        result = Result(answer.status, answer.stdout, answer.stderr)
        if result.status == 0:
            return result
        if stopped or answer.result == "timeout":
            raise CommandFailed(
                f"{self._host.name}: no end of step {self._name} within {time}, so it was stopped",
                status=-1,
                stdout=result.stdout,
                stderr=result.stderr,
            )
        raise failure(self._host, result)
