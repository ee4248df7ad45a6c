"""Accuracies and calibration against scikit-learn and loops over their definitions; what trivial models get."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, top_k_accuracy_score

from luab_jax.data.pipeline import Truth
from luab_jax.errors import DataError
from luab_jax.evaluation.answers import ARGMAX, Answer, label_set
from luab_jax.evaluation.predictions import Predictions
from luab_jax.evaluation.scores.calibration import calibration_error
from luab_jax.evaluation.scores.classification import backgrounds, beside, by_group, real, top_k
from tests.evaluation.drawn import guesses, predictions, softmax, truth

NUM_CLASSES = 10


def random_predictions(seed: int, n: int = 60) -> Predictions:
    """On images in three groups with some to no ReaL labels."""
    rng = np.random.default_rng(seed)
    truths: list[Truth] = []
    for i in range(n):
        labels = tuple(rng.choice(NUM_CLASSES, rng.integers(0, 4), replace=False).tolist())
        group = ["blur", "noise", "snow"][int(rng.integers(3))]
        truths.append(truth(int(rng.integers(NUM_CLASSES)), labels=labels, group=group, file_name=f"{i}.JPEG"))
    return guesses(seed, truths, NUM_CLASSES)


@pytest.mark.parametrize("seed", range(3))
def test_top_k_is_sklearns(seed: int) -> None:
    given = random_predictions(seed)
    scores = top_k(ARGMAX(given))
    assert scores["n"] == 60
    for name, k in (("top1", 1), ("top5", 5)):
        expected = top_k_accuracy_score(given.labels, given.logits, k=k, labels=range(NUM_CLASSES))
        assert scores[name] == pytest.approx(expected)


def test_a_model_that_always_says_one_class_is_right_where_it_is_that_class() -> None:
    truths = [truth(i % NUM_CLASSES) for i in range(50)]
    logits = np.tile(np.eye(NUM_CLASSES)[3], (50, 1))
    assert top_k(ARGMAX(predictions(logits, truths)))["top1"] == 0.1


def test_a_perfect_model_scores_all_and_one_that_diverged_nothing() -> None:
    truths = [truth(i) for i in range(NUM_CLASSES)]
    perfect = top_k(ARGMAX(predictions(np.eye(NUM_CLASSES), truths)))
    diverged = top_k(ARGMAX(predictions(np.full((NUM_CLASSES, NUM_CLASSES), np.nan), truths)))
    assert (perfect["top1"], perfect["top5"], diverged["top1"], diverged["top5"]) == (1, 1, 0, 0)
    assert "ece" in perfect and "ece" not in diverged


# --- calibration


def calibration_error_by_loop(given: Predictions) -> float:
    """Over 15 bins, each open below and closed above."""
    bins: dict[int, list[tuple[float, bool]]] = {}
    for row, of_row in zip(given.logits.tolist(), given.truths, strict=True):
        probabilities = softmax(row).tolist()
        confidence = max(probabilities)
        number = next(i for i in range(15) if i / 15 < confidence <= (i + 1) / 15)
        bins.setdefault(number, []).append((confidence, probabilities.index(confidence) == of_row.label))
    return sum(
        len(members)
        / len(given)
        * abs(statistics.mean(right for _, right in members) - statistics.mean(confidence for confidence, _ in members))
        for members in bins.values()
    )


@pytest.mark.parametrize("seed", range(3))
def test_calibration_error_is_a_loop_over_15_bins(seed: int) -> None:
    given = random_predictions(seed, n=200)
    assert top_k(ARGMAX(given))["ece"] == pytest.approx(calibration_error_by_loop(given), abs=1e-6)


def test_a_model_that_is_right_as_often_as_it_says_has_no_calibration_error() -> None:
    right = np.array([True] * 3 + [False])
    assert calibration_error(np.full(4, 0.75), right) == pytest.approx(0)
    assert calibration_error(np.ones(4), right) == pytest.approx(0.25)
    assert calibration_error(np.ones(4), ~right) == pytest.approx(0.75)
    assert calibration_error(np.array([1.0, math.nan]), right[:2]) is None
    assert calibration_error(np.array([0.0, 1.0]), np.array([False, True])) == 0  # the ends belong to bins


def test_a_uniform_model_is_as_sure_as_it_is_right() -> None:
    rng = np.random.default_rng(0)
    truths = [truth(i % NUM_CLASSES) for i in range(5000)]
    scores = top_k(ARGMAX(predictions(1e-6 * rng.normal(size=(5000, NUM_CLASSES)), truths)))
    assert abs(scores["top1"] - 0.1) < 0.02 and scores["ece"] == pytest.approx(abs(scores["top1"] - 0.1), abs=1e-4)


# --- ReaL


@pytest.mark.parametrize("seed", range(3))
def test_real_counts_a_guess_among_the_correct_labels_and_leaves_out_images_without_any(seed: int) -> None:
    given = random_predictions(seed)
    right = left_out = 0
    for row, of_row in zip(given.logits.tolist(), given.truths, strict=True):
        if of_row.labels:
            right += row.index(max(row)) in of_row.labels
        else:
            left_out += 1
    scores = real(Answer(right=label_set)(given))
    assert left_out > 0
    assert scores["top1"] == pytest.approx(right / (60 - left_out))
    assert (scores["n"], scores["n_left_out"]) == (60 - left_out, left_out)


def test_with_one_label_each_real_is_top1() -> None:
    given = random_predictions(0)
    single = Predictions(given.logits, None, [truth(t.label, labels=(t.label,)) for t in given.truths])
    assert real(Answer(right=label_set)(single))["top1"] == top_k(ARGMAX(given))["top1"]


def test_a_set_without_real_labels_says_how_to_get_them() -> None:
    with pytest.raises(DataError, match=r"--real=real\.json"):
        real(Answer(right=label_set)(predictions(np.eye(3), [truth(i) for i in range(3)])))


# --- groups and parts


@pytest.mark.parametrize("seed", range(3))
def test_groups_are_scored_one_by_one_and_weigh_equally(seed: int) -> None:
    given = random_predictions(seed)
    argmax = given.logits.argmax(axis=-1)
    expected = {}
    for group in ("blur", "noise", "snow"):
        rows = [i for i, of_row in enumerate(given.truths) if of_row.group == group]
        expected[group] = accuracy_score(given.labels[rows], argmax[rows])
    scores = by_group(ARGMAX(given))
    assert scores["groups"] == pytest.approx(expected)
    assert scores["top1"] == pytest.approx(statistics.mean(expected.values()))
    assert scores["n"] == 60
    low, high = scores["top1"].interval
    assert 0 <= low < scores["top1"] < high <= 1


def test_a_set_of_one_group_scores_as_top1() -> None:
    given = random_predictions(0)
    ungrouped = Predictions(given.logits, None, [truth(t.label) for t in given.truths])
    assert by_group(ARGMAX(ungrouped))["top1"] == pytest.approx(top_k(ARGMAX(ungrouped))["top1"])


def test_other_readings_stand_beside_the_headline_with_intervals_of_their_own() -> None:
    first, second = ARGMAX(random_predictions(0)), ARGMAX(random_predictions(1, n=30))
    scores = beside("test")({"test": first, "other": second})
    assert (scores["top1"], scores["top1_other"]) == (first.right.mean(), second.right.mean())
    assert scores["top1"].interval and scores["top1_other"].interval and scores["n"] == 60


def test_the_gap_of_a_constant_model_is_none_and_of_one_that_sees_backgrounds_only_all() -> None:
    truths = [truth(i % 9) for i in range(90)]
    says_two = ARGMAX(predictions(np.tile(np.eye(9)[2], (90, 1)), truths))
    scores = backgrounds({"mixed_same": says_two, "mixed_rand": says_two})
    assert scores["gap"] == 0 and scores["mixed_same"] == pytest.approx(1 / 9)
    perfect = ARGMAX(predictions(np.eye(9)[[t.label for t in truths]], truths))
    wrong = ARGMAX(predictions(np.eye(9)[[(t.label + 1) % 9 for t in truths]], truths))
    assert backgrounds({"mixed_same": perfect, "mixed_rand": wrong})["gap"] == 1
