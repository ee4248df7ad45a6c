"""Effects with their intervals as SVG that stands alone, for a paper as for the page.

The report's plots take their colours from its style sheet and have no intervals to one side and the other of zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from benchmarks.study.effects import Effect

_ROW, _LABEL, _WIDTH = 22, 400, 860

PAGE = """<!doctype html>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem }}
pre {{ white-space: pre-wrap }}
svg {{ max-width: 100%; height: auto; display: block; margin: 2rem 0 }}
</style>
{body}
"""


def forest(title: str, effects: Sequence[tuple[str, Effect]]) -> str:
    """A row for each effect: its point, its interval, and where zero is; in percentage points."""
    reach = 1.05 * max(0.001, *(abs(end) for _, effect in effects for end in (effect.low, effect.high)))
    middle, scale = (_LABEL + _WIDTH) / 2, (_WIDTH - _LABEL) / 2 / reach
    height = _ROW * (len(effects) + 2)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif"'
        f' font-size="12" role="img"><title>{escape(title)}</title>',
        f'<text x="0" y="14" font-weight="bold">{escape(title)}</text>',
        f'<line x1="{middle}" x2="{middle}" y1="{_ROW}" y2="{height - _ROW}" stroke="#888"/>',
    ]
    for place, (label, effect) in enumerate(effects, 1):
        y = _ROW * (place + 0.5)
        low, at, high = (round(middle + scale * value, 1) for value in (effect.low, effect.value, effect.high))
        colour = "#b3261e" if effect.is_certain else "#444"
        parts += [
            f'<text x="0" y="{y + 4}">{escape(label)}</text>',
            f'<line x1="{low}" x2="{high}" y1="{y}" y2="{y}" stroke="{colour}" stroke-width="2"/>',
            f'<circle cx="{at}" cy="{y}" r="4" fill="{colour}"/>',
        ]
    for value in (-reach, 0.0, reach):
        x = middle + scale * value
        anchor = "middle" if value == 0 else "end" if value > 0 else "start"
        parts.append(f'<text x="{x:.1f}" y="{height - 4}" text-anchor="{anchor}">{100 * value:+.1f}</text>')
    return "".join([*parts, "</svg>"])


_CURVE_WIDTH, _CURVE_HEIGHT, _MARGIN = 860, 260, 60


def curve(title: str, across: str, points: Sequence[tuple[str, Effect]]) -> str:
    """Effects beside each other, in percentage points, at equal distances; `across` names what grows to the right."""
    reach = 1.05 * max(0.001, *(abs(end) for _, effect in points for end in (effect.low, effect.high)))
    middle, scale = (_CURVE_HEIGHT - 20) / 2, (_CURVE_HEIGHT - 80) / 2 / reach
    step = (_CURVE_WIDTH - 2 * _MARGIN) / max(len(points) - 1, 1)
    places = [(_MARGIN + step * i, middle - scale * effect.value) for i, (_, effect) in enumerate(points)]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_CURVE_WIDTH} {_CURVE_HEIGHT}"'
        f' font-family="sans-serif" font-size="12" role="img"><title>{escape(title)}</title>',
        f'<text x="0" y="14" font-weight="bold">{escape(title)}</text>',
        f'<line x1="{_MARGIN - 20}" x2="{_CURVE_WIDTH - 20}" y1="{middle}" y2="{middle}" stroke="#888"/>',
        f'<polyline fill="none" stroke="#888" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in places)}"/>',
        f'<text x="{_CURVE_WIDTH / 2}" y="{_CURVE_HEIGHT - 4}" text-anchor="middle">{escape(across)}</text>',
    ]
    for (x, y), (label, effect) in zip(places, points, strict=True):
        low, high = (round(middle - scale * value, 1) for value in (effect.low, effect.high))
        colour = "#b3261e" if effect.is_certain else "#444"
        parts += [
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{low}" y2="{high}" stroke="{colour}" stroke-width="2"/>',
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>',
            f'<text x="{x:.1f}" y="{_CURVE_HEIGHT - 22}" text-anchor="middle">{escape(label)}</text>',
        ]
    for value in (-reach, 0.0, reach):
        parts.append(f'<text x="0" y="{middle - scale * value + 4:.1f}">{100 * value:+.1f}</text>')
    return "".join([*parts, "</svg>"])
