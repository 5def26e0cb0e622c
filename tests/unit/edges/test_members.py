"""Members of a cluster: any of them is asked, and whoever answered last first."""

from __future__ import annotations

import pytest
from builders import environment, region

from pipeline.edges.members import Members
from pipeline.environment import Role
from pipeline.errors import HostUnreachable, Unanswered
from pipeline.inventory import Host

HOSTS = region(environment(database=3)).inventory.of(Role.DATABASE)


class Away:
    """Hosts of which some do not answer; `asked` are the names of those that were asked."""

    def __init__(self, **away: Exception) -> None:
        self.away = away
        self.asked: list[str] = []

    def __call__(self, host: Host) -> str:
        self.asked.append(host.name)
        if error := self.away.get(host.name.replace("-", "_")):
            raise error
        return host.name


def test_the_first_is_asked_where_all_answer() -> None:
    members, act = Members(HOSTS), Away()
    assert [members.ask(act), members.ask(act)] == ["database-0", "database-0"]
    assert act.asked == ["database-0", "database-0"]


@pytest.mark.parametrize("error", [HostUnreachable("gone"), Unanswered("away")])
def test_another_is_asked_where_one_is_away_and_stays_the_first_to_be_asked(error: Exception) -> None:
    members, act = Members(HOSTS), Away(database_0=error)
    assert (members.last.name, members.ask(act), members.last.name) == ("database-0", "database-1", "database-1")
    assert members.ask(act) == "database-1"
    assert act.asked == ["database-0", "database-1", "database-1"]


def test_where_none_answers_the_first_one_s_error_is_told() -> None:
    act = Away(database_0=HostUnreachable("0 is gone"), database_1=Unanswered("1"), database_2=Unanswered("2"))
    with pytest.raises(HostUnreachable, match="0 is gone"):
        Members(HOSTS).ask(act)


def test_an_error_of_another_kind_is_nobody_else_s_to_mend() -> None:
    act = Away(database_0=ValueError("odd"))
    with pytest.raises(ValueError, match="odd"):
        Members(HOSTS).ask(act)
    assert act.asked == ["database-0"]
