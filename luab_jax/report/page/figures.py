"""The figures of a suite's groups, with their numbers below."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from markupsafe import Markup

from luab_jax.report.comparison import Score
from luab_jax.report.page.groups import Axis, Kind, Parsed, parse
from luab_jax.report.page.plots import Line, Point, Real, are_apart, bar_plot, colour, heat_map, line_plot
from luab_jax.report.runs import Comparison, Experiment
from luab_jax.results.format import Suite
from luab_jax.results.score import FRACTION
from luab_jax.results.text import printable, unit_name

_MAX_BARS = 40
"""Groups beyond that are numbers only."""


class Figure(NamedTuple):
    """A drawing with its caption."""

    caption: str
    drawing: Markup
    looks: str = ""


class Key(NamedTuple):
    """A colour of the legend."""

    looks: str
    name: str


class Numbers(NamedTuple):
    """A group and its value in every experiment, as text."""

    group: str
    values: list[str]


class GroupFigures(NamedTuple):
    """What a suite's groups are drawn as."""

    title: str
    figures: list[Figure]
    names: list[str]
    """Of the experiments that have groups."""
    numbers: list[Numbers]


def legend(experiments: Sequence[Experiment], drawn: Sequence[int]) -> list[Key]:
    """Which colour is which run, of those that are drawn."""
    return [Key(colour(i), experiments[i].title) for i in drawn]


def group_values(experiment: Experiment, row: str) -> dict[str, list[float]]:
    """For every group its score, one per seed."""
    found: dict[str, list[float]] = {}
    for run in experiment.runs:
        if row in run.by_title:
            for name, value in run.by_title[row][1].groups.items():
                found.setdefault(name, []).append(value)
    return found


def has_fewer_groups(comparison: Comparison) -> bool:
    """Whether some seeds of an experiment lack a group that others have."""
    experiments = [of for of in comparison.experiments if len(of.runs) > 1]
    values = [
        (of, found) for row in comparison.titles for of in experiments for found in group_values(of, row).values()
    ]
    return any(len(found) < len(of.runs) for of, found in values)


class _Drawn(NamedTuple):
    """One suite of all experiments, on its way into figures."""

    title: str
    score: str
    """`top-1 (%)`: what the values of groups are."""
    unit: str
    places: list[int]
    experiments: list[Experiment]
    values: list[dict[str, list[float]]]
    parsed: Parsed


def suite_figures(experiments: Sequence[Experiment], row: str) -> GroupFigures | None:
    """None if no run has groups of a suite."""
    all_values = [group_values(experiment, row) for experiment in experiments]
    places = [i for i, values in enumerate(all_values) if values]
    values = [all_values[i] for i in places]
    names = list(dict.fromkeys(name for of_one in values for name in of_one))
    if not names:
        return None
    shown = [experiments[i] for i in places]
    unit, score = _score(shown[0].suite(row))
    drawn = _Drawn(row, score, unit, places, shown, values, parse(names))
    draw = {Kind.CURVE: _curve, Kind.GRID: _grids, Kind.SEVERITIES: _severities, Kind.NAMES: _bars}[drawn.parsed.kind]
    of_shown = list(zip(values, shown, strict=True))
    numbers = [Numbers(printable(name), [_cell(v.get(name, []), unit, of) for v, of in of_shown]) for name in names]
    return GroupFigures(row, [f for f in draw(drawn) if f.drawing], [of.title for of in shown], numbers)


def _score(suite: Suite | None) -> tuple[str, str]:
    """Unit and name of what the groups of a suite have."""
    if suite is None or suite.headline is None:
        return FRACTION, "score (%)"
    unit = suite.scores[suite.headline].unit
    return unit, f"{printable(suite.headline)} ({unit_name(unit)})" if unit_name(unit) else printable(suite.headline)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan


def _point(x: Real, values: Sequence[float]) -> Point:
    return Point(x, _mean(values), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0)


def _curve(drawn: _Drawn) -> Iterator[Figure]:
    lines = []
    for place, experiment, values in zip(drawn.places, drawn.experiments, drawn.values, strict=True):
        points = [_point(float(drawn.parsed.where[name][0]), found) for name, found in values.items()]
        lines.append(Line(place, experiment.name, sorted(points)))
    axis = drawn.parsed.axes[0]
    marks = axis.values if are_apart(axis.values) else ()
    label = printable(axis.name)
    yield Figure(
        f"{drawn.title}: {drawn.score} by {label}", line_plot(lines, x_label=label, unit=drawn.unit, x_marks=marks)
    )


def _grids(drawn: _Drawn) -> Iterator[Figure]:
    across, down = drawn.parsed.axes
    means = [{name: _mean(found) for name, found in values.items()} for values in drawn.values]
    top = max(value for of_one in means for value in of_one.values())
    axes = f"{printable(across.name)} → and {printable(down.name)} ↓"
    for place, experiment, of_one in zip(drawn.places, drawn.experiments, means, strict=True):
        squares = {_place(across, down, drawn.parsed.where[name]): value for name, value in of_one.items()}
        drawing = heat_map(across.written, down.written, squares, unit=drawn.unit, top=top)
        yield Figure(f"{drawn.title}: {drawn.score} by {axes}, {experiment.title}", drawing, f"map {colour(place)}")


def _place(across: Axis, down: Axis, where: tuple[float | str, float | str | None]) -> tuple[int, int]:
    return across.values.index(float(where[0])), down.values.index(float(where[1] or 0.0))


def _severities(drawn: _Drawn) -> Iterator[Figure]:
    parsed, axis = drawn.parsed, drawn.parsed.axes[0]
    kinds = list(dict.fromkeys(str(kind) for _, kind in parsed.where.values()))
    by_kind, by_severity = [], []
    for place, experiment, values in zip(drawn.places, drawn.experiments, drawn.values, strict=True):
        seeds = max((len(found) for found in values.values()), default=0)
        bars = [_point(i, _over(values, parsed, 1, kind, seeds)) for i, kind in enumerate(kinds)]
        curve = [_point(value, _over(values, parsed, 0, value, seeds)) for value in axis.values]
        by_kind.append(Line(place, experiment.name, bars))
        by_severity.append(Line(place, experiment.name, curve))
    label = printable(axis.name)
    yield Figure(
        f"{drawn.title}: {drawn.score} by kind, mean over {len(axis.values)} values of {label}",
        bar_plot([printable(kind) for kind in kinds], by_kind, unit=drawn.unit),
    )
    yield Figure(
        f"{drawn.title}: {drawn.score} by {label}, mean over {len(kinds)} kinds",
        line_plot(by_severity, x_label=label, unit=drawn.unit, x_marks=axis.values),
    )


def _over(
    of_one: Mapping[str, list[float]], parsed: Parsed, place: int, wanted: float | str, seeds: int
) -> list[float]:
    """One mean per seed over the groups that have `wanted` at a place; NaN where not every seed has all of them."""
    found = [of_one.get(name, []) for name, where in parsed.where.items() if where[place] == wanted]
    if not found or any(len(values) != seeds for values in found) or not seeds:
        return [math.nan]
    return [_mean([values[seed] for values in found]) for seed in range(seeds)]


def _bars(drawn: _Drawn) -> Iterator[Figure]:
    names = list(drawn.parsed.where)
    if len(names) > _MAX_BARS:
        return
    lines = [
        Line(place, experiment.name, [_point(names.index(name), found) for name, found in values.items()])
        for place, experiment, values in zip(drawn.places, drawn.experiments, drawn.values, strict=True)
    ]
    labels = [printable(name) for name in names]
    yield Figure(f"{drawn.title}: {drawn.score} by group", bar_plot(labels, lines, unit=drawn.unit))


def _cell(values: Sequence[float], unit: str, experiment: Experiment) -> str:
    if not values:
        return "–"
    return Score(tuple(values), unit=unit, num_runs=len(experiment.runs)).with_deviation
