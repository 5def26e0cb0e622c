"""The plan of a rollout: its order, its batches, and that planning again after any interruption gives what is left."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from builders import (
    R25,
    R26,
    R26_BUILDS,
    R27,
    apis,
    engines_first,
    engines_last,
    environment,
    fleet_on,
    names,
    settled,
    with_policy,
)

from pipeline.environment import Role
from pipeline.errors import ConfigurationInvalid, FleetMixed
from pipeline.fleet import Fleet, HostState
from pipeline.policy import Policy
from pipeline.release import HeatVersion, Mode, Release
from pipeline.rollout import (
    Batch,
    RolloutPlan,
    plan_rollout,
    restart_plan,
    rollback_target,
    running_release,
    vhost_of,
)

THREE = environment(engine=3, api=2)
FIVE = environment(engine=5, api=4)
KNOWN = {release.id: release for release in (R25, R26, R27)}


def _policy(**changes: Any) -> Policy:
    return with_policy(**changes).policies


def _change(fleet: Fleet, name: str, new: HostState) -> Fleet:
    return Fleet(tuple(new if state.host.name == name else state for state in fleet.states))


def _down(fleet: Fleet, *down: str) -> Fleet:
    return Fleet(tuple(replace(s, running="") if s.host.name in down else s for s in fleet.states))


def _moved(fleet: Fleet, release: Release, *moved: str) -> Fleet:
    return Fleet(tuple(settled(s.host, release) if s.host.name in moved else s for s in fleet.states))


def _plan(fleet: Fleet, target: Release, *, rollback: bool = False, **policy: Any) -> RolloutPlan:
    """Plan as the upgrade does: from nothing but what the hosts say."""
    running = KNOWN[running_release(fleet, target.id)]
    return plan_rollout(fleet, running, target, _policy(**policy), rollback=rollback)


def _batches(plan: RolloutPlan) -> list[list[str]]:
    return [list(batch.names) for batch in plan.batches]


STEPS = ["told to stop", "stopped", "switched", "told to stop again", "moved"]


def _interruptions(state: HostState, target: Release, vhost: str) -> Iterator[HostState]:
    """Yield how a host looks after each step of its move, and when it was to go back right after its start."""
    yield replace(state, running="", draining=True)
    yield replace(state, running="")
    yield replace(state, current=target.id, vhost=vhost, running="")
    yield replace(state, current=target.id, vhost=vhost, running="", draining=True)
    yield settled(state.host, target, vhost)


# --- the order


def test_a_cutover_moves_all_engines_but_one_then_the_apis_then_the_last_engine() -> None:
    plan = _plan(fleet_on(R25, THREE), R26)
    assert plan.mode is Mode.VHOST_CUTOVER
    assert (plan.vhost, plan.old_vhosts) == (vhost_of(R26), (vhost_of(R25),))
    assert engines_first(plan) == ["engine-0", "engine-1"]
    assert apis(plan) == ["api-0", "api-1"]
    assert engines_last(plan) == ["engine-2"]
    assert names(plan.moves) == ["engine-0", "engine-1", "api-0", "api-1", "engine-2"]
    assert (plan.source, plan.rollback) == (R25.id, False)
    assert "1.4 → 1.9" in plan.reason


def test_equal_worker_rpcs_share_the_vhost_and_no_engine_has_to_wait() -> None:
    plan = _plan(fleet_on(R26, THREE), R27)
    assert plan.mode is Mode.SAME_VHOST
    assert (plan.vhost, plan.old_vhosts) == (vhost_of(R26), ())
    assert names(plan.moves) == ["engine-0", "engine-1", "engine-2", "api-0", "api-1"]
    assert plan.waits_for_idle == ()


def test_a_region_that_is_there_has_nothing_to_move() -> None:
    plan = _plan(fleet_on(R26, THREE), R26)
    assert (plan.moves, plan.batches, plan.unproved) == ((), (), ())
    assert plan.reason == f"every host is on {R26.id} already"
    assert plan.describe()[-1] == "to move: nothing, the region is there"


def test_what_is_down_already_moves_first_so_that_what_serves_serves_longest() -> None:
    plan = _plan(_down(fleet_on(R25, THREE), "engine-2", "api-1"), R26)
    assert names(plan.moves) == ["engine-2", "engine-0", "api-1", "api-0", "engine-1"]


def test_what_drains_already_moves_first_for_it_serves_nobody_new() -> None:
    fleet = fleet_on(R25, THREE)
    draining = replace(fleet.of(Role.ENGINE)[1], running="", draining=True)
    assert names(_plan(_change(fleet, "engine-1", draining), R26).moves)[:2] == ["engine-1", "engine-0"]


def test_hosts_move_by_name_or_the_other_way_round() -> None:
    plan = _plan(fleet_on(R25, THREE), R26, order="reverse_sorted")
    assert names(plan.moves) == ["engine-2", "engine-1", "api-1", "api-0", "engine-0"]


def test_a_host_that_never_ran_heat_is_one_of_those_to_move() -> None:
    fleet = fleet_on(R25, THREE)
    new = replace(fleet.of(Role.ENGINE)[1], current="", running="", vhost="", installed=())
    plan = _plan(_change(fleet, "engine-1", new), R26)
    assert engines_first(plan) == ["engine-1", "engine-0"]
    assert plan.old_vhosts == (vhost_of(R25),)


# --- the batches


@pytest.mark.parametrize(
    ("serial", "engines", "others"),
    [
        ([1], [["engine-0"], ["engine-1"], ["engine-2"], ["engine-3"]], [["api-0"], ["api-1"], ["api-2"], ["api-3"]]),
        ([1, 2], [["engine-0"], ["engine-1", "engine-2"], ["engine-3"]], [["api-0"], ["api-1", "api-2"], ["api-3"]]),
        (["50%"], [["engine-0", "engine-1"], ["engine-2", "engine-3"]], [["api-0", "api-1"], ["api-2", "api-3"]]),
        ([1, "100%"], [["engine-0"], ["engine-1", "engine-2", "engine-3"]], [["api-0"], ["api-1", "api-2", "api-3"]]),
        ([9], [["engine-0", "engine-1", "engine-2", "engine-3"]], [["api-0", "api-1", "api-2", "api-3"]]),
    ],
)
def test_serial_cuts_each_role_into_batches_and_its_last_size_holds_for_ever(
    serial: list[int | str], engines: list[list[str]], others: list[list[str]]
) -> None:
    plan = _plan(fleet_on(R25, FIVE), R26, serial=serial)
    assert _batches(plan) == [*engines, *others, ["engine-4"]]
    assert [batch.when_idle for batch in plan.batches] == [False] * (len(plan.batches) - 1) + [True]


def test_percentages_are_of_the_whole_role_and_not_of_what_is_left() -> None:
    fleet = _moved(fleet_on(R25, FIVE), R26, "engine-0")
    assert _batches(_plan(fleet, R26, serial=["40%"]))[0] == ["engine-1"]  # the second of the first two


@pytest.mark.parametrize(("most", "width"), [(1, 1), (2, 2), ("50%", 2), ("10%", 1), (99, 4)])
def test_the_width_is_what_may_be_down_of_a_role_at_once(most: int | str, width: int) -> None:
    plan = _plan(fleet_on(R25, FIVE), R26, serial=["100%"], max_unavailable=most)
    assert next(batch.width for batch in plan.batches if batch.role is Role.API) == width


def test_no_batch_has_hosts_of_two_roles() -> None:
    plan = _plan(fleet_on(R26, THREE), R27, serial=["100%"])
    assert [{state.host.role for state in batch.hosts} for batch in plan.batches] == [{Role.ENGINE}, {Role.API}]


def test_a_batch_is_told_with_what_makes_it_special() -> None:
    states = fleet_on(R25).of(Role.ENGINE)
    assert str(Batch(Role.ENGINE, states[:1], 2, canary=True)) == "engine-0 (canary)"
    assert str(Batch(Role.ENGINE, states, 2)) == "engine-0, engine-1 (2 at once)"
    assert str(Batch(Role.ENGINE, states[1:], 1, when_idle=True)) == "engine-1 (when the old vhost is idle)"
    assert str(Batch(Role.ENGINE, states[1:], 1)) == "engine-1"


def test_a_plan_is_told_batch_by_batch() -> None:
    mode, *told = _plan(fleet_on(R25), R26).describe()
    assert mode.startswith("mode: vhost-cutover, because worker RPC goes 1.4 → 1.9")
    assert told == [
        "batch 1: engine-0 (canary)",
        "batch 2: api-0",
        "batch 3: api-1",
        "batch 4: engine-1 (when the old vhost is idle)",
    ]


def test_a_plan_can_be_kept_as_plain_values() -> None:
    kept = json.loads(json.dumps(_plan(fleet_on(R25), R26).to_json()))
    assert (kept["mode"], kept["target"], kept["vhost"], kept["rollback"]) == (
        "vhost-cutover",
        R26.id,
        vhost_of(R26),
        False,
    )
    assert kept["batches"][0] == {
        "role": "engine",
        "hosts": [{"name": "engine-0", "from": R25.id}],
        "at_once": 1,
        "canary": True,
        "when_idle": False,
    }
    assert [batch["when_idle"] for batch in kept["batches"]] == [False, False, False, True]


# --- the canary


@pytest.mark.parametrize("serial", [[1], [2, 1], ["100%"]])
def test_the_canary_is_the_first_batch_of_the_whole_rollout_and_no_other(serial: list[int | str]) -> None:
    plan = _plan(fleet_on(R25, FIVE), R26, serial=serial)
    assert [batch.canary for batch in plan.batches] == [True] + [False] * (len(plan.batches) - 1)


def test_a_canary_of_an_earlier_run_is_unproved_until_something_else_moved() -> None:
    moved = _moved(fleet_on(R25, THREE), R26, "engine-0")
    plan = _plan(moved, R26)
    assert names(plan.unproved) == ["engine-0"]
    assert not any(batch.canary for batch in plan.batches)
    for others in (["engine-1"], ["api-0"]):
        assert _plan(_moved(moved, R26, *others), R26).unproved == ()


def test_part_of_a_larger_canary_is_unproved_too() -> None:
    fleet = _moved(fleet_on(R25, FIVE), R26, "engine-0")
    plan = _plan(fleet, R26, serial=[2, 1])
    assert (names(plan.unproved), _batches(plan)[0]) == (["engine-0"], ["engine-1"])


def test_a_region_whose_hosts_are_on_their_release_has_no_canary() -> None:
    plan = _plan(_down(fleet_on(R26, THREE), "engine-0"), R26)
    assert (names(plan.moves), plan.unproved) == (["engine-0"], ())
    assert not any(batch.canary for batch in plan.batches)


# --- killed anywhere


@pytest.mark.parametrize(("old", "new"), [(R25, R26), (R26, R27), (R26, R25)], ids=["cutover", "same-vhost", "back"])
@pytest.mark.parametrize("engines", [2, 3, 5])
@pytest.mark.parametrize("step", range(len(STEPS)), ids=STEPS)
def test_killed_anywhere_the_next_plan_is_what_is_left_of_the_first(
    old: Release, new: Release, engines: int, step: int
) -> None:
    fleet, back = fleet_on(old, environment(engine=engines)), new is R25
    first = _plan(fleet, new, rollback=back)
    for position, state in enumerate(first.moves):
        looks = list(_interruptions(state, new, first.vhost))
        again = _plan(_change(fleet, state.host.name, looks[step]), new, rollback=back)
        assert names(again.moves) == names(first.moves)[position + (STEPS[step] == "moved") :]
        assert again.vhost == first.vhost
        fleet = _change(fleet, state.host.name, looks[-1])
    assert _plan(fleet, new, rollback=back).moves == ()


@pytest.mark.parametrize("serial", [[1], [2], [1, "50%"], ["100%"]])
@pytest.mark.parametrize("step", range(len(STEPS)), ids=STEPS)
def test_killed_anywhere_the_next_batches_are_what_is_left_of_the_first_ones(
    serial: list[int | str], step: int
) -> None:
    fleet = fleet_on(R25, FIVE)
    first = _plan(fleet, R26, serial=serial)
    for state in first.moves:
        name = state.host.name
        looks = list(_interruptions(state, R26, first.vhost))
        moved = {s.host.name for s in fleet.states if s.settled_on(R26.id)} | (
            {name} if step == len(looks) - 1 else set()
        )
        left = [[one for one in batch if one not in moved] for batch in _batches(first)]
        again = _plan(_change(fleet, name, looks[step]), R26, serial=serial)
        assert _batches(again) == [batch for batch in left if batch]
        fleet = _change(fleet, name, looks[-1])


@pytest.mark.parametrize("engines", [2, 3])
@pytest.mark.parametrize("draining", [False, True], ids=["down", "draining"])
def test_the_last_old_engine_waits_for_every_api_whatever_is_down(engines: int, draining: bool) -> None:
    whole = fleet_on(R25, environment(engine=engines))
    for position, _ in enumerate(whole.states):
        fleet = whole
        for state in _plan(whole, R26).moves:
            out = fleet.states[position]
            plan = _plan(_change(fleet, out.host.name, replace(out, running="", draining=draining)), R26)
            old = {s.host.name for s in fleet.of(Role.ENGINE) if s.running == R25.id}
            if apis(plan) and old:
                assert engines_last(plan), "an API is still to move, and no engine would serve the old vhost"
            fleet = _change(fleet, state.host.name, settled(state.host, R26))


def test_the_vhost_of_a_cutover_is_known_again_when_only_the_last_engine_is_left() -> None:
    fleet = fleet_on(R26)
    last = fleet.of(Role.ENGINE)[1]
    plan = _plan(_change(fleet, "engine-1", settled(last.host, R25)), R26)
    assert (engines_first(plan), apis(plan), engines_last(plan)) == ([], [], ["engine-1"])
    assert plan.old_vhosts == (vhost_of(R25),)


def test_a_host_on_the_right_release_and_the_wrong_vhost_moves_again() -> None:
    fleet = fleet_on(R25)
    astray = settled(fleet.of(Role.ENGINE)[0].host, R26, vhost_of(R25))
    plan = _plan(_change(fleet, "engine-0", astray), R26)
    assert "engine-0" in engines_first(plan)


# --- refused


def test_a_cutover_with_a_single_engine_is_refused() -> None:
    with pytest.raises(ConfigurationInvalid, match="needs two engine hosts") as caught:
        _plan(fleet_on(R25, environment(engine=1)), R26)
    assert "topology.engine.count" in caught.value.hint


def test_a_single_engine_may_be_moved_on_its_vhost() -> None:
    assert engines_first(_plan(fleet_on(R26, environment(engine=1)), R27)) == ["engine-0"]


def test_a_release_may_not_be_skipped() -> None:
    with pytest.raises(ConfigurationInvalid, match=r"25 \(2025\.2\) → 26 \(2026\.1\) → 27 \(2026\.2\)"):
        _plan(fleet_on(R25), R27)


def test_an_older_release_is_a_rollback_and_not_planned_as_an_upgrade() -> None:
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
    with pytest.raises(ConfigurationInvalid, match="no host runs Heat yet"):
        rollback_target(fleet, (R25, R26))


# --- back


def test_a_rollback_goes_by_the_same_road_the_other_way() -> None:
    plan = _plan(fleet_on(R26, THREE), R25, rollback=True)
    assert (plan.mode, plan.rollback, plan.source) == (Mode.VHOST_CUTOVER, True, R26.id)
    assert (plan.vhost, plan.old_vhosts) == (vhost_of(R25), (vhost_of(R26),))
    assert names(plan.moves) == ["engine-0", "engine-1", "api-0", "api-1", "engine-2"]


def test_a_rollback_of_a_canary_moves_the_canary_alone_when_its_vhost_is_idle() -> None:
    plan = _plan(_moved(fleet_on(R25, THREE), R26, "engine-0"), R25, rollback=True)
    assert (engines_first(plan), apis(plan), engines_last(plan)) == ([], [], ["engine-0"])
    assert (plan.vhost, plan.old_vhosts) == (vhost_of(R25), (vhost_of(R26),))


def test_a_rollback_may_not_skip_a_release_either() -> None:
    with pytest.raises(ConfigurationInvalid, match="one release at a time"):
        _plan(fleet_on(R27), R25, rollback=True)


def test_the_release_to_go_back_to_is_the_newest_on_disk_before_the_newest_that_runs() -> None:
    assert rollback_target(fleet_on(R27), (R25, R26, R27)) == R26
    assert rollback_target(fleet_on(R26), (R25, R26, R27)) == R25  # 27 was installed and never ran


def test_a_half_finished_upgrade_goes_back_to_where_its_other_hosts_are() -> None:
    between = Release(HeatVersion(25, 0, 9), "1.36", "1.4", "c6214ca60943", "3.11", ())
    half = _moved(fleet_on(R25), R26, "engine-0")
    assert rollback_target(half, (R25, between, R26)) == R25


@pytest.mark.parametrize("newer", R26_BUILDS, ids=["first by name", "last by name"])
def test_another_build_of_the_same_heat_is_gone_back_to_before_an_older_heat(newer: Release) -> None:
    older = next(one for one in R26_BUILDS if one is not newer)
    assert rollback_target(fleet_on(newer), (R25, older, newer)) == older


@pytest.mark.parametrize("newer", R26_BUILDS, ids=["first by name", "last by name"])
def test_a_half_finished_change_of_builds_is_never_finished_by_a_rollback(
    newer: Release,
) -> None:
    older = next(one for one in R26_BUILDS if one is not newer)
    half = _moved(fleet_on(older), newer, "engine-0")
    with pytest.raises(ConfigurationInvalid, match="two builds of Heat") as caught:
        rollback_target(half, (R25, *R26_BUILDS))
    assert caught.value.hint == "name one: inv rollback ENV --release R"


def test_without_an_older_release_on_disk_there_is_nothing_to_go_back_to() -> None:
    with pytest.raises(ConfigurationInvalid, match=f"no release older than {R26.id} is left") as caught:
        rollback_target(fleet_on(R26), (R26, R27))
    assert "inv rollback ENV --release R" in caught.value.hint


# --- restarts


def test_new_settings_restart_every_engine_then_every_api_one_by_one() -> None:
    plan = restart_plan(fleet_on(R26), R26, vhost_of(R26))
    assert _batches(plan) == [["engine-0"], ["engine-1"], ["api-0"], ["api-1"]]
    assert (plan.target, plan.vhost, plan.old_vhosts, engines_last(plan)) == (R26, vhost_of(R26), (), [])
    assert not any(batch.canary or batch.when_idle for batch in plan.batches)
