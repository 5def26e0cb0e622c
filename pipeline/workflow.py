"""The stories: deploy, upgrade, verify, smoke, promote. Each reads as the list of its stages and leaves a record."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from pipeline import environment, evidence, schema
from pipeline.access import cloud_of, forget, is_deployed, open_site
from pipeline.changing import Changing, changing, holder_now
from pipeline.comparison import Comparison, compare_environments, compare_releases
from pipeline.consequences import hosts_leaving
from pipeline.destroy import Destroyer, destroy_all, doomed
from pipeline.edges.clock import Clock
from pipeline.edges.heat import Heat, HeatRefused, connect
from pipeline.edges.heatcode import schemas_of, unpack
from pipeline.edges.hosts import observe, visible
from pipeline.edges.lock import Holder, Locks, ToozLocks
from pipeline.edges.refusals import untouched
from pipeline.edges.runs import Request, Runs
from pipeline.edges.store import Store, who
from pipeline.edges.wheelhouse import Built, Wheelhouse
from pipeline.edges.yamledit import set_value
from pipeline.environment import Environment, Role
from pipeline.errors import ConfigurationInvalid, PipelineError, VerificationFailed
from pipeline.evidence import Operation, StackOperation
from pipeline.fanout import HostResult, Listener, chosen, fan_out
from pipeline.fleet import Fleet, HostState
from pipeline.hosterrors import errors_since
from pipeline.journal import Journal
from pipeline.junit import OUTCOMES
from pipeline.lookup import Lookup
from pipeline.origins import Setting, settings
from pipeline.plan import Act, Plan, require_fresh, to_json
from pipeline.progress import Progress
from pipeline.provision import (
    BACKING,
    bring_up,
    configure_release,
    configure_services,
    install_release,
    require_heard,
    require_trusted,
    require_whole,
)
from pipeline.recorder import Outcome, record_end, recorded, touched
from pipeline.regionstacks import RegionStacks
from pipeline.release import Release
from pipeline.render import RenderedStack, render
from pipeline.retire import retire
from pipeline.rolling import Change, manifest, manifests, plan_rollback, plan_upgrade, roll_out, tell
from pipeline.rollout import Batch, RolloutPlan, plan_rollout, running_release, vhost_of
from pipeline.scaling import Scaling, plan_scaling
from pipeline.site import Site
from pipeline.smoke import RungResult, SmokeReport, climb
from pipeline.stackdrift import CHECKS, Drift, HostDrift, check_stacks
from pipeline.status import HostStatus, region_status
from pipeline.traffic import Noticed, Traffic, TrafficReport, dismiss
from pipeline.validation import WRITER, Problem, path_of
from pipeline.validation.many import validate_all
from pipeline.verify import EVERYTHING, Selection, VerifyReport, verify
from pipeline.workspace import Workspace

__all__ = ["Pipeline"]

_WATCHED = 5.0  # seconds between two looks of a watch
_LAUNCHED = "stacks changed"  # what a run has done when it begins to bring hosts up
_CANARY = "canary"  # how the names of the stacks of a rollout's own customers start


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The pipeline in one workspace. Every method names an environment, and a release by version, id or digest."""

    workspace: Workspace
    clock: Clock
    progress: Progress
    lookup: Lookup = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "lookup", Lookup(self.workspace.environments))

    def environment(self, name: str) -> Environment:
        """Return environment `name`. Raises ConfigurationInvalid."""
        return environment.load(name, self.workspace.environments)

    def environments(self) -> tuple[str, ...]:
        """Return the names of all environments, sorted."""
        return environment.list_environments(self.workspace.environments)

    def origins(self, name: str) -> tuple[Setting, ...]:
        """Return every setting of an environment, with the file and line that set it. Raises ConfigurationInvalid."""
        return settings(name, self.workspace.environments)

    def write_schema(self, *, check: bool = False) -> Path:
        """Write the JSON Schema of environments' files, or only `check` it; return its path.

        Raises ConfigurationInvalid where it is checked and not what it would be written as.
        """
        path = self.workspace.environments / schema.FILE
        if check:
            schema.require_current(path)
        else:
            schema.write(path)
        return path

    @property
    def wheelhouse(self) -> Wheelhouse:
        """The releases built so far."""
        return Wheelhouse(self.workspace.cache, uv=self.workspace.uv)

    @property
    def runs(self) -> Runs:
        """What runs left, and what is asked of one under way."""
        return Runs(self.workspace.runs, self.clock)

    def locks(self, name: str) -> Locks:
        """The lock that keeps two runs from changing environment `name` at once."""
        target = self.environment(name)
        settings = target.lock
        url = self.lookup.lock_url(target, partial(cloud_of, self.workspace, target))
        url = url or settings.url or f"file://{self.workspace.locks}"
        return ToozLocks(url, self.clock, lease=round(settings.lease), tell=self.progress.say)

    @property
    def store(self) -> Store:
        """The records of all runs."""
        return Store(self.workspace.records)

    def site(self, name: str, *, deploying: bool = False) -> AbstractContextManager[Site]:
        """Open the region of environment `name`; its connections end with the context. Raises ConfigurationInvalid.

        Only who is `deploying` renews certificates, and minds that they are good.
        """
        target = self.environment(name)
        return open_site(self.workspace, target, self.clock, self.progress, lookup=self.lookup, deploying=deploying)

    def render(self, name: str) -> tuple[RenderedStack, ...]:
        """Return the stacks of an environment, those first that others need. Raises ConfigurationInvalid."""
        return render(self.environment(name), self.workspace.templates)

    def validate(self, names: Sequence[str], releases: Sequence[str] = ()) -> tuple[Problem, ...]:
        """Return what is wrong with the stacks of environments by the schemas of `releases` of Heat (of all: none).

        Raises ConfigurationInvalid where an environment cannot be read or rendered, or a release has no schemas here.
        """
        return validate_all(names, self.workspace.environments, self.workspace.templates, tuple(releases))

    def write_schemas(self, heat: str) -> Path:
        """Write what the resources of Heat `heat` ("26.0.2") accept, for `validate`; return the file."""
        from pipeline.localcloud.settings import PLUGINS  # no other story needs the local cloud

        built = self.build(heat)
        with self.progress.stage(f"schemas of {heat}"), TemporaryDirectory(prefix="heat-") as scratch:
            text = schemas_of(unpack(built, Path(scratch)), WRITER, PLUGINS)
        path = path_of(str(built.release.heat))
        path.write_text(text, encoding="utf-8")
        return path

    def build(self, reference: str) -> Built:
        """Return the release that `reference` names, built where a plain version was not built yet."""
        with self.progress.stage(f"release {reference}"):
            built = self.wheelhouse.ensure(reference, report=self.progress.say)
            self.wheelhouse.check(built)
        return built

    def deploy(self, name: str, reference: str, *, allowed: Collection[str] = (), lock_wait: float = 0) -> bool:
        """Launch the stacks of an environment and bring its hosts up on a release; return whether anything changed.

        Refuses (ConfigurationInvalid) a region that runs another release: that is an upgrade. Raises ProtectedRefused
        where a protected stack would lose what is not `allowed` by name.
        """
        self._within_reach(name)
        built = self.build(reference)  # first: a release that does not exist must not leave half a region
        self._require_fit(name, built.release)
        with self._changing("deploy", name, lock_wait) as run:
            # The lock may have been waited for, and files changed meanwhile.
            self._require_fit(name, built.release, deploying=True)
            stacks = self._within_reach(name)
            stacks.await_rest()
            plan = stacks.survey(built.release.id)
            plan.require(allowed)
            with self._recorded("deploy", name, built.release) as outcome:
                changed = self._carry_out(plan, stacks, run, allowed, built.release)
                with touched(_LAUNCHED if changed else ""):
                    installed = self._bring_up(name, built.release, built, outcome, run)
        return changed or installed

    def scale(self, name: str, role: Role, count: int, *, lock_wait: float = 0) -> Scaling:
        """Have `count` hosts of a role: new ones come up on the region's release, those that go are drained first.

        The environment's own file is changed to say so, before a host comes and after those that go hold nothing.
        Raises ConfigurationInvalid, FleetMixed in the middle of an upgrade, ProtectedRefused, and what
        pipeline.retire.retire raises.
        """
        self._within_reach(name)
        with self._changing("scale", name, lock_wait) as run, self.site(name, deploying=True) as site:
            stacks = self._within_reach(name)  # as in deploy
            fleet = observe(site.region.inventory, site.remote)
            require_heard(stacks.environment, fleet)
            require_trusted(site, fleet)
            release, _ = _on(site, fleet)
            scaling = plan_scaling(fleet, role, count)
            stacks.await_rest()
            plan = self._stacks(scaling.of(stacks.environment), stacks.cloud).survey(release.id)
            plan.require(())
            leaving = {*scaling.names, *hosts_leaving(plan)}
            self._require_writable(name)  # a host that was drained for nothing is out of service
            # One that came by a scale that was interrupted may be there without the release.
            lacking = fleet.lacking(release.id) or scaling.coming or leaving - set(scaling.names)
            built = self.build(release.id) if lacking else None
            with self._recorded("scale", name, release) as outcome:
                outcome.counts.update(hosts_coming=scaling.coming, hosts_leaving=len(scaling.leaving))
                stacks.tell(plan)
                with touched(self._retire(site, leaving, release, run)):
                    self._set_count(name, scaling)
                    run.gate()
                    changed = self._stacks(self.environment(name), stacks.cloud).launch(plan, run, ())
                with touched(_LAUNCHED if changed else ""):
                    self._bring_up(name, release, built, outcome, run)
        return scaling

    def _require_writable(self, name: str) -> None:
        path = self.workspace.environments / f"{name}.yaml"
        if not all(os.access(place, os.W_OK) for place in (path, path.parent)):
            raise ConfigurationInvalid(f"{path}: cannot be written", hint="scale from a checkout of your own")

    def _set_count(self, name: str, scaling: Scaling) -> None:
        path, role = self.workspace.environments / f"{name}.yaml", scaling.role.value
        before = self.environment(name).topology.of(scaling.role).count
        if before != scaling.count:
            set_value(path, ("topology", role, "count"), scaling.count)
            self.progress.say(f"{path.name}: topology.{role}.count: {before} → {scaling.count}; commit it")

    def plan_stacks(self, name: str, reference: str = "") -> Plan:
        """Return what launching an environment's stacks would do, and on which release its hosts are brought up.

        Nothing is changed, here or there. Raises what pipeline.planning.survey raises, and ConfigurationInvalid for a
        region that runs another release.
        """
        stacks = self._within_reach(name)
        built = self.wheelhouse.find(reference) if reference else None
        if built:
            self._require_fit(name, built.release)
        return stacks.survey(built.release.id if built else "")

    def is_done(self, plan: Plan) -> bool:
        """Whether carrying out a plan would change no stack, and bring no host up.

        Settings that are in hosts' files alone are not looked at: those are `drift`'s.
        """
        if not plan.empty or not plan.release:
            return plan.empty
        states = self._fleet(plan.environment).states
        return bool(states) and all(state.settled_on(plan.release) for state in states)

    def apply(self, plan: Plan, *, allowed: Collection[str] = (), lock_wait: float = 0) -> bool:
        """Do what was planned, and nothing else; return whether anything changed.

        Raises PlanStale where the plan made again is another, and ProtectedRefused; both before anything is touched.
        """
        name = plan.environment
        plan.require(allowed)
        self._within_reach(name)
        built = self.build(plan.release) if plan.release else None
        with self._changing("apply", name, lock_wait) as run, ExitStack() as record:
            stacks = self._within_reach(name)  # as in deploy
            if built:
                self._require_fit(name, built.release, deploying=True)
            require_fresh(plan, self.plan_stacks(name, plan.release))
            run.log.save("plan", json.loads(to_json(plan)))
            if built is None:
                if any(one.name == "network" and one.act is Act.UPDATE for one in plan.stacks):
                    require_heard(stacks.environment, self._fleet(name))  # security groups open what is served only
                return self._carry_out(plan, stacks, run, allowed)
            outcome = record.enter_context(self._recorded("deploy", name, built.release))
            changed = self._carry_out(plan, stacks, run, allowed, built.release)
            with touched(_LAUNCHED if changed else ""):
                return self._bring_up(name, built.release, built, outcome, run) or changed

    def releases_on(self, name: str) -> frozenset[str]:
        """Return the ids of the releases that hosts of a region are on: none before its first deploy, two in a rollout.

        Raises PreflightUnreachable for a host that does not answer.
        """
        return self._fleet(name).releases

    def _fleet(self, name: str, *, deploying: bool = False) -> Fleet:
        target = self.environment(name)
        if not is_deployed(target, cloud_of(self.workspace, target)):
            return Fleet(())
        with self.site(name, deploying=deploying) as site:
            fleet = observe(site.region.inventory, site.remote)
            require_trusted(site, fleet)
        return fleet

    def _require_fit(self, name: str, release: Release, *, deploying: bool = False) -> None:
        """Raises ConfigurationInvalid where a deploy of `release` is an upgrade, or would cut hosts off."""
        fleet = self._fleet(name, deploying=deploying)
        _refuse_other_release(name, fleet.releases, release)
        require_heard(self.environment(name), fleet)

    def _bring_up(self, name: str, release: Release, built: Built | None, outcome: Outcome, run: Changing) -> bool:
        """Install a release on the hosts of a launched region and start it; return whether anything changed.

        `built` is None where every host has the release.
        """
        with self.site(name, deploying=True) as site:
            require_whole(site)
            fleet = observe(site.region.inventory, site.remote)
            vhost = fleet.vhost or vhost_of(release)
            run.gate()
            with self.progress.stage("install"), ThreadPoolExecutor(max_workers=2) as pool:
                services = pool.submit(configure_services, site, *BACKING)
                journal = Journal(self.clock, run.log)
                try:
                    installed = install_release(site, fleet, built, journal) if built else ()
                except PipelineError as error:
                    if also := services.exception():
                        error.message += f"; also: {getattr(also, 'message', also)}"
                    raise
                written = (*services.result(), *configure_release(site, release, vhost))
            with self.progress.stage("start"):
                site.insist(lambda: site.broker.create_vhost(vhost))
                fleet = observe(site.region.inventory, site.remote)
                started = bring_up(site, fleet, release, journal, gate=run.gate, owned=run.lease.confirm)
            outcome.counts.update(hosts=len(site.region.inventory.hosts), files_written=len(written))
        return bool(installed or written or started)

    def upgrade(
        self, name: str, reference: str, *, promoted: bool = False, lock_wait: float = 0
    ) -> tuple[TrafficReport, RolloutPlan]:
        """Bring a region to a release, batch by batch, under the canary's traffic; what is left to do is derived.

        `promoted` vouches for a canary that moved before. Raises VerificationFailed where the rollout ended well but
        customers of the canary lost a stack or a request, and what pipeline.rolling.roll_out raises.
        """
        self._within_reach(name)
        release, built = self._target(name, reference)
        with self._changing("upgrade", name, lock_wait) as run, self.site(name) as site:
            return self._roll(site, plan_upgrade(site, release), built, run, promoted=promoted)

    def _target(self, name: str, reference: str) -> tuple[Release, Built | None]:
        """Return the release to go to and its build, None where this machine has none and every host has the release.

        So a rollout goes on from another machine, or once a cache was emptied: another build would be another release.
        """
        try:
            built = self.build(reference)
        except ConfigurationInvalid:
            if "-" not in reference:  # no release's id
                raise
            with self.site(name) as site:
                fleet = observe(site.region.inventory, site.remote)
                found = [one for one in manifests(site, fleet) if one.id == reference and not fleet.lacking(one.id)]
            if not found:
                raise
            return found[0], None
        return built.release, built

    def rollback(
        self, name: str, reference: str | None = None, *, lock_wait: float = 0
    ) -> tuple[TrafficReport, RolloutPlan]:
        """Bring a region back to the release before (or to `reference`) by the same careful road; the schema stays."""
        self._within_reach(name)
        built = self.build(reference) if reference else None
        with self._changing("rollback", name, lock_wait) as run, self.site(name) as site:
            change = plan_rollback(site, built.release if built else None)
            if built is None and change.fleet.lacking(change.plan.target.id):  # a host that came after it was left
                built = self.build(change.plan.target.id)
            return self._roll(site, change, built, run, promoted=True)

    def promote_canary(self, name: str) -> tuple[TrafficReport, RolloutPlan]:
        """Vouch for the canary of a paused upgrade, and go on with it to the release that the canary is on."""
        with self.site(name) as site:
            fleet = observe(site.region.inventory, site.remote)
            on = [release for release in manifests(site, fleet) if release.id in fleet.releases]
        if len(on) != 2:
            raise ConfigurationInvalid(f"{name} has no canary: its hosts are on one release", hint=f"inv status {name}")
        hosts = Counter(state.current for state in fleet.states)
        # Of two builds of one Heat, the canary's is the one that few hosts are on.
        canary, other = sorted(
            on, key=lambda release: (-release.heat.major, -release.heat.minor, -release.heat.patch, hosts[release.id])
        )
        if canary.heat == other.heat and hosts[other.id] <= len(fleet.states) / 2:
            raise ConfigurationInvalid(
                f"which of {canary.id} and {other.id} is the canary's cannot be told: both are builds of one Heat",
                hint=f"inv upgrade {name} --release ID",
            )
        return self.upgrade(name, canary.id, promoted=True)

    def status(self, name: str) -> tuple[HostStatus, ...]:
        """Return every host of a region as it is now, and what batch it waits for where a rollout is not finished."""
        with self.site(name) as site:

            def left(states: tuple[HostState, ...]) -> tuple[Batch, ...]:
                fleet = Fleet(states)
                if len(fleet.releases) < 2:
                    return ()
                on = [release for release in manifests(site, fleet) if release.id in fleet.releases]
                old, new = sorted(on, key=lambda release: release.heat)[-2:]
                return plan_rollout(fleet, old, new, site.environment.policies).batches

            return region_status(site, left)

    def run_on_hosts(
        self,
        name: str,
        script: str,
        listener: Listener,
        *,
        roles: Collection[str] = (),
        names: Collection[str] = (),
        timeout: float = 300,
        root: bool = True,
    ) -> tuple[HostResult, ...]:
        """Run an operator's own script on hosts of a region, without the lock; the region's secrets are told as ***.

        Raises ConfigurationInvalid for a role or a host that there is not.
        """
        with self.site(name) as site:
            hosts, hidden = chosen(site.region.inventory, roles, names), site.region.secrets
            return fan_out(site.remote, hosts, script, timeout=timeout, root=root, listener=listener, hidden=hidden)

    def hold(self, name: str, reason: str) -> None:
        """Hold an environment for a person, until they give it back. Raises LockHeld where another has it."""
        now = self.clock.now()
        self.locks(name).hold(name, holder_now("hold", f"{now:%Y%m%dT%H%M%SZ}-hold", now, reason))

    def ask_run(self, name: str, request: Request) -> Holder:
        """Ask the run under way to pause or to abort before it begins with another host; return whose run it is.

        Raises ConfigurationInvalid where none is under way, or one of another checkout, which would not hear of it.
        """
        holder = self.locks(name).status(name)
        if holder is None or holder.held_by_person:
            raise ConfigurationInvalid(f"no run is under way in {name}", hint=f"inv status {name}")
        if holder.run_id and holder.run_id not in {run.id for run in self.runs.of(name)}:
            raise ConfigurationInvalid(
                f"the run under way in {name} is of another checkout: {holder.run_id} of {holder.owner}",
                hint=f"ask it there: process {holder.pid} of {holder.host}",
            )
        self.runs.ask(name, request, who())
        return holder

    def _roll(
        self, site: Site, change: Change, built: Built | None, run: Changing, *, promoted: bool
    ) -> tuple[TrafficReport, RolloutPlan]:
        """Roll a planned change out under traffic, and keep all of it in the run's record."""
        plan, settings = change.plan, site.environment.traffic
        run.log.save("plan", plan.to_json())
        tell(site, change)
        with self._recorded("rollback" if plan.rollback else "upgrade", site.environment.name, plan.target) as outcome:
            outcome.counts["hosts_settled"] = len(change.fleet.states) - len(plan.moves)
            journal = Journal(self.clock, run.log)
            self._dismiss_canary(site)
            traffic = Traffic(partial(_customer, site, self.workspace), settings, self.clock, prefix=_CANARY)
            with self._noticed(site, run, outcome, traffic), traffic:
                self.clock.sleep(settings.before)
                with self.progress.stage("rollout"):
                    roll_out(site, change, built, journal, gate=run.gate, promoted=promoted, owned=run.lease.confirm)
                self.clock.sleep(settings.after)
        return traffic.report(), plan

    @contextmanager
    def _noticed(self, site: Site, run: Changing, outcome: Outcome, traffic: Traffic) -> Iterator[None]:
        """Keep what customers noticed of the body, however it ends, and tell it.

        Raises Noticed where they noticed something of a body that ended well; an error of the body says it too.
        """
        started = self.clock.now()

        def keep() -> TrafficReport:
            report = traffic.report()
            outcome.counts.update(report.counts())
            run.log.keep("counts", report.to_json())
            return report

        try:
            yield
        except PipelineError as error:
            report = keep()
            if not report.ok:
                self._tell_noticed(site, run, report, started)
                error.message += f"; {report.told}"
            raise
        except BaseException:
            keep()
            raise
        report = keep()
        if not report.ok:
            self._tell_noticed(site, run, report, started)
            hint = f"read host_errors.json in {run.log.directory}: what its hosts logged meanwhile"
            raise Noticed(f"the rollout ended, but {report.told}", report=report, hint=hint)

    def _tell_noticed(self, site: Site, run: Changing, report: TrafficReport, started: datetime) -> None:
        for failure in report.failures:
            self.progress.say(f"customers noticed: {failure}")
        run.log.keep("host_errors", errors_since(site, started))

    def _dismiss_canary(self, site: Site) -> None:
        """Have the stacks of a killed run's customers end: with the lock in hand, nobody works with them any more."""
        try:
            left = dismiss(site.customer, _CANARY, self.clock)
        except HeatRefused as error:  # a region that is to be mended may be in no state to be tidied
            self.progress.say(f"what earlier canaries left stays: {error.message}")
        else:
            if left:
                self.progress.say(f"{len(left)} stacks that an earlier run's canary left are being deleted")

    def verify(self, name: str, selection: Selection = EVERYTHING) -> VerifyReport:
        """Check the hosts of a region against what they should be; the report says what failed.

        Only a look at everything is evidence and leaves a record. Raises ConfigurationInvalid where `selection` fits
        nothing.
        """
        with self.site(name) as site:
            release, vhost = _on(site, visible(site.region.inventory, site.remote))
            if not selection.everything:
                with self.progress.stage("verify"):
                    return verify(site, release, vhost, report=self.progress.say, selection=selection)
            with self._recorded("verify", name, release) as outcome, self.progress.stage("verify"):
                report = verify(site, release, vhost, report=self.progress.say)
                outcome.counts.update(checks_passed=report.passed, checks_failed=report.failed)
                outcome.passed, outcome.detail = report.ok, report.told
        return report

    def watch(self, name: str, selection: Selection = EVERYTHING) -> Iterator[VerifyReport | PipelineError]:
        """Check again and again, a few seconds apart, over connections that stay; leaves no record.

        Yields each report, or why there was none this time, as in the middle of an upgrade; ends only with its reader.
        Raises ConfigurationInvalid where `selection` fits nothing.
        """
        with self.site(name) as site:
            while True:
                try:
                    release, vhost = _on(site, visible(site.region.inventory, site.remote))
                    yield verify(site, release, vhost, report=lambda _: None, selection=selection)
                except ConfigurationInvalid:
                    raise
                except PipelineError as error:
                    yield error
                self.clock.sleep(_WATCHED)

    def smoke(self, name: str) -> SmokeReport:
        """Use a region as a customer would, rung by rung; the report says which rungs failed, and the likely cause."""
        target = self.environment(name)
        with self.site(name) as site:
            release, _ = _on(site, observe(site.region.inventory, site.remote))
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
        reference = built.release.id  # the newest build of a version may be another one by the time it is rolled out
        if target.promotes_from is not None:
            records = self.store.records(target.promotes_from)
            rules, now = target.promotion, self.clock.now()
            evidence.gate(records, name, target.promotes_from, built.release, rules=rules, now=now)
        plan = self.plan(name, reference)
        if dry_run:
            return plan
        with self._recorded("promote", name, built.release):
            self.upgrade(name, reference)
            with touched(f"{name} is on {reference}"):
                self.require_green(name)
        return plan

    def plan(self, name: str, reference: str) -> RolloutPlan:
        """Return what an upgrade would do, having told it and touched nothing."""
        self._within_reach(name)
        built = self.wheelhouse.ensure(reference, report=self.progress.say)
        with self.site(name) as site:
            change = plan_upgrade(site, built.release)
            tell(site, change)
        return change.plan

    def require_green(self, name: str) -> tuple[VerifyReport, SmokeReport]:
        """Verify and smoke a region. Raises VerificationFailed where a check or a rung failed."""
        checks = self.verify(name)
        try:
            rungs = self.smoke(name)
        except PipelineError as error:
            if checks.ok:
                raise
            said = (
                f"{checks.failed} checks failed in {name}: {checks.told}; and smoke could not be had: {error.message}"
            )
            raise VerificationFailed(said, hint=f"inv verify {name}") from error
        if not (checks.ok and rungs.ok):
            raise VerificationFailed(
                f"{checks.failed} checks and {rungs.count('failed')} rungs failed in {name}: "
                f"{'; '.join(filter(None, (checks.told, rungs.told)))}",
                hint=f"inv verify {name}",
            )
        return checks, rungs

    def _within_reach(self, name: str) -> RegionStacks:
        """Return a region's stacks: a cloud that is not there, or a secret, is told before a build or a lock."""
        target = self.environment(name)
        cloud = cloud_of(self.workspace, target)
        self.lookup.region(target, lambda: cloud)
        return self._stacks(target, cloud)

    def _stacks(self, target: Environment, cloud: Heat) -> RegionStacks:
        stacks = render(target, self.workspace.templates)
        return RegionStacks(target, stacks, cloud, self.workspace, self.lookup, self.clock, self.progress)

    def _stacks_of(self, name: str) -> RegionStacks:
        target = self.environment(name)
        return self._stacks(target, cloud_of(self.workspace, target))

    def doomed(self, name: str, allowed: Collection[str]) -> tuple[str, ...]:
        """Return the names of the stacks that `destroy` would destroy. Raises ProtectedRefused as it does."""
        stacks = self._stacks_of(name)
        stacks.require_same_machines()
        there = doomed(stacks.cloud, stacks.environment, stacks.rendered, allowed)
        return tuple(stack.name for stack in there.values())

    def destroy(self, name: str, *, allowed: Collection[str] = (), lock_wait: float = 0) -> bool:
        """Destroy the stacks of an environment, and forget its key; return whether there were any.

        Raises ProtectedRefused, before anything is touched, where a protected one is not `allowed` by name.
        """
        self._stacks_of(name)  # first: what is not right is told without waiting for the lock
        with self._changing("destroy", name, lock_wait) as run:
            stacks = self._stacks_of(name)  # the lock may have been waited for, and files changed meanwhile
            stacks.require_same_machines()
            there = doomed(stacks.cloud, stacks.environment, stacks.rendered, allowed)
            destroyer = Destroyer(stacks.cloud, self.clock, stacks.timeouts, stacks.heard, gate=run.gate)
            with self.progress.stage("destroy"):
                destroy_all(there, stacks.rendered, destroyer)
            if there:  # of a cloud that only looks empty, the keys are kept: they may be of a region that lives
                forget(self.workspace, name)
                with touched(f"{name} is destroyed"):
                    record_end(self.store, self.clock, name)
        return bool(there)

    def drift(self, name: str, *, lock_wait: float = 0) -> Drift:
        """Return what of a region is not as it was launched, or as it is rendered now; Heat checks every stack.

        Takes the lock, since a check is an action on each stack; nothing else is changed.
        """
        stacks = self._stacks_of(name)
        with self._changing("drift", name, lock_wait):
            plan = stacks.survey("")
            with untouched():
                checked = check_stacks(stacks.cloud, self.clock, plan, stacks.timeouts, stacks.heard)
            hosts, unseen = self._host_drift(name)
        return Drift(name, checked, hosts, unseen)

    def compare(self, left: str, right: str) -> Comparison:
        """Return what differs between two environments, or between two releases that were built.

        Raises ConfigurationInvalid where they are neither.
        """
        known = environment.list_environments(self.workspace.environments)
        if left in known or right in known:
            templates = self.workspace.templates
            return compare_environments(
                self.environment(left), self.environment(right), lambda one: render(one, templates)
            )
        return compare_releases(self.wheelhouse.find(left).release, self.wheelhouse.find(right).release)

    def _host_drift(self, name: str) -> tuple[tuple[HostDrift, ...], str]:
        """Return what the checks of hosts' configuration found, and why they could not look."""
        try:
            results = self.verify(name, Selection.of(expression=CHECKS)).results
        except PipelineError as error:
            return (), error.message
        failed = (one for one in results if one.outcome in ("failed", "error"))
        return tuple(HostDrift(one.host, one.name, one.message) for one in failed), ""

    def _carry_out(
        self,
        plan: Plan,
        stacks: RegionStacks,
        run: Changing,
        allowed: Collection[str],
        release: Release | None = None,
    ) -> bool:
        """Launch the stacks as planned; return whether anything changed.

        Where hosts are brought up on a `release`, those that go are out of service first.
        """
        stacks.tell(plan)
        retired = ""
        if release and (leaving := hosts_leaving(plan)):
            with self.site(plan.environment) as site:
                retired = self._retire(site, leaving, release, run)
        with touched(retired):
            return stacks.launch(plan, run, allowed)

    def _retire(self, site: Site, leaving: Collection[str], release: Release, run: Changing) -> str:
        """Take hosts out of service; return a few words that tell which were, "" where none was."""
        if not leaving:
            return ""
        with self.progress.stage("retire"):
            journal = Journal(self.clock, run.log)
            retired = retire(site, leaving, release, journal, gate=run.gate, owned=run.lease.confirm)
        return f"{', '.join(sorted(retired))} out of service" if retired else ""

    def _tell_rung(self, rung: RungResult) -> None:
        self.progress.say(f"{rung.outcome}: {rung.name}: {rung.detail}")

    def _changing(
        self, operation: Operation | StackOperation, name: str, lock_wait: float
    ) -> AbstractContextManager[Changing]:
        return changing(
            operation,
            name,
            locks=self.locks(name),
            runs=self.runs,
            clock=self.clock,
            progress=self.progress,
            lock_wait=lock_wait,
        )

    def _recorded(self, operation: Operation, name: str, release: Release) -> AbstractContextManager[Outcome]:
        return recorded(self.store, self.clock, operation, name, release)


def _on(site: Site, fleet: Fleet) -> tuple[Release, str]:
    """Return the release that a fleet runs, and the vhost its engines talk on."""
    release = manifest(site, fleet, running_release(fleet, ""))
    return release, fleet.vhost or vhost_of(release)


def _refuse_other_release(name: str, running: frozenset[str], release: Release) -> None:
    others = running - {release.id}
    if others:
        raise ConfigurationInvalid(
            f"{name} runs {', '.join(sorted(others))}: going to {release.id} is an upgrade, not a deploy",
            hint=f"inv upgrade {name} --release {release.heat}",
        )


def _customer(site: Site, workspace: Workspace) -> Heat:
    """A session of its own for each customer, as customers have."""
    name, password = site.environment.name, site.region.identity.canary_password
    return connect(name, workspace.customer_clouds(name), password=password)
