"""An upgrade by this pipeline beside what people do today, each on a fresh region under the same traffic.

- pipeline: `inv upgrade`.
- all_at_once: every engine and API restarted at once on one vhost, as kolla-ansible does by default.
- one_then_rest: one host of each role, then all others, on one vhost, as openstack-ansible does.

The two others get what any of them has: the release installed beforehand, a backup, db_sync, 60 s of grace at a stop.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from statistics import median_low
from typing import Any

from benchmarks.runs import NAME, fresh_cloud, last_run
from pipeline import commands
from pipeline.edges.heat import connect
from pipeline.edges.hosts import observe
from pipeline.edges.parallel import on_each
from pipeline.environment import Role
from pipeline.errors import PipelineError
from pipeline.hostfiles import UNITS
from pipeline.inventory import Host
from pipeline.journal import Journal, Nowhere
from pipeline.provision import configure_release, install_release
from pipeline.rolling import plan_upgrade
from pipeline.site import Site
from pipeline.traffic import Traffic
from pipeline.upgrade import Rollout
from pipeline.workflow import Pipeline

__all__ = ["ROLLOUTS", "measure"]

_GRACE = 60  # seconds between TERM and KILL: kolla-ansible's stop of a container


def measure(pipeline: Pipeline, old: str, new: str, rounds: int = 1) -> dict[str, Any]:
    """Return {"rollouts": {NAME: {"stacks", "requests", "wall_s"}}, "rounds": [the same, round by round]}.

    Each rollout of each round gets a region made for it alone; the first figures are the medians of the rounds. The
    local cloud of the pipeline's workspace is taken down before, between and after.
    """
    measured: list[dict[str, Any]] = []
    for number in range(1, rounds + 1):
        measured.append({})
        for name, roll in ROLLOUTS.items():
            with fresh_cloud(pipeline):
                pipeline.deploy(NAME, old)
                with pipeline.progress.stage(f"round {number}: rollout {name}"):
                    measured[-1][name] = roll(pipeline, new)
            pipeline.progress.say(f"{name}: {json.dumps(measured[-1][name])}")
    medians = {name: _median([one[name] for one in measured]) for name in ROLLOUTS}
    return {"from": old, "to": new, "rollouts": medians, "rounds": measured}


def _median(values: Sequence[Any]) -> Any:
    """Return the median of numbers, or of each number in like dictionaries; of an even count, the lower one."""
    if all(isinstance(value, Mapping) for value in values):
        figures = [key for key, one in values[0].items() if not isinstance(one, str)]
        return {key: _median([value[key] for value in values]) for key in figures}
    return median_low(values)


def _ours(pipeline: Pipeline, new: str) -> dict[str, Any]:
    """Upgrade as operators do, and read from the run's own record what customers saw."""
    try:
        pipeline.upgrade(NAME, new)
    except PipelineError as error:  # a rollout that customers noticed is a result like any other
        return last_run(pipeline, error.message)
    return last_run(pipeline)


def _theirs(waves: Callable[[Site], tuple[tuple[Host, ...], ...]], pipeline: Pipeline, new: str) -> dict[str, Any]:
    """Restart hosts on the new release, wave by wave, on the vhost they are on, under the pipeline's own traffic."""
    built, settings = pipeline.build(new), pipeline.environment(NAME).traffic
    with pipeline.site(NAME) as site:
        change = plan_upgrade(site, built.release)
        vhost = change.fleet.vhost

        def customer() -> Any:
            return connect(NAME, pipeline.workspace.customer_clouds(NAME))

        with Traffic(customer, settings, pipeline.clock, prefix="canary") as traffic:
            pipeline.clock.sleep(settings.before)
            started = pipeline.clock.monotonic()
            journal = Journal(pipeline.clock, Nowhere())  # the peers have none
            install_release(site, change.fleet, built, journal)
            configure_release(site, built.release, vhost)
            Rollout(site, replace(change.plan, vhost=vhost), journal).prepare_database("bench", change.fleet)
            for wave in waves(site):
                on_each(wave, partial(_restart, site, built.release.id))
            on_each(observe_hosts(site), partial(_await_units, site))
            wall = pipeline.clock.monotonic() - started
            pipeline.clock.sleep(settings.after)
        report = traffic.report()
    for failure in report.failures[:10]:
        pipeline.progress.say(f"customers noticed: {failure}")
    return {
        "stacks": asdict(report.stacks),
        "requests": asdict(report.requests),
        "wait_conditions": asdict(report.wait_conditions),
        "wall_s": round(wall, 1),
    }


def observe_hosts(site: Site) -> tuple[Host, ...]:
    """Return the hosts that run Heat."""
    return tuple(state.host for state in observe(site.region.inventory, site.remote).states)


def _restart(site: Site, release_id: str, host: Host) -> None:
    """Stop a host's units with a minute of grace, switch, start: whatever they had in hand then is gone."""
    names = " ".join(UNITS[host.role])
    script = f"""\
timeout {_GRACE} systemctl stop {names} || {{ systemctl kill --signal=KILL {names}; systemctl stop {names}; }}
{commands.switch(release_id)}
{commands.start(UNITS[host.role])}"""
    site.remote.run(host, script, timeout=_GRACE + 120)


def _await_units(site: Site, host: Host) -> None:
    script = " && ".join(f"systemctl is-active --quiet {unit}" for unit in UNITS[host.role])
    site.remote.run(host, script, timeout=60)


def _all_at_once(site: Site) -> tuple[tuple[Host, ...], ...]:
    return (site.region.inventory.of(Role.ENGINE, Role.API),)


def _one_then_rest(site: Site) -> tuple[tuple[Host, ...], ...]:
    roles = [site.region.inventory.of(role) for role in (Role.ENGINE, Role.API)]
    return tuple(wave for hosts in roles for wave in (hosts[:1], hosts[1:]) if wave)


ROLLOUTS: Mapping[str, Callable[[Pipeline, str], dict[str, Any]]] = {
    "pipeline": _ours,
    "all_at_once": partial(_theirs, _all_at_once),
    "one_then_rest": partial(_theirs, _one_then_rest),
}
"""The rollouts that are compared, in the order they are measured."""
