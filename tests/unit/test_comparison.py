"""Comparing environments and releases: what differs is told, what is the same is not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from io import StringIO

from builders import LOCAL, R25, R26, R26_BUILDS, R27, ROOT, TEMPLATES
from rich.console import Console

from pipeline.comparison import Comparison, compare_environments, compare_releases
from pipeline.environment import Environment, load
from pipeline.plantext import show_comparison
from pipeline.release import Package
from pipeline.render import RenderedStack, render


def _render(environment: Environment) -> Sequence[RenderedStack]:
    return render(environment, TEMPLATES)


def _keys(found: Comparison, section: str) -> dict[str, tuple[str, str]]:
    return {one.key: (one.left, one.right) for one in found.differences if one.section == section}


def _shown(found: Comparison) -> str:
    out = StringIO()
    show_comparison(found, Console(file=out, width=160))
    return out.getvalue()


def test_an_environment_does_not_differ_from_itself_under_another_name() -> None:
    twin = LOCAL.model_copy(update={"name": "twin"})
    found = compare_environments(LOCAL, twin, _render)
    assert (found.differences, found.templates) == ((), {})
    assert _shown(found) == "local and twin: nothing differs\n"


def test_settings_parameters_and_templates_that_differ_are_told() -> None:
    other = load("local-production", ROOT / "environments")
    engine = LOCAL.topology.engine.model_copy(update={"count": 3, "flavor": "big"})
    other = other.model_copy(update={"topology": other.topology.model_copy(update={"engine": engine})})
    found = compare_environments(LOCAL, other, _render)
    settings = _keys(found, "settings")
    assert settings["promotes_from"] == ("null", "local")
    assert settings["topology.engine.count"] == ("2", "3")
    assert _keys(found, "parameters of engine") == {"flavor": ("local", "big")}
    assert _keys(found, "parameters of identity") == {"region_name": ("local", "local-production")}
    assert set(found.templates) == {"engine"}
    assert any("engine-2" in line for line in found.templates["engine"] if line.startswith("+"))
    assert "topology.engine.count" in _shown(found)
    assert found.to_json()["left"] == "local"


def test_releases_differ_in_packages_rpc_schema_and_mode() -> None:
    old = replace(R25, packages=(Package("a", "1", "a", "0" * 64), Package("gone", "1", "g", "0" * 64)))
    new = replace(R26, packages=(Package("a", "2", "a", "0" * 64), Package("new", "1", "n", "0" * 64)))
    found = compare_releases(old, new)
    assert _keys(found, "packages") == {"a": ("1", "2"), "gone": ("1", ""), "new": ("", "1")}
    release = _keys(found, "release")
    assert release["worker RPC"] == ("1.4", "1.9")
    assert release["schema (Alembic head)"] == ("c6214ca60943", "97b2a986f922")
    assert set(_keys(found, "upgrade")) == {"mode"}


def test_another_build_of_the_same_version_is_told() -> None:
    one, other = (replace(R26, packages=(Package("a", "1", "a", digit * 64),)) for digit in "01")
    assert _keys(compare_releases(one, other), "packages") == {"a": ("1", "1, another build")}


def test_a_release_does_not_differ_from_itself() -> None:
    assert compare_releases(R26_BUILDS[0], R26_BUILDS[0]).differences == ()


def test_no_mode_is_told_where_there_is_no_road() -> None:
    assert not _keys(compare_releases(R25, R27), "upgrade")
    assert not _keys(compare_releases(R27, R26), "upgrade")
