"""Intervals against scipy, and against how often they hold what they should."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import average_precision_score

from benchmarks import intervals as benchmark
from luab_jax.evaluation.scores import intervals
from luab_jax.evaluation.scores.label_sets import map_without_each
from luab_jax.metrics.average_precision import average_precision_without_each
from luab_jax.results.score import Direction


@pytest.mark.parametrize(
    ("right", "n"), [(0, 1), (1, 1), (0, 40), (3, 40), (20, 40), (39, 40), (40, 40), (7621, 10_000)]
)
def test_wilson_is_scipys(right: int, n: int) -> None:
    expected = stats.binomtest(right, n).proportion_ci(method="wilson")
    assert intervals.wilson(np.arange(n) < right) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_the_difference_of_newcombes_paper() -> None:
    """Newcombe 1998, table II, example (a): 56/70 - 48/80, method 10: 0.0524 to 0.3339."""
    found = intervals.difference(np.arange(70) < 56, np.arange(80) < 48)
    assert found == pytest.approx((0.0524, 0.3339), abs=5e-5)


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
    assert intervals.of_mean_accuracy(np.array([True]), np.ones(1), ["a"]) == intervals.wilson(np.array([True]))


def test_the_parts_of_images_have_the_score_as_their_mean() -> None:
    rng = np.random.default_rng(0)
    right, weights, images = rng.random(60) < 0.5, rng.dirichlet(np.ones(60)), [f"{i % 20}" for i in range(60)]
    score = intervals.mean_accuracy(right, weights, images)
    assert score == pytest.approx(float(weights @ right)) and len(score.sample.values) == 20
    assert score.sample.values.mean() == pytest.approx(float(score))


@given(st.integers(2, 30), st.integers(1, 5), st.integers(0, 999))
def test_ap_without_each_image_is_scikit_learns_on_the_others(n: int, levels: int, seed: int) -> None:
    """Ties, single positives and single images among them."""
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, levels, n).astype(np.float32)
    labels = rng.random(n) < 0.4
    ap, without = average_precision_without_each(scores, labels)
    if not labels.any():
        assert np.isnan(ap) and np.isnan(without).all()
        return
    assert ap == pytest.approx(average_precision_score(labels, scores))
    for i in range(n):
        others = np.arange(n) != i
        if labels[others].any():
            assert without[i] == pytest.approx(average_precision_score(labels[others], scores[others]))
        else:
            assert np.isnan(without[i])


def test_map_without_an_image_leaves_out_the_class_that_it_alone_shows() -> None:
    scores = np.array([[3.0, 1.0], [2.0, 5.0], [1.0, 4.0]])
    labels = np.array([[True, False], [False, True], [False, True]])
    assert map_without_each(scores, labels)[0] == 1.0, "class 1 alone, which the others have perfectly"
    alone = map_without_each(np.array([[1.0], [0.0]]), np.array([[True], [False]]))
    assert np.isnan(alone[0]) and alone[1] == 1.0
    assert intervals.jackknife(1.0, alone, Direction.HIGHER).interval is None


def test_fifty_images_of_coco_have_an_interval_that_holds_their_map() -> None:
    """A percentile bootstrap gave 10.8 in [12.0, 18.9]."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        scores, labels = benchmark.draw_label_sets(rng, 50, benchmark.prevalences(80, 0.01), 0.3)
        ap = [average_precision_without_each(s, shown)[0] for s, shown in zip(scores.T, labels.T, strict=True)]
        score = intervals.jackknife(float(np.nanmean(ap)), map_without_each(scores, labels), Direction.HIGHER)
        assert score.interval is not None and score.interval[0] <= score <= score.interval[1]


@given(st.floats(0, 1), st.floats(0, 0.5), st.integers(1, 1000), st.floats(-1, 1))
def test_an_interval_on_the_logit_scale_holds_its_score_and_stays_inside(
    score: float, deviation: float, n: int, bias: float
) -> None:
    low, high = intervals.on_logit_scale(score, deviation, n, bias)
    assert 0 <= low <= score <= high <= 1


@given(st.lists(st.floats(0, 2), min_size=6, max_size=60))
def test_the_interval_of_a_median_holds_it(values: list[float]) -> None:
    found = intervals.median_interval(np.asarray(values))
    assert found is not None and found[0] <= np.median(values) <= found[1]


def test_fewer_than_six_values_have_no_interval_of_their_median() -> None:
    """All n lie on one side of it with a chance of 2 · 2⁻ⁿ: 6.3 % for 5, 3.1 % for 6."""
    assert intervals.median_interval(np.arange(5.0)) is None
    assert intervals.median_interval(np.arange(6.0)) == (0.0, 5.0)


def test_the_ranks_of_a_median_are_those_of_the_binomial_distribution() -> None:
    """Of 100 values the 40th and the 61st: 96.5 %; a rank further in holds 94.3 % only."""
    assert intervals.median_interval(np.arange(1.0, 101.0)) == (40.0, 61.0)


_CHEAP = (
    "mAP of 20 classes, 200 images",
    "AUPR, 100 of 600 images",
    "AUROC, 100 of 600 images",
    "accuracy, 200 images",
    "gap of two sets, 150 images each",
    "mean accuracy, 200 images in 5 versions",
    "median distance, 150 images",
    "difference of accuracies, paired, 150 images",
)
_REPEATS = 1500
_MARGIN = 2 * np.sqrt(0.95 * 0.05 / _REPEATS)
"""Of the draws themselves: 1.1 points."""


@pytest.mark.parametrize("name", _CHEAP)
def test_nominal_95_percent_hold_the_true_value_93_to_97_times_of_100(name: str) -> None:
    """On drawn data whose true value is known; by so many draws that a fifth less or half more width fails."""
    drawn = benchmark.draw(name, _REPEATS)
    found = benchmark.coverage_of(drawn)
    assert 0.93 - _MARGIN <= found.held <= 0.97 + _MARGIN
    assert found.missed_score == 0
    assert benchmark.coverage_of([_scaled(one, 0.8) for one in drawn]).held < 0.93 - _MARGIN
    assert benchmark.coverage_of([_scaled(one, 1.5) for one in drawn]).held > 0.97 + _MARGIN


def _scaled(drawn: benchmark.Drawn, factor: float) -> benchmark.Drawn:
    middle, half = (drawn.low + drawn.high) / 2, (drawn.high - drawn.low) / 2
    return drawn._replace(low=middle - factor * half, high=middle + factor * half)


@pytest.mark.parametrize("name", [name for name in benchmark.CASES if name not in _CHEAP])
def test_the_intervals_that_take_long_to_draw_are_not_much_too_narrow(name: str) -> None:
    """So few draws cannot say more; `python -m benchmarks.intervals` makes as many as are wanted."""
    repeats = 60 if name.split(",")[0] in ("MaxBoxAccV2", "FPR95", "difference of medians") else 200
    found = benchmark.coverage(name, repeats)
    assert found.held >= 0.93 - 3 * np.sqrt(0.95 * 0.05 / repeats)
    assert found.missed_score == 0


def test_students_t_is_too_narrow_where_few_images_differ_as_the_documentation_says() -> None:
    few, many = (benchmark.coverage(f"difference of mean accuracies, 100 images, {n} % differ", 1500) for n in (5, 20))
    assert few.held < 0.92 and 0.93 - _MARGIN <= many.held <= 0.97 + _MARGIN
