"""Refusals of a cloud before anything was touched: what they mean to an operator, and the exit code of that."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pipeline.edges.heat import HeatRefused
from pipeline.errors import ConfigurationInvalid, Inconclusive, PipelineError, PreflightUnreachable

__all__ = ["meaning", "untouched"]

_HINTS = {
    400: "mend the template, its parameters or the environment; inv render ENV --out DIR shows them",
    401: "look at user, password and project of the cloud's entry in clouds.yaml",
    403: "look at the project's quota, and at what its user may do",
    404: "look at the orchestration endpoint in the cloud's catalog",
    409: "wait for the action under way, then run the same command again",
}


def meaning(refused: HeatRefused) -> PipelineError:
    """Return a refusal as what it means where nothing was touched yet: wrong input, not now, or no cloud there."""
    message, hint = refused.message, _HINTS.get(refused.status, "") or refused.hint
    if refused.status == 409:
        return Inconclusive(message, hint=hint)
    if 400 <= refused.status < 500:
        return ConfigurationInvalid(message, hint=hint)
    return PreflightUnreachable(message, hint=hint or "look at the cloud's Heat, then run the same command again")


@contextmanager
def untouched(mask: Callable[[str], str] = str) -> Iterator[None]:
    """Raise what Heat refuses in the body as what it means before anything is touched, its message through `mask`."""
    try:
        yield
    except HeatRefused as refused:
        refused.message = mask(refused.message)
        raise meaning(refused) from refused
