"""Intervals against scipy, and against how often they hold what they should."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import average_precision_score

from luab_jax.evaluation.scores import intervals
from luab_jax.evaluation.scores.label_sets import resampled_map


@pytest.mark.parametrize(
    ("right", "n"), [(0, 1), (1, 1), (0, 40), (3, 40), (20, 40), (39, 40), (40, 40), (7621, 10_000)]
)
def test_wilson_is_scipys(right: int, n: int) -> None:
    expected = stats.binomtest(right, n).proportion_ci(method="wilson")
    assert intervals.wilson(np.arange(n) < right) == pytest.approx([expected.low, expected.high], abs=1e-12)


def test_the_difference_of_newcombes_paper() -> None:
    """Newcombe 1998, table II, example (a): 56/70 - 48/80, method 10: 0.0524 to 0.3339."""
    found = intervals.difference(np.arange(70) < 56, np.arange(80) < 48)
    assert found == pytest.approx([0.0524, 0.3339], abs=5e-5)


def test_the_difference_of_two_perfect_sets_is_not_certain() -> None:
    low, high = intervals.difference(np.ones(50, bool), np.ones(50, bool))
    assert low == pytest.approx(-high) and 0.05 < high < 0.1


def test_versions_of_one_image_count_as_one() -> None:
    rng = np.random.default_rng(0)
    values = rng.random(100)
    weights = np.full(100, 1 / 100)
    alone = intervals.of_weighted_sum(values, weights, [f"{i}" for i in range(100)])
    expected = values.mean() + intervals.Z * np.array([-1, 1]) * values.std(ddof=1) / 10
    assert alone == pytest.approx(expected)
    repeated = intervals.of_weighted_sum(np.tile(values, 5), np.tile(weights, 5) / 5, [f"{i}" for i in range(100)] * 5)
    assert repeated == pytest.approx(alone)


def test_images_that_are_all_right_do_not_make_certain() -> None:
    weights, images = np.full(60, 1 / 60), [f"{i % 20}" for i in range(60)]
    assert intervals.of_mean_accuracy(np.ones(60, bool), weights, images) == intervals.wilson(np.ones(20, bool))
    assert intervals.of_mean_accuracy(np.zeros(60, bool), weights, images) == intervals.wilson(np.zeros(20, bool))
    low, high = intervals.of_mean_accuracy(np.arange(60) % 20 > 0, weights, images)
    assert 0.8 < low < 0.95 < high == 1


def test_the_interval_over_images_holds_the_mean_95_times_of_100() -> None:
    """Five versions of an image share how hard it is; the interval must be wider than if they were independent."""
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(400):
        hard = rng.beta(0.5, 0.5, size=200)
        right = (rng.random((5, 200)) < hard).astype(float).ravel()
        low, high = intervals.of_weighted_sum(right, np.full(1000, 1e-3), [f"{i}" for i in range(200)] * 5)
        held += low <= 0.5 <= high
    assert 0.92 < held / 400 < 0.98


def test_resampled_map_is_scikit_learns_on_repeated_images() -> None:
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 6, (40, 3)).astype(np.float32)  # with ties
    labels = rng.random((40, 3)) < 0.3
    times = rng.multinomial(40, np.full(40, 1 / 40), 5)
    for found, of_resample in zip(resampled_map(scores, labels, times), times, strict=True):
        rows = np.repeat(np.arange(40), of_resample)
        assert found == pytest.approx(average_precision_score(labels[rows], scores[rows], average="macro"))
