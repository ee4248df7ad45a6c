"""A score of several runs, what it differs by, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from scipy import special

from luab_jax.evaluation.layout import direction
from luab_jax.evaluation.report import Column, deviation, format_score, mean

BETWEEN = (
    "Differences are to the first run, with 95 % intervals. One run against one: over images, from both scores'"
    " intervals (Zou and Donner 2008, the two taken as independent; they saw the same images, so this is rather too"
    " wide). Several seeds against several: over seeds (Welch's t). One against several: none."
)


class Score(NamedTuple):
    """One score of one experiment."""

    name: str
    values: list[float]
    """One per seed; none if the suite was not run."""
    interval: tuple[float, float] | None
    """Of a single run, over images."""

    @property
    def mean(self) -> float:
        return mean(self.values)

    @property
    def deviation(self) -> float | None:
        """Over seeds; None for a single run."""
        return deviation(self.values) if len(self.values) > 1 else None

    @property
    def text(self) -> str:
        """Without the deviation."""
        return format_score(self.name, self.mean)


class Difference(NamedTuple):
    """What one experiment has more than another; the interval is None where nothing is known of it."""

    value: float
    interval: tuple[float, float] | None

    @property
    def is_certain(self) -> bool:
        """Whether 0 is outside the interval."""
        return self.interval is not None and (self.interval[0] > 0 or self.interval[1] < 0)


def score_of(column: Column, suite: str, name: str) -> Score:
    """A score of every seed that has it."""
    found = [scores for result in column.results if name in (scores := result["suites"].get(suite, {}))]
    values = [float(scores[name]) for scores in found]
    bounds = found[0].get("intervals", {}).get(name) if len(found) == 1 else None
    return Score(name, values, None if bounds is None else (float(bounds[0]), float(bounds[1])))


def difference(first: Score, other: Score) -> Difference:
    """`other` less `first`; the value is NaN where one of them is missing."""
    value = other.mean - first.mean
    if math.isnan(value):
        return Difference(value, None)
    if first.interval is not None and other.interval is not None:
        return Difference(value, _from_intervals(first, first.interval, other, other.interval))
    return Difference(value, _welch(first, other))


def _from_intervals(first: Score, a: tuple[float, float], other: Score, b: tuple[float, float]) -> tuple[float, float]:
    """Zou and Donner 2008, eq. 2: the distances of the ends from the scores add up as squares."""
    value = other.mean - first.mean
    below = math.hypot(other.mean - b[0], a[1] - first.mean)
    above = math.hypot(b[1] - other.mean, first.mean - a[0])
    return value - below, value + above


def _welch(first: Score, other: Score) -> tuple[float, float] | None:
    if first.deviation is None or other.deviation is None:
        return None
    parts = [score.deviation**2 / len(score.values) for score in (first, other) if score.deviation is not None]
    variance = sum(parts)
    if not variance > 0:  # the same value for every seed says nothing of others
        return None
    freedom = variance**2 / sum(
        part**2 / (len(score.values) - 1) for part, score in zip(parts, (first, other), strict=True)
    )
    half = float(special.stdtrit(freedom, 0.975)) * math.sqrt(variance)
    value = other.mean - first.mean
    return value - half, value + half


def best(scores: Sequence[Score]) -> int | None:
    """Which is best as it is printed; None if several are, if there is nothing to compare, or no better and worse."""
    shown = [(float(score.text), i) for i, score in enumerate(scores) if score.text != "-"]
    sign = direction(scores[0].name) if scores else 0
    if len(shown) < 2 or not sign:
        return None
    top = max(sign * value for value, _ in shown)
    winners = [i for value, i in shown if sign * value == top]
    return winners[0] if len(winners) == 1 else None


def other_data(first: Column, other: Column, suite: str) -> bool:
    """Whether two experiments saw different data of a suite, so that they differ by that too."""
    seen = [_fingerprints(column, suite) for column in (first, other)]
    return all(seen) and seen[0] != seen[1]


def _fingerprints(column: Column, suite: str) -> set[tuple[tuple[str, Any], ...]]:
    found = (result["suites"].get(suite, {}).get("data") for result in column.results)
    return {tuple(sorted(data.items())) for data in found if isinstance(data, Mapping)}
