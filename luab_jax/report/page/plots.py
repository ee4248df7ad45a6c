"""Lines, bars and heat maps as inline SVG.

Plotting libraries write their colours into the SVG. Here they are classes of the page's style sheet, so that a figure
follows the page from light to dark and weighs a few kilobytes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from html import escape
from typing import NamedTuple

from markupsafe import Markup

from luab_jax.results.score import FRACTION
from luab_jax.results.text import format_number

_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 14, 12, 44
"""Room around the axes, in units of the SVG."""
_HEIGHT = 250
_NUM_COLOURS = 8
_MAX_BAR = 26
_MAX_WORD, _BELOW_SLANTED = 17, 88
"""Letters below a bar, and the room that these take when they stand slanted."""
_MAX_DOTS, _MAX_LABELLED = 20, 8
"""Points of a line that are drawn as dots, and that have their numbers beside them."""
_SAME = 1e-9
"""Values that are closer differ by rounding; an axis shows them as one."""

Real = float | int
"""Of a value or of a pixel."""


class Point(NamedTuple):
    """`spread` is drawn to either side; 0 is none."""

    x: Real
    y: Real
    spread: Real = 0.0


class Line(NamedTuple):
    """`run` is the position of the experiment among all, which decides the colour."""

    run: int
    name: str
    points: list[Point]


def colour(run: int) -> str:
    """The class of a run's colour; beyond eight runs the colours come again, dashed."""
    return f"r{run % _NUM_COLOURS}" + (" again" if run >= _NUM_COLOURS else "")


def ticks(low: Real, high: Real, count: int = 5) -> list[float]:
    """About `count` round numbers, of which the first is at or below `low` and the last at or above `high`."""
    if high - low < _SAME * max(1.0, abs(low)):
        high = low + (abs(low) if abs(low) > _SAME else 1.0)
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def _number(value: Real) -> str:
    """A coordinate."""
    return f"{value:.1f}".removesuffix(".0")


def _text(x: Real, y: Real, content: str, kind: str = "", extra: str = "") -> str:
    return f'<text x="{_number(x)}" y="{_number(y)}" class="{kind}"{extra}>{escape(content)}</text>'


class _Axes:
    """The frame of a plot, and from values to places in it."""

    def __init__(
        self, width: Real, x_range: tuple[Real, Real], y_ticks: Sequence[Real], unit: str, below: Real = _BOTTOM
    ):
        """`below` is the room for what stands under the axis."""
        self.width = width
        self._height = _HEIGHT - _BOTTOM + below
        self._x_low, x_high = x_range
        self._x_scale = (width - _LEFT - _RIGHT) / ((x_high - self._x_low) or 1.0)
        self._y_ticks = y_ticks
        self._y_scale = (_HEIGHT - _TOP - _BOTTOM) / (y_ticks[-1] - y_ticks[0])
        self._unit = unit

    def x(self, value: Real) -> float:
        return _LEFT + (value - self._x_low) * self._x_scale

    def y(self, value: Real) -> float:
        return _HEIGHT - _BOTTOM - (value - self._y_ticks[0]) * self._y_scale

    def grid(self) -> Iterator[str]:
        for value in self._y_ticks:
            y = _number(self.y(value))
            yield f'<line class="grid" x1="{_LEFT}" x2="{_number(self.width - _RIGHT)}" y1="{y}" y2="{y}"/>'
            yield _text(_LEFT - 6, self.y(value) + 4, _tick_text(self._unit, value), "end")

    def spread(self, x: Real, y: Real, spread: Real) -> str:
        if not spread:
            return ""
        low, high = _number(self.y(y - spread)), _number(self.y(y + spread))
        return f'<path class="spread" d="M{_number(x)} {low}V{high}"/>'

    def svg(self, label: str, parts: Sequence[str]) -> Markup:
        width = _number(self.width)
        return Markup(
            f'<svg viewBox="0 0 {width} {_number(self._height)}" style="width:{width}px" role="img"'
            f' aria-label="{escape(label)}">{"".join([*self.grid(), *parts])}</svg>'
        )


def _tick_text(unit: str, value: Real) -> str:
    """A round number, in percent for fractions."""
    return f"{100 * value:g}" if unit == FRACTION else f"{value:g}"


def are_apart(values: Sequence[Real]) -> bool:
    """Whether every one of ascending values can be named below the axis."""
    gaps = [b - a for a, b in itertools.pairwise(values)]
    return not gaps or min(gaps) >= (values[-1] - values[0]) / 18


def line_plot(lines: Sequence[Line], *, x_label: str, unit: str, x_marks: Sequence[Real] = ()) -> Markup:
    """`x_marks` are the values of x to name; round ones if there are none. Points that are not finite are left out."""
    kept = [line._replace(points=[p for p in line.points if math.isfinite(p.y)]) for line in lines]
    points = [point for line in kept for point in line.points]
    if not points:
        return Markup("")
    low, high = min(p.x for p in points), max(p.x for p in points)
    places = sorted({p.x for p in points})
    own = places if len(places) <= _MAX_LABELLED and are_apart(places) else ()  # few places are named themselves
    marks = list(x_marks or own) or [t for t in ticks(low, high, 6) if low <= t <= high]
    if low == high:  # a single place is the middle of the axis, and named
        marks, (low, high) = [low], (low - 1, low + 1)
    y_ticks = ticks(min(p.y - p.spread for p in points), max(p.y + p.spread for p in points))
    axes = _Axes(430, (low, high), y_ticks, unit)
    parts = [_text(axes.x(m), _HEIGHT - _BOTTOM + 17, f"{m:,.10g}", "middle") for m in marks]
    parts.append(_text((axes.width + _LEFT - _RIGHT) / 2, _HEIGHT - 8, x_label, "middle label"))
    for line in kept:
        if not line.points:
            continue
        path = "L".join(f"{_number(axes.x(p.x))} {_number(axes.y(p.y))}" for p in line.points)
        parts.append(f'<g class="{colour(line.run)}"><path class="line" d="M{path}"/>')
        if len(line.points) <= _MAX_DOTS:
            for p in line.points:
                title = f"{line.name}: {p.x:,.10g}: {format_number(p.y, unit)}"
                parts.append(axes.spread(axes.x(p.x), p.y, p.spread))
                parts.append(
                    f'<circle cx="{_number(axes.x(p.x))}" cy="{_number(axes.y(p.y))}" r="3.2">'
                    f"<title>{escape(title)}</title></circle>"
                )
        parts.append("</g>")
    parts += _values(axes, kept, unit)
    return axes.svg(x_label, parts)


def _values(axes: _Axes, lines: Sequence[Line], unit: str) -> Iterator[str]:
    """The number at every point of lines that have few, where there is room for it."""
    if max(len(line.points) for line in lines) > _MAX_LABELLED:
        return
    taken: list[tuple[float, float]] = []
    for line in lines:
        for p in line.points:
            x = float(min(axes.width - _RIGHT - 12, max(_LEFT + 16, axes.x(p.x))))
            above = axes.y(p.y) - 9
            y = next((y for y in (above, above + 25) if _is_free(x, y, taken)), None)
            if y is not None:
                taken.append((x, y))
                yield f'<g class="{colour(line.run)}">{_text(x, y, format_number(p.y, unit), "middle value own")}</g>'


def _is_free(x: float, y: float, taken: Sequence[tuple[float, float]]) -> bool:
    inside = _TOP - 4 < y < _HEIGHT - _BOTTOM - 2
    return inside and all(abs(x - other_x) > 34 or abs(y - other_y) > 12 for other_x, other_y in taken)


def bar_plot(categories: Sequence[str], lines: Sequence[Line], *, unit: str) -> Markup:
    """A group of bars for every category, from zero; a point's x is the position of its category."""
    points = [point for line in lines for point in line.points if math.isfinite(point.y)]
    if not points:
        return Markup("")
    width = _LEFT + _RIGHT + max(370, len(categories) * max(30, 9 * len(lines) + 10))
    top = max(p.y + p.spread for p in points)
    slot = (width - _LEFT - _RIGHT) / len(categories)
    slanted = max(map(len, categories)) * 6 > slot
    y_ticks = ticks(min(0.0, *(p.y - p.spread for p in points)), top)
    axes = _Axes(width, (-0.5, len(categories) - 0.5), y_ticks, unit, _BELOW_SLANTED if slanted else _BOTTOM)
    bar = min(_MAX_BAR, 0.78 * slot / len(lines))
    parts: list[str] = []
    for place, line in enumerate(lines):
        parts.append(f'<g class="{colour(line.run)}">')
        for p in line.points:
            if not math.isfinite(p.y):
                continue
            left = axes.x(p.x) + (place - len(lines) / 2) * bar
            low, high = sorted((axes.y(0.0), axes.y(p.y)))
            title = f"{line.name}: {categories[int(p.x)]}: {format_number(p.y, unit)}"
            parts.append(
                f'<rect x="{_number(left)}" y="{_number(low)}" width="{_number(bar - 1)}"'
                f' height="{_number(high - low)}"><title>{escape(title)}</title></rect>'
            )
            parts.append(axes.spread(left + (bar - 1) / 2, p.y, p.spread))
        parts.append("</g>")
    for i, category in enumerate(categories):
        x, y = axes.x(i), _HEIGHT - _BOTTOM + 15
        turn = f' transform="rotate(-50 {_number(x)} {_number(y)})"' if slanted else ""
        words = category if len(category) <= _MAX_WORD else category[: _MAX_WORD - 1] + "…"
        parts.append(_text(x, y, words.replace("_", " "), "end" if slanted else "middle", turn))
    return axes.svg("bars", parts)


def heat_map(
    x_names: Sequence[str], y_names: Sequence[str], values: dict[tuple[int, int], Real], *, unit: str, top: Real
) -> Markup:
    """A square for every (column, row), the fuller the nearer to `top`; what is absent stays empty."""
    side, left, above = 52, 40, 22
    width, height = left + side * len(x_names) + 4, above + side * len(y_names) + 4
    parts = [_text(left + side * (i + 0.5), above - 7, name, "middle") for i, name in enumerate(x_names)]
    parts += [_text(left - 6, above + side * (i + 0.5) + 4, name, "end") for i, name in enumerate(y_names)]
    for (column, row), value in values.items():
        x, y = left + side * column, above + side * row
        share = min(1.0, max(0.0, value / top)) if top > 0 and math.isfinite(value) else 0.0
        parts.append(
            f'<rect x="{x + 1}" y="{y + 1}" width="{side - 2}" height="{side - 2}" rx="4"'
            f' fill-opacity="{0.04 + 0.6 * share:.2f}"/>'
        )
        parts.append(_text(x + side / 2, y + side / 2 + 4, format_number(value, unit), "middle value"))
    return Markup(
        f'<svg viewBox="0 0 {width} {height}" style="width:{width}px" role="img" aria-label="heat map">'
        f"{''.join(parts)}</svg>"
    )
