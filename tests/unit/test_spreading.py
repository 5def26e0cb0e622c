"""The plan of a spreading: givers double, and what fails costs the host it failed with and no other."""

from __future__ import annotations

import pytest
from builders import KEY

from pipeline.environment import Role
from pipeline.inventory import Host
from pipeline.spreading import Act, Plan, Task

HOSTS = [Host(f"engine-{index}", Role.ENGINE, f"198.18.7.{index + 1}", (KEY,)) for index in range(200)]


def _plan(count: int, having: int = 0) -> Plan:
    plan = Plan()
    for host in HOSTS[:having]:
        plan.has(host)
    plan.lacking.extend(HOSTS[having:count])
    return plan


def _round(plan: Plan, *failing: str) -> list[Task]:
    """Begin all that may begin, giving included, and end it; of `failing`, "HOST" gets and "HOST>" gives nothing."""
    ended: list[Task] = []
    while tasks := plan.begin(ended):
        for task in tasks:
            if task.act is Act.GIVE:
                plan.succeeded(task, f"http://{task.host.name}")
            else:
                ended.append(task)
    for task in ended:
        giver = f"{task.giver.host.name}>" if task.giver else ""
        (plan.failed if {task.host.name, giver} & set(failing) else plan.succeeded)(task)
    return ended


def _all(plan: Plan, *failing: str) -> list[Task]:
    tasks: list[Task] = []
    while ended := _round(plan, *failing):
        tasks += ended
    plan.end()
    return tasks


def _got(tasks: list[Task]) -> list[str]:
    return [task.host.name for task in tasks if task.act is Act.FETCH]


def test_only_the_first_host_gets_the_file_from_here() -> None:
    tasks = _all(_plan(200))
    assert [task.host.name for task in tasks if task.act is Act.PUT] == ["engine-0"]
    assert sorted(_got(tasks)) == sorted(host.name for host in HOSTS[1:])


def test_the_rounds_are_few_for_the_number_of_givers_grows_with_each() -> None:
    plan, sizes = _plan(200), []
    while ended := _round(plan):
        sizes.append(len(ended))
    assert sizes == [1, 2, 6, 18, 54, 119]


def test_hosts_that_have_it_already_give_and_nothing_comes_from_here() -> None:
    tasks = _all(_plan(9, having=3))
    assert {task.act for task in tasks} == {Act.FETCH}
    assert {task.giver.host.name for task in tasks[:6] if task.giver} == {"engine-0", "engine-1", "engine-2"}


def test_no_host_serves_that_nobody_needs() -> None:
    plan = _plan(10, having=9)
    assert [task.act for task in plan.begin([])] == [Act.GIVE]


def test_a_giver_serves_a_bounded_number_at_once() -> None:
    plan = _plan(20, having=1)
    (give,) = plan.begin([])
    plan.succeeded(give, "http://engine-0")
    begun = plan.begin([])
    assert [task.act for task in begun] == [Act.FETCH] * 2
    assert plan.begin(begun) == []


def test_a_host_that_cannot_fetch_is_left_to_the_controller_and_the_others_get_it() -> None:
    plan = _plan(20)
    tasks = _all(plan, "engine-7")
    assert [host.name for host in plan.rest] == ["engine-7"]
    assert sorted(set(_got(tasks)) - {"engine-7"}) == sorted(h.name for h in HOSTS[1:20] if h.name != "engine-7")
    assert _got(tasks).count("engine-7") == 2


def test_a_host_tries_again_with_another_giver() -> None:
    plan = _plan(20)
    tries = [task.giver for task in _all(plan, "engine-7") if task.host.name == "engine-7"]
    assert len({giver.host.name for giver in tries if giver}) == 2


def test_a_giver_that_gives_nobody_the_file_is_left_out() -> None:
    plan = _plan(30, having=3)
    tasks = _all(plan, "engine-1>")
    assert len([task for task in tasks if task.giver and task.giver.host.name == "engine-1"]) == 2
    assert plan.rest == []


def test_where_the_first_host_is_gone_the_second_is_the_first() -> None:
    plan = _plan(9)
    tasks = _all(plan, "engine-0")
    assert [task.host.name for task in tasks if task.act is Act.PUT] == ["engine-0", "engine-1"]
    assert [host.name for host in plan.rest] == ["engine-0"]


def test_hosts_that_do_not_reach_one_another_are_not_tried_one_by_one() -> None:
    plan = _plan(200)
    tasks = _all(plan, *(host.name for host in HOSTS[1:]))
    assert len(tasks) <= 6
    assert len(plan.rest) == 199


def test_hosts_that_cannot_serve_are_not_all_tried() -> None:
    plan = _plan(200)

    def fail_giving() -> int:
        puts, running = 0, True
        while running:
            running = False
            for task in plan.begin([]):
                running = True
                puts += task.act is Act.PUT
                (plan.succeeded if task.act is Act.PUT else plan.failed)(task)
        return puts

    assert fail_giving() == 3
    plan.end()
    assert len(plan.rest) == 197


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_few_hosts_and_none_are_well(count: int) -> None:
    plan = _plan(count)
    assert len(_all(plan)) == count
    assert plan.rest == []
