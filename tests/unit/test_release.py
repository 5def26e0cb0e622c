"""Releases: content decides the name, and two releases decide the mode of an upgrade."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.errors import ConfigurationInvalid
from pipeline.release import (
    HeatVersion,
    Mode,
    Package,
    Release,
    alembic_head_of,
    engine_rpc_of,
    newer_heads,
    upgrade_mode,
    why,
    worker_rpc_of,
)

HEAT = Package("openstack-heat", "26.0.2", "openstack_heat-26.0.2-py3-none-any.whl", "a" * 64)
YAML = Package("pyyaml", "6.0.3", "pyyaml-6.0.3-cp311-cp311-manylinux_2_28_x86_64.whl", "b" * 64)


def release(version: str = "26.0.2", worker: str = "1.9", head: str = "97b2a986f922") -> Release:
    return Release(HeatVersion.parse(version), "1.36", worker, head, "3.11", (HEAT, YAML))


OLD = release("25.0.2", "1.4", "c6214ca60943")
NEW = release("26.0.2")
NEWEST = release("27.0.1")


def test_versions_are_ordered_as_numbers_and_not_as_text() -> None:
    assert HeatVersion.parse("26.0.10") > HeatVersion.parse("26.0.9") > HeatVersion.parse("9.9.9")


@pytest.mark.parametrize("text", ["", "26", "26.0", "26.0.2rc1", "v26.0.2", "26.0.2.1", " 26.0.2", "２６.0.x"])
def test_what_is_no_version_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ConfigurationInvalid, match=r"26\.0\.2"):
        HeatVersion.parse(text)


@pytest.mark.parametrize(
    ("version", "series"), [("20.0.0", "2023.1"), ("24.0.0", "2025.1"), ("25.0.2", "2025.2"), ("27.0.1", "2026.2")]
)
def test_series_follow_from_the_major_version(version: str, series: str) -> None:
    assert HeatVersion.parse(version).series == series


def test_the_id_is_the_version_and_the_beginning_of_the_digest() -> None:
    assert NEW.id == f"26.0.2-{NEW.digest[:12]}"


def test_an_id_tells_its_version() -> None:
    assert HeatVersion.of(NEW.id) == NEW.heat


def test_an_older_release_knows_no_schema_of_the_newer_ones_but_works_with_each() -> None:
    assert newer_heads([OLD, NEW, NEWEST], OLD) == {NEW.alembic_head}


def test_neither_an_older_release_nor_one_with_the_same_schema_has_a_newer_one() -> None:
    assert newer_heads([OLD, NEW, NEWEST], NEW) == set()
    assert newer_heads([NEW, NEWEST], NEWEST) == set()


@pytest.mark.parametrize(
    "other",
    [
        replace(NEW, worker_rpc="1.10"),
        replace(NEW, engine_rpc="1.37"),
        replace(NEW, alembic_head="ffffffffffff"),
        replace(NEW, python="3.12"),
        replace(NEW, packages=(HEAT,)),
        replace(NEW, packages=(HEAT, replace(YAML, version="6.0.4"))),
        replace(NEW, packages=(HEAT, replace(YAML, sha256="c" * 64))),
    ],
)
def test_the_id_changes_with_anything_that_decides_what_runs(other: Release) -> None:
    assert other.id != NEW.id


def test_the_order_of_packages_changes_nothing() -> None:
    other = replace(NEW, packages=(YAML, HEAT))
    assert (other.id, other.to_json(), other.lock()) == (NEW.id, NEW.to_json(), NEW.lock())


def test_a_manifest_reads_back_to_the_same_bytes() -> None:
    assert Release.from_json(NEW.to_json()).to_json() == NEW.to_json()


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text.replace('"1.9"', '"1.4"'),
        lambda text: text.replace("b" * 64, "c" * 64),
        lambda text: text[:-20],
        lambda text: text.replace('"worker_rpc"', '"worker"'),
        lambda text: "[]",
    ],
)
def test_a_damaged_manifest_is_refused(damage) -> None:
    with pytest.raises(ConfigurationInvalid, match="manifest"):
        Release.from_json(damage(NEW.to_json()))


def test_the_lock_pins_every_package_to_one_hash_and_holds_no_address() -> None:
    assert NEW.lock() == f"openstack-heat==26.0.2 --hash=sha256:{'a' * 64}\npyyaml==6.0.3 --hash=sha256:{'b' * 64}\n"


def test_another_worker_rpc_needs_a_vhost_of_its_own() -> None:
    assert upgrade_mode(OLD, NEW) is Mode.VHOST_CUTOVER
    assert "1.4 → 1.9" in why(OLD, NEW)
    assert "c6214ca60943 → 97b2a986f922" in why(OLD, NEW)


def test_the_same_worker_rpc_may_share_a_vhost() -> None:
    assert upgrade_mode(NEW, NEWEST) is Mode.SAME_VHOST
    assert "1.9 in both" in why(NEW, NEWEST)


def test_a_rebuilt_release_of_the_same_version_shares_the_vhost() -> None:
    assert upgrade_mode(NEW, replace(NEW, packages=(HEAT,))) is Mode.SAME_VHOST


def test_a_skipped_release_is_refused_with_the_chain_to_go() -> None:
    with pytest.raises(ConfigurationInvalid, match=r"25 \(2025\.2\) → 26 \(2026\.1\) → 27 \(2026\.2\)") as caught:
        upgrade_mode(OLD, NEWEST)
    assert "--release 26.0.0" in caught.value.hint


def test_going_back_is_refused_unless_it_is_a_rollback() -> None:
    with pytest.raises(ConfigurationInvalid, match="rollback"):
        upgrade_mode(NEW, OLD)
    assert upgrade_mode(NEW, OLD, rollback=True) is Mode.VHOST_CUTOVER
    assert upgrade_mode(NEWEST, NEW, rollback=True) is Mode.SAME_VHOST


def test_a_rollback_skips_no_release_either() -> None:
    with pytest.raises(ConfigurationInvalid, match="one release at a time"):
        upgrade_mode(NEWEST, OLD, rollback=True)


WORKER = """
from somewhere import thing
class Other:
    RPC_API_VERSION = '9.9'
class WorkerService(object):
    NAMES = (thing, 'x')
    RPC_API_VERSION = '1.9'
"""


def test_rpc_versions_are_read_from_the_right_class() -> None:
    assert worker_rpc_of(WORKER) == "1.9"
    assert engine_rpc_of(WORKER.replace("WorkerService", "EngineService")) == "1.9"


@pytest.mark.parametrize("source", ["", "RPC_API_VERSION = '1.4'", "class WorkerService: pass", "class ("])
def test_source_without_an_rpc_version_is_refused(source: str) -> None:
    with pytest.raises(ConfigurationInvalid):
        worker_rpc_of(source)


FIRST = "revision = 'aaa'\ndown_revision = None\n"
SECOND = "revision: str = 'bbb'\ndown_revision: str = 'aaa'\n"
BRANCH = "revision = 'ccc'\ndown_revision = 'aaa'\n"
MERGE = "revision = 'ddd'\ndown_revision = ('bbb', 'ccc')\n"


@pytest.mark.parametrize(
    ("sources", "head"), [([FIRST], "aaa"), ([SECOND, FIRST], "bbb"), ([MERGE, BRANCH, SECOND, FIRST, ""], "ddd")]
)
def test_the_head_is_the_revision_nothing_builds_on(sources: list[str], head: str) -> None:
    assert alembic_head_of(sources) == head


@pytest.mark.parametrize("sources", [[], [FIRST, SECOND, BRANCH]])
def test_none_or_several_heads_are_refused(sources: list[str]) -> None:
    with pytest.raises(ConfigurationInvalid, match="one Alembic head"):
        alembic_head_of(sources)
