"""The tables of the page as what their template fills in: the paper's layout with runs as rows, and every score."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from luab_jax.report.comparison import Difference, Score, best, difference, other_data, score_of
from luab_jax.report.layout import Heading
from luab_jax.report.page.plots import colour
from luab_jax.report.paper import Reported
from luab_jax.report.runs import Comparison, Experiment
from luab_jax.report.table import score_names, signed, unit_of
from luab_jax.results.score import Direction
from luab_jax.results.text import MISSING, format_interval, format_number, notes, printable, unit_name

DASH = "–"


class Change(NamedTuple):
    """A difference to the reference."""

    text: str
    interval: str = ""
    verdict: str = ""
    """`better`, `worse`, or nothing where the interval supports neither."""
    method: str = ""


class Cell(NamedTuple):
    """A score in a table."""

    text: str
    label: str
    """Of its column, for narrow screens where cells stand below each other."""
    is_best: bool = False
    deviation: str = ""
    interval: str = ""
    change: Change | None = None
    fewer: str = ""
    """Of how many seeds it is, where the run has more."""


class Row(NamedTuple):
    """A line of a table; `looks` is the class of a run's colour."""

    title: str
    cells: list[Cell]
    looks: str = ""
    is_paper: bool = False


class Headline(NamedTuple):
    """Runs below each other."""

    groups: list[tuple[str, int]]
    headings: Sequence[Heading]
    rows: list[Row]


class SuiteTable(NamedTuple):
    """Every score of a suite."""

    title: str
    facts: list[str]
    rows: list[Row]


def headline_table(comparison: Comparison, headings: Sequence[Heading], paper: Mapping[int, Reported]) -> Headline:
    """`paper` has for some of the experiments, by position, what the paper reports."""
    experiments = comparison.experiments
    scores = [[score_of(of, heading.row, heading.score) for heading in headings] for of in experiments]
    winners = [best([row[i] for row in scores]) for i in range(len(headings))]
    rows: list[Row] = []
    for place, experiment in enumerate(experiments):
        cells = []
        for i, heading in enumerate(headings):
            mark = _mark(comparison, place, heading.row)
            change = _change(scores[0][i], scores[place][i], mark) if place else None
            label = f"{heading.label}: {heading.score_with_unit}"
            cells.append(_cell(scores[place][i], label, is_best=winners[i] == place, change=change))
        rows.append(Row(experiment.title, cells, colour(place)))
        if place in paper:
            row, reported = paper[place]
            values = (f"{reported[h.paper]:.1f}" if h.paper and h.paper in reported else DASH for h in headings)
            paper_cells = [Cell(value, heading.label) for value, heading in zip(values, headings, strict=True)]
            rows.append(Row(f"paper: {' '.join(row)}", paper_cells, is_paper=True))
    groups = [(name, len(list(members))) for name, members in itertools.groupby(headings, lambda h: h.group)]
    return Headline(groups, headings, rows)


def score_tables(comparison: Comparison) -> list[SuiteTable]:
    """Every score of every suite, with intervals."""
    return [_suite_table(comparison, row) for row in comparison.titles]


def _suite_table(comparison: Comparison, row: str) -> SuiteTable:
    experiments = comparison.experiments
    rows = []
    for name in score_names(experiments, row):
        scores = [score_of(of, row, name) for of in experiments]
        winner = best(scores)
        cells: list[Cell] = []
        for place, (experiment, score) in enumerate(zip(experiments, scores, strict=True)):
            change = _change(scores[0], score, _mark(comparison, place, row)) if place else None
            interval = format_interval(score.interval, score.unit) if score.interval else ""
            cells.append(_cell(score, experiment.title, is_best=winner == place, interval=interval, change=change))
        direction = next((score.direction for score in scores if score.values), Direction.NONE)
        rows.append(Row(f"{printable(name)} {unit_name(unit_of(scores))} {direction.arrow}".rstrip(), cells))
    return SuiteTable(row, _facts(experiments, row), rows)


def _facts(experiments: Sequence[Experiment], row: str) -> list[str]:
    """How a suite was scored; each once, however many runs have it."""
    found: dict[str, None] = {}
    for run in (run for experiment in experiments for run in experiment.runs if row in run.by_title):
        _, suite = run.by_title[row]
        methods = dict.fromkeys(entry.method for entry in suite.scores.values() if entry.method)
        facts = [f"n {suite.n:,}", suite.protocol, f"images: {suite.preprocessing}" if suite.preprocessing else ""]
        facts += [suite.dtype, "average weights" if suite.weights == "average" else "", *notes(suite)]
        facts += [f"intervals: {method}" for method in methods]
        found |= dict.fromkeys(printable(fact) for fact in facts if fact)
    return list(found)


def _mark(comparison: Comparison, place: int, row: str) -> str:
    return "†" if other_data(comparison.reference, comparison.experiments[place], row) else ""


def _cell(score: Score, label: str, *, is_best: bool, interval: str = "", change: Change | None = None) -> Cell:
    if not score.values:
        return Cell(DASH, label)
    deviation = "" if score.deviation is None else format_number(score.deviation, score.unit)
    return Cell(score.text, label, is_best, deviation, interval, change, score.fewer)


def _change(first: Score, other: Score, mark: str) -> Change:
    found = difference(first, other)
    text = signed(found.value, other.unit)
    if text == MISSING or math.isnan(found.value):
        return Change(DASH)
    interval = ""
    if found.interval is not None:
        low, high = (signed(bound, other.unit) for bound in found.interval)
        interval = f"[{low}, {high}]"
    return Change(text + mark, interval, _verdict(other.direction, found), found.method)


def _verdict(direction: Direction, found: Difference) -> str:
    if not direction.sign or not found.is_certain:
        return ""
    return "better" if direction.sign * found.value > 0 else "worse"
