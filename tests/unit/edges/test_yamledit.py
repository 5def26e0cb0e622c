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
