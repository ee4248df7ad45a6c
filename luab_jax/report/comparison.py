"""A score of several runs, what it differs by, and how sure that is.

Runs on the same images are compared image by image: what makes an image hard is then no part of the uncertainty.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy
from jaxtyping import Bool, Float

from luab_jax.report.runs import Comparison, Experiment
from luab_jax.results.answers import Answered, Kind
from luab_jax.results.format import Entry
from luab_jax.results.score import NUMBER, Direction
from luab_jax.results.text import format_interval, format_number

Bounds = tuple[float, float]
Identities = frozenset[tuple[tuple[str, str], ...]]
"""Fingerprints of the data that runs were evaluated on, part by part."""
Settings = frozenset[tuple[str, str]]
"""What else decides a score (font, kind of map): names and values, of every run."""

MOVED = "Some runs are on other data than the reference's, or have another font or kind of map"
FEWER = "In parentheses: the number of seeds of a score, where not all seeds of its experiment have it"
TANGO = "paired over images, Tango score (McNemar)"
PAIRED = "paired over images, t"
RESAMPLED = "paired bootstrap over images"
PAIRED_SEEDS = "paired t over seeds"
WELCH = "Welch's t over seeds"
UNPAIRED = "from both intervals as if independent (Zou and Donner), too wide"

BETWEEN = (
    "Differences are relative to {reference}, with 95 % intervals. Single runs on the same images are paired over"
    " images where both have their answers beside the results (results.answers.npz): accuracies by Tango's score"
    " interval, which is McNemar's test inverted, other scores by each image's part (Student's t, too narrow where"
    " fewer than about ten images differ), or by bootstrap. Without answers both are taken as independent, which makes"
    " the interval too wide. Several seeds against several: over seeds (paired t for the same seeds, else Welch's t)."
    " One against several: no interval."
)
_Z2 = float(scipy.special.ndtri(0.975)) ** 2  # the same as `stats.norm.ppf`, without its second of imports
_NO_SPREAD = 1e-12
"""What rounding makes of values that are the same."""
_ROUNDED = 1e-6
"""By what share of a score those that were made from answers in float32 may differ from it."""


@dataclass(frozen=True, slots=True)
class Score:
    """One score of one experiment."""

    values: tuple[float, ...]
    """One per seed; none if the suite was not run."""
    seeds: tuple[int, ...] = ()
    unit: str = NUMBER
    direction: Direction = Direction.NONE
    interval: Bounds | None = None
    """Of a single run, over images."""
    method: str = ""
    """Of the interval."""
    answered: Answered | None = None
    """Of a single run, image by image."""
    data: Identities = frozenset()
    """Of every run; empty where nothing is known of its data."""
    settings: Settings = frozenset()
    num_runs: int = 1
    """Of the experiment, of which some may lack the score."""

    @property
    def mean(self) -> float:
        """NaN of nothing."""
        return math.fsum(self.values) / len(self.values) if self.values else math.nan

    @property
    def deviation(self) -> float | None:
        """Over seeds; None for a single run."""
        return float(np.std(self.values, ddof=1)) if len(self.values) > 1 else None

    @property
    def text(self) -> str:
        """Without deviation and interval."""
        return format_number(self.mean, self.unit)

    @property
    def fewer(self) -> str:
        """`(2)`: of how many seeds it is, where the experiment has more; see `FEWER`."""
        return f"({len(self.values)})" if 0 < len(self.values) < self.num_runs else ""

    @property
    def with_deviation(self) -> str:
        deviation = "" if self.deviation is None else f"± {format_number(self.deviation, self.unit)}"
        return " ".join(filter(None, [self.text, deviation, self.fewer]))

    @property
    def with_interval(self) -> str:
        """With the deviation of several seeds, or the interval of one run."""
        if self.interval is None:
            return self.with_deviation
        return " ".join(filter(None, [self.text, format_interval(self.interval, self.unit), self.fewer]))


@dataclass(frozen=True, slots=True)
class Difference:
    """What one experiment has more than another; the interval is None where nothing is known of it."""

    value: float
    interval: Bounds | None = None
    method: str = ""

    @property
    def is_certain(self) -> bool:
        """Whether 0 is outside the interval."""
        return self.interval is not None and (self.interval[0] > 0 or self.interval[1] < 0)


def score_of(experiment: Experiment, row: str, name: str) -> Score:
    """A score of every seed that has it; `row` is the title of a suite."""
    found: list[tuple[int, Entry]] = []
    answered = None
    for run in experiment.runs:
        suite_name, suite = run.by_title.get(row, ("", None))
        if suite is not None and name in suite.scores:
            found.append((run.checkpoint.seed, suite.scores[name]))
            answered = run.answered(suite_name, name)
            if answered is not None and answered.data != (suite.data.identity or {}):
                answered = None  # of an evaluation that did not come to write the score
    if not found:
        return Score(())
    seeds, entries = zip(*sorted(found, key=lambda pair: pair[0]), strict=True)
    single, first = len(entries) == 1, entries[0]
    return Score(
        values=tuple(float(entry.value) for entry in entries),
        seeds=seeds,
        unit=first.unit,
        direction=first.direction,
        interval=first.interval if single else None,
        method=first.method if single else "",
        answered=answered if single else None,
        data=_identities(experiment, row),
        settings=_settings(experiment, row),
        num_runs=len(experiment.runs),
    )


def difference(first: Score, other: Score) -> Difference:
    """`other` less `first`; the value is NaN where one of them is missing."""
    value = other.mean - first.mean
    if math.isnan(value) or first.unit != other.unit:
        return Difference(math.nan)
    if len(first.values) == len(other.values) == 1:
        paired = _over_images(value, first.answered, other.answered)
        if paired is not None and not _set_otherwise(first.settings, other.settings):
            return paired
        if first.interval is None or other.interval is None:
            return Difference(value)
        return Difference(value, _from_intervals(first, first.interval, other, other.interval), UNPAIRED)
    if len(first.values) > 1 and len(other.values) > 1:
        same = first.seeds == other.seeds
        bounds = _paired_t(first, other) if same else _welch(first, other)
        return Difference(value, bounds, (PAIRED_SEEDS if same else WELCH) if bounds else "")
    return Difference(value)


def _over_images(value: float, first: Answered | None, other: Answered | None) -> Difference | None:
    """None where the two are not known to be on the same images, or their answers do not fit the scores."""
    if first is None or other is None or first.sample.kind is not other.sample.kind or first.data != other.data:
        return None
    if not all(first.data.values()):  # older versions' results on what TFDS prepared
        return None
    aligned = _aligned(first, other)
    if aligned is None:
        return None
    a, b = aligned
    if first.sample.kind is Kind.RIGHT:
        bounds, method = tango(a.astype(bool), b.astype(bool)), TANGO
    else:
        differences = b.astype(np.float64) - a
        if np.ptp(differences) < _NO_SPREAD:
            return None  # no image differs from another: that says nothing of others
        is_mean = first.sample.kind is Kind.MEANS
        bounds, method = (_of_mean(differences), PAIRED) if is_mean else (_of_resamples(value, differences), RESAMPLED)
    allowed = _ROUNDED * max(1.0, float(np.abs(a).max()), float(np.abs(b).max()))
    if not bounds[0] - allowed <= value <= bounds[1] + allowed:
        return None  # the answers are of other scores than those that are shown
    return Difference(value, _holding(value, *bounds), method)


def _aligned(first: Answered, other: Answered) -> tuple[np.ndarray, np.ndarray] | None:
    """The values of both in the same order of images; both are of the same data.

    Equal names alone would not do: other pictures, or the same ones prepared otherwise, often have them too.
    """
    a, b = first.sample, other.sample
    if not len(a.values) or len(a.values) != len(b.values):
        return None
    if a.kind is Kind.RESAMPLES or not (a.images and b.images):
        return (a.values, b.values) if first.data else None
    if list(a.images) == list(b.images):
        return a.values, b.values
    place = {name: i for i, name in enumerate(b.images)}
    if len(place) != len(b.images) or len(set(a.images)) != len(a.images) or not place.keys() >= set(a.images):
        return None
    return a.values, b.values[[place[name] for name in a.images]]


def tango(first: Bool[np.ndarray, " n"], other: Bool[np.ndarray, " n"]) -> Bounds:
    """Of the share of `other` less that of `first` on the same images (Tango 1998).

    The differences that the score test does not reject; at 0 that test is McNemar's, so that 0 is outside exactly
    where McNemar's test (without correction, chi² > 3.84) rejects.
    """
    n, gained, lost = len(first), int(np.sum(other & ~first)), int(np.sum(first & ~other))
    value = (gained - lost) / n

    def excess(delta: float) -> float:
        """The score statistic at `delta`, squared, less what is allowed."""
        a, b, c = 2 * n, -gained - lost + (2 * n - gained + lost) * delta, -lost * delta * (1 - delta)
        q = (math.sqrt(max(b * b - 4 * a * c, 0.0)) - b) / (2 * a)
        variance = n * (2 * q + delta * (1 - delta))
        distance = gained - lost - n * delta
        return distance * distance - _Z2 * max(variance, 0.0)

    def end(side: float) -> float:
        """From the difference itself, which the test never rejects, to -1 or 1."""
        if excess(side) <= 0:
            return side
        inside = value + 1e-9 * (side - value)  # without a discordant pair the statistic is 0 / 0 at 0 itself
        if excess(inside) >= 0:
            return value
        return scipy.optimize.brentq(excess, inside, side, xtol=1e-12)  # pyright: ignore[reportReturnType]

    return end(-1.0), end(1.0)


def _of_mean(differences: Float[np.ndarray, " n"]) -> Bounds:
    """Student's. With 5 of 100 images that differ it holds 89 %; `python -m benchmarks.intervals` has more."""
    n, mean = len(differences), float(differences.mean())
    half = float(scipy.stats.t.ppf(0.975, n - 1) * differences.std(ddof=1) / math.sqrt(n))
    return mean - half, mean + half


def _of_resamples(value: float, differences: Float[np.ndarray, " r"]) -> Bounds:
    """Bias-corrected percentiles (Efron 1987): by how many resamples lie below the difference itself."""
    below = float(np.mean(differences < value) + np.mean(differences == value) / 2)
    shift = float(scipy.stats.norm.ppf(np.clip(below, 1e-3, 1 - 1e-3)))
    shares = [float(scipy.stats.norm.cdf(2 * shift + side * math.sqrt(_Z2))) for side in (-1, 1)]
    low, high = np.quantile(differences, shares)
    return float(low), float(high)


def _holding(value: float, low: float, high: float) -> Bounds:
    return min(low, value), max(high, value)


def _from_intervals(first: Score, a: Bounds, other: Score, b: Bounds) -> Bounds:
    """Zou and Donner 2008, eq. 2: the distances of the ends from the scores add up as squares."""
    value = other.mean - first.mean
    below = math.hypot(other.mean - b[0], a[1] - first.mean)
    above = math.hypot(b[1] - other.mean, first.mean - a[0])
    return value - below, value + above


def _paired_t(first: Score, other: Score) -> Bounds | None:
    return _interval_of(scipy.stats.ttest_rel, first, other)


def _welch(first: Score, other: Score) -> Bounds | None:
    return _interval_of(lambda a, b: scipy.stats.ttest_ind(a, b, equal_var=False), first, other)


def _interval_of(test, first: Score, other: Score) -> Bounds | None:
    """None where the seeds do not differ: the same value for every seed says nothing of others."""
    a, b = np.asarray(first.values), np.asarray(other.values)
    spread = np.ptp(b - a) if len(a) == len(b) and test is scipy.stats.ttest_rel else max(np.ptp(a), np.ptp(b))
    if spread < _NO_SPREAD:
        return None
    with np.errstate(all="ignore"):
        found = test(b, a).confidence_interval(0.95)
    bounds = float(found.low), float(found.high)
    return bounds if all(map(math.isfinite, bounds)) else None


def best(scores: Sequence[Score]) -> int | None:
    """Which is better than every other one beyond doubt.

    None if none is, if neither more nor less is better, or if one of them is of other data, another font or
    another kind of map.
    """
    there = [i for i, score in enumerate(scores) if score.values]
    if len(there) < 2 or not (sign := scores[there[0]].direction.sign):
        return None
    if _are_several([scores[i].data for i in there], [scores[i].settings for i in there]):
        return None
    top = max(there, key=lambda i: sign * scores[i].mean)
    for i in there:
        found = difference(scores[i], scores[top])
        if i != top and not (found.is_certain and sign * found.value > 0):
            return None
    return top


def other_data(first: Experiment, other: Experiment, row: str) -> bool:
    """Whether any two runs of two experiments were evaluated on different data of a suite, or seen otherwise, so that
    they differ by that too."""
    of_both = (first, other)
    return _are_several([_identities(of, row) for of in of_both], [_settings(of, row) for of in of_both])


def seed_notes(experiments: Sequence[Experiment]) -> list[str]:
    """A line for each experiment whose own seeds were not all evaluated on the same data."""
    found: list[str] = []
    for of in experiments:
        rows = sorted({row for run in of.runs for row in run.by_title if other_data(of, of, row)})
        if rows:
            which = ", ".join(rows)
            found.append(
                f"{of.name}: its seeds are not all on the same data, or have another font or kind of map: {which}."
            )
    return found


def _are_several(data: Iterable[Identities], settings: Iterable[Settings]) -> bool:
    """Whether more than one data set, or more than one value of a setting, is known of the runs."""
    stated = frozenset[tuple[str, str]]().union(*settings)
    return len(Identities().union(*data)) > 1 or len({name for name, _ in stated}) < len(stated)


def _set_otherwise(first: Settings, other: Settings) -> bool:
    """Whether a setting that is known of both has other values."""
    known = {name for name, _ in first} & {name for name, _ in other}
    return any(name in known for name, _ in first ^ other)


def _settings(experiment: Experiment, row: str) -> Settings:
    found = (run.by_title[row][1].settings for run in experiment.runs if row in run.by_title)
    return frozenset(setting for of_run in found for setting in of_run.items())


def _identities(experiment: Experiment, row: str) -> Identities:
    found = (run.by_title[row][1].data.identity for run in experiment.runs if row in run.by_title)
    return frozenset(tuple(sorted(identity.items())) for identity in found if identity and all(identity.values()))


def between(comparison: Comparison) -> str:
    """How differences were made."""
    return BETWEEN.format(reference=comparison.reference.name)
