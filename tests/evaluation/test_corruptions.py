"""ImageNet-C: means of means, the mCE by hand, and what is said of a set that is not whole."""

from __future__ import annotations

import numpy as np
import pytest

from data_prep.datasets.suites import CORRUPTIONS, EXTRA_CORRUPTIONS
from luab_jax.evaluation.answers import ARGMAX, Answers
from luab_jax.evaluation.predictions import Predictions
from luab_jax.evaluation.scores.corruptions import ALEXNET_ERROR, corruptions
from tests.evaluation.drawn import guesses, predictions, truth

NUM_CLASSES = 7


def versions(kinds: tuple[str, ...], num_images: int, severities: tuple[int, ...] = (1, 2, 3, 4, 5)) -> list:
    return [
        truth(i % NUM_CLASSES, group=f"{kind},severity={s}", file_name=f"{kind}/{s}/n{i % NUM_CLASSES}/{i}.JPEG")
        for kind in kinds
        for s in severities
        for i in range(num_images)
    ]


def answered(kinds: tuple[str, ...], seed: int = 0, num_images: int = 9) -> Answers:
    return ARGMAX(guesses(seed, versions(kinds, num_images), NUM_CLASSES))


def test_alexnet_has_the_kinds_of_the_headline() -> None:
    assert tuple(ALEXNET_ERROR) == CORRUPTIONS


def by_hand(whole: Predictions) -> tuple[list[float], list[float]]:
    """Accuracy of each kind, and its error over AlexNet's."""
    argmax = whole.logits.argmax(axis=-1)
    accuracy, ratios = [], []
    for kind in CORRUPTIONS:
        errors = []
        for severity in range(1, 6):
            rows = [i for i, t in enumerate(whole.truths) if t.group == f"{kind},severity={severity}"]
            errors.append(sum(argmax[i] != whole.truths[i].label for i in rows) / len(rows))
        accuracy.append(1 - sum(errors) / 5)
        ratios.append(sum(errors) / 5 / ALEXNET_ERROR[kind])
    return accuracy, ratios


def test_accuracy_and_mce_are_loops_over_kinds_and_severities() -> None:
    whole = guesses(0, versions(CORRUPTIONS, 9), NUM_CLASSES)
    accuracy, ratios = by_hand(whole)
    scores = corruptions({"test": ARGMAX(whole)})
    assert scores["top1"] == pytest.approx(sum(accuracy) / 15)
    assert scores["mce"] == pytest.approx(sum(ratios) / 15)
    assert list(scores["kinds"].values()) == pytest.approx([accuracy[CORRUPTIONS.index(k)] for k in scores["kinds"]])
    assert (len(scores["groups"]), scores["n"], scores["n_images"]) == (75, 675, 9)
    for name in ("top1", "mce"):
        low, high = scores[name].interval
        assert low < scores[name] < high
        assert (low + high) / 2 == pytest.approx(scores[name])


def test_alexnet_itself_has_an_mce_of_one() -> None:
    """10,000 images of each kind, as many of them wrong as AlexNet had."""
    truths, logits = [], []
    for kind, error in ALEXNET_ERROR.items():
        for severity in range(1, 6):
            wrong = round(error * 10_000)
            truths += [truth(0, group=f"{kind},severity={severity}", file_name=f"n/{i}") for i in (0, 1)]
            logits.append((wrong, 10_000 - wrong))
    # Answers by count: each group's rows are weighted by repeating them.
    rank = np.concatenate([np.repeat([1, 0], counts) for counts in logits])
    groups = [t.group for t, counts in zip(truths[::2], logits, strict=True) for _ in range(sum(counts))]
    images = [f"n/{i % 10_000}" for i in range(len(rank))]
    scores = corruptions({"test": Answers(rank.astype(np.int32), np.ones(len(rank), np.float32), groups, images)})
    assert scores["mce"] == pytest.approx(1, abs=1e-4)


def test_a_perfect_and_a_constant_model() -> None:
    truths = versions(CORRUPTIONS, NUM_CLASSES)
    perfect = corruptions({"test": ARGMAX(predictions(np.eye(NUM_CLASSES)[[t.label for t in truths]], truths))})
    assert (perfect["top1"], perfect["mce"]) == (1, 0)
    constant = corruptions({"test": ARGMAX(predictions(np.tile(np.eye(NUM_CLASSES)[0], (len(truths), 1)), truths))})
    assert constant["top1"] == pytest.approx(1 / NUM_CLASSES)


def test_the_extra_four_stand_beside_and_change_no_headline() -> None:
    test, extra = answered(CORRUPTIONS), answered(EXTRA_CORRUPTIONS, seed=1)
    alone, both = corruptions({"test": test}), corruptions({"test": test, "extra": extra})
    assert (alone["top1"], alone["mce"]) == (both["top1"], both["mce"])
    kinds = [*both["kinds"].values(), *both["kinds_extra"].values()]
    assert both["top1_with_extra"] == pytest.approx(sum(kinds) / 19)
    assert len(both["groups"]) == 95


def test_without_a_kind_there_is_no_mce_and_the_set_is_partial() -> None:
    scores = corruptions({"test": answered(CORRUPTIONS[:-1])})
    assert "mce" not in scores and scores["partial"]
    assert scores["groups_missing"] == [f"jpeg_compression,severity={s}" for s in range(1, 6)]
