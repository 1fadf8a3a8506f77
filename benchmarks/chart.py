"""The ratios as a chart: one bar a scenario, a mark at its goal, a line at the peer. Scalable Vector Graphics by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from benchmarks.deployments import PEER
from benchmarks.report import ratio

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.measure import Result

_WIDTH, _LABEL, _BAR, _GAP, _TOP, _FOOT = 860, 230, 16, 8, 34, 22
_MOST = 1.5
"""The largest ratio that the scale has; a longer bar is cut and says its figure."""


def svg(results: Sequence[Result], goals: Mapping[str, float], title: str) -> str:
    """A chart of our default deployment's ratios to the peer; scenarios without a peer are left out."""
    rows = [
        (result.scenario, value, goals.get(result.scenario, 0.0))
        for result in results
        if result.deployment == "dapr-shared" and (value := ratio(result, results)) is not None
    ]
    height = _TOP + len(rows) * (_BAR + _GAP) + _FOOT
    scale = (_WIDTH - _LABEL - 70) / _MOST
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif" font-size="12">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="8" y="18" font-size="14" font-weight="bold" fill="#222222">{escape(title)}</text>',
    ]
    for number, (name, value, goal) in enumerate(rows):
        y = _TOP + number * (_BAR + _GAP)
        colour = "#2a9d5c" if not goal or value <= goal else "#c8763a"
        length = min(value, _MOST) * scale
        parts += [
            f'<text x="{_LABEL - 8}" y="{y + 12}" text-anchor="end" fill="#222222">{escape(name)}</text>',
            f'<rect x="{_LABEL}" y="{y}" width="{length:.1f}" height="{_BAR}" fill="{colour}"/>',
            f'<text x="{_LABEL + length + 6:.1f}" y="{y + 12}" fill="#222222">{value:.2f}</text>',
        ]
        if goal:
            x = _LABEL + min(goal, _MOST) * scale
            parts.append(f'<path d="M{x:.1f} {y - 3}v{_BAR + 6}" stroke="#222222" stroke-width="2"/>')
    x = _LABEL + scale
    parts += [
        f'<path d="M{x:.1f} {_TOP - 6}V{height - _FOOT}" stroke="#888888" stroke-dasharray="4 3"/>',
        f'<text x="{x:.1f}" y="{height - 7}" text-anchor="middle" fill="#666666">{PEER} = 1; black: the goal</text>',
        "</svg>",
    ]
    return "\n".join(parts) + "\n"
