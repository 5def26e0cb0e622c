"""A plot of what was measured, as SVG: a panel a case, a bar a tool, on one scale of time for all."""

from __future__ import annotations

import math
from collections.abc import Mapping
from html import escape
from typing import Any

from benchmarks.tables import title

__all__ = ["svg"]

_WIDTH, _LEFT, _RIGHT = 760, 140, 90
_BAR, _GAP, _HEAD, _FOOT = 14, 20, 34, 30
_COLOURS = {"pipeline": "#c0392b", "startup": "#b8b8b8", "handshakes": "#b8b8b8"}
_OTHERS = "#4a6fa5"


def svg(figures: Mapping[str, Any]) -> str:
    """Return an SVG document: medians as bars, the spread of the rounds as a line, seconds on a logarithmic scale."""
    cases = [(title(case), _ended(case["tools"])) for case in figures["cases"]]
    cases = [(name, tools) for name, tools in cases if tools]
    scale = _Scale([tool for _, tools in cases for tool in tools.values()])
    parts, top = [], 10
    for name, tools in cases:
        parts.append(_panel(name, tools, scale, top))
        top += _HEAD + _GAP * len(tools) + _FOOT
    style = "text { font: 12px sans-serif; fill: #222 } .grid { stroke: #ddd } .spread { stroke: #222 }"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {top}" width="{_WIDTH}" height="{top}">\n'
        f'<style>{style}</style>\n<rect width="100%" height="100%" fill="white"/>\n' + "".join(parts) + "</svg>\n"
    )


class _Scale:
    """Where on the x axis so many seconds are; powers of ten around all that was measured."""

    def __init__(self, tools: list[Mapping[str, Any]]) -> None:
        least = min((tool["min_s"] for tool in tools), default=0.1)
        most = max((tool["max_s"] for tool in tools), default=1)
        self._low = math.ceil(math.log10(max(least, 0.001))) - 1  # so that even the shortest bar has a length
        self._high = max(math.ceil(math.log10(max(most, 0.001))), self._low + 1)

    def ticks(self) -> list[float]:
        return [10.0**power for power in range(self._low, self._high + 1)]

    def x(self, seconds: float) -> float:
        share = (math.log10(max(seconds, 10.0**self._low)) - self._low) / (self._high - self._low)
        return round(_LEFT + share * (_WIDTH - _LEFT - _RIGHT), 1)


def _ended(tools: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    return {name: tool for name, tool in tools.items() if "median_s" in tool}


def _panel(name: str, tools: Mapping[str, Mapping[str, Any]], scale: _Scale, top: int) -> str:
    bottom = top + _HEAD + _GAP * len(tools)
    lines = [f'<text x="{_LEFT}" y="{top + 18}" font-weight="bold">{escape(name)}</text>\n']
    for tick in scale.ticks():
        x = scale.x(tick)
        lines.append(f'<line class="grid" x1="{x}" x2="{x}" y1="{top + _HEAD - 6}" y2="{bottom}"/>\n')
        lines.append(f'<text x="{x}" y="{bottom + 14}" text-anchor="middle">{tick:g} s</text>\n')
    for number, (tool, seen) in enumerate(tools.items()):
        lines.append(_bar(tool, seen, scale, top + _HEAD + _GAP * number))
    return "".join(lines)


def _bar(tool: str, seen: Mapping[str, Any], scale: _Scale, y: int) -> str:
    end, middle = scale.x(seen["median_s"]), y + _BAR / 2
    least, most = scale.x(seen["min_s"]), scale.x(seen["max_s"])
    return (
        f'<text x="{_LEFT - 8}" y="{y + 11}" text-anchor="end">{escape(tool)}</text>\n'
        f'<rect x="{_LEFT}" y="{y}" width="{round(end - _LEFT, 1)}" height="{_BAR}" '
        f'fill="{_COLOURS.get(tool, _OTHERS)}"/>\n'
        f'<line class="spread" x1="{least}" x2="{most}" y1="{middle}" y2="{middle}"/>\n'
        f'<text x="{most + 6}" y="{y + 11}">{seen["median_s"]:.2f} s</text>\n'
    )
