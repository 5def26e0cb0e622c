"""A rolling upgrade step by step: the order on the hosts, what is refused, what is put back, and what may be idle."""

from __future__ import annotations

from dataclasses import replace

import pytest
from builders import LOCAL, R25, R26, Machines, ScriptedRemote, fleet_on, said

from pipeline import commands
from pipeline.edges.ssh import Result
from pipeline.environment import Role
from pipeline.errors import FailedAndReverted, FleetMixed, Inconclusive, PipelineError
from pipeline.fleet import Fleet, HostState
from pipeline.inventory import Host
from pipeline.rollout import RolloutPlan, plan_rollout, restart_plan, running_release, vhost_of
from pipeline.site import Site
from pipeline.upgrade import Rollout, purge_steps

DRAIN = LOCAL.policies.drain
STEPS = {
    "out": r"state drain",
    "stop": r"^systemctl stop heat-",
    "switch": r"^ln -sfn",
    "start": r"^systemctl start heat-",
    "ask": r"/build_info",
    "in": r"state ready",
}


def _plan(fleet: Fleet) -> RolloutPlan:
    running = running_release(fleet, R26.id)
    return plan_rollout(fleet, {R25.id: R25, R26.id: R26}[running], R26)


@pytest.fixture
def rollout(machines: Machines, here: Site) -> Rollout:
    return Rollout(here, _plan(fleet_on(R25)))


def _state(rollout: Rollout, name: str) -> HostState:
    return next(state for state in rollout.plan.moves if state.host.name == name)


def _move(rollout: Rollout, state: HostState) -> None:
    """Move one host as the story does, the last engine only from an idle vhost."""
    if state.host.role is Role.API:
        rollout.move_api(state)
        return
    if state in rollout.plan.engines_last:
        rollout.await_idle()
    rollout.move_engine(state)


# --- one host


def test_an_engine_is_drained_before_it_is_switched_and_started(rollout: Rollout, remote: ScriptedRemote) -> None:
    rollout.move_engine(_state(rollout, "engine-0"))
    assert remote.steps(**STEPS) == ["stop engine-0", "switch engine-0", "start engine-0"]
    assert "engine-0: 2 workers drained" in said(rollout.site.progress)
    assert "engine-0: healthy on 26" in said(rollout.site.progress)


def test_an_engine_that_is_down_is_not_stopped_again(
    machines: Machines, rollout: Rollout, remote: ScriptedRemote
) -> None:
    machines.running["engine-0"] = False
    rollout.move_engine(machines.fleet(R25, R26).of(Role.ENGINE)[0])
    assert remote.steps(**STEPS) == ["switch engine-0", "start engine-0"]


def test_an_api_leaves_the_load_balancer_before_it_stops_and_comes_back_after_it_answers(
    machines: Machines, rollout: Rollout, remote: ScriptedRemote
) -> None:
    rollout.move_api(_state(rollout, "api-0"))
    steps = list(dict.fromkeys(remote.steps(**STEPS)))
    assert steps == [
        "out loadbalancer-0",
        "stop api-0",
        "switch api-0",
        "start api-0",
        "ask api-0",
        "in loadbalancer-0",
    ]
    assert machines.rotation == {"api-0": "ready", "api-1": "ready"}


def test_an_api_host_with_one_of_its_apis_down_is_stopped_whole(
    machines: Machines, rollout: Rollout, remote: ScriptedRemote
) -> None:
    rollout.move_api(replace(_state(rollout, "api-0"), running=""))
    steps = [step for step in remote.steps(**STEPS) if step.endswith(" api-0")]
    assert steps[:3] == ["stop api-0", "switch api-0", "start api-0"]


def test_an_api_is_stopped_only_when_its_last_request_is_answered(
    machines: Machines, rollout: Rollout, remote: ScriptedRemote
) -> None:
    busy, free = (f"# pxname,svname,scur,status\nheat-api,api-0,{sessions},UP\n" for sessions in (3, 0))
    remote.on(r"show stat", busy, busy, busy, free)
    rollout.move_api(_state(rollout, "api-0"))
    first_stop = next(at for at, (_, script) in enumerate(remote.ran) if "systemctl stop" in script)
    assert len([script for _, script in remote.ran[:first_stop] if "show stat" in script]) == 4


def test_an_api_that_stays_busy_is_not_stopped(rollout: Rollout, remote: ScriptedRemote) -> None:
    remote.on(r"show stat", "# pxname,svname,scur,status\nheat-api,api-0,3,DRAIN\n")
    with pytest.raises(Inconclusive, match="requests of api-0 to end"):
        rollout.move_api(_state(rollout, "api-0"))
    assert not remote.scripts(STEPS["stop"])


# --- the drain's proof


def test_a_drain_is_refused_when_rows_of_the_workers_are_left(
    machines: Machines, rollout: Rollout, remote: ScriptedRemote
) -> None:
    machines.stuck.add("engine-0")
    with pytest.raises(FleetMixed, match="engine-0 did not drain: systemd says success, 2 of its workers") as caught:
        rollout.move_engine(_state(rollout, "engine-0"))
    assert caught.value.exit_code == 7
    assert not remote.scripts(STEPS["switch"])


def test_a_drain_is_refused_when_the_stopped_engine_still_holds_something(
    rollout: Rollout, remote: ScriptedRemote
) -> None:
    remote.on("stack_lock", "2\t1\t1\n")
    with pytest.raises(FleetMixed, match="it holds 2 resources and 1 stacks"):
        rollout.move_engine(_state(rollout, "engine-0"))
    assert not remote.scripts(STEPS["switch"])


def test_what_an_engine_holds_before_its_stop_may_be_finished_by_it(rollout: Rollout, remote: ScriptedRemote) -> None:
    remote.on("stack_lock", "2\t1\t1\n", "0\t0\t0\n")
    rollout.move_engine(_state(rollout, "engine-0"))
    assert "draining, 2 resources in its hands" in said(rollout.site.progress)


# --- a release that never gets healthy


@pytest.mark.parametrize("name", ["engine-0", "api-0"])
def test_the_first_host_that_never_gets_healthy_is_put_back_and_the_run_ends_reverted(
    machines: Machines, rollout: Rollout, name: str
) -> None:
    machines.broken.add(R26.id)
    with pytest.raises(FailedAndReverted, match=f"{name} did not get healthy on 26.* back on {R25.id}") as caught:
        _move(rollout, _state(rollout, name))
    assert caught.value.exit_code == 8
    assert caught.value.hint.endswith(f"inv local.ssh {name}")
    assert set(machines.current.values()) == {R25.id}
    assert all(machines.running.values())
    assert rollout.site.clock.monotonic() >= LOCAL.policies.health.healthy_deadline


@pytest.mark.parametrize("name", ["engine-0", "api-0"])
def test_a_failed_start_is_put_back_at_once_and_says_why(
    machines: Machines, rollout: Rollout, remote: ScriptedRemote, name: str
) -> None:
    machines.refused.add(R26.id)
    with pytest.raises(FailedAndReverted, match=rf"{name} did not get healthy on 26.*Job for heat failed.* back on"):
        _move(rollout, _state(rollout, name))
    assert rollout.site.clock.monotonic() == 0
    assert not remote.scripts("is-active|/build_info")
    assert set(machines.current.values()) == {R25.id}
    assert all(machines.running.values())
    assert set(machines.rotation.values()) == {"ready"}
    assert rollout.moved == 0


def test_a_release_that_is_not_whole_on_a_host_is_not_started_there(
    machines: Machines, rollout: Rollout, remote: ScriptedRemote
) -> None:
    remote.on(f"^ln -sfn .*{R26.id}", Result(1, "", "no settings"))
    with pytest.raises(FailedAndReverted, match="no settings"):
        rollout.move_engine(_state(rollout, "engine-0"))
    assert machines.current["engine-0"] == R25.id


def test_an_api_that_was_put_back_gets_requests_again(machines: Machines, rollout: Rollout) -> None:
    machines.broken.add(R26.id)
    with pytest.raises(FailedAndReverted):
        rollout.move_api(_state(rollout, "api-0"))
    assert machines.rotation["api-0"] == "ready"


def test_a_later_host_that_never_gets_healthy_is_put_back_and_leaves_a_mixed_fleet(
    machines: Machines, rollout: Rollout
) -> None:
    rollout.move_engine(_state(rollout, "engine-0"))
    machines.broken.add(R26.id)
    with pytest.raises(FleetMixed, match=f"api-0 did not get healthy.* back on {R25.id}") as caught:
        rollout.move_api(_state(rollout, "api-0"))
    assert caught.value.exit_code == 7
    assert (machines.current["engine-0"], machines.current["api-0"]) == (R26.id, R25.id)


def test_a_host_that_a_killed_run_had_switched_has_nothing_to_go_back_to(
    machines: Machines, rollout: Rollout, remote: ScriptedRemote
) -> None:
    machines.current["engine-0"], machines.running["engine-0"] = R26.id, False
    machines.broken.add(R26.id)
    with pytest.raises(FleetMixed, match="it has no other release to go back to"):
        rollout.move_engine(machines.fleet(R25, R26).of(Role.ENGINE)[0])
    assert remote.steps(**STEPS) == ["switch engine-0", "start engine-0"]


def test_a_check_that_could_not_be_made_ends_in_a_revert_too(
    machines: Machines, rollout: Rollout, remote: ScriptedRemote
) -> None:
    rows = machines.rows["engine-0"]
    before = "".join(f"{row}\tengine-0\t1\n" for row in rows)
    remote.on(r"FROM heat\.service", before, "", "", Result(1, "", "server has gone away"))
    with pytest.raises(FailedAndReverted, match="server has gone away"):
        rollout.move_engine(_state(rollout, "engine-0"))
    assert machines.current["engine-0"] == R25.id


# --- the old vhost


def _looks(remote: ScriptedRemote) -> int:
    return len(remote.scripts("stack_lock"))


def test_the_old_vhost_is_idle_only_after_several_quiet_looks_in_a_row(
    rollout: Rollout, remote: ScriptedRemote
) -> None:
    rollout.await_idle()
    assert _looks(remote) == DRAIN.idle_polls
    assert "old vhost: 0 messages, 0 resources and 0 stacks held" in said(rollout.site.progress)


@pytest.mark.parametrize("held", ["1\t0\t1\n", "0\t1\t1\n"], ids=["resource", "lock"])
def test_something_held_starts_the_quiet_looks_again(rollout: Rollout, remote: ScriptedRemote, held: str) -> None:
    quiet = "0\t0\t0\n"
    remote.on("stack_lock", quiet, quiet, held, quiet)
    rollout.await_idle()
    assert _looks(remote) == 3 + DRAIN.idle_polls


def test_messages_that_wait_for_an_engine_start_the_quiet_looks_again(rollout: Rollout, remote: ScriptedRemote) -> None:
    one = '[{"name": "engine_worker.engine-1", "messages_ready": 1, "consumers": 0}]'
    remote.on(f"list_queues -p {vhost_of(R25)} ", "[]", one, "[]")
    rollout.await_idle()
    assert _looks(remote) == 2 + DRAIN.idle_polls
    assert "old vhost: 1 messages" in said(rollout.site.progress)


def test_messages_of_others_than_engines_do_not_count(rollout: Rollout, remote: ScriptedRemote) -> None:
    remote.on("list_queues", '[{"name": "reply_5f", "messages_ready": 7, "consumers": 0}]')
    rollout.await_idle()
    assert _looks(remote) == DRAIN.idle_polls


def test_only_the_last_old_engines_are_asked_about(
    machines: Machines, rollout: Rollout, remote: ScriptedRemote
) -> None:
    rollout.await_idle()
    (script,) = set(remote.scripts("stack_lock"))
    assert all(row in script for row in machines.rows["engine-1"])
    assert not any(row in script for row in machines.rows["engine-0"])


def test_a_vhost_that_is_never_idle_is_told_at_the_deadline_with_what_is_held(
    rollout: Rollout, remote: ScriptedRemote
) -> None:
    remote.on("stack_lock", "3\t2\t2\n")
    with pytest.raises(Inconclusive, match="0 messages, 3 resources and 2 stacks held after 180 s") as caught:
        rollout.await_idle()
    assert caught.value.exit_code == 11
    assert "policy.drain.timeout" in caught.value.hint
    assert rollout.site.clock.monotonic() == pytest.approx(DRAIN.timeout, abs=2 * DRAIN.poll)
    assert said(rollout.site.progress).count("old vhost:") == 1


def test_an_idle_seen_at_the_last_moment_counts(rollout: Rollout, remote: ScriptedRemote) -> None:
    busy = int(DRAIN.timeout / DRAIN.poll) - DRAIN.idle_polls + 2
    remote.on("stack_lock", *["1\t0\t1\n"] * busy, "0\t0\t0\n")
    rollout.await_idle()
    assert rollout.site.clock.monotonic() > DRAIN.timeout


# --- the database and the broker


def _database(remote: ScriptedRemote, *, oldest: int, head: str) -> None:
    def migrated(host: Host, script: str) -> str:
        remote.on("version_num", f"{R26.alembic_head}\n")
        return ""

    remote.on("upgrade check|purge_deleted|mariadb-dump")
    remote.on("db_sync", migrated)
    remote.on("DATEDIFF", f"{oldest}\n")
    remote.on("information_schema", "1\n")
    remote.on("version_num", f"{head}\n")


def test_the_database_is_checked_purged_and_backed_up_before_it_is_migrated_once(
    rollout: Rollout, remote: ScriptedRemote
) -> None:
    _database(remote, oldest=300, head=R25.alembic_head)
    path = rollout.prepare_database("25-to-26")
    assert remote.steps(check="upgrade check", purge="purge_deleted", backup="mariadb-dump", sync="db_sync") == [
        "check engine-0",
        *["purge engine-0"] * 4,
        "backup database-0",
        "sync engine-0",
    ]
    assert path == "/var/backups/heat/25-to-26.sql.gz"
    assert all(f"releases/{R26.id}/venv" in script for script in remote.scripts("upgrade check|purge_deleted|db_sync"))
    assert f"schema is at {R26.alembic_head}" in said(rollout.site.progress)


def test_a_schema_that_is_there_is_not_migrated_again(rollout: Rollout, remote: ScriptedRemote) -> None:
    _database(remote, oldest=0, head=R26.alembic_head)
    rollout.prepare_database("again")
    assert remote.steps(purge="purge_deleted", backup="mariadb-dump", sync="db_sync") == ["backup database-0"]


def test_nothing_is_migrated_where_the_backup_fails(rollout: Rollout, remote: ScriptedRemote) -> None:
    _database(remote, oldest=0, head=R25.alembic_head)
    remote.on("mariadb-dump", Result(1, "", "No space left on device"))
    with pytest.raises(PipelineError, match="No space left on device") as caught:
        rollout.prepare_database("25-to-26")
    assert caught.value.exit_code == 8
    assert not remote.scripts("db_sync")


@pytest.mark.parametrize(
    ("oldest", "steps"),
    [(0, ()), (90, ()), (91, (90,)), (200, (180, 120, 90)), (2000, (365, 270, 180, 120, 90))],
)
def test_a_purge_walks_the_age_down_from_a_year(oldest: int, steps: tuple[int, ...]) -> None:
    assert purge_steps(oldest) == steps


def test_the_new_vhost_is_opened_before_anything_needs_it(rollout: Rollout, remote: ScriptedRemote) -> None:
    remote.on("add_vhost")
    remote.on("list_policies", "[]")
    rollout.open_vhost()
    assert f"add_vhost {vhost_of(R26)}" in remote.scripts("add_vhost")[0]


def test_a_vhost_whose_messages_expire_is_refused(rollout: Rollout, remote: ScriptedRemote) -> None:
    remote.on("add_vhost")
    remote.on("list_policies", '[{"name": "ttl", "definition": {"message-ttl": 1000}}]')
    with pytest.raises(PipelineError, match="policies ttl let messages"):
        rollout.open_vhost()


def test_tidying_removes_ended_engines_and_the_vhosts_of_other_releases_only(
    rollout: Rollout, remote: ScriptedRemote
) -> None:
    vhosts = ["/", "mine", vhost_of(R25), vhost_of(R26)]
    remote.on("service clean")
    remote.on("list_vhosts", "[" + ",".join(f'{{"name": "{name}"}}' for name in vhosts) + "]")
    remote.on("delete_vhost")
    rollout.tidy(fleet_on(R25), keep=R25.id)
    assert remote.scripts("delete_vhost") == [f"rabbitmqctl -q delete_vhost {vhost_of(R25)}"]
    assert remote.steps(clean="service clean", delete="delete_vhost") == ["clean engine-0", "delete messaging-0"]


def test_tidying_keeps_the_release_to_go_back_to_and_removes_older_ones(
    rollout: Rollout, remote: ScriptedRemote
) -> None:
    remote.on("service clean")
    remote.on("list_vhosts", "[]")
    remote.on("^rm -rf")
    first, *others = fleet_on(R25).states
    older = replace(first, installed=("24.0.0-old", R25.id, R26.id))
    rollout.tidy(Fleet((older, *others)), keep=R25.id)
    ((name, script),) = [ran for ran in remote.ran if "rm -rf" in ran[1]]
    assert name == first.host.name
    assert script == commands.remove_release("24.0.0-old")


# --- all of it


def test_killed_after_any_move_planning_again_finishes_the_work(machines: Machines, here: Site) -> None:
    order = []
    while moves := _plan(machines.fleet(R25, R26)).moves:
        again = Rollout(here, _plan(machines.fleet(R25, R26)))
        _move(again, moves[0])
        order.append(moves[0].host.name)
    assert order == ["engine-0", "api-0", "api-1", "engine-1"]
    assert set(machines.current.values()) == {R26.id}
    assert all(machines.running.values())
    assert set(machines.rotation.values()) == {"ready"}


def test_a_resumed_run_whose_first_host_fails_leaves_the_fleet_mixed(machines: Machines, here: Site) -> None:
    machines.current["engine-0"] = R26.id  # an earlier run moved it
    machines.refused.add(R26.id)
    fleet = machines.fleet(R25, R26)
    plan = _plan(fleet)
    rollout = Rollout(here, plan, moved=len(fleet.states) - len(plan.moves))
    assert rollout.moved == 1
    with pytest.raises(FleetMixed, match=f"api-0 did not get healthy.* back on {R25.id}") as caught:
        _move(rollout, plan.moves[0])
    assert caught.value.exit_code == 7
    assert (machines.current["engine-0"], machines.current["api-0"]) == (R26.id, R25.id)


def test_new_settings_of_the_same_release_travel_by_the_same_careful_road(
    machines: Machines, remote: ScriptedRemote, here: Site
) -> None:
    plan = restart_plan(machines.fleet(R25), R25, vhost_of(R25))
    rollout = Rollout(here, plan)
    for state in plan.moves:
        _move(rollout, state)
    stops = remote.steps(stop=STEPS["stop"])
    assert stops == ["stop engine-0", "stop engine-1", "stop api-0", "stop api-1"]
    assert rollout.moved == 4
