"""The schema's migration fails: the run stops before any host is touched, and says how to restore the backup."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.faults.faults import NEW, OLD, Region

BEFORE = "c6214ca60943"  # the revision of Heat 25; what the next migration adds is there, so that it fails


def test_a_migration_that_fails_stops_the_run_before_any_host_is_touched(region: Region) -> None:
    region.install()
    before = region.marks()
    with claimed(region, BEFORE):
        run = region.upgrade()
        assert run.code == 8, run.output
    assert "the schema could not be migrated" in run.message
    assert "this run has moved no host" in run.message
    assert "mariadb, as root on database-0" in getattr(run.error, "hint", "")
    assert "drain" not in {step for step, _ in run.steps}
    assert region.marks() == before
    region.is_whole(OLD)
    again = region.upgrade()
    assert again.code == 0, again.output
    region.is_whole(NEW)


@contextmanager
def claimed(region: Region, revision: str) -> Iterator[None]:
    """Have the database claim that its schema is at `revision`."""
    was = _sql(region, "SELECT version_num FROM heat.alembic_version")
    _sql(region, f"UPDATE heat.alembic_version SET version_num='{revision}'")  # noqa: S608 (a constant)
    try:
        yield
    finally:
        _sql(region, f"UPDATE heat.alembic_version SET version_num='{was}'")  # noqa: S608 (the database's own word)


def _sql(region: Region, statement: str) -> str:
    return region.console("database-0", f'mariadb -BN -e "{statement}"')
