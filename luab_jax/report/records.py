"""Results for machines: CSV with full precision, one row for every run, suite and score."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping

from luab_jax.report.comparison import Difference, difference, score_of
from luab_jax.report.runs import Comparison, Experiment
from luab_jax.results.format import Suite
from luab_jax.results.text import printable, title

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
    """Values are in the unit that stands beside them (fractions, not percent); what is unknown is empty."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, FIELDS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(records(comparison))
    return buffer.getvalue()


def records(comparison: Comparison) -> Iterator[Mapping[str, object]]:
    for experiment in comparison.experiments:
        suites = {row: found for run in experiment.runs for row, found in run.by_title.items()}
        for row, (name, suite) in suites.items():
            for score in suite.scores:
                yield _record(comparison, experiment, row, printable(name), suite, score)


def _record(
    comparison: Comparison, experiment: Experiment, row: str, name: str, suite: Suite, score: str
) -> Mapping[str, object]:
    entry, found = suite.scores[score], score_of(experiment, row, score)
    is_reference = experiment is comparison.reference
    apart = Difference(math.nan) if is_reference else difference(score_of(comparison.reference, row, score), found)
    low, high = found.interval or (None, None)
    apart_low, apart_high = apart.interval or (None, None)
    data = suite.data
    return {
        "run": experiment.name,
        "suite": name,
        "title": title(name, suite),
        "score": printable(score),
        "role": entry.role.value,
        "value": repr(found.mean),
        "unit": printable(entry.unit),
        "direction": entry.direction.value,
        "n": suite.n,
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
        "protocol": printable(entry.protocol or suite.protocol),
        "preprocessing": printable(suite.preprocessing),
        "dtype": printable(suite.dtype),
        "weights": printable(suite.weights),
        "dataset": printable(data.dataset),
        "partial": str(data.partial).lower(),
        "stored_smaller": printable(data.stored_smaller),
        "generated": printable(data.generated),
        "restricted": printable(data.restricted),
    }


def _number(value: float | None) -> str:
    """All digits, by which the same float is read back."""
    return "" if value is None or math.isnan(value) else repr(value)
