"""mAP is scikit-learn's, with ties and absent classes; a model that says nothing gets the share of positives."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from luab_jax.data.pipeline import Truth
from luab_jax.errors import DataError
from luab_jax.evaluation.predictions import Predictions
from luab_jax.evaluation.scores.label_sets import label_set_map
from luab_jax.metrics.average_precision import average_precision, mean_average_precision


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 60), st.integers(1, 5), st.sampled_from([2, 5, 10**6]))
def test_every_class_is_scikit_learns(seed: int, num_images: int, num_classes: int, distinct: int) -> None:
    """Few distinct scores make ties."""
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, distinct, (num_images, num_classes)).astype(np.float32)
    labels = rng.random((num_images, num_classes)) < 0.3
    ours = average_precision(scores, labels)
    for label in range(num_classes):
        if labels[:, label].any():
            theirs = average_precision_score(labels[:, label], scores[:, label])
            assert ours[label] == pytest.approx(theirs, rel=1e-12)
        else:
            assert np.isnan(ours[label])


def test_a_constant_model_has_the_share_of_positives_and_a_perfect_one_has_1() -> None:
    labels = np.array([[1, 0], [0, 0], [0, 0], [1, 0]], bool)
    assert mean_average_precision(np.zeros((4, 2), np.float32), labels) == {"map": 0.5, "n_classes": 1}
    assert mean_average_precision(labels.astype(np.float32), labels)["map"] == 1.0


def test_no_score_is_invented() -> None:
    with pytest.raises(DataError, match="no mAP"):
        mean_average_precision(np.zeros((4, 2), np.float32), np.zeros((4, 2), bool))
    with pytest.raises(DataError, match="not finite"):
        mean_average_precision(np.full((1, 1), np.nan, np.float32), np.ones((1, 1), bool))


def test_the_suite_counts_images_without_a_class() -> None:
    truths = [Truth(f"{i}.jpg", -1, labels, "", None, None) for i, labels in enumerate([(0, 1), (), (1,)])]
    logits = np.array([[3.0, 1.0], [2.0, 5.0], [1.0, 4.0]], np.float32)
    scores = label_set_map(Predictions(logits, None, truths))
    assert scores["map"] == pytest.approx((1.0 + (1 / 2 + 2 / 3) / 2) / 2)
    assert (scores["n_classes"], scores["n"]) == (2, 3)
    low, high = scores["map"].interval
    assert 0 < low <= scores["map"] <= high <= 1
