"""Results as one HTML page that needs nothing else, and no network.

Names come from other people's files, so every text is escaped, and the page's own policy forbids it to load or run
anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from luab_jax.evaluation.comparison import BETWEEN, other_data
from luab_jax.evaluation.examples import Examples
from luab_jax.evaluation.layout import Heading, headings
from luab_jax.evaluation.page.figures import legend, suite_figures
from luab_jax.evaluation.page.pictures import example_pictures
from luab_jax.evaluation.page.tables import headline_table, score_tables
from luab_jax.evaluation.page.template import PAGE
from luab_jax.evaluation.page.training import training_curves
from luab_jax.evaluation.paper import SOURCE, Row, paper_rows
from luab_jax.evaluation.report import Column, columns


def page(results: Sequence[Mapping[str, Any]], *, with_paper: bool = False, examples: Sequence[Examples] = ()) -> str:
    """The whole page; `with_paper` puts the paper's numbers below the runs that correspond to one of its rows.

    Of `examples` those are shown whose checkpoint is that of a result.
    """
    all_columns = columns(results)
    paper = paper_rows(all_columns) if with_paper else {}
    reported = {name for _, values in paper.values() for name in values}
    shown = headings(all_columns, reported)
    suites = list(
        dict.fromkeys(suite for column in all_columns for result in column.results for suite in result["suites"])
    )
    figures = "".join(
        f"<section><h3>{escape(suite)}</h3>{drawn}</section>"
        for suite in suites
        if (drawn := suite_figures(all_columns, suite))
    )
    curves = training_curves(all_columns)
    pictures = example_pictures(all_columns, examples)
    sections = [
        _section("Headline scores", headline_table(all_columns, shown, paper)),
        *_notes(all_columns, shown, paper, with_paper=with_paper),
        _section("By condition", f'{legend(all_columns)}<div class="suites">{figures}</div>') if figures else "",
        _section("Example images", pictures) if pictures else "",
        _section("Training", legend(all_columns) + curves) if curves else "",
        _section("Every score", score_tables(all_columns)),
        _section("Runs", _runs(all_columns)),
    ]
    return PAGE.substitute(
        num_results=_count(len(results), "results file"),
        num_runs=_count(len(all_columns), "experiment"),
        sections="\n".join(section for section in sections if section),
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' if number != 1 else ''}"


def _section(title: str, content: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{content}</section>"


def _notes(
    all_columns: Sequence[Column],
    shown: Sequence[Heading],
    paper: Mapping[int, tuple[Row, Mapping[str, float]]],
    *,
    with_paper: bool,
) -> list[str]:
    """What a reader must know to read the table."""
    found = ["Bold: the best as printed. ± is the standard deviation over seeds; in brackets 95 % intervals."]
    if len(all_columns) > 1:
        found.append(f"{BETWEEN} In colour: 0 is outside the interval.")
    others = {
        heading.suite
        for column in all_columns[1:]
        for heading in shown
        if other_data(all_columns[0], column, heading.suite)
    }
    if others:
        found.append(f"† Not on the same data as the first run: {', '.join(sorted(others))}.")
    if any(heading.paper == "IN-O" for heading in shown):
        found.append("IN-O: AUROC, which the paper's column fits; AUPR is below.")
    if any(heading.paper == "ObjNet" for heading in shown):
        found.append("ObjNet: argmax over 1,000 classes, ObjectNet's own template; that over its 125 indices is below.")
    if paper:
        found.append(f"In grey: {SOURCE}.")
    elif with_paper:
        found.append("None of these runs corresponds to a row of the paper (its models, on ImageNet or COCO).")
    return [f'<p class="note">{escape(note)}</p>' for note in found]


def _runs(all_columns: Sequence[Column]) -> str:
    """Which checkpoint each result is of."""
    rows = []
    for column in all_columns:
        for result in column.results:
            checkpoint = result["checkpoint"]
            facts = (checkpoint["seed"], checkpoint["step"], checkpoint["dataset"], checkpoint["workdir"])
            cells = "".join(f"<td>{escape(str(fact))}</td>" for fact in facts)
            rows.append(f"<tr><th>{escape(column.name)}</th>{cells}</tr>")
    head = "".join(f"<th>{name}</th>" for name in ("run", "seed", "step", "data", "checkpoint"))
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
