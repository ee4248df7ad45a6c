"""Results as a LaTeX table in the paper's layout: runs below each other, suites side by side."""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from luab_jax.evaluation.comparison import Score, best, score_of
from luab_jax.evaluation.layout import direction, headings
from luab_jax.evaluation.paper import SOURCE, paper_rows
from luab_jax.evaluation.report import column_title, columns, format_score, is_accuracy

_ESCAPES = {
    **{char: f"\\{char}" for char in "{}$&#_%"},
    **{char: f"{{{char}}}" for char in "[]*"},  # at the start of a row they are arguments of the one before
    "\\": r"\textbackslash{}",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "λ": r"$\lambda$",
    "±": r"$\pm$",
}
_ARROWS = {1: r" $\uparrow$", -1: r" $\downarrow$", 0: ""}


def escaped(text: str) -> str:
    """Text that LaTeX prints as it is; line breaks and control characters become spaces.

    Of letters that its usual fonts may lack, and then stop it, their ASCII is left, or a question mark.
    """
    plain = re.sub(r"[\x00-\x20\x7f]+", " ", text)
    return "".join(_ESCAPES.get(char) or _ascii(char) for char in plain)


def _ascii(char: str) -> str:
    letters = (c for c in unicodedata.normalize("NFKD", char) if not unicodedata.combining(c))
    return "".join(c if c.isascii() else "?" for c in letters)


def latex(results: Sequence[Mapping[str, Any]], *, with_paper: bool = False) -> str:
    """A `tabular` for booktabs (and xcolor, with the paper's rows); the best of a column is bold if it is one alone."""
    all_columns = columns(results)
    paper = paper_rows(all_columns) if with_paper else {}
    shown = headings(all_columns, {name for _, values in paper.values() for name in values})
    scores = [[score_of(column, heading.suite, heading.score) for heading in shown] for column in all_columns]
    winners = [best([row[i] for row in scores]) for i in range(len(shown))]
    groups = [(name, len(list(members))) for name, members in itertools.groupby(shown, lambda h: h.group)]
    rows: list[list[str]] = []
    for run, column in enumerate(all_columns):
        cells = [_cell(score, bold=winners[i] == run) for i, score in enumerate(scores[run])]
        rows.append([escaped(column_title(column)), *cells])
        if run in paper:
            row, values = paper[run]
            reported = [f"{values[h.paper]:.1f}" if h.paper and h.paper in values else "--" for h in shown]
            rows.append([rf"\textcolor{{gray}}{{{cell}}}" for cell in (f"paper: {escaped(' '.join(row))}", *reported)])
    labels = [f"{escaped(h.label)}{_ARROWS[direction(h.score)]}" for h in shown]
    units = " Distances are fractions of a side." if any(not is_accuracy(h.score) for h in shown) else ""
    return "\n".join(
        [
            rf"% \usepackage{{booktabs{',xcolor' if paper else ''}}}. Percent; ± is the deviation over seeds.{units}",
            *([f"% In grey: {SOURCE}."] if paper else []),
            rf"\begin{{tabular}}{{l{'r' * len(shown)}}}",
            r"\toprule",
            _line(["", *(rf"\multicolumn{{{count}}}{{c}}{{{escaped(name)}}}" for name, count in groups)]),
            " ".join(_rules([count for _, count in groups])),
            _line(["", *labels]),
            r"\midrule",
            *(_line(row) for row in rows),
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )


def _line(cells: Sequence[str]) -> str:
    return f"{' & '.join(cells)} \\\\"


def _rules(counts: Sequence[int]) -> list[str]:
    """One below each group."""
    ends = list(itertools.accumulate(counts, initial=1))
    return [rf"\cmidrule(lr){{{start + 1}-{end}}}" for start, end in itertools.pairwise(ends)]


def _cell(score: Score, *, bold: bool) -> str:
    if score.text == "-":
        return "--"
    text = rf"\textbf{{{score.text}}}" if bold else score.text
    if score.deviation is not None:
        text += rf" {{\scriptsize $\pm$ {format_score(score.name, score.deviation)}}}"
    return text
