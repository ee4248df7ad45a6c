"""Out-of-distribution detection against scikit-learn and a loop over thresholds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from luab_jax.errors import DataError
from luab_jax.evaluation.answers import Doubts
from luab_jax.evaluation.scores import intervals
from luab_jax.evaluation.scores.detection import detection, detection_scores, scores_with_intervals

scores = st.lists(st.integers(-5, 5), min_size=1, max_size=30)


def false_positives_at_95(positive: list[int], negative: list[int]) -> float:
    """Thresholds from the highest down to the first that finds all; the nearest recall, of two the larger."""
    best = None
    for threshold in sorted({*positive, *negative}, reverse=True):
        recall = sum(p >= threshold for p in positive) / len(positive)
        rate = sum(n >= threshold for n in negative) / len(negative)
        if best is None or abs(recall - 0.95) <= best[0]:
            best = (abs(recall - 0.95), rate)
        if recall == 1:
            break
    assert best is not None
    return best[1]


@settings(max_examples=200, deadline=None)
@given(scores, scores)
def test_all_three_are_their_definitions_ties_included(positive: list[int], negative: list[int]) -> None:
    found = detection_scores(np.array(positive, float), np.array(negative, float))
    labels = [1] * len(positive) + [0] * len(negative)
    assert found["auroc"] == pytest.approx(roc_auc_score(labels, positive + negative))
    assert found["aupr"] == pytest.approx(average_precision_score(labels, positive + negative))
    assert found["fpr95"] == pytest.approx(false_positives_at_95(positive, negative))


def test_a_constant_model_has_the_base_rate() -> None:
    """2,000 of 12,000: AUPR 16.7 %, AUROC 50 %."""
    found = detection_scores(np.zeros(2000), np.zeros(10_000))
    assert found == pytest.approx({"aupr": 1 / 6, "auroc": 0.5, "fpr95": 1.0})


def test_the_intervals_hold_the_scores() -> None:
    rng = np.random.default_rng(0)
    parts = {"out": Doubts(rng.normal(0.5, 1, 80)), "in": Doubts(rng.normal(0, 1, 200))}
    found = detection(parts)
    assert (found["n"], found["n_out"], found["n_in"]) == (280, 80, 200)
    for name in ("aupr", "auroc", "fpr95"):
        low, high = found[name].interval
        assert low < found[name] < high, name
    assert detection(parts) == found


def test_what_cannot_be_detected_is_an_error() -> None:
    with pytest.raises(DataError, match="none of this suite's classes"):
        detection({"out": Doubts(np.zeros(2)), "in": Doubts(np.zeros(0))})
    with pytest.raises(DataError, match="not finite"):
        detection({"out": Doubts(np.array([np.nan])), "in": Doubts(np.zeros(1))})


@pytest.mark.parametrize(("n", "m", "decimals"), [(60, 200, 6), (60, 200, 1), (1, 4, 6)])
def test_resamples_of_fpr95_are_those_of_images_drawn_and_sorted_anew(n: int, m: int, decimals: int) -> None:
    """To the bits, also where scores are tied."""
    rng = np.random.default_rng(n)
    out, known = rng.normal(0.5, 1, n).round(decimals), rng.normal(0, 1, m).round(decimals)

    def anew(rng: np.random.Generator) -> float:
        return detection_scores(*(rng.choice(values, len(values)) for values in (out, known)))["fpr95"]

    sample = scores_with_intervals(out, known, ["fpr95"])["fpr95"].sample
    assert sample is not None
    np.testing.assert_array_equal(sample.values, intervals.resampled(anew))
