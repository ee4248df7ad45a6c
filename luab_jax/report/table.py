"""Results as rows of text and markdown: a row for every score, a column for every experiment."""

from __future__ import annotations

import math
from collections.abc import Sequence

from luab_jax.report.comparison import FEWER, MOVED, Difference, Score, best, between, difference, other_data, score_of
from luab_jax.report.runs import Comparison, Experiment
from luab_jax.results.score import NUMBER
from luab_jax.results.text import format_number, printable, shown_scores, unit_name

_CERTAIN, _OTHER_DATA = "*", "†"
MARKS = f"{_CERTAIN} the interval of the difference excludes 0."


def score_names(experiments: Sequence[Experiment], row: str) -> list[str]:
    """Of a suite, the headline first."""
    suites = [run.by_title[row][1] for of in experiments for run in of.runs if row in run.by_title]
    return list(dict.fromkeys(name for suite in suites for name in shown_scores(suite)))


def unit_of(scores: Sequence[Score]) -> str:
    return next((score.unit for score in scores if score.values), NUMBER)


def table(comparison: Comparison, *, markdown: bool = False) -> list[list[str]]:
    """Rows of cells, the first the header. Markdown has bold and every interval; text has those of
    differences, or of the scores where there is one experiment only."""
    reference, *others = comparison.experiments
    header = ["score", reference.title]
    for other in others:
        header += [other.title, "difference"]
    rows = [header]
    for row in comparison.titles:
        for name in score_names(comparison.experiments, row):
            scores = [score_of(of, row, name) for of in comparison.experiments]
            if not any(score.values for score in scores):
                continue
            winner = best(scores) if markdown else None
            cells = [f"{row} {printable(name)} {unit_name(unit_of(scores))}".rstrip()]
            for place, score in enumerate(scores):
                text = score.with_interval if markdown or not others else score.with_deviation
                cells.append(f"**{text}**" if place == winner else text)
                if place:
                    mark = _OTHER_DATA if other_data(reference, others[place - 1], row) else ""
                    cells.append(difference_text(difference(scores[0], score), unit_of(scores), mark))
            rows.append(cells)
    return rows


def has_fewer_seeds(comparison: Comparison) -> bool:
    """Whether some seeds of an experiment lack a score that others have."""
    experiments = [of for of in comparison.experiments if len(of.runs) > 1]
    names = [(row, name) for row in comparison.titles for name in score_names(experiments, row)]
    return any(score_of(of, row, name).fewer for of in experiments for row, name in names)


def table_notes(comparison: Comparison) -> list[str]:
    """What a reader of the table must know."""
    found = list(comparison.notes)
    if has_fewer_seeds(comparison):
        found.append(f"{FEWER}.")
    if len(comparison.experiments) < 2:
        return found
    reference, *others = comparison.experiments
    found += [between(comparison), MARKS]
    moved = sorted({row for row in comparison.titles for other in others if other_data(reference, other, row)})
    return [*found, f"{_OTHER_DATA} {MOVED}: {', '.join(moved)}."] if moved else found


def difference_text(found: Difference, unit: str, mark: str = "") -> str:
    """`+1.5 [+0.3, +2.7] *`."""
    text = signed(found.value, unit)
    if found.interval is not None and not math.isnan(found.value):
        text += f"{mark} [{signed(found.interval[0], unit)}, {signed(found.interval[1], unit)}]"
        return text + (f" {_CERTAIN}" if found.is_certain else "")
    return text + mark


def signed(value: float, unit: str) -> str:
    """`+1.5`, `-1.5`, and `0.0` for what is rounded to it."""
    if math.isnan(value):
        return format_number(value, unit)
    magnitude = format_number(abs(value), unit)
    if not any(char in "123456789" for char in magnitude):
        return magnitude
    return f"{'-' if value < 0 else '+'}{magnitude}"


def as_text(rows: Sequence[Sequence[str]], notes: Sequence[str] = ()) -> str:
    """The first column left, the others right; notes below."""
    cells = _padded(rows)
    rule = ["-" * len(cell) for cell in cells[0]]
    lines = "".join("  ".join(row).rstrip() + "\n" for row in [cells[0], rule, *cells[1:]])
    return lines + "".join(f"\n{note}\n" for note in notes)


def as_markdown(rows: Sequence[Sequence[str]], notes: Sequence[str] = ()) -> str:
    cells = _padded([[_markdown(cell) for cell in row] for row in rows])
    widths = [len(cell) for cell in cells[0]]
    rule = ["-" * w if i == 0 else "-" * (w - 1) + ":" for i, w in enumerate(widths)]
    lines = "".join(f"| {' | '.join(row)} |\n" for row in [cells[0], rule, *cells[1:]])
    return lines + "".join(f"\n{_markdown(note)}\n" for note in notes)


def _markdown(text: str) -> str:
    """Without effect as markdown or HTML, but for the stars of bold numbers."""
    is_bold = text.startswith("**") and text.endswith("**") and len(text) > 4
    inner = text[2:-2] if is_bold else text
    for char in "\\`*_{}[]<>|#~":
        if char in "[]*" and _is_of_numbers(inner):
            continue
        inner = inner.replace(char, "\\" + char if char != "<" else "&lt;")
    return f"**{inner}**" if is_bold else inner


def _is_of_numbers(text: str) -> bool:
    return not any(char.isalpha() for char in text)


def _padded(rows: Sequence[Sequence[str]]) -> list[list[str]]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        [cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))]
        for row in rows
    ]
