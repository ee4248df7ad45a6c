"""The figures of a suite's groups, with their numbers below."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape

from luab_jax.evaluation.page.groups import Axis, Kind, Parsed, parse
from luab_jax.evaluation.page.plots import Line, Point, bar_plot, colour, heat_map, line_plot
from luab_jax.evaluation.report import Column, column_title, deviation, format_score, mean

_MAX_BARS = 40
"""Groups beyond that are numbers only."""


def figure(caption: str, drawing: str, below: str = "") -> str:
    """A drawing with its caption; nothing if there is nothing to show."""
    if not drawing and not below:
        return ""
    return f"<figure><figcaption>{escape(caption)}</figcaption>{drawing}{below}</figure>"


def legend(columns: Sequence[Column]) -> str:
    """Which colour is which run."""
    keys = "".join(
        f'<span><svg viewBox="0 0 22 10"><g class="{colour(i)}"><path class="line" d="M1 5H21"/></g></svg>'
        f"{escape(column_title(column))}</span>"
        for i, column in enumerate(columns)
    )
    return f'<p class="legend">{keys}</p>'


def group_values(column: Column, suite: str) -> dict[str, list[float]]:
    """For every group its score, one per seed; the extra kinds of ImageNet-C are among the groups."""
    found: dict[str, list[float]] = {}
    for result in column.results:
        for name, value in result["suites"].get(suite, {}).get("groups", {}).items():
            found.setdefault(name, []).append(float(value))
    return found


def suite_figures(columns: Sequence[Column], suite: str) -> str:
    """The figures of one suite; empty if no run has groups of it."""
    values = [group_values(column, suite) for column in columns]
    names = list(dict.fromkeys(name for of_column in values for name in of_column))
    if not names:
        return ""
    parsed = parse(names)
    drawings = {
        Kind.CURVE: _curve,
        Kind.GRID: _grids,
        Kind.SEVERITIES: _severities,
        Kind.NAMES: _bars,
    }[parsed.kind](columns, suite, parsed, values)
    numbers = _numbers(columns, names, values)
    return f'<div class="figures">{"".join(drawings)}</div>{numbers}'


def _point(x: float, values: Sequence[float]) -> Point:
    return Point(x, mean(values), deviation(values) if len(values) > 1 else 0.0)


def _curve(
    columns: Sequence[Column], suite: str, parsed: Parsed, values: Sequence[Mapping[str, list[float]]]
) -> Iterator[str]:
    lines = []
    for run, (column, of_column) in enumerate(zip(columns, values, strict=True)):
        points = [_point(float(parsed.where[name][0]), found) for name, found in of_column.items()]
        lines.append(Line(run, column.name, sorted(points)))
    axis = parsed.axes[0]
    marks = axis.values if _apart(axis.values) else ()
    yield figure(f"{suite}: top-1 (%) by {axis.name}", line_plot(lines, x_label=axis.name, score="top1", x_marks=marks))


def _apart(values: Sequence[float]) -> bool:
    """Whether every value can be named below the axis."""
    gaps = [b - a for a, b in itertools.pairwise(values)]
    return not gaps or min(gaps) >= (values[-1] - values[0]) / 18


def _grids(
    columns: Sequence[Column], suite: str, parsed: Parsed, values: Sequence[Mapping[str, list[float]]]
) -> Iterator[str]:
    across, down = parsed.axes
    means = [{name: mean(found) for name, found in of_column.items()} for of_column in values]
    top = max(value for of_column in means for value in of_column.values())
    for run, (column, of_column) in enumerate(zip(columns, means, strict=True)):
        if of_column:
            squares = {_place(across, down, parsed.where[name]): value for name, value in of_column.items()}
            drawing = heat_map(across.written, down.written, squares, score="top1", top=top)
            caption = f"{suite}: top-1 (%) by {across.name} → and {down.name} ↓, {column_title(column)}"
            yield figure(caption, f'<div class="map {colour(run)}">{drawing}</div>')


def _place(across: Axis, down: Axis, where: tuple[float | str, float | str | None]) -> tuple[int, int]:
    return across.values.index(float(where[0])), down.values.index(float(where[1] or 0.0))


def _severities(
    columns: Sequence[Column], suite: str, parsed: Parsed, values: Sequence[Mapping[str, list[float]]]
) -> Iterator[str]:
    axis = parsed.axes[0]
    kinds = list(dict.fromkeys(str(kind) for _, kind in parsed.where.values()))
    by_kind, by_severity = [], []
    for run, (column, of_column) in enumerate(zip(columns, values, strict=True)):
        seeds = max((len(found) for found in of_column.values()), default=0)
        bars = [_point(i, _over(of_column, parsed, 1, kind, seeds)) for i, kind in enumerate(kinds)]
        curve = [_point(value, _over(of_column, parsed, 0, value, seeds)) for value in axis.values]
        by_kind.append(Line(run, column.name, bars))
        by_severity.append(Line(run, column.name, curve))
    yield figure(
        f"{suite}: top-1 (%) by kind, mean over {len(axis.values)} values of {axis.name}",
        bar_plot(kinds, by_kind, score="top1"),
    )
    yield figure(
        f"{suite}: top-1 (%) by {axis.name}, mean over {len(kinds)} kinds",
        line_plot(by_severity, x_label=axis.name, score="top1", x_marks=axis.values),
    )


def _over(
    of_column: Mapping[str, list[float]], parsed: Parsed, place: int, wanted: float | str, seeds: int
) -> list[float]:
    """One mean per seed over the groups that have `wanted` at a place; NaN where not every seed has all of them."""
    found = [of_column.get(name, []) for name, where in parsed.where.items() if where[place] == wanted]
    if not found or any(len(values) != seeds for values in found) or not seeds:
        return [math.nan]
    return [mean([values[seed] for values in found]) for seed in range(seeds)]


def _bars(
    columns: Sequence[Column], suite: str, parsed: Parsed, values: Sequence[Mapping[str, list[float]]]
) -> Iterator[str]:
    names = list(parsed.where)
    if len(names) > _MAX_BARS:
        return
    lines = [
        Line(run, column.name, [_point(names.index(name), found) for name, found in of_column.items()])
        for run, (column, of_column) in enumerate(zip(columns, values, strict=True))
    ]
    yield figure(f"{suite}: top-1 (%) by group", bar_plot(names, lines, score="top1"))


def _numbers(columns: Sequence[Column], names: Sequence[str], values: Sequence[Mapping[str, list[float]]]) -> str:
    """Every group's number, folded away."""
    head = "".join(f"<th>{escape(column_title(column))}</th>" for column in columns)
    rows = []
    for name in names:
        cells = "".join(f"<td>{_cell(of_column.get(name, []))}</td>" for of_column in values)
        rows.append(f"<tr><th>{escape(name)}</th>{cells}</tr>")
    return (
        f"<details><summary>numbers of {len(names)} groups</summary><div class='wide'><table><thead>"
        f"<tr><th>group</th>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div></details>"
    )


def _cell(values: Sequence[float]) -> str:
    text = format_score("top1", mean(values))
    if len(values) > 1:
        text += f" <small>± {format_score('top1', deviation(values))}</small>"
    return text if values else "–"
