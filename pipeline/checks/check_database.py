"""What holds for the database: the release's schema, room for every worker, and a user that sees only its own."""

from __future__ import annotations

import re
from typing import Any

from pipeline.checks.expectation import answer, expect
from pipeline.checks.survey import Survey
from pipeline.environment import Role
from pipeline.hostfiles import role_files
from pipeline.inventory import Host
from pipeline.release import Release
from pipeline.site import Site

ROLES = (Role.DATABASE,)


def check_schema_is_the_releases(site: Site, release: Release, survey: Survey) -> None:
    """The schema is at the Alembic head of the release, or of a newer one that was gone back from: it is additive."""
    found = site.database.alembic_head()
    newer = {one.alembic_head for one in survey.releases() if one.heat > release.heat}
    likely = "the migration failed, or a release was here that is no longer on any host's disk"
    holds = found in {release.alembic_head} | newer
    expect(holds, expected=f"schema {release.alembic_head}", found=found, likely=likely)


def check_user_heat_sees_only_its_database(host: Any) -> None:
    """User heat may use database heat, and nothing else of the server."""
    found = _query(
        host,
        "SELECT DISTINCT CONCAT('database ', table_schema) FROM information_schema.schema_privileges "
        "WHERE grantee LIKE '''heat''@%' UNION SELECT CONCAT('global ', privilege_type) FROM "
        "information_schema.user_privileges WHERE grantee LIKE '''heat''@%' AND privilege_type <> 'USAGE'",
    )
    likely = "grants were changed by hand: SHOW GRANTS FOR 'heat'@'%'"
    expect(found == ["database heat"], expected="rights on database heat only", found=", ".join(found), likely=likely)


def check_no_one_else_logs_in_from_outside(host: Any) -> None:
    """No user but heat may come from another host, and none without a name."""
    query = "SELECT CONCAT(User, '@', Host) FROM mysql.global_priv WHERE User = '' OR Host <> 'localhost'"
    found = _query(host, query)
    likely = "an account was made by hand: DROP USER"
    expect(found == ["heat@%"], expected="only heat@% from outside", found=", ".join(found), likely=likely)


def check_connections_are_enough(host: Any, target: Host, site: Site) -> None:
    """The server takes as many connections as its configuration says, and was never full."""
    text = "".join(file.content for file in role_files(target, site.environment, site.region, site.templates))
    configured = re.search(r"^max_connections *= *(\d+)", text, flags=re.MULTILINE)
    expected = int(configured[1]) if configured else 0
    status = "SELECT variable_value FROM information_schema.global_status WHERE variable_name = 'Max_used_connections'"
    limit, used = (int(value) for value in _query(host, f"SELECT @@max_connections; {status}"))
    found = f"{limit}, of which {used} were in use at once"
    likely = "mariadb was not restarted since, its LimitNOFILE is too low, or engines leak connections"
    expect(limit == expected and used < limit, expected=f"{expected} connections", found=found, likely=likely)


def _query(host: Any, query: str) -> list[str]:
    """Return the rows of a query that holds no secret; a server that does not answer fails the check."""
    return answer(host, "mariadb --batch --skip-column-names --execute %s", query).splitlines()
