"""The demo: the whole story on one machine, and the proof of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline import show
from pipeline.edges.heat import Heat, connect
from pipeline.environment import Environment
from pipeline.errors import ConfigurationInvalid, VerificationFailed
from pipeline.junit import OUTCOMES
from pipeline.localcloud import up
from pipeline.smoke import SmokeReport
from pipeline.traffic import Noticed, TrafficReport
from pipeline.verify import VerifyReport
from pipeline.workflow import Pipeline
from pipeline.workspace import Workspace

__all__ = ["Proof", "demonstrate", "farewell", "revisions"]

_ASKS = 40
"""How often build_info is asked: enough to hit every API and engine many times over."""

Revisions = Mapping[str, list[str]]


@dataclass(frozen=True, slots=True)
class Proof:
    """What the demo saw: seconds per stage, the canary's counts, who answered before and after, checks and rungs.

    `resumed` says that an earlier demo was interrupted in its upgrade: what its customers saw is not counted here.
    """

    stages: tuple[tuple[str, float], ...]
    traffic: TrafficReport
    before: Revisions
    after: Revisions
    verify: VerifyReport
    smoke: SmokeReport
    expected: str
    resumed: bool = False

    def faults(self) -> tuple[str, ...]:
        """Return what speaks against the upgrade, nothing where it is proved."""
        only_new = all(found == [self.expected] for found in self.after.values())
        faults = {
            "customers lost stacks or requests": not self.traffic.ok,
            f"not every answer after the upgrade came from {self.expected}": not only_new,
            f"checks failed: {self.verify.told or 'none was made'}": not self.verify.ok,
            f"smoke rungs failed: {self.smoke.told}": not self.smoke.ok,
        }
        return tuple(fault for fault, holds in faults.items() if holds)

    def answers(self) -> dict[str, str]:
        """Return who answered before and after, for people."""
        sides = ((kind, self.before[kind], self.after[kind]) for kind in ("api", "engine"))
        return {f"{kind} revisions": f"{', '.join(old)} → {', '.join(new)}" for kind, old, new in sides}

    def results(self) -> dict[str, str]:
        """Return how many checks and rungs ended how, for people."""
        rungs = [str(self.smoke.count(outcome)) for outcome in OUTCOMES]
        part = {"begun by an earlier demo": "yes: its customers are not counted here"} if self.resumed else {}
        return {
            "checks passed / failed": f"{self.verify.passed} / {self.verify.failed}",
            "smoke rungs passed / failed / skipped": " / ".join(rungs),
            **part,
        }

    def to_json(self) -> dict[str, Any]:
        """Return the report in the form that README documents."""
        return {
            "stages": [{"name": name, "seconds": seconds} for name, seconds in self.stages],
            "stacks": asdict(self.traffic.stacks),
            "requests": asdict(self.traffic.requests),
            "revisions": {"before": dict(self.before), "after": dict(self.after)},
            "verify": {"passed": self.verify.passed, "failed": self.verify.failed},
            "smoke": {outcome: self.smoke.count(outcome) for outcome in OUTCOMES},
            "resumed": self.resumed,
        }


def demonstrate(pipeline: Pipeline, name: str, *, old: str, new: str, report: Path | None) -> Proof:
    """Raise the local cloud, deploy `old`, upgrade to `new` under traffic, verify; return and save the proof.

    Raises VerificationFailed where the proof does not hold, after it was printed and saved; ConfigurationInvalid where
    there is nothing to prove: both are one release, or the demo was run.
    """
    if old == new:
        raise ConfigurationInvalid(f"from {old} to {new} is no upgrade", hint="inv demo --from 25.0.2 --to 26.0.2")
    with ThreadPoolExecutor(max_workers=1) as pool:
        builds = [pool.submit(pipeline.build, version) for version in (old, new)]
        with pipeline.progress.stage("local cloud"):
            up(pipeline.workspace.cloud, report=pipeline.progress.say)
        started, target = (build.result().release.id for build in builds)
    resumed = _resumes(pipeline, name, started, target)
    if not resumed:
        _deploy(pipeline, name, started)
    customer = connect(name, pipeline.workspace.customer_clouds(name))
    before = revisions(customer)
    traffic = _upgrade(pipeline, name, target)
    after = revisions(customer)
    checks, rungs = pipeline.verify(name), pipeline.smoke(name)
    proof = Proof(tuple(pipeline.progress.stages), traffic, before, after, checks, rungs, target, resumed)
    show.proof(proof.stages, traffic, proof.answers(), proof.results(), pipeline.progress.console)
    with show.ending_in(_fault(proof, name)):
        if report is not None:
            show.write(report, json.dumps(proof.to_json(), indent=2) + "\n")
    return proof


def _fault(proof: Proof, name: str) -> VerificationFailed | None:
    """Return the error that a proof which does not hold ends in, None where it holds."""
    faults = "; ".join(proof.faults())
    return VerificationFailed(f"the proof does not hold: {faults}", hint=f"inv verify {name}") if faults else None


def _resumes(pipeline: Pipeline, name: str, old: str, new: str) -> bool:
    """Whether an earlier demo was killed in its upgrade or before it was smoked: then that goes on from there."""
    there = pipeline.releases_on(name)
    smoked = {one.release_id for one in pipeline.store.records(name) if one.operation == "smoke"}
    if there == {new} and new in smoked:
        raise ConfigurationInvalid(
            f"{name} is on {new} already: the demo was run", hint="inv local.down, then inv demo"
        )
    if there not in ({new}, {old, new}):
        return False
    pipeline.progress.say("an earlier demo was interrupted in its upgrade: going on from there")
    return True


def _upgrade(pipeline: Pipeline, name: str, release_id: str) -> TrafficReport:
    """Upgrade, and return what customers saw, also where they were let down: then it belongs to the proof."""
    try:
        return pipeline.upgrade(name, release_id)[0]
    except Noticed as noticed:
        return noticed.report


def _deploy(pipeline: Pipeline, name: str, old: str) -> None:
    """Deploy and verify `old`."""
    pipeline.deploy(name, old)
    checks = pipeline.verify(name)
    if not checks.ok:
        said = f"{checks.failed} checks failed before the upgrade: {checks.told}"
        raise VerificationFailed(said, hint=f"inv verify {name}")


def revisions(heat: Heat) -> dict[str, list[str]]:
    """Return the revisions that APIs and engines answer with, asked often enough to hit all of them."""
    answers = [heat.build_info() for _ in range(_ASKS)]
    return {kind: sorted({answer[kind]["revision"] for answer in answers}) for kind in ("api", "engine")}


def farewell(workspace: Workspace, environment: Environment) -> str:
    """Return what to type next: use the new Heat, log in to a host, take everything down."""
    clouds = workspace.customer_clouds(environment.name)
    return f"""
Use the new Heat:   export OS_CLIENT_CONFIG_FILE={clouds} OS_CLOUD={environment.name}
                    openstack stack list          (pip install python-openstackclient python-heatclient)
Log in to a host:   ./inv local.ssh engine-0
Take it all down:   ./inv local.down"""
