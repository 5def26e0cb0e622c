"""The stories: deploy, upgrade, verify, smoke, promote. Each reads as the list of its stages and leaves a record."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial

from pipeline import commands, environment, evidence
from pipeline.access import cloud_of, identity_url, open_site
from pipeline.deploy import Change, Launcher, launch_all
from pipeline.edges.clock import Clock
from pipeline.edges.heat import Event, Heat, connect
from pipeline.edges.hosts import observe
from pipeline.edges.ssh import generate_key
from pipeline.edges.store import Store
from pipeline.edges.wheelhouse import Built, Wheelhouse
from pipeline.environment import Environment, Role
from pipeline.errors import ConfigurationInvalid, VerificationFailed
from pipeline.evidence import Operation
from pipeline.fleet import Fleet
from pipeline.health import api_answers, engine_is_up, stays_healthy
from pipeline.junit import OUTCOMES
from pipeline.progress import Progress
from pipeline.provision import configure_release, configure_services, first_start, install_release
from pipeline.recorder import Outcome, recorded
from pipeline.release import Release
from pipeline.render import RenderedStack, render
from pipeline.rollout import RolloutPlan, plan_rollout, restart_plan, running_release, vhost_of
from pipeline.site import Site
from pipeline.smoke import SmokeReport, climb
from pipeline.traffic import Traffic, TrafficReport
from pipeline.upgrade import Rollout
from pipeline.verify import VerifyReport, verify
from pipeline.workspace import Workspace

__all__ = ["Pipeline"]


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The pipeline in one workspace. Every method names an environment, and a release by version, id or digest."""

    workspace: Workspace
    clock: Clock
    progress: Progress

    def environment(self, name: str) -> Environment:
        """Return environment `name`. Raises ConfigurationInvalid."""
        return environment.load(name, self.workspace.environments)

    @property
    def wheelhouse(self) -> Wheelhouse:
        """The releases built so far."""
        return Wheelhouse(self.workspace.cache, uv=self.workspace.uv)

    @property
    def store(self) -> Store:
        """The records of all runs."""
        return Store(self.workspace.records)

    def render(self, name: str) -> tuple[RenderedStack, ...]:
        """Return the stacks of an environment, those first that others need. Raises ConfigurationInvalid."""
        return render(self.environment(name), self.workspace.templates)

    def build(self, reference: str) -> Built:
        """Return the release that `reference` names, built where a plain version was not built yet."""
        with self.progress.stage(f"release {reference}"):
            built = self.wheelhouse.ensure(reference, report=self.progress.say)
            self.wheelhouse.check(built)
        return built

    def deploy(self, name: str, reference: str) -> bool:
        """Launch the stacks of an environment and bring its hosts up on a release; return whether anything changed.

        Refuses (ConfigurationInvalid) a region that runs another release: that is an upgrade.
        """
        target = self.environment(name)
        with ThreadPoolExecutor(max_workers=1) as pool:
            building = pool.submit(self.build, reference)
            changed = self._launch(target)
            built = building.result()
        with self._recorded("deploy", name, built.release) as outcome, self._site(target) as site:
            fleet = observe(site.region.inventory, site.remote)
            _refuse_other_release(name, fleet, built.release)
            vhost = next(iter(fleet.vhosts(Role.ENGINE)), vhost_of(built.release))
            with self.progress.stage("install"), ThreadPoolExecutor(max_workers=2) as pool:
                services = pool.submit(configure_services, site)
                installed = install_release(site, fleet, built)
                written = (*services.result(), *configure_release(site, built.release, vhost))
            with self.progress.stage("start"):
                site.broker.create_vhost(vhost)
                started = self._start(site, fleet, built.release, written)
            outcome.counts.update(hosts=len(site.region.inventory.hosts), files_written=len(written))
        return bool(changed or installed or written or started)

    def upgrade(self, name: str, reference: str) -> tuple[TrafficReport, RolloutPlan]:
        """Bring a region to a release, host by host, under the canary's traffic; what is left to do is derived.

        Raises VerificationFailed where the rollout ended well but the canary lost a stack or a request.
        """
        target = self.environment(name)
        built = self.build(reference)
        with self._recorded("upgrade", name, built.release) as outcome, self._site(target) as site:
            fleet = observe(site.region.inventory, site.remote)
            running = _manifest(site, fleet, running_release(fleet, built.release.id))
            plan = plan_rollout(fleet, running, built.release)
            _tell(self.progress, plan)
            with Traffic(
                partial(_customer, site, self.workspace), target.traffic, self.clock, prefix="canary"
            ) as traffic:
                self.clock.sleep(target.traffic.before)
                self._roll_out(site, fleet, plan, built, running)
                self.clock.sleep(target.traffic.after)
            report = traffic.report()
            outcome.counts.update(_flat(report))
            for failure in report.failures:
                self.progress.say(f"customers noticed: {failure}")
            if not report.ok:
                raise VerificationFailed(
                    f"the rollout ended, but customers noticed: {'; '.join(report.failures[:3])}",
                    hint=f"inv local.logs, and the journals of {name}'s hosts",
                )
        return report, plan

    def verify(self, name: str) -> VerifyReport:
        """Check every host of a region against what it should be; the report says what failed."""
        with self._site(self.environment(name)) as site:
            release, vhost = self._running(site)
            with self._recorded("verify", name, release) as outcome, self.progress.stage("verify"):
                report = verify(site, release, vhost, report=self.progress.say)
                outcome.counts.update(checks_passed=report.passed, checks_failed=report.failed)
                outcome.passed = report.ok
        return report

    def smoke(self, name: str) -> SmokeReport:
        """Use a region as a customer would, rung by rung; the report says which rungs failed, and the likely cause."""
        target = self.environment(name)
        with self._site(target) as site:
            release, _ = self._running(site)
            with self._recorded("smoke", name, release) as outcome, self.progress.stage("smoke"):
                report = climb(
                    site.customer,
                    self.clock,
                    report=lambda rung: self.progress.say(f"{rung.outcome}: {rung.name}: {rung.detail}"),
                    expect_engines=target.topology.engine.count,
                    engines=site.database.hosts_at_work,
                )
                outcome.counts.update({f"rungs_{kind}": report.count(kind) for kind in OUTCOMES})
                outcome.passed = report.ok
        return report

    def promote(self, name: str, reference: str, *, dry_run: bool = False) -> RolloutPlan:
        """Bring the next environment to a release that the one before has evidence for; plan, upgrade, verify, smoke.

        Raises GateRefused without that evidence, before anything is touched.
        """
        target = self.environment(name)
        built = self.wheelhouse.find(reference)
        if target.promotes_from is not None:
            records = self.store.records(target.promotes_from)
            evidence.gate(records, name, target.promotes_from, built.release)
        plan = self.plan(name, reference)
        if dry_run:
            return plan
        with self._recorded("promote", name, built.release):
            self.upgrade(name, reference)
            self.require_green(name)
        return plan

    def plan(self, name: str, reference: str) -> RolloutPlan:
        """Return what an upgrade would do, having touched nothing."""
        built = self.wheelhouse.ensure(reference, report=self.progress.say)
        with self._site(self.environment(name)) as site:
            fleet = observe(site.region.inventory, site.remote)
            running = _manifest(site, fleet, running_release(fleet, built.release.id))
            plan = plan_rollout(fleet, running, built.release)
        _tell(self.progress, plan)
        return plan

    def require_green(self, name: str) -> tuple[VerifyReport, SmokeReport]:
        """Verify and smoke a region. Raises VerificationFailed where a check or a rung failed."""
        checks, rungs = self.verify(name), self.smoke(name)
        if not (checks.ok and rungs.ok):
            raise VerificationFailed(
                f"{checks.failed} checks and {rungs.count('failed')} rungs failed in {name}", hint=f"inv verify {name}"
            )
        return checks, rungs

    def _launch(self, target: Environment) -> bool:
        stacks = self.render(target.name)
        cloud = cloud_of(self.workspace, target)
        given = {
            "ssh_public_key": generate_key(self.workspace.key(target.name)),
            "identity_url": identity_url(cloud),
        }

        def heard(stack: str, event: Event) -> None:
            if event.status.endswith(("_FAILED", "_COMPLETE")):
                self.progress.say(f"{stack}: {event.resource} {event.status} {event.reason}".rstrip()[:160])

        with self.progress.stage("stacks"):
            launched = launch_all(stacks, Launcher(cloud, self.clock, target.deadlines.stack, heard), given)
            for stack in launched.values():
                self.progress.say(f"{stack.name}: {stack.change}")
        return any(stack.change is not Change.UNCHANGED for stack in launched.values())

    def _start(self, site: Site, fleet: Fleet, release: Release, written: tuple[str, ...]) -> bool:
        if all(state.settled_on(release.id) for state in fleet.states):
            if any(path.startswith(("engine-", "api-")) for path in written):
                self._restart(site, fleet, release)
                return True
            return False
        first_start(site, release)
        for engine in site.region.inventory.of(Role.ENGINE):
            stays_healthy(site, engine, partial(engine_is_up, site, engine, frozenset()))
        for api in site.region.inventory.of(Role.API):
            stays_healthy(site, api, partial(api_answers, site, api, frozenset({release.id})))
            site.balancer.admit(api.name, timeout=site.environment.policy.health.healthy_deadline)
        return True

    def _restart(self, site: Site, fleet: Fleet, release: Release) -> None:
        """New settings of the same release reach running hosts by the careful road too."""
        vhost = next(iter(fleet.vhosts(Role.ENGINE)))
        rollout = Rollout(site, restart_plan(fleet, release, vhost))
        for state in fleet.of(Role.ENGINE):
            rollout.move_engine(state)
        for state in fleet.of(Role.API):
            rollout.move_api(state)

    def _roll_out(self, site: Site, fleet: Fleet, plan: RolloutPlan, built: Built, running: Release) -> None:
        stage, rollout = self.progress.stage, Rollout(site, plan)
        with stage("install"):
            install_release(site, fleet, built)
            configure_release(site, plan.target, plan.vhost)
        if plan.moves:
            with stage("database"):
                rollout.prepare_database(f"{running.id}-to-{plan.target.id}")
            with stage("vhost"):
                rollout.open_vhost()
        for state in plan.engines_first:
            with stage(f"move {state.host.name}"):
                rollout.move_engine(state)
        for state in plan.apis:
            with stage(f"move {state.host.name}"):
                rollout.move_api(state)
        if plan.engines_last:
            with stage("old vhost idle"):
                rollout.await_idle()
        for state in plan.engines_last:
            with stage(f"move {state.host.name}"):
                rollout.move_engine(state)
        with stage("tidy"):
            rollout.tidy()

    def _running(self, site: Site) -> tuple[Release, str]:
        fleet = observe(site.region.inventory, site.remote)
        release = _manifest(site, fleet, running_release(fleet, ""))
        return release, next(iter(fleet.vhosts(Role.ENGINE)), vhost_of(release))

    def _site(self, target: Environment) -> AbstractContextManager[Site]:
        return open_site(self.workspace, target, self.clock, self.progress)

    def _recorded(self, operation: Operation, name: str, release: Release) -> AbstractContextManager[Outcome]:
        return recorded(self.store, self.clock, operation, name, release)


def _refuse_other_release(name: str, fleet: Fleet, release: Release) -> None:
    others = fleet.releases - {release.id}
    if others:
        raise ConfigurationInvalid(
            f"{name} runs {', '.join(sorted(others))}: going to {release.id} is an upgrade, not a deploy",
            hint=f"inv upgrade {name} --release {release.heat}",
        )


def _manifest(site: Site, fleet: Fleet, release_id: str) -> Release:
    """Return a release as a host that has it describes it: the controller may never have built it."""
    for state in fleet.states:
        if release_id in state.installed:
            return Release.from_json(site.remote.run(state.host, commands.manifest(release_id)).stdout)
    raise ConfigurationInvalid(f"no host has release {release_id} on disk", hint="inv release.list")


def _customer(site: Site, workspace: Workspace) -> Heat:
    """A session of its own for each customer, as customers have."""
    return connect(site.environment.name, workspace.customer_clouds(site.environment.name))


def _tell(progress: Progress, plan: RolloutPlan) -> None:
    progress.say(f"mode: {plan.mode}, because {plan.reason}")
    moves = ", ".join(state.host.name for state in plan.moves) or "nothing: the region is there"
    progress.say(f"to move, in order: {moves}")


def _flat(report: TrafficReport) -> dict[str, int | float]:
    stacks, requests = report.stacks, report.requests
    return {
        "stacks_completed": stacks.completed,
        "stacks_failed": stacks.failed,
        "stacks_stuck": stacks.stuck,
        "requests_total": requests.total,
        "requests_errors": requests.errors,
        "requests_longest_gap_s": requests.longest_gap_s,
    }
