"""Heat's database, asked over SSH on its own host as root by socket: no password travels."""

from __future__ import annotations

import re
import shlex
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pipeline.edges.members import Members
from pipeline.edges.ssh import Remote, Result
from pipeline.errors import CommandFailed, PipelineError, Unanswered
from pipeline.inventory import Host
from pipeline.secrets import Secret

__all__ = ["BackupFailed", "Database", "Dump", "EngineRow", "Held", "InFlight"]

BACKUPS = "/var/backups/heat"
_KEPT = 10  # backups, the newest
_WHEN = re.compile(r"-\d{8}T\d{6}Z$")  # ends the name of a backup
# mariadb's own words for a server that is away: no socket, no answer, gone in the middle, full, stopping, killed us; or
# a member of a cluster that has lost the others, or does not catch up with them.
_AWAY = re.compile(r"ERROR (2002|2003|2006|2013|1040|1053|1927|1047|1205)\b")


class BackupFailed(PipelineError):
    """The database could not be backed up; no host was touched."""

    exit_code = 8


@dataclass(frozen=True, slots=True)
class Dump:
    """A backup: the host that has it, and its path there."""

    host: Host
    path: str


@dataclass(frozen=True, slots=True)
class EngineRow:
    """One row of Heat's table `service`: one worker of an engine since its last start.

    A graceful stop soft-deletes the row; a killed worker leaves it `live`.
    """

    engine_id: str
    host: str
    live: bool


@dataclass(frozen=True, slots=True)
class Held:
    """A resource in an engine's hands: its stack, what is done to it (CREATE_IN_PROGRESS), for how many seconds.

    A lock on a whole stack names no `resource`. `mark` changes whenever an engine takes or writes it: two that are
    equal are the same piece of work, of which nothing was written down between two looks.
    """

    mark: str
    stack: str
    resource: str
    status: str
    seconds: int = field(compare=False)

    def __str__(self) -> str:
        named = f"{self.resource} of stack {self.stack}" if self.resource else f"stack {self.stack}"
        return f"{named} ({self.status} for {self.seconds} s)"


@dataclass(frozen=True, slots=True)
class InFlight:
    """What engines are doing: resources and stack locks held, and stacks whose status is IN_PROGRESS."""

    resources: int
    locks: int
    stacks: int

    @property
    def idle(self) -> bool:
        """Whether the engines asked about hold nothing."""
        return not (self.resources or self.locks)


class Database:
    """MariaDB on `members`. Whatever is asked of it raises Unanswered, or HostUnreachable, where none answers."""

    def __init__(self, remote: Remote, members: Members) -> None:
        self._remote = remote
        self._members = members

    def create(self, password: Secret) -> None:
        """Make database and user `heat`, with this password; harmless where they are."""
        secret = password.reveal()
        self._sql(
            "CREATE DATABASE IF NOT EXISTS heat CHARACTER SET utf8mb4;"
            f"CREATE USER IF NOT EXISTS 'heat'@'%' IDENTIFIED BY '{secret}';"
            f"ALTER USER 'heat'@'%' IDENTIFIED BY '{secret}';"
            "GRANT ALL PRIVILEGES ON heat.* TO 'heat'@'%';"
        )

    def alembic_head(self) -> str:
        """Return the schema's Alembic revision, "" where there is no schema yet."""
        exists = self._rows(
            "SELECT 1 FROM information_schema.tables WHERE table_schema='heat' AND table_name='alembic_version'"
        )
        return self._rows("SELECT version_num FROM heat.alembic_version")[0][0] if exists else ""

    def engines(self) -> tuple[EngineRow, ...]:
        """Return the rows of table `service`, oldest first: a graceful stop soft-deletes one, a kill leaves it live."""
        rows = self._rows("SELECT engine_id, host, deleted_at IS NULL FROM heat.service ORDER BY created_at, id")
        return tuple(EngineRow(engine_id, host, live == "1") for engine_id, host, live in rows)

    def in_flight(self, engine_ids: Sequence[str]) -> InFlight:
        """Return what the engines `engine_ids` hold, and how many stacks of anyone are IN_PROGRESS."""
        ids = ", ".join(_quoted(engine_id) for engine_id in engine_ids) or "''"
        row = self._rows(
            f"SELECT (SELECT COUNT(*) FROM heat.resource WHERE engine_id IN ({ids})),"  # noqa: S608 (UUIDs)
            f" (SELECT COUNT(*) FROM heat.stack_lock WHERE engine_id IN ({ids})),"
            " (SELECT COUNT(*) FROM heat.stack WHERE status='IN_PROGRESS' AND deleted_at IS NULL)"
        )[0]
        return InFlight(*(int(count) for count in row))

    def held(self, engine_ids: Sequence[str]) -> tuple[Held, ...]:
        """Return the resources and the stacks' locks that the engines `engine_ids` hold, the oldest first."""
        ids = ", ".join(_quoted(engine_id) for engine_id in engine_ids) or "''"
        rows = self._rows(
            "SELECT CONCAT(resource.id, '/', COALESCE(resource.atomic_key, 0)),"  # noqa: S608 (UUIDs)
            " COALESCE(stack.name, resource.stack_id), resource.name, CONCAT(resource.action, '_', resource.status),"
            " TIMESTAMPDIFF(SECOND, COALESCE(resource.updated_at, resource.created_at), UTC_TIMESTAMP())"
            " FROM heat.resource LEFT JOIN heat.stack ON resource.stack_id = stack.id"
            f" WHERE resource.engine_id IN ({ids})"
            " UNION ALL SELECT CONCAT('lock/', stack_lock.created_at), COALESCE(stack.name, stack_lock.stack_id), '',"
            " CONCAT(stack.action, '_', stack.status),"
            " TIMESTAMPDIFF(SECOND, COALESCE(stack_lock.updated_at, stack_lock.created_at), UTC_TIMESTAMP())"
            " FROM heat.stack_lock LEFT JOIN heat.stack ON stack_lock.stack_id = stack.id"
            f" WHERE stack_lock.engine_id IN ({ids}) ORDER BY 5 DESC"
        )
        return tuple(Held(mark, stack, name, status, int(seconds)) for mark, stack, name, status, seconds in rows)

    def hosts_at_work(self, stack_id: str) -> frozenset[str]:
        """Return the hosts whose engines hold resources of a stack at this moment."""
        query = (
            "SELECT DISTINCT service.host FROM heat.resource JOIN heat.service USING (engine_id)"
            " WHERE resource.stack_id = "
        )
        return frozenset(row[0] for row in self._rows(query + _quoted(stack_id)))

    def oldest_deleted_days(self) -> int:
        """Return how many days ago the oldest stack waiting for a purge was deleted; 0 where there is none."""
        answer = self._rows("SELECT COALESCE(MAX(DATEDIFF(UTC_TIMESTAMP(), deleted_at)), 0) FROM heat.stack")
        return int(answer[0][0])

    def backup(self, name: str, step: Callable[[Host, str, str], Result]) -> Dump:
        """Dump database `heat` to a gzip file (0600) on a host of the database, and tell where.

        `step` runs a script on a host under a name, as long as that takes. Dumps in one transaction, so that customers
        go on. A dump that does not end as mariadb-dump ends one is removed. Of the others the ten newest stay, and the
        oldest whose name is this one's but for the time at its end ("A-to-B-20260101T120000Z"): where the same change
        is tried again and again, that one alone has the schema from before its migration. Raises BackupFailed.
        Source: Heat's upgrades guide, "Back up your database".
        """
        path, alike = f"{BACKUPS}/{name}.sql.gz", f"{BACKUPS}/{shlex.quote(_WHEN.sub('', name))}"
        script = f"""\
set -eu
umask 077
install -d -m 0700 {BACKUPS}
partial={shlex.quote(path + ".partial")}
trap 'rm -f "$partial"' EXIT
trap 'exit 143' TERM
mariadb-dump --single-transaction --quick --routines --databases heat | gzip -1 >"$partial"
gzip -dc "$partial" | tail -n 1 | grep -q 'Dump completed'
mv "$partial" {shlex.quote(path)}
first=$(ls -1tr {alike}*.sql.gz | head -n 1)
ls -1t {BACKUPS}/*.sql.gz | tail -n +{_KEPT + 1} | grep -vxF "$first" | xargs -r rm -f --
stat -c %s {shlex.quote(path)}"""
        host = self._members.last
        try:
            step(host, "backup", script)
        except CommandFailed as error:
            raise BackupFailed(
                f"the database could not be backed up, so nothing was changed: {error.message}",
                hint=f"look at the disk and mariadb of {host.name}",
            ) from error
        return Dump(host, path)

    def _rows(self, query: str) -> list[list[str]]:
        return [line.split("\t") for line in self._sql(query).splitlines()]

    def _sql(self, text: str) -> str:
        return self._members.ask(lambda host: self._ask(host, text))

    def _ask(self, host: Host, text: str) -> str:
        script = f"mariadb --batch --skip-column-names <<'END_OF_SQL'\n{text}\nEND_OF_SQL"
        try:
            return self._remote.run(host, script, timeout=60).stdout
        except CommandFailed as error:
            if error.status > 0 and not _AWAY.search(error.stderr):
                raise
            raise Unanswered(
                f"the database did not answer: {error.message}", hint=f"systemctl status mariadb on {host.name}"
            ) from error


def _quoted(identifier: str) -> str:
    """Return a UUID quoted for SQL; anything else raises ValueError, so that nothing else gets into a query."""
    return f"'{uuid.UUID(identifier)}'"
