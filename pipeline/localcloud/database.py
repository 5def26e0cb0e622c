"""The cloud's own MariaDB: private, on a unix socket only, small and quick rather than safe against power cuts."""

from __future__ import annotations

import shutil
from pathlib import Path

import pymysql

from pipeline.edges.clock import Clock
from pipeline.errors import CommandFailed, PipelineError
from pipeline.localcloud.cgroups import Cgroups
from pipeline.localcloud.cloud import LocalCloud
from pipeline.localcloud.services import ENTER, UNPRIVILEGED, Service
from pipeline.localcloud.system import run

__all__ = ["have_schema", "prepare", "service"]

INSTALL = "mariadb-install"
OPTIONS = (
    "--innodb-log-file-size=16M",
    "--innodb-buffer-pool-size=128M",
    "--innodb-flush-log-at-trx-commit=0",
    "--innodb-doublewrite=0",
    "--innodb-use-native-aio=0",
    "--character-set-server=utf8mb4",
    "--max-connections=500",
    "--performance-schema=0",
    "--skip-log-bin",
)


def prepare(cloud: LocalCloud, groups: Cgroups, clock: Clock) -> None:
    """Have the data directory. It is made under another name, so that one with the right name is complete.

    The maker works in a group, so that one left over from a killed run is ended before its work is thrown away.
    """
    if _data(cloud).is_dir():
        return
    groups.kill(INSTALL, clock)
    unfinished = cloud.directory / ".mariadb"
    if unfinished.exists():
        shutil.rmtree(unfinished)
    try:
        enter = [str(path) for path in groups.make(INSTALL)]
        run(
            "sh", "-c", ENTER, "sh", *enter, "--",
            "mariadb-install-db", "--no-defaults", "--user=root", f"--datadir={unfinished}", *OPTIONS,
            "--auth-root-authentication-method=socket", "--skip-test-db", "--skip-name-resolve",
        )  # fmt: skip
    except CommandFailed as error:
        raise PipelineError(f"the database could not be made: {error.message}", hint="inv local.down") from error
    unfinished.rename(_data(cloud))
    groups.kill(INSTALL, clock)


def service(cloud: LocalCloud) -> Service:
    """Return MariaDB as a service. Only root may connect, known by the socket: there is no password to lose."""
    return Service(
        name="mariadb",
        command=(
            *UNPRIVILEGED, shutil.which("mariadbd") or "/usr/sbin/mariadbd", "--no-defaults", "--user=root",
            f"--datadir={_data(cloud)}", f"--socket={cloud.database_socket}", "--skip-networking",
            f"--pid-file={cloud.run_directory / 'mariadb.pid'}", *OPTIONS,
        ),
        url=f"unix:{cloud.database_socket}",
        healthy=lambda: _answers(cloud),
        grace=15,
    )  # fmt: skip


def have_schema(cloud: LocalCloud, name: str, *, complete: bool) -> None:
    """Have schema `name`. One whose first migration was cut off is made anew: MariaDB cannot take back half of it."""
    with _connect(cloud) as connection, connection.cursor() as cursor:
        if not complete:
            cursor.execute(f"DROP DATABASE IF EXISTS `{name}`")
        cursor.execute(f"CREATE DATABASE IF NOT EXISTS `{name}`")


def _connect(cloud: LocalCloud) -> pymysql.Connection[pymysql.cursors.Cursor]:
    return pymysql.connect(unix_socket=str(cloud.database_socket), user="root", connect_timeout=5)


def _answers(cloud: LocalCloud) -> bool:
    if not cloud.database_socket.exists():
        return False
    try:
        with _connect(cloud):
            return True
    except (pymysql.Error, OSError):
        return False


def _data(cloud: LocalCloud) -> Path:
    return cloud.directory / "mariadb"
