"""The ladder: rungs in order, each with those it stands on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Set
from dataclasses import dataclass

from pipeline.edges.clock import Clock
from pipeline.edges.heat import Heat, HeatRefused
from pipeline.errors import PipelineError
from pipeline.junit import Outcome
from pipeline.smoke import causes, rungs
from pipeline.smoke.ground import Ground, RungFailed, RungSkipped
from pipeline.smoke.report import RungResult, SmokeReport

__all__ = ["LADDER", "Rung", "climb"]


@dataclass(frozen=True, slots=True)
class Rung:
    """One thing to try: `attempt` returns what it saw; `needs` names the rungs that must have held before."""

    name: str
    attempt: Callable[[Ground], str]
    needs: tuple[str, ...] = ()


LADDER = (
    Rung("endpoint orchestration", rungs.orchestration),
    Rung("endpoint cloudformation", rungs.cloudformation),
    Rung("token", rungs.token, ("endpoint orchestration",)),
    Rung("versions and build_info", rungs.versions, ("token",)),
    Rung("create", rungs.create, ("versions and build_info",)),
    Rung("update", rungs.update, ("create",)),
    Rung("delete", rungs.delete, ("create",)),
    Rung("nested stack", rungs.nested, ("versions and build_info",)),
    Rung("preview", rungs.preview, ("versions and build_info",)),
    # Not on "endpoint cloudformation": servers signal to heat_waitcondition_server_url, whatever the catalog says.
    Rung("wait condition", rungs.wait_condition, ("create",)),
    Rung("more than one engine", rungs.engines, ("create",)),
)
_CLEAN = Rung("clean up", rungs.clean)


def climb(
    heat: Heat,
    clock: Clock,
    *,
    report: Callable[[RungResult], None] | None = None,
    expect_engines: int | None = None,
    engines: Callable[[str], Set[str]] | None = None,
    timeout: float = 120,
) -> SmokeReport:
    """Try every rung of the ladder on `heat`, and take away what was made, also when interrupted.

    `report` hears of each rung as it ends. `engines` testifies who works: it takes a stack's id and returns the hosts
    whose engines are at work on it at this moment; without it the service table must do. `expect_engines` is how many
    hosts there must be (None: more than one, unless the Heat has but one). `timeout` bounds each wait, in seconds.
    Errors of Heat become failed rungs and are not raised.
    """
    ground = Ground(heat, clock, timeout=timeout, expect_engines=expect_engines, engines=engines)
    results: list[RungResult] = []

    def note(result: RungResult) -> None:
        results.append(result)
        if report is not None:
            report(result)

    try:
        for rung in LADDER:
            note(_step(rung, ground, results))
    finally:
        # Where Heat does not even tell its version, there is nothing of ours, and no way to look.
        if ground.began or _held("versions and build_info", results):
            note(_step(_CLEAN, ground, results))
    return SmokeReport(heat.region, tuple(results))


def _step(rung: Rung, ground: Ground, before: Iterable[RungResult]) -> RungResult:
    missing = [name for name in rung.needs if not _held(name, before)]
    if missing:
        return RungResult(rung.name, "skipped", 0.0, f"needs {', '.join(missing)}")
    start = ground.clock.monotonic()

    def ended(outcome: Outcome, detail: str, cause: str = "") -> RungResult:
        seconds = round(ground.clock.monotonic() - start, 3)
        return RungResult(rung.name, outcome, seconds, detail, cause)

    try:
        return ended("passed", rung.attempt(ground))
    except RungSkipped as skipped:
        return ended("skipped", skipped.message)
    except RungFailed as failed:
        return ended("failed", failed.message, failed.likely_cause)
    except HeatRefused as refused:
        return ended("failed", refused.message, _cause(rung, refused, before))
    except PipelineError as error:
        return ended("failed", error.message, error.hint)


def _held(name: str, results: Iterable[RungResult]) -> bool:
    return any(result.name == name and result.outcome == "passed" for result in results)


def _cause(rung: Rung, refused: HeatRefused, before: Iterable[RungResult]) -> str:
    service = "heat-api-cfn" if "cloudformation" in rung.name else "heat-api"
    if "catalog" in refused.message:
        return "identity: is Keystone up, does it know the user of clouds.yaml, and has this region the endpoint?"
    if refused.timed_out and _held("token", before):
        return causes.NO_ENGINE  # for what needs no engine was answered
    return causes.of_answer(refused.status, refused.message, service=service, timed_out=refused.timed_out)
