"""What holds for the database: the release's schema, room for every worker, and a user that sees only its own."""

from __future__ import annotations

import re
from typing import Any

from pipeline.checks import questions
from pipeline.checks.expectation import answer, differences, expect
from pipeline.checks.survey import Survey
from pipeline.environment import Role
from pipeline.inventory import Host
from pipeline.release import Release, newer_heads
from pipeline.site import Site

ROLES = (Role.DATABASE,)

_PURGED = 90  # days: an upgrade purges what was deleted before
_BACKLOG = _PURGED + 30


def check_schema_is_the_releases(host: Any, release: Release, survey: Survey) -> None:
    """The schema is at the Alembic head of the release, or of a newer one that was gone back from: it is additive."""
    found = answer(host, *questions.SCHEMA).strip()
    holds = found == release.alembic_head or found in newer_heads(survey.releases(), release)
    likely = "the migration failed, or a release was here that is no longer on any host's disk"
    expect(holds, expected=f"schema {release.alembic_head}", found=found, likely=likely)


def check_user_heat_sees_only_its_database(host: Any) -> None:
    """User heat may use database heat, and nothing else of the server."""
    found = answer(host, *questions.GRANTS).splitlines()
    likely = "grants were changed by hand: SHOW GRANTS FOR 'heat'@'%'"
    expect(found == ["database heat"], expected="rights on database heat only", found=", ".join(found), likely=likely)


def check_no_one_else_logs_in_from_outside(host: Any) -> None:
    """No user but heat may come from another host, and none without a name."""
    found = answer(host, *questions.ACCOUNTS).splitlines()
    likely = "an account was made by hand: DROP USER"
    expect(found == ["heat@%"], expected="only heat@% from outside", found=", ".join(found), likely=likely)


def check_connections_are_enough(host: Any) -> None:
    """The server was never full: of the connections it takes, some were always left."""
    limit, used = (int(value) for value in answer(host, *questions.CONNECTIONS).splitlines())
    found = f"{used} of {limit} in use at once"
    likely = "max_connections is too low for this many workers, or engines leak connections"
    expect(used < limit, expected=f"fewer than {limit} connections at once", found=found, likely=likely)


def check_variables_are_as_configured(host: Any, target: Host, site: Site, release: Release, vhost: str) -> None:
    """The server runs with what its configuration says now, durability and limits among it."""
    wanted = questions.configured(target, site, release, vhost)
    told = answer(host, *questions.variables(tuple(wanted))).splitlines()
    found = dict(line.split("\t", 1) for line in told if "\t" in line)
    wrong = {key for key, value in wanted.items() if not _says(found.get(key, "?"), value)}
    expected = ", ".join(f"{key} = {wanted[key] or 'ON'}" for key in sorted(wrong))
    told_instead = ", ".join(f"{key} = {found.get(key, '?')}" for key in sorted(wrong))
    likely = "mariadb was not restarted since, a limit of the host lowered it, or SET GLOBAL was typed"
    expect(not wrong, expected=expected, found=told_instead, likely=likely)


def check_cluster_is_whole(host: Any, site: Site) -> None:
    """Every member of a cluster is in it, and this one is synced with the others."""
    if not site.environment.topology.is_cluster(Role.DATABASE):
        return
    size = site.environment.topology.database.count
    wanted = {
        "wsrep_cluster_size": str(size),
        "wsrep_cluster_status": "Primary",
        "wsrep_local_state_comment": "Synced",
        "wsrep_ready": "ON",
    }
    told = answer(host, *questions.GALERA).splitlines()
    found = differences(wanted, dict(line.split("\t", 1) for line in told if "\t" in line))
    likely = "a member is down, or cut off from the others: systemctl status mariadb on each; inv deploy brings it back"
    expect(not found, expected=f"a member of {size}, synced and with a majority", found=found, likely=likely)


def check_database_may_be_written(host: Any) -> None:
    """The server is not read-only."""
    found = answer(host, *questions.READ_ONLY).strip()
    likely = "it was made read-only for maintenance, or became a replica: SET GLOBAL read_only = 0"
    expect(found == "0", expected="read_only = 0", found=f"read_only = {found}", likely=likely)


def check_deleted_stacks_are_purged(host: Any) -> None:
    """No stack that was deleted long ago is left: a migration gets slower with each."""
    count, oldest = (int(value) for value in answer(host, *questions.BACKLOG).split())
    likely = f"nobody purges: heat-manage purge_deleted --granularity days {_PURGED}, or the next upgrade does"
    found = f"{count} deleted stacks, the oldest for {oldest} days"
    expect(oldest <= _BACKLOG, expected=f"none for more than {_BACKLOG} days", found=found, likely=likely)


def _says(found: str, wanted: str) -> bool:
    """Whether a variable is as it was set; of Galera's options the server tells all, of which some were set."""
    options = [{option.replace(" ", "") for option in text.split(";")} for text in (wanted, found)]
    return _plain(found) == _plain(wanted) or ("=" in wanted and options[0] <= options[1])


def _plain(value: str) -> str:
    """Return a variable's value as the server says it: sizes in bytes, switches as ON and OFF."""
    if size := re.fullmatch(r"(\d+)([KMG])", value.upper()):
        return str(int(size[1]) << {"K": 10, "M": 20, "G": 30}[size[2]])
    return {"": "ON", "1": "ON", "0": "OFF"}.get(value, value).upper()
