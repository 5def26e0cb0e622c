"""The benchmark of rendering: what it gives to each tool, and what it makes of the figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jinja2
from builders import TEMPLATES

from benchmarks import tables
from benchmarks.figures import render_verdicts
from benchmarks.render import plain, template_of_peers, write_environments
from pipeline.environment import list_environments, load
from pipeline.render import render
from pipeline.validation import Catalogue, validate


def _case(count: int = 200, **medians: float) -> dict[str, Any]:
    rest = {"min_s": 1.0, "max_s": 9.0, "cpu_s": 2.0, "host_cpu_s": 0.0, "peak_mb": 50.0, "connections": 0}
    tools = {name: {"median_s": seconds, **rest} for name, seconds in medians.items()}
    return {"environments": count, "stacks": 7 * count, "tools": tools}


def test_the_environments_differ_in_size_and_are_valid(tmp_path: Path) -> None:
    write_environments(tmp_path / "environments", 20)
    loaded = [load(name, tmp_path / "environments") for name in list_environments(tmp_path / "environments")]
    assert len({(one.topology.api.count, one.topology.engine.count) for one in loaded}) == 15
    catalogue = Catalogue.load()
    assert not [problem for one in loaded for problem in validate(one.name, render(one, TEMPLATES), catalogue)]


def test_peers_render_what_we_render_from_plain_settings(tmp_path: Path) -> None:
    write_environments(tmp_path / "environments", 1)
    environment = load("region-000", tmp_path / "environments")
    texts = {
        path.name: template_of_peers(path.name, path.read_text("utf-8"), "given") for path in TEMPLATES.glob("*.j2")
    }
    peer = jinja2.Environment(  # noqa: S701 (YAML)
        loader=jinja2.DictLoader(texts), trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    settings = json.loads(json.dumps(plain(environment)))
    for stack in render(environment, TEMPLATES):
        found = peer.get_template(f"{stack.name}.yaml.j2").render(given=settings)
        assert found.strip() == stack.template.strip()


def test_the_target_is_ten_seconds_and_no_peer_faster() -> None:
    met = render_verdicts([_case(pipeline=4.0, sceptre=30.0, ansible=90.0)])
    assert [(one.met, one.seen) for one in met] == [(True, "4.00 s"), (True, "7.5 × (4.00 s, sceptre 30.00 s)")]
    assert [one.met for one in render_verdicts([_case(pipeline=11.0, sceptre=10.0)])] == [False, False]


def test_few_environments_say_nothing_of_the_ten_seconds() -> None:
    assert [one.target[:15] for one in render_verdicts([_case(20, pipeline=1.0, sceptre=2.0)])] == ["20 environments"]


def test_tables_leave_out_what_only_hosts_have() -> None:
    text = tables.markdown({"cases": [_case(pipeline=1.0)]}, [])
    assert "**200 environments, 1400 stacks**" in text
    assert "connections" not in text
    assert "| pipeline | 1.00 s | 1.00 – 9.00 s | 1.0 × | 2.00 s | 50 MB |" in text
