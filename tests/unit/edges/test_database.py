"""The database: what it is asked in SQL, what its rows mean, and the backup, run for real in a shell."""

from __future__ import annotations

import gzip
import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from builders import ScriptedRemote, host

from pipeline.edges.database import BACKUPS, BackupFailed, Database, EngineRow, Held, InFlight
from pipeline.edges.members import Members
from pipeline.edges.ssh import Result
from pipeline.environment import Role
from pipeline.errors import CommandFailed, HostUnreachable, Unanswered
from pipeline.secrets import Secret

ONE, TWO = "5f0c1f6e-93d1-4a58-9f0e-1d0b6b7f3c01", "5f0c1f6e-93d1-4a58-9f0e-1d0b6b7f3c02"


@pytest.fixture
def database(remote: ScriptedRemote) -> Database:
    return Database(remote, Members([host(Role.DATABASE)]))


def test_sql_travels_on_standard_input(database: Database, remote: ScriptedRemote) -> None:
    remote.on("mariadb")
    database.create(Secret("s3cret"))
    ((name, script),) = remote.ran
    first, *sql, last = script.splitlines()
    assert name == "database-0"
    assert (first, last) == ("mariadb --batch --skip-column-names <<'END_OF_SQL'", "END_OF_SQL")
    assert "IDENTIFIED BY 's3cret'" in "".join(sql)
    assert "CREATE DATABASE IF NOT EXISTS heat" in "".join(sql)


def test_a_database_without_a_schema_has_no_head(database: Database, remote: ScriptedRemote) -> None:
    remote.on("information_schema", "")
    assert database.alembic_head() == ""


def test_the_head_is_that_of_the_schema(database: Database, remote: ScriptedRemote) -> None:
    remote.on("information_schema", "1\n")
    remote.on("version_num", "97b2a986f922\n")
    assert database.alembic_head() == "97b2a986f922"


def test_a_row_that_was_soft_deleted_is_not_live(database: Database, remote: ScriptedRemote) -> None:
    remote.on("FROM heat.service", f"{ONE}\tengine-0\t1\n{TWO}\tengine-1\t0\n")
    assert database.engines() == (EngineRow(ONE, "engine-0", True), EngineRow(TWO, "engine-1", False))


def test_what_engines_hold_is_counted(database: Database, remote: ScriptedRemote) -> None:
    remote.on("SELECT COUNT", "2\t1\t3\n")
    assert database.in_flight([ONE, TWO]) == InFlight(2, 1, 3)
    assert f"IN ('{ONE}', '{TWO}')" in remote.ran[0][1]


def test_asking_about_no_engine_asks_about_nobodys_rows(database: Database, remote: ScriptedRemote) -> None:
    remote.on("SELECT COUNT", "0\t0\t3\n")
    assert database.in_flight([]).idle
    assert "IN ('')" in remote.ran[0][1]


@pytest.mark.parametrize(
    ("held", "idle"), [(InFlight(0, 0, 9), True), (InFlight(1, 0, 0), False), (InFlight(0, 1, 0), False)]
)
def test_engines_are_idle_when_they_hold_neither_resource_nor_stack(held: InFlight, idle: bool) -> None:
    assert held.idle is idle


@pytest.mark.parametrize("identifier", ["x'; DROP TABLE stack; --", "", "1"])
def test_nothing_but_a_uuid_gets_into_a_query(database: Database, remote: ScriptedRemote, identifier: str) -> None:
    with pytest.raises(ValueError, match="badly formed"):
        database.in_flight([identifier])
    with pytest.raises(ValueError, match="badly formed"):
        database.hosts_at_work(identifier)
    with pytest.raises(ValueError, match="badly formed"):
        database.held([ONE, identifier])
    assert remote.ran == []


def test_what_engines_hold_is_named_the_oldest_first(database: Database, remote: ScriptedRemote) -> None:
    rows = (
        "4/2\tweb\tserver\tCREATE_IN_PROGRESS\t90\n"
        "9/1\tapp\tgate\tUPDATE_IN_PROGRESS\t3\n"
        "lock/2026-11-26 22:40:01\tapp\t\tCHECK_IN_PROGRESS\t2\n"
    )
    remote.on("TIMESTAMPDIFF", rows)
    first, second, third = database.held([ONE, TWO])
    assert first == Held("4/2", "web", "server", "CREATE_IN_PROGRESS", 90)
    assert str(second) == "gate of stack app (UPDATE_IN_PROGRESS for 3 s)"
    assert str(third) == "stack app (CHECK_IN_PROGRESS for 2 s)"
    assert remote.ran[0][1].count(f"engine_id IN ('{ONE}', '{TWO}')") == 2
    assert "ORDER BY 5 DESC" in remote.ran[0][1]


def test_work_of_which_nothing_was_written_down_is_the_same_however_long_it_takes() -> None:
    held = Held("4/2", "web", "server", "CREATE_IN_PROGRESS", 90)
    assert {held} == {replace(held, seconds=95)}
    assert held != replace(held, mark="4/3")


def test_the_hosts_at_work_on_a_stack_are_named(database: Database, remote: ScriptedRemote) -> None:
    remote.on(f"stack_id = '{ONE}'", "engine-0\nengine-1\n")
    assert database.hosts_at_work(ONE) == {"engine-0", "engine-1"}


def test_the_age_of_what_waits_for_a_purge_is_in_days(database: Database, remote: ScriptedRemote) -> None:
    remote.on("DATEDIFF", "400\n")
    assert database.oldest_deleted_days() == 400


# --- a server that is away

NO_SOCKET = "ERROR 2002 (HY000): Can't connect to local server through socket '/run/mysqld/mysqld.sock' (2)"
ASKS: dict[str, Callable[[Database], object]] = {
    "create": lambda database: database.create(Secret("s3cret")),
    "alembic_head": Database.alembic_head,
    "engines": Database.engines,
    "in_flight": lambda database: database.in_flight([ONE]),
    "held": lambda database: database.held([ONE]),
    "hosts_at_work": lambda database: database.hosts_at_work(ONE),
    "oldest_deleted_days": Database.oldest_deleted_days,
}


@pytest.mark.parametrize(
    "words",
    [
        NO_SOCKET,
        "ERROR 2003 (HY000): Can't connect to MySQL server on 'localhost' (111)",
        "ERROR 2006 (HY000) at line 1: Server has gone away",
        "ERROR 2013 (HY000) at line 1: Lost connection to server during query",
        "ERROR 1040 (08004): Too many connections",
        "ERROR 1053 (08S01) at line 1: Server shutdown in progress",
        "ERROR 1927 (70100) at line 1: Connection was killed",
    ],
    ids=lambda words: words.split()[1],
)
def test_a_server_that_is_away_did_not_answer_and_its_words_are_told(
    database: Database, remote: ScriptedRemote, words: str
) -> None:
    remote.on("mariadb", Result(1, "", f"{words}\n"))
    with pytest.raises(Unanswered) as caught:
        database.engines()
    assert caught.value.message == f"the database did not answer: database-0: status 1: {words}"
    assert (caught.value.exit_code, caught.value.hint) == (11, "systemctl status mariadb on database-0")


@pytest.mark.parametrize("ask", ASKS)
def test_whatever_a_server_that_is_away_is_asked_it_did_not_answer(
    database: Database, remote: ScriptedRemote, ask: str
) -> None:
    remote.on("mariadb", Result(1, "", NO_SOCKET))
    with pytest.raises(Unanswered, match="the database did not answer"):
        ASKS[ask](database)


def test_a_query_without_an_end_was_not_answered(database: Database, remote: ScriptedRemote) -> None:
    remote.on("mariadb", CommandFailed("database-0: no end within 60 s", status=-1))
    with pytest.raises(Unanswered, match=r"^the database did not answer: database-0: no end within 60 s\n"):
        database.engines()


@pytest.mark.parametrize(
    "words",
    [
        "ERROR 1146 (42S02) at line 1: Table 'heat.service' doesn't exist",
        "ERROR 1064 (42000) at line 1: You have an error in your SQL syntax",
        "ERROR 20021 (HY000): what it may be",
        "",
    ],
    ids=["no table", "no SQL", "another number", "nothing"],
)
def test_an_answer_that_is_an_error_is_no_silence(database: Database, remote: ScriptedRemote, words: str) -> None:
    remote.on("mariadb", Result(1, "", words))
    with pytest.raises(CommandFailed) as caught:
        database.engines()
    assert (caught.value.exit_code, caught.value.status, caught.value.stderr) == (7, 1, words)


def test_a_host_that_is_lost_is_not_taken_for_a_server_that_is_away(database: Database, remote: ScriptedRemote) -> None:
    remote.on("mariadb", HostUnreachable("database-0 is gone"))
    with pytest.raises(HostUnreachable, match=r"^database-0 is gone$"):
        database.engines()


# --- the backup


def _backup(
    database: Database, remote: ScriptedRemote, root: Path, dump: str, name: str = "25-to-26"
) -> subprocess.CompletedProcess[str]:
    """Run the backup's script below `root`, with a mariadb-dump that does `dump`."""
    remote.on("mariadb-dump")
    database.backup(name, lambda host, name, script: remote.run(host, script))
    tool = root / "mariadb-dump"
    tool.write_text(f"#!/bin/sh\n{dump}\n", "utf-8")
    tool.chmod(0o755)
    script = remote.ran[-1][1].replace(BACKUPS, str(root / "backups"))
    path = f"{root}:{os.environ['PATH']}"
    return subprocess.run(["/bin/sh"], input=script, capture_output=True, text=True, env={"PATH": path})


def test_a_backup_is_whole_and_private(database: Database, remote: ScriptedRemote, tmp_path: Path) -> None:
    done = _backup(database, remote, tmp_path, "echo \"$*\"; echo '-- Dump completed on 2026-01-01'")
    (backup,) = (tmp_path / "backups").iterdir()
    assert (done.returncode, backup.name) == (0, "25-to-26.sql.gz")
    assert gzip.decompress(backup.read_bytes()).decode().splitlines() == [
        "--single-transaction --quick --routines --databases heat",
        "-- Dump completed on 2026-01-01",
    ]
    assert (backup.stat().st_mode & 0o777, backup.parent.stat().st_mode & 0o777) == (0o600, 0o700)


@pytest.mark.parametrize("dump", ["echo half; exit 1", "echo half", "exit 0"])
def test_a_dump_that_did_not_end_leaves_nothing(
    database: Database, remote: ScriptedRemote, tmp_path: Path, dump: str
) -> None:
    assert _backup(database, remote, tmp_path, dump).returncode != 0
    assert list((tmp_path / "backups").iterdir()) == []


def test_a_backup_that_fails_keeps_the_one_before(database: Database, remote: ScriptedRemote, tmp_path: Path) -> None:
    _backup(database, remote, tmp_path, "echo '-- Dump completed'")
    _backup(database, remote, tmp_path, "exit 1")
    (kept,) = (tmp_path / "backups").iterdir()
    assert gzip.decompress(kept.read_bytes()) == b"-- Dump completed\n"


def _dumps(root: Path, kind: str, *days: int) -> None:
    """Make a dump of a kind on each of the `days` of a January."""
    (root / "backups").mkdir(exist_ok=True)
    for day in days:
        path = root / f"backups/{kind}-202601{day:02}T120000Z.sql.gz"
        path.touch()
        os.utime(path, (day * 86400, day * 86400))


def _days(root: Path, kind: str) -> list[int]:
    return sorted(int(path.name[len(kind) + 7 :][:2]) for path in (root / "backups").glob(f"{kind}-2026*"))


def test_of_many_backups_the_newest_stay(database: Database, remote: ScriptedRemote, tmp_path: Path) -> None:
    _dumps(tmp_path, "24-to-25", *range(1, 13))
    done = _backup(database, remote, tmp_path, "echo '-- Dump completed'")
    assert (done.returncode, done.stderr) == (0, "")
    assert _days(tmp_path, "24-to-25") == list(range(4, 13))


def test_the_first_backup_of_a_change_that_is_tried_again_and_again_stays(
    database: Database, remote: ScriptedRemote, tmp_path: Path
) -> None:
    _dumps(tmp_path, "24-to-25", 1, 2)
    _dumps(tmp_path, "25-to-26", *range(3, 20))
    name = "25-to-26-20260120T120000Z"
    done = _backup(database, remote, tmp_path, "echo '-- Dump completed'", name)
    assert (done.returncode, done.stderr) == (0, "")
    assert _days(tmp_path, "24-to-25") == []
    assert _days(tmp_path, "25-to-26") == [3, *range(11, 21)]


def test_a_failed_backup_says_that_nothing_was_changed(database: Database, remote: ScriptedRemote) -> None:
    remote.on("mariadb-dump", Result(1, "", "No space left on device"))
    with pytest.raises(BackupFailed, match=r"so nothing was changed: .*No space left") as caught:
        database.backup("b", lambda host, name, script: remote.run(host, script))
    assert caught.value.exit_code == 8
    assert "database-0" in caught.value.hint
