"""The tables of the page: the paper's layout with runs as rows, and every score with runs as columns."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from html import escape

from luab_jax.evaluation.comparison import Difference, Score, best, difference, other_data, score_of
from luab_jax.evaluation.layout import Heading, arrow, direction
from luab_jax.evaluation.page.plots import colour
from luab_jax.evaluation.paper import Row
from luab_jax.evaluation.report import Column, column_title, format_score, is_accuracy, notes, scalar_scores, signed

DASH = "–"


def headline_table(
    columns: Sequence[Column], headings: Sequence[Heading], paper: Mapping[int, tuple[Row, Mapping[str, float]]]
) -> str:
    """Runs below each other; `paper` has for some of them, by position, what the paper reports."""
    scores = [[score_of(column, heading.suite, heading.score) for heading in headings] for column in columns]
    winners = [best([row[i] for row in scores]) for i in range(len(headings))]
    body: list[str] = []
    for run, column in enumerate(columns):
        cells = []
        for i, heading in enumerate(headings):
            change = _change(scores[0][i], scores[run][i], _marks(columns, run, heading.suite)) if run else ""
            cells.append(f"<td>{_value(scores[run][i], best=winners[i] == run)}{change}</td>")
        body.append(f"<tr><th>{_key(run)}{escape(column_title(column))}</th>{''.join(cells)}</tr>")
        if run in paper:
            row, reported = paper[run]
            values = (f"{reported[h.paper]:.1f}" if h.paper and h.paper in reported else DASH for h in headings)
            body.append(
                f'<tr class="paper"><th>paper: {escape(" ".join(row))}</th>'
                f"{''.join(f'<td>{value}</td>' for value in values)}</tr>"
            )
    groups = [(name, len(list(members))) for name, members in itertools.groupby(headings, lambda h: h.group)]
    return (
        '<div class="wide"><table class="headline"><thead><tr><th></th>'
        + "".join(f'<th colspan="{count}" class="group">{escape(name)}</th>' for name, count in groups)
        + "</tr><tr><th>run</th>"
        + "".join(f"<th>{escape(h.label)} {arrow(h.score)}<small>{escape(_unit(h))}</small></th>" for h in headings)
        + f"</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def _unit(heading: Heading) -> str:
    return f"{heading.score.replace('_', ' ')}{' %' if is_accuracy(heading.score) else ''}"


def score_tables(columns: Sequence[Column]) -> str:
    """Every score of every suite, with intervals."""
    suites = list(dict.fromkeys(suite for c in columns for r in c.results for suite in r["suites"]))
    head = "".join(
        f"<th>{_key(run)}{escape(column_title(column))}</th>{'<th>difference</th>' if run else ''}"
        for run, column in enumerate(columns)
    )
    body = "".join(_suite(columns, suite) for suite in suites)
    return f'<div class="wide"><table class="scores"><thead><tr><th>score</th>{head}</tr></thead>{body}</table></div>'


def _suite(columns: Sequence[Column], suite: str) -> str:
    found = [r["suites"][suite] for column in columns for r in column.results if suite in r["suites"]]
    names = dict.fromkeys(name for scores in found for name in scalar_scores(scores))
    facts = dict.fromkeys(f"n {scores['n']:,}" for scores in found if "n" in scores)
    facts |= dict.fromkeys(note for scores in found for note in notes(scores))
    facts |= dict.fromkeys(f"intervals: {m}" for scores in found if (m := scores.get("interval_method")))
    rows = [
        f'<tr class="suite"><th colspan="{2 * len(columns)}">{escape(suite)}'
        f" <small>{escape('; '.join(facts))}</small></th></tr>"
    ]
    for name in names:
        scores = [score_of(column, suite, name) for column in columns]
        winner = best(scores)
        cells = []
        for run, score in enumerate(scores):
            cells.append(f"<td>{_value(score, best=winner == run)}{_interval(score)}</td>")
            if run:
                cells.append(f"<td>{_change(scores[0], score, _marks(columns, run, suite))}</td>")
        unit = " %" if is_accuracy(name) else ""
        rows.append(f"<tr><th>{escape(name)}{unit} {arrow(name)}</th>{''.join(cells)}</tr>")
    return f"<tbody>{''.join(rows)}</tbody>"


def _key(run: int) -> str:
    return f'<i class="key {colour(run)}"></i>'


def _marks(columns: Sequence[Column], run: int, suite: str) -> str:
    return "†" if other_data(columns[0], columns[run], suite) else ""


def _value(score: Score, *, best: bool) -> str:
    if score.text == "-":
        return DASH
    text = f"<b>{score.text}</b>" if best else score.text
    if score.deviation is not None:
        text += f" <small>± {format_score(score.name, score.deviation)}</small>"
    return text


def _interval(score: Score) -> str:
    return f" <small>{_range(score.name, score.interval)}</small>" if score.interval is not None else ""


def _change(first: Score, other: Score, marks: str) -> str:
    change = difference(first, other)
    text = signed(format_score(other.name, change.value))
    if text == "-":
        return f'<div class="change">{DASH}</div>'
    bounds = f" <small>{_range(other.name, change.interval, with_sign=True)}</small>" if change.interval else ""
    return f'<div class="change {_verdict(other.name, change)}">{text}{marks}{bounds}</div>'


def _verdict(name: str, change: Difference) -> str:
    sign = direction(name)
    if not sign or not change.is_certain:
        return ""
    return "better" if sign * change.value > 0 else "worse"


def _range(name: str, interval: tuple[float, float], *, with_sign: bool = False) -> str:
    low, high = (format_score(name, value) for value in interval)
    return f"[{signed(low)}, {signed(high)}]" if with_sign else f"[{low}, {high}]"
