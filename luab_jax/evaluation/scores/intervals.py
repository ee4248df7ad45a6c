"""95 % confidence intervals: over which images a set happens to hold. They do not say what another seed would give.

Every interval holds its score. `python -m benchmarks.intervals` prints how often each holds the true value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import scipy
from jaxtyping import Bool, Float
from scipy import special

from luab_jax.evaluation.answers import codes
from luab_jax.results.answers import Kind, Sample
from luab_jax.results.score import FRACTION, Direction, Score

Interval = tuple[float, float]
Z = 1.959963984540054
"""97.5 % quantile of the normal distribution."""
NUM_RESAMPLES = 1000

WILSON = "Wilson score, 95 %"
NEWCOMBE = "Newcombe hybrid score of two sets taken as independent, 95 %"
CLUSTERED = "normal (Wilson score if all are right or wrong), over images with all their versions, 95 %"
JACKKNIFE = "jackknife over images, bias-corrected, on the logit scale, 95 %"
JACKKNIFE_PLAIN = "jackknife over images with all their versions, bias-corrected, 95 %"
DELONG = "DeLong, on the logit scale, 95 %"
BOOTSTRAP_LOGIT = f"standard deviation of {NUM_RESAMPLES} bootstrap resamples, on the logit scale, 95 %"
ORDER_STATISTICS = "order statistics of the median, at least 95 %"


def share(right: Bool[np.ndarray, " n"], direction: Direction = Direction.HIGHER, images: Sequence[str] = ()) -> Score:
    """The share of images that are answered rightly."""
    sample = Sample(Kind.RIGHT, np.asarray(right, bool), images)
    return Score(float(np.mean(right)), FRACTION, direction, wilson(right), WILSON, sample=sample)


def wilson(right: Bool[np.ndarray, " n"]) -> Interval:
    """Of a share (Wilson 1927): within [0, 1], and of sensible width for a share of 0 or 1."""
    return wilson_of(float(np.mean(right)), len(right))


def wilson_of(share: float, n: int) -> Interval:
    """Of a mean of n values in [0, 1], as if they were 0 or 1: no narrower than their own would be.

    `scipy.stats.binomtest(k, n).proportion_ci(method="wilson")` agrees to 1e-12 where the mean is a share k / n, but
    takes whole counts only.
    """
    centre = (share + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * np.sqrt(max(share * (1 - share), 0.0) / n + Z**2 / (4 * n**2))
    # The ends are exact where they are 0 or 1, and rounding would put the share outside.
    return float(max(0.0, min(share, centre - half))), float(min(1.0, max(share, centre + half)))


def difference(a: Bool[np.ndarray, " n"], b: Bool[np.ndarray, " m"]) -> Interval:
    """Of the share of `a` less that of `b` (Newcombe 1998, method 10)."""
    (low_a, high_a), (low_b, high_b) = wilson(a), wilson(b)
    share_a, share_b = float(np.mean(a)), float(np.mean(b))
    below = np.hypot(share_a - low_a, high_b - share_b)
    above = np.hypot(high_a - share_a, share_b - low_b)
    return float(share_a - share_b - below), float(share_a - share_b + above)


def per_image(
    values: Float[np.ndarray, " n"], weights: Float[np.ndarray, " n"], images: Sequence[str]
) -> tuple[list[str], Float[np.ndarray, " m"]]:
    """The distinct images of the rows, and for each a value; the mean of these is Σ weight · value."""
    names, image = codes(images)
    return names, len(names) * np.bincount(image, weights=weights * values)


def of_weighted_sum(
    values: Float[np.ndarray, " n"], weights: Float[np.ndarray, " n"], images: Sequence[str]
) -> Interval:
    """Of Σ weight · value, where the rows of one image hang together: the images are what is drawn, not the rows."""
    _, of_image = per_image(values, weights, images)
    total = float(of_image.mean())
    half = Z * float(np.sqrt(of_image.var(ddof=1) / len(of_image))) if len(of_image) > 1 else np.inf
    return total - half, total + half


def of_mean_accuracy(
    right: Bool[np.ndarray, " n"], weights: Float[np.ndarray, " n"], images: Sequence[str]
) -> Interval:
    """Of Σ weight · right, which is a mean of shares; Wilson's where no image differs from another."""
    low, high = of_weighted_sum(right.astype(np.float64), weights, images)
    if high - low < 1e-12 or not np.isfinite(high - low):
        return wilson_of(float(np.clip(weights @ right, 0.0, 1.0)), len(set(images)))
    return max(0.0, low), min(1.0, high)


def mean_accuracy(right: Bool[np.ndarray, " n"], weights: Float[np.ndarray, " n"], images: Sequence[str]) -> Score:
    """Σ weight · right with `of_mean_accuracy`."""
    low, high = of_mean_accuracy(right, weights, images)
    names, of_image = per_image(right.astype(np.float64), weights, images)
    value = float(np.clip(of_image.mean(), low, high))  # the order of summation can move the last digit
    sample = Sample(Kind.MEANS, of_image, names)
    return Score(value, FRACTION, Direction.HIGHER, (low, high), CLUSTERED, sample=sample)


def on_logit_scale(score: float, deviation: float, n: int, bias: float = 0.0) -> Interval:
    """Of a score in [0, 1] from its standard error: symmetric for its logit, so that it stays within [0, 1].

    `bias` is what the score has too much, and is taken off the middle of the interval; that is extended to the score
    if it would miss it. n images bound how near to 0 or 1 the middle can lie. Where nothing varies, Wilson's.
    """
    if not deviation > 0 or not np.isfinite(deviation):
        return wilson_of(score, n)
    nearest = 0.5 / n
    middle = float(np.clip(score - bias, nearest, 1 - nearest))
    half = Z * deviation / (middle * (1 - middle))
    low, high = (float(special.expit(special.logit(middle) + side * half)) for side in (-1, 1))
    return min(low, score), max(high, score)


def jackknife(
    score: float,
    without: Float[np.ndarray, " n"],
    direction: Direction,
    strata: Sequence[slice] = (slice(None),),
    images: Sequence[str] = (),
    method: str = JACKKNIFE,
) -> Score:
    """A score in [0, 1] from what it would be without each image (Tukey 1958; Efron and Stein 1981).

    A percentile bootstrap shifts the bias of a statistic by the same amount once more, which for average precision is
    as large as the interval (with 50 images it missed the score itself). The jackknife estimates that bias and takes
    it off, costs no resamples, and gives each image's part, by which runs are compared. Images of each of `strata` are
    drawn on their own. No interval where the score is not defined without some image.
    """
    n = len(without)
    if n < 2 or not np.isfinite(without).all():
        return Score(score, FRACTION, direction)
    parts, bias, variance = np.empty(n), 0.0, 0.0
    for stratum in strata:
        of_stratum = without[stratum]
        m = len(of_stratum)
        influence = (m - 1) * (of_stratum.mean() - of_stratum)
        bias += (m - 1) * (float(of_stratum.mean()) - score)
        variance += float(np.sum(influence**2)) / (m * max(m - 1, 1))
        parts[stratum] = influence * n / m
    interval = on_logit_scale(score, variance**0.5, n, bias)
    sample = Sample(Kind.MEANS, score + parts, images)
    return Score(score, FRACTION, direction, interval, method, sample=sample)


def jackknifed_difference(
    value: float, without: Float[np.ndarray, " n"], direction: Direction, images: Sequence[str] = ()
) -> Score:
    """A difference of two scores on the same images from what it would be without each of these.

    As `jackknife`, but on the plain scale, since it may be of either sign.
    """
    n = len(without)
    if n < 2 or not np.isfinite(without).all():
        return Score(value, FRACTION, direction)
    influence = (n - 1) * (without.mean() - without)
    bias = (n - 1) * (float(without.mean()) - value)
    half = Z * float(np.sum(influence**2) / (n * (n - 1))) ** 0.5
    low, high = value - bias - half, value - bias + half
    sample = Sample(Kind.MEANS, value + influence, images)
    return Score(value, FRACTION, direction, (min(low, value), max(high, value)), JACKKNIFE_PLAIN, sample=sample)


def resampled(score: Callable[[np.random.Generator], float]) -> Float[np.ndarray, " r"]:
    """`score` on resamples that it draws itself; they are the same at every call, so that runs can be compared."""
    rng = np.random.default_rng(0)
    return np.asarray([score(rng) for _ in range(NUM_RESAMPLES)], np.float64)


def median_interval(values: Float[np.ndarray, " n"]) -> Interval | None:
    """The two values whose ranks hold the median at least 95 times of 100, whatever the distribution.

    None of fewer than six values, whose smallest and largest do so less often.
    """
    ordered = np.sort(values)
    rank = int(scipy.stats.binom.ppf(0.025, len(ordered), 0.5))
    if scipy.stats.binom.cdf(rank, len(ordered), 0.5) > 0.025:
        rank -= 1
    if rank < 0:
        return None
    return float(ordered[rank]), float(ordered[-1 - rank])


def names_of(values: Mapping[str, object]) -> list[str]:
    """The names of the scores that have an interval."""
    return [name for name, value in values.items() if isinstance(value, Score) and value.interval is not None]
