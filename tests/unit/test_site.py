"""A site: what is away is asked again until it is back, and not for ever."""

from __future__ import annotations

from collections.abc import Callable
from itertools import repeat

import pytest
from builders import said

from pipeline.errors import CommandFailed, HostUnreachable, Inconclusive, PipelineError, Unanswered
from pipeline.site import Site


def gone() -> PipelineError:
    return HostUnreachable("engine-0 is gone", hint="see to it")


def silent() -> PipelineError:
    return Unanswered("the broker did not answer", hint="see to it")


class Asked:
    """What is asked: it fails with each of `errors` first, and keeps how often it was asked."""

    def __init__(self, *errors: BaseException) -> None:
        self.times = 0
        self._errors = iter(errors)

    def __call__(self) -> str:
        self.times += 1
        for error in self._errors:
            raise error
        return "answer"


def test_what_answers_is_asked_once_and_nothing_is_told(here: Site) -> None:
    ask = Asked()
    assert (here.insist(ask), ask.times, here.clock.monotonic()) == ("answer", 1, 0)
    assert said(here.progress) == ""


@pytest.mark.parametrize("away", [gone, silent])
def test_what_is_away_is_asked_again_until_it_answers(here: Site, away: Callable[[], PipelineError]) -> None:
    ask = Asked(away(), away(), away())
    assert (here.insist(ask), ask.times) == ("answer", 4)
    assert here.clock.monotonic() == 6


def test_each_thing_that_is_away_is_told_once(here: Site) -> None:
    here.insist(Asked(gone(), gone(), silent(), silent(), silent()))
    assert said(here.progress).count("engine-0 is gone: trying again") == 1
    assert said(here.progress).count("the broker did not answer: trying again") == 1


def test_what_goes_away_another_time_is_told_again(here: Site) -> None:
    here.insist(Asked(gone()))
    here.insist(Asked(gone()))
    assert said(here.progress).count("engine-0 is gone: trying again") == 2


@pytest.mark.parametrize("away", [gone, silent])
def test_what_stays_away_is_given_up_at_the_deadline(here: Site, away: Callable[[], PipelineError]) -> None:
    error = away()
    ask = Asked(*repeat(error, 1000))
    with pytest.raises(type(error)) as caught:
        here.insist(ask)
    assert caught.value is error
    assert here.clock.monotonic() == here.environment.policies.health.healthy_deadline
    assert ask.times == here.environment.policies.health.healthy_deadline / 2 + 1


def test_an_answer_at_the_last_moment_counts(here: Site) -> None:
    times = int(here.environment.policies.health.healthy_deadline / 2)
    assert here.insist(Asked(*[silent()] * times)) == "answer"


@pytest.mark.parametrize(
    "error",
    [
        CommandFailed("engine-0: status 1: no", status=1),
        Inconclusive("it comes and goes"),
        PipelineError("no"),
        RuntimeError("no"),
        KeyboardInterrupt(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_any_other_error_passes_at_once(here: Site, error: BaseException) -> None:
    ask = Asked(error)
    with pytest.raises(type(error)) as caught:
        here.insist(ask)
    assert caught.value is error
    assert (ask.times, here.clock.monotonic(), said(here.progress)) == (1, 0, "")


def test_another_error_ends_the_asking_of_what_was_away(here: Site) -> None:
    ask = Asked(silent(), CommandFailed("messaging-0: status 1: no", status=1))
    with pytest.raises(CommandFailed):
        here.insist(ask)
    assert ask.times == 2
