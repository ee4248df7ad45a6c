"""Results for machines: CSV with full precision, one row for every run, suite and score."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

from luab_jax.report.comparison import Difference, difference, score_of
from luab_jax.report.runs import Comparison, Experiment
from luab_jax.results.format import Suite
from luab_jax.results.text import printable

FIELDS = (
    *("run", "suite", "title", "score", "role", "value", "unit", "direction", "n", "seeds", "deviation"),
    *("interval_low", "interval_high", "interval_method"),
    *("reference", "difference", "difference_low", "difference_high", "difference_method"),
    *(
        "protocol",
        "preprocessing",
        "dtype",
        "weights",
        "dataset",
        "partial",
        "stored_smaller",
        "generated",
        "restricted",
    ),
)


def as_csv(comparison: Comparison) -> str:
    """Values are in the unit that stands beside them (fractions, not percent); what is unknown, or not the same for
    all seeds, is empty."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, FIELDS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(records(comparison))
    return buffer.getvalue()


def records(comparison: Comparison) -> Iterator[Mapping[str, object]]:
    for experiment in comparison.experiments:
        for row in dict.fromkeys(row for run in experiment.runs for row in run.by_title):
            found = [run.by_title[row] for run in experiment.runs if row in run.by_title]
            for score in dict.fromkeys(score for _, suite in found for score in suite.scores):
                suites = [suite for _, suite in found if score in suite.scores]
                yield _record(comparison, experiment, row, printable(found[0][0]), suites, score)


def _record(
    comparison: Comparison, experiment: Experiment, row: str, name: str, suites: Sequence[Suite], score: str
) -> Mapping[str, object]:
    """`suites` are those of the seeds that have the score."""
    entry, found = suites[0].scores[score], score_of(experiment, row, score)
    is_reference = experiment is comparison.reference
    apart = Difference(math.nan) if is_reference else difference(score_of(comparison.reference, row, score), found)
    low, high = found.interval or (None, None)
    apart_low, apart_high = apart.interval or (None, None)
    return {
        "run": experiment.name,
        "suite": name,
        "title": row,
        "score": printable(score),
        "role": entry.role.value,
        "value": repr(found.mean),
        "unit": printable(entry.unit),
        "direction": entry.direction.value,
        "n": _of_all(str(suite.n) for suite in suites),
        "seeds": len(found.values),
        "deviation": _number(found.deviation),
        "interval_low": _number(low),
        "interval_high": _number(high),
        "interval_method": printable(found.method),
        "reference": "" if is_reference else comparison.reference.name,
        "difference": _number(apart.value),
        "difference_low": _number(apart_low),
        "difference_high": _number(apart_high),
        "difference_method": apart.method,
        "protocol": _of_all(suite.scores[score].protocol or suite.protocol for suite in suites),
        "preprocessing": _of_all(suite.preprocessing for suite in suites),
        "dtype": _of_all(suite.dtype for suite in suites),
        "weights": _of_all(suite.weights for suite in suites),
        "dataset": _of_all(suite.data.dataset for suite in suites),
        "partial": _of_all(str(suite.data.partial).lower() for suite in suites),
        "stored_smaller": _of_all(suite.data.stored_smaller for suite in suites),
        "generated": _of_all(suite.data.generated for suite in suites),
        "restricted": _of_all(suite.data.restricted for suite in suites),
    }


def _of_all(facts: Iterable[str]) -> str:
    """What all seeds state; empty where they disagree."""
    found = set(facts)
    return printable(found.pop()) if len(found) == 1 else ""


def _number(value: float | None) -> str:
    """All digits, by which the same float is read back."""
    return "" if value is None or math.isnan(value) else repr(value)
