"""The stories: deploy, upgrade, verify, smoke, promote. Each reads as the list of its stages and leaves a record."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial

from pipeline import commands, environment, evidence
from pipeline.access import cloud_of, identity_url, is_deployed, open_site
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
from pipeline.junit import OUTCOMES
from pipeline.progress import Progress
from pipeline.provision import bring_up, configure_release, configure_services, install_release
from pipeline.recorder import Outcome, recorded
from pipeline.release import Release
from pipeline.render import RenderedStack, render
from pipeline.rollout import RolloutPlan, plan_rollout, running_release, vhost_of
from pipeline.site import Site
from pipeline.smoke import RungResult, SmokeReport, climb
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

    def site(self, name: str) -> AbstractContextManager[Site]:
        """Open the region of environment `name`; its connections end with the context. Raises ConfigurationInvalid."""
        return open_site(self.workspace, self.environment(name), self.clock, self.progress)

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
        cloud = cloud_of(self.workspace, target)
        built = self.build(reference)  # first: a release that does not exist must not leave half a region
        _refuse_other_release(name, self.releases_on(name), built.release)
        with self._recorded("deploy", name, built.release) as outcome:
            changed = self._launch(target, cloud)
            installed = self._bring_up(target, built, outcome)
        return changed or installed

    def releases_on(self, name: str) -> frozenset[str]:
        """Return the ids of the releases that hosts of a region are on: none before its first deploy, two in a rollout.

        Raises PreflightUnreachable for a host that does not answer.
        """
        target = self.environment(name)
        if not is_deployed(target, cloud_of(self.workspace, target)):
            return frozenset()
        with self.site(name) as site:
            return observe(site.region.inventory, site.remote).releases

    def _bring_up(self, target: Environment, built: Built, outcome: Outcome) -> bool:
        """Install a release on the hosts of a launched region and start it; return whether anything changed."""
        name = target.name
        with self.site(name) as site:
            fleet = observe(site.region.inventory, site.remote)
            vhost = next(iter(fleet.vhosts(Role.ENGINE)), vhost_of(built.release))
            with self.progress.stage("install"), ThreadPoolExecutor(max_workers=2) as pool:
                services = pool.submit(configure_services, site)
                installed = install_release(site, fleet, built)
                written = (*services.result(), *configure_release(site, built.release, vhost))
            with self.progress.stage("start"):
                site.broker.create_vhost(vhost)
                started = bring_up(site, observe(site.region.inventory, site.remote), built.release)
            outcome.counts.update(hosts=len(site.region.inventory.hosts), files_written=len(written))
        return bool(installed or written or started)

    def upgrade(self, name: str, reference: str) -> tuple[TrafficReport, RolloutPlan]:
        """Bring a region to a release, host by host, under the canary's traffic; what is left to do is derived.

        Raises VerificationFailed where the rollout ended well but the canary lost a stack or a request.
        """
        target = self.environment(name)
        cloud_of(self.workspace, target)  # a cloud that is not there is told before minutes go into a build
        built = self.build(reference)
        with self._recorded("upgrade", name, built.release) as outcome, self.site(name) as site:
            fleet = observe(site.region.inventory, site.remote)
            running = _manifest(site, fleet, running_release(fleet, built.release.id))
            plan = plan_rollout(fleet, running, built.release)
            self._tell(plan)
            with Traffic(
                partial(_customer, site, self.workspace), target.traffic, self.clock, prefix="canary"
            ) as traffic:
                self.clock.sleep(target.traffic.before)
                self._roll_out(site, fleet, plan, built, running)
                self.clock.sleep(target.traffic.after)
            report = traffic.report()
            outcome.counts.update(report.counts())
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
        with self.site(name) as site:
            release, vhost = self._running(site)
            with self._recorded("verify", name, release) as outcome, self.progress.stage("verify"):
                report = verify(site, release, vhost, report=self.progress.say)
                outcome.counts.update(checks_passed=report.passed, checks_failed=report.failed)
                outcome.passed, outcome.detail = report.ok, report.told
        return report

    def smoke(self, name: str) -> SmokeReport:
        """Use a region as a customer would, rung by rung; the report says which rungs failed, and the likely cause."""
        target = self.environment(name)
        with self.site(name) as site:
            release, _ = self._running(site)
            with self._recorded("smoke", name, release) as outcome, self.progress.stage("smoke"):
                report = climb(
                    site.customer,
                    self.clock,
                    report=self._tell_rung,
                    expect_engines=target.topology.engine.count,
                    engines=site.database.hosts_at_work,
                )
                outcome.counts.update({f"rungs_{kind}": report.count(kind) for kind in OUTCOMES})
                outcome.passed, outcome.detail = report.ok, report.told
        return report

    def smoke_cloud(self, cloud: str, region: str | None) -> SmokeReport:
        """Climb the ladder against any Heat of the user's own clouds.yaml; leaves no record."""
        with self.progress.stage(f"smoke {cloud}"):
            heat = connect(cloud, region=region)
            return climb(heat, self.clock, report=self._tell_rung)

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
        target = self.environment(name)
        cloud_of(self.workspace, target)
        built = self.wheelhouse.ensure(reference, report=self.progress.say)
        with self.site(name) as site:
            fleet = observe(site.region.inventory, site.remote)
            running = _manifest(site, fleet, running_release(fleet, built.release.id))
            plan = plan_rollout(fleet, running, built.release)
        self._tell(plan)
        return plan

    def require_green(self, name: str) -> tuple[VerifyReport, SmokeReport]:
        """Verify and smoke a region. Raises VerificationFailed where a check or a rung failed."""
        checks, rungs = self.verify(name), self.smoke(name)
        if not (checks.ok and rungs.ok):
            raise VerificationFailed(
                f"{checks.failed} checks and {rungs.count('failed')} rungs failed in {name}: "
                f"{'; '.join(filter(None, (checks.told, rungs.told)))}",
                hint=f"inv verify {name}",
            )
        return checks, rungs

    def _launch(self, target: Environment, cloud: Heat) -> bool:
        stacks = self.render(target.name)
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

    def _roll_out(self, site: Site, fleet: Fleet, plan: RolloutPlan, built: Built, running: Release) -> None:
        stage, rollout = self.progress.stage, Rollout(site, plan, moved=len(fleet.states) - len(plan.moves))
        with stage("install"):
            install_release(site, fleet, built)
            configure_release(site, plan.target, plan.vhost)
        if plan.moves:
            with stage("database"):
                rollout.prepare_database(f"{running.id}-to-{plan.target.id}")
            with stage("vhost"):
                rollout.open_vhost()
        rollout.admit_stranded(fleet)
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
            rollout.tidy(fleet, keep=running.id)

    def _tell(self, plan: RolloutPlan) -> None:
        for line in plan.describe():
            self.progress.say(line)

    def _tell_rung(self, rung: RungResult) -> None:
        self.progress.say(f"{rung.outcome}: {rung.name}: {rung.detail}")

    def _running(self, site: Site) -> tuple[Release, str]:
        fleet = observe(site.region.inventory, site.remote)
        release = _manifest(site, fleet, running_release(fleet, ""))
        return release, next(iter(fleet.vhosts(Role.ENGINE)), vhost_of(release))

    def _recorded(self, operation: Operation, name: str, release: Release) -> AbstractContextManager[Outcome]:
        return recorded(self.store, self.clock, operation, name, release)


def _refuse_other_release(name: str, running: frozenset[str], release: Release) -> None:
    others = running - {release.id}
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
