"""The story of a rolling change, be it an upgrade or a rollback: plan it, tell it, do it, tidy up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pipeline.conductor import Conductor
from pipeline.edges.database import BackupFailed
from pipeline.edges.hosts import observe
from pipeline.edges.wheelhouse import Built
from pipeline.environment import Role
from pipeline.errors import CommandFailed, ConfigurationInvalid, FailedAndReverted, FleetMixed, Inconclusive
from pipeline.fleet import Fleet
from pipeline.health import live_engines
from pipeline.journal import Journal
from pipeline.migration import manifest, manifests
from pipeline.provision import configure_release, install_release, require_deployed
from pipeline.release import Release
from pipeline.rollout import RolloutPlan, plan_rollout, rollback_target, running_release
from pipeline.site import Site
from pipeline.upgrade import Rollout

__all__ = ["Change", "manifest", "manifests", "plan_rollback", "plan_upgrade", "roll_out", "tell"]


@dataclass(frozen=True, slots=True)
class Change:
    """A change that was planned: the fleet as it was seen, the release it comes from, and the plan."""

    fleet: Fleet
    running: Release
    plan: RolloutPlan


def plan_upgrade(site: Site, target: Release) -> Change:
    """Return what is left to do to bring a region to `target`. Raises ConfigurationInvalid for what is no upgrade."""
    fleet = observe(site.region.inventory, site.remote)
    running = manifest(site, fleet, running_release(fleet, target.id))
    require_deployed(site, fleet)
    return Change(fleet, running, plan_rollout(fleet, running, target, site.environment.policies))


def plan_rollback(site: Site, wanted: Release | None) -> Change:
    """Return what is left to do to go back to `wanted`, or to the release before, as the hosts' disks name it.

    Raises ConfigurationInvalid where there is nothing older to go to.
    """
    fleet = observe(site.region.inventory, site.remote)
    target = wanted or rollback_target(fleet, manifests(site, fleet))
    running = manifest(site, fleet, running_release(fleet, target.id))
    if target.heat > running.heat:
        raise ConfigurationInvalid(
            f"{target.id} is newer than {running.id}, which runs: that is an upgrade",
            hint=f"inv upgrade {site.environment.name} --release {target.heat}",
        )
    require_deployed(site, fleet)
    plan = plan_rollout(fleet, running, target, site.environment.policies, rollback=True)
    return Change(fleet, running, plan)


def tell(site: Site, change: Change) -> None:
    """Say what would be done, why, how long drains may take, and what is in flight now. Touches nothing."""
    plan, policy = change.plan, site.environment.policies
    for line in plan.describe():
        site.progress.say(line)
    if not plan.moves:
        return
    engines = [state for state in plan.moves if state.host.role is Role.ENGINE]
    at_work = [engine for state in engines for engine in live_engines(site, state.host)]
    flying = site.database.in_flight(sorted(at_work))
    site.progress.say(
        f"drain budget: {policy.drain.timeout:.0f} s for each of {len(engines)} engines; "
        "an engine that needs longer drains on, and the same command waits again"
    )
    site.progress.say(
        f"in flight now: {flying.stacks} stacks in progress; these engines hold {flying.resources} resources and "
        f"{flying.locks} stack locks"
    )
    if plan.rollback:
        site.progress.say("a rollback moves binaries and vhost; the schema stays as it is")


def roll_out(
    site: Site,
    change: Change,
    built: Built | None,
    journal: Journal,
    *,
    gate: Callable[[], None],
    promoted: bool,
    owned: Callable[[], None] = lambda: None,
) -> None:
    """Do what `change` plans, and tidy up. `built` is the target where a host may lack it, None where all have it.

    `gate` raises what forbids to go on, `owned` what forbids even to go back: the environment is another run's by now.
    Raises what these raise, FailedAndReverted where it failed before any host moved, and what Conductor.run raises;
    what is left is then found by planning again.
    """
    plan, stage = change.plan, site.progress.stage
    rollout = Rollout(site, plan, journal, owned)
    settled = len(change.fleet.states) - len(plan.moves)
    with _before_any_host(mixed=bool(settled and plan.moves)):
        with stage("install"):
            if built is not None:
                install_release(site, change.fleet, built, journal)
            configure_release(site, plan.target, plan.vhost)
        if plan.moves:
            gate()
            if not plan.rollback:
                with stage("database"), journal.step("database", site.region.inventory.one(Role.DATABASE).name):
                    when = f"{site.clock.now():%Y%m%dT%H%M%SZ}"  # a run taken up again keeps the backup from before
                    rollout.prepare_database(f"{change.running.id}-to-{plan.target.id}-{when}", change.fleet)
            with stage("vhost"), journal.step("vhost", site.region.inventory.one(Role.MESSAGING).name):
                rollout.open_vhost()
    rollout.admit_stranded(change.fleet)
    Conductor(rollout, settled, promoted, gate, lambda: _go_back(site, change, journal, owned), owned).run()
    gate()
    with stage("tidy"), journal.step("tidy", ""):
        try:
            rollout.tidy(change.fleet, keep=change.running.id)
        except CommandFailed as error:
            raise Inconclusive(
                f"every host is on {plan.target.id}, but what nobody needs any more is still there: {error.message}",
                hint="mend the cause, then run the same command again: it moves no host, and tidies up",
            ) from error


@contextmanager
def _before_any_host(*, mixed: bool) -> Iterator[None]:
    """Tell a command that fails here as what it is: this run has moved no host, and the old release serves on.

    A backup that fails says so itself, but not that an earlier run left the fleet `mixed`.
    """
    try:
        yield
    except BackupFailed as error:
        if mixed:
            raise FleetMixed(error.message, hint=error.hint) from error
        raise
    except CommandFailed as error:
        ended = FleetMixed if mixed else FailedAndReverted
        raise ended(
            f"{error.message}; this run has moved no host",
            hint=error.hint or "mend the cause, then run the same command again",
        ) from error


def _go_back(site: Site, change: Change, journal: Journal, owned: Callable[[], None]) -> None:
    """Bring a whole region back to where a failed change found it, by the same careful road."""
    fleet = observe(site.region.inventory, site.remote)
    plan = plan_rollout(fleet, change.plan.target, change.running, site.environment.policies, rollback=True)
    Conductor(Rollout(site, plan, journal, owned), promoted=True, gate=owned, owned=owned).run()
