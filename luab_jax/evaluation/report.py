"""Results side by side, as rows of text.

Runs that differ in their seed only are one column, shown as mean ± standard deviation; every column but the first is
followed by its difference to the first.
"""

from __future__ import annotations

import csv
import enum
import io
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from luab_jax.errors import UserError


class Format(enum.Enum):
    TEXT = "text"
    MARKDOWN = "markdown"
    CSV = "csv"
    LATEX = "latex"
    HTML = "html"


_BOOKKEEPING = ("n", "seconds", "partial", "resized", "forward")
_NOT_IN_TABLES = ("ece",)
"""Would double the rows; the terminal and results.json have it."""
_MAX_GROUPS = 12
"""That the terminal shows one by one; results.json has them all."""


class Column(NamedTuple):
    """One experiment: its name and, for every score, one value per seed."""

    name: str
    values: dict[str, list[float]]
    results: tuple[Mapping[str, Any], ...] = ()
    """One per seed, suites by their titles."""

    @property
    def num_runs(self) -> int:
        return len(self.results)


def is_accuracy(score: str) -> bool:
    """Distances are fractions of a side; everything else is a share, printed in percent."""
    return "distance" not in score


def format_score(score: str, value: float) -> str:
    if math.isnan(value):
        return "-"
    return f"{100 * value:.1f}" if is_accuracy(score) else f"{value:.3f}"


def scalar_scores(scores: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a suite that are scores, without counts and times."""
    return {
        name: float(value)
        for name, value in scores.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and name.split("_")[0] not in _BOOKKEEPING
    }


def row_title(suite: str, scores: Mapping[str, Any]) -> str:
    """The suite, and whether its images are not the published: another protocol, hence another row."""
    smaller = scores.get("stored_smaller")
    generated = any("generated" in notes for notes in scores.get("data_notes", {}).values())
    return suite + (" [generated]" if generated else "") + (f" [images {smaller}]" if smaller else "")


def suite_lines(name: str, scores: Mapping[str, Any]) -> list[str]:
    """A suite for the terminal: its scores, and its groups below; of many groups the extremes only."""
    bounds = scores.get("intervals", {})
    shown = "  ".join(
        f"{score} {format_score(score, value)}{_interval(score, bounds)}"
        for score, value in scalar_scores(scores).items()
    )
    noted = f"  ({'; '.join(notes(scores))})" if notes(scores) else ""
    lines = [f"{row_title(name, scores):<18} {shown}  n {scores['n']:,}{_effort(scores)}{noted}"]
    groups = scores.get("groups", {})
    if len(groups) > _MAX_GROUPS:
        worst, best = min(groups, key=groups.__getitem__), max(groups, key=groups.__getitem__)
        ends = (f"{format_score('top1', groups[group])} ({group})" for group in (worst, best))
        return [*lines, f"  {len(groups)} groups: {' to '.join(ends)}"]
    return lines + [f"  {group:<30} {format_score('top1', value)}" for group, value in groups.items()]


def _effort(scores: Mapping[str, Any]) -> str:
    seconds = f"  {scores['seconds']:.1f} s" if "seconds" in scores else ""
    if "forward_passes" not in scores:
        return seconds
    return f"{seconds}  {scores['forward_passes']:,} of {scores['forward_passes_of_brute_force']:,} forward passes"


def compilation_line(compilations: Mapping[str, Any]) -> str:
    """What XLA compiled while the suites ran."""
    total = f"{compilations['programs']} programs compiled or loaded in {compilations['seconds']:.1f} s"
    predict = compilations.get("programs_of_predict")
    return total if predict is None else f"{total}, {predict} of them to predict, for all suites together"


def _interval(score: str, bounds: Mapping[str, Sequence[float]]) -> str:
    if score not in bounds:
        return ""
    low, high = (format_score(score, value) for value in bounds[score])
    return f" [{low}, {high}]"


def notes(scores: Mapping[str, Any]) -> list[str]:
    """What the data is not as published, each once, however many parts have it; and by which protocol a score is."""
    found = ["partial set"] if scores.get("partial") else []
    if "resized_from" in scores:
        found.append(f"stored at {scores['resized_from']} px, resized")
    for of_part in scores.get("data_notes", {}).values():
        for name, value in of_part.items():
            if name == "skipped":
                found.append(f"{sum(value.values())} images skipped")
            elif name != "generated":  # stands in the title
                found.append(f"{name}: {value}")
    found += [f"{score}: {protocol}" for score, protocol in scores.get("protocols", {}).items()]
    found += [f"without {part}: {reason}" for part, reason in scores.get("parts_left_out", {}).items()]
    return list(dict.fromkeys(found))


def experiment_name(checkpoint: Mapping[str, Any]) -> str:
    """`baseline`, `Rand`, or `LUAB click_last`, as in the paper's tables; with λ where there is one."""
    target = checkpoint["target"]
    weighting = checkpoint.get("experiment", {}).get("byproduct.sample_weight")
    suffix = f" weighted by {weighting}" if weighting else ""
    if target == "none":
        return f"baseline{suffix}"
    if target == "timm":
        return "timm"
    weight = f"λ={checkpoint['weight']:g}"
    return (f"Rand {weight}" if target == "random" else f"LUAB {target} {weight}") + suffix


def columns(results: Sequence[Mapping[str, Any]]) -> list[Column]:
    """One column per experiment, in the order of the files; raises `UserError` if a seed stands twice in one."""
    grouped: dict[str, Column] = {}
    seen: set[tuple[str, int]] = set()
    for result in results:
        checkpoint = result["checkpoint"]
        facts = {name: checkpoint[name] for name in ("experiment", "chosen", "dataset", "class_list_hash")}
        override = checkpoint.get("preprocessing_override", {})
        facts["preprocessing_override"] = override
        key = json.dumps(facts, sort_keys=True)
        if (key, checkpoint["seed"]) in seen:
            raise UserError(
                f"two results of one experiment with seed {checkpoint['seed']}, the second from"
                f" {checkpoint['workdir']} step {checkpoint['step']}: their mean would not be one over seeds"
            )
        seen.add((key, checkpoint["seed"]))
        if key not in grouped:
            changed = "".join(f" {name}={_flag(value)}" for name, value in override.items())
            grouped[key] = Column(f"{checkpoint['model']} {experiment_name(checkpoint)}{changed}", {})
        column = grouped[key]
        titled = {row_title(suite, scores): scores for suite, scores in result["suites"].items()}
        grouped[key] = column._replace(results=(*column.results, {**result, "suites": titled}))
        for suite, scores in titled.items():
            for score, value in scalar_scores(scores).items():
                if score in _NOT_IN_TABLES:
                    continue
                column.values.setdefault(f"{suite} {score}", []).append(value)
    return list(grouped.values())


def _flag(value: object) -> str:
    """As it is written on the command line."""
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def table(results: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Rows of cells, the first the header."""
    all_columns = columns(results)
    first = all_columns[0]
    header = ["score", column_title(first)]
    for column in all_columns[1:]:
        header += [column_title(column), "difference"]
    rows = [header]
    for score in dict.fromkeys(score for column in all_columns for score in column.values):
        row = [score + (" %" if is_accuracy(score) else ""), _cell(score, first)]
        for column in all_columns[1:]:
            difference = mean(column.values.get(score)) - mean(first.values.get(score))
            row += [_cell(score, column), signed(format_score(score, difference))]
        rows.append(row)
    return rows


def signed(text: str) -> str:
    """`+1.5`, `-1.5`, and `0.0` for what is rounded to it."""
    if text == "-":
        return text
    magnitude = text.lstrip("-")
    if not float(magnitude):
        return magnitude
    return text if text.startswith("-") else f"+{text}"


def column_title(column: Column) -> str:
    """The name, and of how many seeds it is the mean."""
    return f"{column.name} ({column.num_runs} seeds)" if column.num_runs > 1 else column.name


def mean(values: Sequence[float] | None) -> float:
    """NaN of nothing."""
    return sum(values) / len(values) if values else math.nan


def deviation(values: Sequence[float]) -> float:
    """Standard deviation over seeds, of at least two."""
    centre = mean(values)
    return math.sqrt(sum((v - centre) ** 2 for v in values) / (len(values) - 1))


def _cell(score: str, column: Column) -> str:
    values = column.values.get(score)
    text = format_score(score, mean(values))
    if values and len(values) > 1:
        text += f" ± {format_score(score, deviation(values))}"
    return text


def render(rows: Sequence[Sequence[str]], format: Format) -> str:
    """A table as text, markdown or CSV; the first column left, the others right."""
    if format is Format.CSV:
        buffer = io.StringIO()
        csv.writer(buffer, lineterminator="\n").writerows(rows)
        return buffer.getvalue()
    if format is Format.MARKDOWN:
        rows = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    cells = [
        [cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))]
        for row in rows
    ]
    if format is Format.MARKDOWN:
        rule = ["-" * w if i == 0 else "-" * (w - 1) + ":" for i, w in enumerate(widths)]
        return "".join(f"| {' | '.join(row)} |\n" for row in [cells[0], rule, *cells[1:]])
    rule = ["-" * w for w in widths]
    return "".join("  ".join(row).rstrip() + "\n" for row in [cells[0], rule, *cells[1:]])
