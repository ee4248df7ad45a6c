"""How often the 95 % intervals hold the true value, on drawn data: `python -m benchmarks.intervals`.

Each case draws a set of images from a population, scores it by the functions of the suites, and looks whether the
interval holds the score of the whole population. The percentile bootstrap that the intervals of mAP and MaxBoxAccV2
were before stands beside them. Differences are those of the report: two models on the same images.
"""

from __future__ import annotations

import argparse
import functools
import math
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from luab_jax.evaluation.scores import intervals
from luab_jax.evaluation.scores.context import context_violations
from luab_jax.evaluation.scores.detection import WITH_INTERVAL, detection_scores
from luab_jax.evaluation.scores.label_sets import map_without_each
from luab_jax.evaluation.scores.localisation import IOUS, THRESHOLDS, scores_of_thresholds
from luab_jax.metrics.average_precision import average_precision
from luab_jax.report.comparison import Score, difference
from luab_jax.results.answers import Answered, Kind, Sample
from luab_jax.results.score import FRACTION, Direction

_POPULATION = 200_000


class Drawn(NamedTuple):
    """One set: its score, the interval of that, and what both are about."""

    score: float
    low: float
    high: float
    truth: float


def _of(score: intervals.Score, truth: float) -> Drawn:
    assert score.interval is not None
    return Drawn(float(score), *score.interval, truth)


def _percentiles(value: float, again: Float[np.ndarray, " r"], truth: float) -> Drawn:
    """What the intervals were before."""
    return Drawn(value, float(np.quantile(again, 0.025)), float(np.quantile(again, 0.975)), truth)


class Coverage(NamedTuple):
    """Of many sets."""

    held: float
    """The share whose interval holds the true value."""
    below: float
    """The share whose interval lies below it."""
    width: float
    missed_score: int
    """How many intervals did not hold their own score."""


def draw_label_sets(
    rng: np.random.Generator, n: int, prevalence: Float[np.ndarray, " c"], help: float = 1.0
) -> tuple[Float[np.ndarray, "n c"], Bool[np.ndarray, "n c"]]:
    """Scores and labels; some images score higher for all classes, and classes differ in how well they are seen."""
    labels = rng.random((n, len(prevalence))) < prevalence
    seen = help * np.linspace(0.5, 2.5, len(prevalence))
    of_image = rng.normal(size=(n, 1))
    return seen * labels + 0.45 * of_image + 0.9 * rng.normal(size=labels.shape), labels


def prevalences(num_classes: int, least: float) -> Float[np.ndarray, " c"]:
    """From rare to common, as COCO's are."""
    return np.exp(np.linspace(math.log(least), math.log(0.4), num_classes))


@functools.cache
def _true_map(num_classes: int, least: float) -> float:
    drawn = draw_label_sets(np.random.default_rng(99), _POPULATION, prevalences(num_classes, least))
    return float(average_precision(*drawn).mean())


def _map(rng: np.random.Generator, n: int, *, percentiles: bool = False) -> Drawn:
    num_classes, least = 20, 0.04
    scores, labels = draw_label_sets(rng, n, prevalences(num_classes, least))
    truth = _true_map(num_classes, least)
    value = float(np.nanmean(average_precision(scores, labels)))
    if percentiles:
        rows = (rng.integers(n, size=n) for _ in range(100))
        again = [float(np.nanmean(average_precision(scores[row], labels[row]))) for row in rows]
        return _percentiles(value, np.asarray(again), truth)
    return _of(intervals.jackknife(value, map_without_each(scores, labels), Direction.HIGHER), truth)


def _draw_boxes(
    rng: np.random.Generator, n: int, thresholds: Float[np.ndarray, " t"] = THRESHOLDS
) -> Bool[np.ndarray, "n i t"]:
    """Whether a box is right by each IoU at each threshold: best at a threshold of the image's own."""
    at = np.clip(0.35 + 0.15 * rng.normal(size=(n, 1)), 0, 1)
    ious = rng.beta(5, 2, size=(n, 1)) * np.exp(-(((thresholds - at) / (0.15 + 0.2 * rng.random((n, 1)))) ** 2))
    return ious[:, None, :] >= np.asarray(IOUS)[:, None]


@functools.cache
def _true_boxes() -> float:
    rng = np.random.default_rng(99)
    coarse = THRESHOLDS[::20]  # near its largest value the accuracy hardly depends on the threshold
    total = sum(_draw_boxes(rng, 20_000, coarse).sum(axis=0) for _ in range(50))
    return float((np.asarray(total) / 1_000_000).max(axis=-1).mean())


def _boxes(rng: np.random.Generator, n: int, *, percentiles: bool = False) -> Drawn:
    right = _draw_boxes(rng, n)
    if percentiles:
        times = rng.multinomial(n, np.full(n, 1 / n), 100).astype(np.float32)
        hits = (times @ right.reshape(n, -1).astype(np.float32)).reshape(100, len(IOUS), -1) / n
        value = float(right.mean(axis=0).max(axis=-1).mean())
        return _percentiles(value, hits.max(axis=-1).mean(axis=1), _true_boxes())
    return _of(scores_of_thresholds(np.packbits(right.reshape(n, -1), axis=1))["max_box_acc_v2"], _true_boxes())


@functools.cache
def _true_detection() -> dict[str, float]:
    rng = np.random.default_rng(99)
    return detection_scores(rng.normal(0.6, 1, _POPULATION), rng.normal(size=5 * _POPULATION))


def _detection(rng: np.random.Generator, name: str) -> Drawn:
    out, known = rng.normal(0.6, 1, 100), rng.normal(size=500)
    return _of(WITH_INTERVAL[name](detection_scores(out, known)[name], out, known), _true_detection()[name])


def _share(rng: np.random.Generator) -> Drawn:
    return _of(intervals.share(rng.random(200) < 0.77), 0.77)


def _gap(rng: np.random.Generator) -> Drawn:
    same, rand = rng.random(150) < 0.85, rng.random(150) < 0.78
    return Drawn(float(same.mean() - rand.mean()), *intervals.difference(same, rand), 0.07)


def _groups(rng: np.random.Generator) -> Drawn:
    """Five versions of each image, which share how hard it is."""
    hard = rng.beta(0.5, 0.5, size=200)
    right = (rng.random((5, 200)) < hard).ravel()
    return _of(intervals.mean_accuracy(right, np.full(1000, 1e-3), [str(i) for i in range(200)] * 5), 0.5)


def _median(rng: np.random.Generator) -> Drawn:
    distances = rng.exponential(size=150)
    found = intervals.median_interval(distances)
    assert found is not None
    return Drawn(float(np.median(distances)), *found, math.log(2))


def _draw_context(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images of two to four of six classes, and the scores without each."""
    images, removed = [], []
    for image in range(n):
        for label in rng.choice(6, rng.integers(2, 5), replace=False):
            images.append(image)
            removed.append(label)
    scores = rng.random((len(images), 6)) + 0.3 * rng.random(n)[images, None]
    scores[np.arange(len(removed)), removed] -= 0.25
    return np.asarray(images), np.asarray(removed), scores


@functools.cache
def _true_context() -> float:
    return float(context_violations(*_draw_context(np.random.default_rng(99), 30_000))["v_min_by_class"])


def _context(rng: np.random.Generator) -> Drawn:
    return _of(context_violations(*_draw_context(rng, 120))["v_min_by_class"], _true_context())


def _compared(first: np.ndarray, other: np.ndarray, kind: Kind, values: tuple[float, float], truth: float) -> Drawn:
    scores = [
        Score((value,), (0,), FRACTION, answered=Answered(Sample(kind, sample), {"val": "f"}))
        for value, sample in zip(values, (first, other), strict=True)
    ]
    found = difference(*scores)
    assert found.interval is not None
    return Drawn(found.value, *found.interval, truth)


def _paired_shares(rng: np.random.Generator) -> Drawn:
    kinds = rng.choice(4, 150, p=[0.12, 0.05, 0.5, 0.33])
    first, other = np.isin(kinds, (1, 2)), np.isin(kinds, (0, 2))
    return _compared(first, other, Kind.RIGHT, (float(first.mean()), float(other.mean())), 0.07)


def _paired_rare(rng: np.random.Generator, changed: float) -> Drawn:
    """Mean accuracies of 100 images, of which the second model gets a few more right: by Student's t, or unpaired."""
    kinds = rng.choice(3, 100, p=[changed, 0.5, 0.5 - changed])
    names, weights = [str(i) for i in range(100)], np.full(100, 0.01)
    first, other = (intervals.mean_accuracy(right, weights, names) for right in (kinds == 1, kinds <= 1))
    scores = [
        Score((float(of),), (0,), FRACTION, interval=of.interval, answered=Answered(of.sample, {"val": "f"}))
        for of in (first, other)
    ]
    found = difference(*scores)
    assert found.interval is not None
    return Drawn(found.value, *found.interval, changed)


def _paired_maps(rng: np.random.Generator) -> Drawn:
    """Two models of the same images, the second a little better."""
    prevalence = prevalences(12, 0.05)
    scores, labels = draw_label_sets(rng, 300, prevalence)
    better = scores + 0.15 * labels + 0.3 * rng.normal(size=scores.shape)
    values, samples = [], []
    for of_model in (scores, better):
        value = float(np.nanmean(average_precision(of_model, labels)))
        score = intervals.jackknife(value, map_without_each(of_model, labels), Direction.HIGHER)
        values.append(value)
        samples.append(score.sample.values)
    return _compared(samples[0], samples[1], Kind.MEANS, (values[0], values[1]), _true_paired_maps())


@functools.cache
def _true_paired_maps() -> float:
    rng = np.random.default_rng(99)
    scores, labels = draw_label_sets(rng, _POPULATION, prevalences(12, 0.05))
    better = scores + 0.15 * labels + 0.3 * rng.normal(size=scores.shape)
    return float(average_precision(better, labels).mean() - average_precision(scores, labels).mean())


def _paired_medians(rng: np.random.Generator) -> Drawn:
    first = rng.exponential(size=150)
    other = 0.9 * first * np.exp(0.2 * rng.normal(size=150))
    samples = [
        intervals.resampled(lambda again, values=values: float(np.median(values[again.integers(150, size=150)])))
        for values in (first, other)
    ]
    medians = float(np.median(first)), float(np.median(other))
    return _compared(samples[0], samples[1], Kind.RESAMPLES, medians, _true_paired_medians())


@functools.cache
def _true_paired_medians() -> float:
    rng = np.random.default_rng(99)
    first = rng.exponential(size=4_000_000)
    return float(np.median(0.9 * first * np.exp(0.2 * rng.normal(size=len(first)))) - np.median(first))


CASES: dict[str, Callable[[np.random.Generator], Drawn]] = {
    "mAP of 20 classes, 200 images": lambda rng: _map(rng, 200),
    "mAP of 20 classes, 1,000 images": lambda rng: _map(rng, 1000),
    "MaxBoxAccV2, 200 images": lambda rng: _boxes(rng, 200),
    "MaxBoxAccV2, 1,000 images": lambda rng: _boxes(rng, 1000),
    "AUPR, 100 of 600 images": lambda rng: _detection(rng, "aupr"),
    "AUROC, 100 of 600 images": lambda rng: _detection(rng, "auroc"),
    "FPR95, 100 of 600 images": lambda rng: _detection(rng, "fpr95"),
    "accuracy, 200 images": _share,
    "gap of two sets, 150 images each": _gap,
    "mean accuracy, 200 images in 5 versions": _groups,
    "median distance, 150 images": _median,
    "V_min by class, 120 images": _context,
    "difference of accuracies, paired, 150 images": _paired_shares,
    "difference of mAP, paired, 300 images": _paired_maps,
    "difference of medians, paired, 150 images": _paired_medians,
}
LIMITS: dict[str, Callable[[np.random.Generator], Drawn]] = {
    f"difference of mean accuracies, 100 images, {percent} % differ": functools.partial(
        _paired_rare, changed=percent / 100
    )
    for percent in (2, 5, 10, 20)
}
"""Where an approximation ends: as the documentation states, these do not hold the true value 95 times of 100."""
BEFORE: dict[str, Callable[[np.random.Generator], Drawn]] = {
    "mAP, 200 images, percentiles (before)": lambda rng: _map(rng, 200, percentiles=True),
    "MaxBoxAccV2, 200 images, percentiles (before)": lambda rng: _boxes(rng, 200, percentiles=True),
}


def coverage(name: str, repeats: int, seed: int = 0) -> Coverage:
    """Of so many drawn sets of a case."""
    return coverage_of(draw(name, repeats, seed))


def draw(name: str, repeats: int, seed: int = 0) -> list[Drawn]:
    """So many sets of a case."""
    rng = np.random.default_rng(seed)
    return [(CASES | LIMITS | BEFORE)[name](rng) for _ in range(repeats)]


def coverage_of(drawn: Sequence[Drawn]) -> Coverage:
    return Coverage(
        held=sum(d.low <= d.truth <= d.high for d in drawn) / len(drawn),
        below=sum(d.high < d.truth for d in drawn) / len(drawn),
        width=sum(d.high - d.low for d in drawn) / len(drawn),
        missed_score=sum(not d.low <= d.score <= d.high for d in drawn),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=1000, help="sets to draw for each case (default: 1000)")
    parser.add_argument("--cases", default="", help="only cases whose name contains this")
    arguments = parser.parse_args()
    error = 100 * math.sqrt(0.95 * 0.05 / arguments.repeats)
    print(f"{arguments.repeats} sets of each; 95 % nominal, held ± {error:.1f} by the number of sets\n")
    print(f"{'':<62} {'held %':>7} {'below %':>8} {'above %':>8} {'width':>7} {'score outside':>14} {'s':>6}")
    for name in (name for name in (*CASES, *LIMITS, *BEFORE) if arguments.cases in name):
        start = time.monotonic()
        found = coverage(name, arguments.repeats)
        above = 1 - found.held - found.below
        print(
            f"{name:<62} {100 * found.held:>7.1f} {100 * found.below:>8.1f} {100 * above:>8.1f} {found.width:>7.3f}"
            f" {found.missed_score:>14} {time.monotonic() - start:>6.1f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
