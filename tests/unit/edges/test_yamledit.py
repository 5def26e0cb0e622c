"""A file that people write: one value changes, every other byte stays."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from pipeline.edges.yamledit import set_value

ENVIRONMENTS = Path(__file__).parents[3] / "environments"
FILES = sorted(path.name for path in ENVIRONMENTS.glob("*.yaml") if path.stem != "defaults")


@pytest.mark.parametrize("name", FILES)
def test_one_value_changes_and_every_other_line_stays(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    before = (ENVIRONMENTS / name).read_text("utf-8")
    path.write_text(before, "utf-8")
    old = set_value(path, ("topology", "engine", "count"), 7)
    after = path.read_text("utf-8")
    assert yaml.safe_load(after)["topology"]["engine"]["count"] == 7
    assert old == ((yaml.safe_load(before).get("topology") or {}).get("engine") or {}).get("count")
    lost = [line for line in before.splitlines() if line not in after.splitlines()]
    assert len(lost) <= 1, "the line of the value, where it was one"
    assert all("engine" in line for line in lost)


def test_a_value_that_is_there_already_leaves_the_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("topology:   {engine: {count: 3}}   # so it was\n", "utf-8")
    stamp = path.stat().st_mtime_ns
    assert set_value(path, ("topology", "engine", "count"), 3) == 3
    assert path.stat().st_mtime_ns == stamp


def test_the_mappings_on_the_way_are_made_and_the_mode_stays(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("# mine\ncloud: c\n", "utf-8")
    path.chmod(0o640)
    assert set_value(path, ("topology", "api", "count"), 4) is None
    assert path.read_text("utf-8").startswith("# mine\ncloud: c\n")
    assert yaml.safe_load(path.read_text("utf-8"))["topology"] == {"api": {"count": 4}}
    assert path.stat().st_mode & 0o777 == 0o640
    assert [found.name for found in tmp_path.iterdir()] == ["a.yaml"]


SHARED = {
    "alias": "engine: *s",
    "merge": "engine: {<<: *s}",
    "merges": "engine: {<<: [*s, {a: 1}]}",
}


@pytest.mark.parametrize("how", SHARED)
@pytest.mark.parametrize("role", ["api", "engine"])
def test_what_another_place_shares_stays_as_it_was_there(tmp_path: Path, role: str, how: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(f"topology:\n  api: &s\n    count: 2  # two\n  # next\n  {SHARED[how]}\n# last\n", "utf-8")
    wanted = {name: dict(one) for name, one in yaml.safe_load(path.read_text("utf-8"))["topology"].items()}
    wanted[role]["count"] = 4
    assert set_value(path, ("topology", role, "count"), 4) == 2
    after = path.read_text("utf-8")
    assert yaml.safe_load(after)["topology"] == wanted
    assert [after.count(comment) for comment in ("# two", "# next", "# last")] == [1, 1, 1]


def test_a_mapping_that_a_merge_brings_stays_where_it_came_from(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("base: &b\n  engine: {count: 2, of: {a: 1}}  # b\ntopology:\n  <<: *b\n  api: *b\n", "utf-8")
    assert set_value(path, ("topology", "engine", "of", "a"), 4) == 1
    assert path.read_text("utf-8") == (
        "base: &b\n  engine: {count: 2, of: {a: 1}}  # b\ntopology:\n  <<: *b\n  api: *b\n"
        "  engine: {count: 2, of: {a: 4}}\n"
    )
