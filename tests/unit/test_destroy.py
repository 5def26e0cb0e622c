"""Destroying a region on a Heat in memory: the order, what is protected, and what cannot be deleted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from plans import Small

from pipeline.destroy import Destroyer, destroy_all, doomed
from pipeline.edges.heat import HeatRefused
from pipeline.errors import FleetMixed, ProtectedRefused, StackFailed
from pipeline.stacks import Resource, Stack


@pytest.fixture
def small(tmp_path: Path) -> Small:
    made = Small(tmp_path)
    made.launch()
    made.heat.done.clear()
    return made


def _doomed(small: Small, *allowed: str) -> dict[str, Stack]:
    heat: Any = small.heat
    return doomed(heat, small.environment, small.stacks, allowed)


def _destroy(small: Small, there: dict[str, Stack]) -> None:
    heat: Any = small.heat
    timeouts = dict.fromkeys(there, 60.0)
    destroy_all(there, small.stacks, Destroyer(heat, small.clock, timeouts, lambda *_: None))


def test_what_takes_from_others_goes_first(small: Small) -> None:
    _destroy(small, _doomed(small, "network", "database"))
    assert small.heat.kept == {}
    assert small.heat.done[-1] == "delete local-network"
    assert sorted(small.heat.done[:2]) == ["delete local-database", "delete local-engine"]


def test_a_domain_is_disabled_before_its_stack_goes(small: Small) -> None:
    small.heat.failed = (Resource("stack-domain", "OS::Keystone::Domain", "CREATE_COMPLETE", "", "d1", "s"),)
    _destroy(small, {"engine": _doomed(small, "network", "database")["engine"]})
    assert small.heat.done == ["disable d1", "delete local-engine"]


def test_a_stack_whose_end_heat_does_not_tell_is_asked_for(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(small.heat, "events", lambda _: ())
    there = {"engine": _doomed(small, "network", "database")["engine"]}
    find = small.heat.find

    def gone_by_now(name: str, **more: Any) -> Any:
        small.heat.kept.pop("local-engine", None)
        return find(name, **more)

    monkeypatch.setattr(small.heat, "find", gone_by_now)
    _destroy(small, there)


def test_protected_stacks_are_refused_and_nothing_is_destroyed(small: Small) -> None:
    with pytest.raises(ProtectedRefused, match="protected in local: network; nothing was destroyed") as caught:
        _doomed(small, "database")
    assert (caught.value.exit_code, caught.value.hint.split(",")[0]) == (
        4, "inv destroy local --allow-destroy network",
    )  # fmt: skip
    assert small.heat.done == []


def test_stacks_that_are_gone_need_no_permission(small: Small) -> None:
    del small.heat.kept["local-network"], small.heat.kept["local-database"]
    assert set(_doomed(small)) == {"engine"}


def test_an_environment_may_protect_others(small: Small) -> None:
    small.rule(each={"engine": {"protected": True}})
    with pytest.raises(ProtectedRefused, match="engine"):
        _doomed(small)


def test_what_cannot_be_deleted_stops_what_it_needs(small: Small) -> None:
    small.heat.ends["local-engine"] = ["FAILED"]
    there = _doomed(small, "network", "database")
    with pytest.raises(StackFailed, match="stack local-engine is DELETE_FAILED: host: it says why"):
        _destroy(small, there)
    assert "delete local-network" not in small.heat.done
    assert "local-database" not in small.heat.kept
    _destroy(small, _doomed(small, "network", "database"))
    assert small.heat.kept == {}


def test_nothing_to_destroy_is_fine(small: Small) -> None:
    small.heat.kept.clear()
    _destroy(small, _doomed(small))


def test_what_heat_refuses_half_way_is_a_failure_of_that_stack(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(stack_id: str) -> None:
        raise HeatRefused("deleting it: Heat answered 500", status=500)

    monkeypatch.setattr(small.heat, "delete", refuse)
    with pytest.raises(StackFailed, match="stack local-engine may be there still: deleting it") as caught:
        _destroy(small, _doomed(small, "network", "database"))
    assert caught.value.exit_code == 7


def test_a_run_that_may_not_go_on_destroys_no_other_stack(small: Small) -> None:
    heat: Any = small.heat
    there, asked = _doomed(small, "network", "database"), iter([None, None, FleetMixed("aborted by ada")])

    def gate() -> None:
        if error := next(asked):
            raise error

    with pytest.raises(FleetMixed, match="aborted by ada"):
        destroy_all(
            there, small.stacks, Destroyer(heat, small.clock, dict.fromkeys(there, 60.0), lambda *_: None, gate=gate)
        )
    assert sorted(small.heat.done) == ["delete local-database", "delete local-engine"]
