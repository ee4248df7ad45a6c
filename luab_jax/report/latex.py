"""Results as a LaTeX table in the paper's layout: runs below each other, suites side by side."""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Sequence

from luab_jax.report.comparison import FEWER, Score, best, other_data, score_of
from luab_jax.report.layout import Heading, headings
from luab_jax.report.paper import SOURCE, paper_rows
from luab_jax.report.runs import Comparison
from luab_jax.results.score import FRACTION, Direction
from luab_jax.results.text import format_number, marks

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
_ARROWS = {Direction.HIGHER: r" $\uparrow$", Direction.LOWER: r" $\downarrow$", Direction.NONE: ""}


def escaped(text: str) -> str:
    """Text that LaTeX prints as it is; line breaks and control characters become spaces.

    Of letters that its usual fonts may lack, and then stop it, their ASCII is left, or a question mark.
    """
    plain = re.sub(r"[\x00-\x20\x7f]+", " ", text)
    return "".join(_ESCAPES.get(char) or _ascii(char) for char in plain)


def _ascii(char: str) -> str:
    letters = (c for c in unicodedata.normalize("NFKD", char) if not unicodedata.combining(c))
    return "".join(c if c.isascii() else "?" for c in letters)


def latex(comparison: Comparison, *, with_paper: bool = False) -> str:
    """A `tabular` for booktabs (and xcolor, with the paper's rows); bold is what beats every other run beyond doubt."""
    experiments = comparison.experiments
    paper, reasons = paper_rows(experiments) if with_paper else ({}, [])
    shown = headings(experiments)
    scores = [[score_of(of, heading.row, heading.score) for heading in shown] for of in experiments]
    winners = [best([row[i] for row in scores]) for i in range(len(shown))]
    groups = [(name, len(list(members))) for name, members in itertools.groupby(shown, lambda h: h.group)]
    rows: list[list[str]] = []
    marked: set[str] = set()
    for place, experiment in enumerate(experiments):
        cells = []
        for i, score in enumerate(scores[place]):
            mark = _mark(comparison, place, shown[i].row) if score.values else ""
            marked.update(mark)
            cells.append(_cell(score, mark, bold=winners[i] == place))
        rows.append([escaped(experiment.title), *cells])
        if place in paper:
            row, values = paper[place]
            reported = [f"{values[h.paper]:.1f}" if h.paper and h.paper in values else "--" for h in shown]
            rows.append([rf"\textcolor{{gray}}{{{cell}}}" for cell in (f"paper: {escaped(' '.join(row))}", *reported)])
    labels = [f"{escaped(h.label)}{_ARROWS[h.direction]}" for h in shown]
    fewer = [f"{FEWER}."] if any(score.fewer for row in scores for score in row) else []
    comments = [*reasons, *fewer, *(meaning for mark, meaning in _MEANING.items() if mark in marked)]
    return "\n".join(
        [
            *_comments(comparison, shown, comments, with_paper=bool(paper)),
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


_PARTIAL, _CHANGED, _OTHER_DATA = "p", "c", "d"
_MEANING = {
    _PARTIAL: "p: images of the published set are missing.",
    _CHANGED: "c: the images are not as published (generated, stored smaller, or of some classes only).",
    _OTHER_DATA: "d: some runs are on other data than the first row's, or have another font or kind of map.",
}


def _mark(comparison: Comparison, place: int, row: str) -> str:
    """A letter for each thing that makes a score incomparable."""
    experiment = comparison.experiments[place]
    data = [run.by_title[row][1].data for run in experiment.runs if row in run.by_title]
    is_partial, is_changed = any(of.partial for of in data), any(map(marks, data))
    found = _PARTIAL if is_partial else _CHANGED if is_changed else ""
    return found + (_OTHER_DATA if other_data(comparison.reference, experiment, row) else "")


def _comments(comparison: Comparison, shown: Sequence[Heading], notes: Sequence[str], *, with_paper: bool) -> list[str]:
    units = ", ".join(dict.fromkeys(f"{h.label}: {h.unit}" for h in shown if h.unit != FRACTION))
    lines = [
        rf"\usepackage{{booktabs{',xcolor' if with_paper else ''}}}. Percent; ± is the deviation over seeds, in"
        " brackets the 95 % interval of a single run over images." + (f" Not in percent: {units}." if units else ""),
        "Bold: better than every other run, the 95 % interval of each difference excludes 0.",
        *comparison.notes,
        *notes,
        *([f"In grey: {SOURCE}."] if with_paper else []),
    ]
    return [f"% {re.sub(r'[^ -~±λ–]', '?', line)}" for line in lines]


def _line(cells: Sequence[str]) -> str:
    return f"{' & '.join(cells)} \\\\"


def _rules(counts: Sequence[int]) -> list[str]:
    """One below each group."""
    ends = list(itertools.accumulate(counts, initial=1))
    return [rf"\cmidrule(lr){{{start + 1}-{end}}}" for start, end in itertools.pairwise(ends)]


def _cell(score: Score, mark: str, *, bold: bool) -> str:
    if not score.values:
        return "--"
    text = rf"\textbf{{{score.text}}}" if bold else score.text
    text += rf"$^{{\mathrm{{{mark}}}}}$" if mark else ""
    if score.deviation is not None:
        text += rf" {{\scriptsize $\pm$ {format_number(score.deviation, score.unit)}}}"
    elif score.interval is not None:
        low, high = (format_number(bound, score.unit) for bound in score.interval)
        text += rf" {{\scriptsize {{[}}{low}, {high}{{]}}}}"
    return text + (rf" {{\scriptsize {score.fewer}}}" if score.fewer else "")
