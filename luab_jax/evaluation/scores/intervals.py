"""95 % confidence intervals: over which images a set happens to hold. They do not say what another seed would give."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float

from luab_jax.evaluation.answers import codes

Interval = list[float]
"""[low, high]; a list, as JSON knows no other."""

Z = 1.959963984540054
"""97.5 % quantile of the normal distribution."""

_NUM_RESAMPLES = 1000

WILSON = "Wilson score, 95 %"
NEWCOMBE = "Newcombe hybrid score of two sets taken as independent, 95 %"
CLUSTERED = "normal (Wilson score if all are right or wrong), over images with all their versions, 95 %"


def wilson(right: Bool[np.ndarray, " n"]) -> Interval:
    """Of a share (Wilson 1927): within [0, 1], and of sensible width for a share of 0 or 1."""
    n = len(right)
    share = float(np.mean(right))
    centre = (share + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * np.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2))
    # The ends are exact where they are 0 or 1, and rounding would put the share outside.
    return [float(max(0.0, min(share, centre - half))), float(min(1.0, max(share, centre + half)))]


def difference(a: Bool[np.ndarray, " n"], b: Bool[np.ndarray, " m"]) -> Interval:
    """Of the share of `a` less that of `b` (Newcombe 1998, method 10)."""
    (low_a, high_a), (low_b, high_b) = wilson(a), wilson(b)
    share_a, share_b = float(np.mean(a)), float(np.mean(b))
    below = np.hypot(share_a - low_a, high_b - share_b)
    above = np.hypot(high_a - share_a, share_b - low_b)
    return [float(share_a - share_b - below), float(share_a - share_b + above)]


def of_weighted_sum(
    values: Float[np.ndarray, " n"], weights: Float[np.ndarray, " n"], images: Sequence[str]
) -> Interval:
    """Of Σ weight · value, where the rows of one image hang together: the images are what is drawn, not the rows."""
    _, image = codes(images)
    per_image = np.bincount(image, weights=weights * values)
    num_images = len(per_image)
    total = float(per_image.sum())
    half = Z * float(np.sqrt(num_images * per_image.var(ddof=1))) if num_images > 1 else np.inf
    return [total - half, total + half]


def of_mean_accuracy(
    right: Bool[np.ndarray, " n"], weights: Float[np.ndarray, " n"], images: Sequence[str]
) -> Interval:
    """Of Σ weight · right, which is a mean of shares; Wilson's where no image differs from another."""
    low, high = of_weighted_sum(right.astype(np.float64), weights, images)
    if high - low < 1e-12:
        return wilson(np.full(len(set(images)), bool(right[0])))
    return [max(0.0, low), min(1.0, high)]


def of_resamples(score: Callable[[np.random.Generator], Mapping[str, float]]) -> dict[str, Interval]:
    """Of every score that `score` computes on a resample that it draws itself; the same at every call."""
    rng = np.random.default_rng(0)
    drawn = [score(rng) for _ in range(_NUM_RESAMPLES)]
    return {name: of_values(np.asarray([scores[name] for scores in drawn])) for name in drawn[0]}


def of_values(values: Float[np.ndarray, " r"]) -> Interval:
    """Percentiles of a score over resamples."""
    return np.quantile(values, (0.025, 0.975)).tolist()


def bootstrap(num_resamples: int = _NUM_RESAMPLES) -> str:
    """The name of an interval by percentiles."""
    return f"percentiles of {num_resamples} bootstrap resamples of the images, 95 %"
