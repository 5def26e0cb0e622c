"""The plan of a rollout: its order, and that planning again after any interruption gives what is left of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from builders import R25, R26, R27, environment, fleet_on, settled

from pipeline.environment import Role
from pipeline.errors import ConfigurationInvalid, FleetMixed
from pipeline.fleet import Fleet, HostState
from pipeline.release import Mode, Release
from pipeline.rollout import RolloutPlan, plan_rollout, restart_plan, running_release, vhost_of

THREE = environment(engine=3, api=2)


def _names(states: tuple[HostState, ...]) -> list[str]:
    return [state.host.name for state in states]


def _change(fleet: Fleet, name: str, new: HostState) -> Fleet:
    return Fleet(tuple(new if state.host.name == name else state for state in fleet.states))


def _down(fleet: Fleet, *names: str) -> Fleet:
    return Fleet(tuple(replace(s, running="") if s.host.name in names else s for s in fleet.states))


def _plan(fleet: Fleet, target: Release) -> RolloutPlan:
    """Plan as the upgrade does: from nothing but what the hosts say."""
    running = running_release(fleet, target.id)
    return plan_rollout(fleet, next(one for one in (R25, R26, R27) if one.id == running), target)


def _interruptions(state: HostState, target: Release, vhost: str) -> Iterator[HostState]:
    """Yield how a host looks after each step of its move: stopped, switched, started."""
    yield replace(state, running="")
    yield replace(state, current=target.id, vhost=vhost, running="")
    yield settled(state.host, target, vhost)


# --- the order


def test_a_cutover_moves_all_engines_but_one_then_the_apis_then_the_last_engine() -> None:
    plan = _plan(fleet_on(R25, THREE), R26)
    assert plan.mode is Mode.VHOST_CUTOVER
    assert (plan.vhost, plan.old_vhosts) == (vhost_of(R26), (vhost_of(R25),))
    assert _names(plan.engines_first) == ["engine-0", "engine-1"]
    assert _names(plan.apis) == ["api-0", "api-1"]
    assert _names(plan.engines_last) == ["engine-2"]
    assert _names(plan.moves) == ["engine-0", "engine-1", "api-0", "api-1", "engine-2"]
    assert "1.4 → 1.9" in plan.reason


def test_equal_worker_rpcs_share_the_vhost_and_no_engine_has_to_wait() -> None:
    plan = _plan(fleet_on(R26, THREE), R27)
    assert plan.mode is Mode.SAME_VHOST
    assert (plan.vhost, plan.old_vhosts) == (vhost_of(R26), ())
    assert _names(plan.moves) == ["engine-0", "engine-1", "engine-2", "api-0", "api-1"]
    assert plan.engines_last == ()


def test_a_region_that_is_there_has_nothing_to_move() -> None:
    plan = _plan(fleet_on(R26, THREE), R26)
    assert plan.moves == ()
    assert plan.reason == f"every host is on {R26.id} already"


def test_what_is_down_already_moves_first_so_that_what_serves_serves_longest() -> None:
    plan = _plan(_down(fleet_on(R25, THREE), "engine-2", "api-1"), R26)
    assert _names(plan.moves) == ["engine-2", "engine-0", "api-1", "api-0", "engine-1"]


def test_a_host_that_never_ran_heat_is_one_of_those_to_move() -> None:
    fleet = fleet_on(R25, THREE)
    new = replace(fleet.of(Role.ENGINE)[1], current="", running="", vhost="", installed=())
    plan = _plan(_change(fleet, "engine-1", new), R26)
    assert _names(plan.engines_first) == ["engine-1", "engine-0"]
    assert plan.old_vhosts == (vhost_of(R25),)


# --- killed anywhere


@pytest.mark.parametrize(("old", "new"), [(R25, R26), (R26, R27)], ids=["cutover", "same-vhost"])
@pytest.mark.parametrize("engines", [2, 3, 5])
@pytest.mark.parametrize("step", [0, 1, 2], ids=["stopped", "switched", "moved"])
def test_killed_anywhere_the_next_plan_is_what_is_left_of_the_first(
    old: Release, new: Release, engines: int, step: int
) -> None:
    fleet = fleet_on(old, environment(engine=engines))
    first = _plan(fleet, new)
    for position, state in enumerate(first.moves):
        looks = list(_interruptions(state, new, first.vhost))
        again = _plan(_change(fleet, state.host.name, looks[step]), new)
        assert _names(again.moves) == _names(first.moves)[position + (step == 2) :]
        assert again.vhost == first.vhost
        fleet = _change(fleet, state.host.name, looks[-1])
    assert _plan(fleet, new).moves == ()


@pytest.mark.parametrize("engines", [2, 3])
def test_the_last_old_engine_waits_for_every_api_whatever_is_down(engines: int) -> None:
    whole = fleet_on(R25, environment(engine=engines))
    for position, _ in enumerate(whole.states):
        fleet = whole
        for state in _plan(whole, R26).moves:
            plan = _plan(_down(fleet, whole.states[position].host.name), R26)
            old = {s.host.name for s in fleet.of(Role.ENGINE) if s.running == R25.id}
            if plan.apis and old:
                assert _names(plan.engines_last), "an API is still to move, and no engine would serve the old vhost"
            fleet = _change(fleet, state.host.name, settled(state.host, R26))


def test_the_vhost_of_a_cutover_is_known_again_when_only_the_last_engine_is_left() -> None:
    fleet = fleet_on(R26)
    last = fleet.of(Role.ENGINE)[1]
    plan = _plan(_change(fleet, "engine-1", settled(last.host, R25)), R26)
    assert (plan.engines_first, plan.apis, _names(plan.engines_last)) == ((), (), ["engine-1"])
    assert plan.old_vhosts == (vhost_of(R25),)


def test_a_host_on_the_right_release_and_the_wrong_vhost_moves_again() -> None:
    fleet = fleet_on(R25)
    astray = settled(fleet.of(Role.ENGINE)[0].host, R26, vhost_of(R25))
    plan = _plan(_change(fleet, "engine-0", astray), R26)
    assert "engine-0" in _names(plan.engines_first)


# --- refused


def test_a_cutover_with_a_single_engine_is_refused() -> None:
    with pytest.raises(ConfigurationInvalid, match="needs two engine hosts") as caught:
        _plan(fleet_on(R25, environment(engine=1)), R26)
    assert "topology.engine.count" in caught.value.hint


def test_a_single_engine_may_be_moved_on_its_vhost() -> None:
    assert _names(_plan(fleet_on(R26, environment(engine=1)), R27).engines_first) == ["engine-0"]


def test_a_release_may_not_be_skipped() -> None:
    with pytest.raises(ConfigurationInvalid, match=r"25 \(2025\.2\) → 26 \(2026\.1\) → 27 \(2026\.2\)"):
        _plan(fleet_on(R25), R27)


def test_an_older_release_is_a_rollback_and_not_planned() -> None:
    with pytest.raises(ConfigurationInvalid, match="that is a rollback"):
        _plan(fleet_on(R26), R25)


def test_hosts_on_two_other_releases_are_told_by_name() -> None:
    fleet = fleet_on(R25)
    mixed = _change(fleet, "api-0", settled(fleet.of(Role.API)[0].host, R26))
    with pytest.raises(FleetMixed, match=f"2 releases: {R25.id}, {R26.id}"):
        running_release(mixed, R27.id)


def test_releases_that_share_a_vhost_must_be_found_on_one() -> None:
    fleet = fleet_on(R26)
    astray = settled(fleet.of(Role.ENGINE)[0].host, R26, "heat-elsewhere")
    with pytest.raises(FleetMixed, match=r"found on 2: heat-26.*heat-elsewhere"):
        _plan(_change(fleet, "engine-0", astray), R27)


def test_a_region_that_never_ran_heat_is_to_be_deployed() -> None:
    fleet = Fleet(tuple(replace(state, current="", running="", vhost="") for state in fleet_on(R25).states))
    with pytest.raises(ConfigurationInvalid, match="no host runs Heat yet") as caught:
        running_release(fleet, R26.id)
    assert caught.value.hint.startswith("inv deploy")


# --- restarts


def test_new_settings_restart_every_engine_then_every_api() -> None:
    plan = restart_plan(fleet_on(R26), R26, vhost_of(R26))
    assert _names(plan.moves) == ["engine-0", "engine-1", "api-0", "api-1"]
    assert (plan.target, plan.vhost, plan.old_vhosts, plan.engines_last) == (R26, vhost_of(R26), (), ())
