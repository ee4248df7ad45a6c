"""Which answer counts as right: every protocol against a loop over its definition, ties and NaN against the model."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luab_jax.data.label_tables import IMAGENET_A, IN9
from luab_jax.errors import DataError
from luab_jax.evaluation.answers import ARGMAX, Answer, Answers, Doubt, codes, in9_superclass, label_set
from luab_jax.evaluation.predictions import Predictions
from tests.evaluation.drawn import guesses, predictions, softmax, truth


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(-3, 3), min_size=6, max_size=6), min_size=1, max_size=5))
def test_ties_count_against_the_label(rows: list[list[int]]) -> None:
    answers = ARGMAX(predictions(np.array(rows), [truth(i % 6) for i in range(len(rows))]))
    for i, (rank, row) in enumerate(zip(answers.rank, rows, strict=True)):
        own = row[i % 6]
        assert rank == sum(value >= own for c, value in enumerate(row) if c != i % 6)


@pytest.mark.parametrize("logits", [np.zeros((5, 4)), np.full((5, 4), np.nan)], ids=["constant", "diverged"])
@pytest.mark.parametrize("answer", [ARGMAX, Answer((0, 1, 2, 3)), Answer(right=label_set)])
def test_a_model_that_says_nothing_is_never_right(logits: np.ndarray, answer: Answer) -> None:
    answers = answer(predictions(logits, [truth(i % 4, labels=(i % 4,)) for i in range(5)]))
    assert not answers.right.any() and np.all(answers.rank == 3)


def test_one_nan_beside_the_label_is_a_wrong_answer() -> None:
    assert not ARGMAX(predictions(np.array([[5, np.nan, 0]]), [truth(0)])).right[0]
    assert not ARGMAX(predictions(np.array([[np.nan, 1, 0]]), [truth(0)])).right[0]


@pytest.mark.parametrize("seed", range(3))
def test_a_subset_is_argmax_after_all_other_logits_are_thrown_away(seed: int) -> None:
    truths = [truth(IMAGENET_A[i]) for i in np.random.default_rng(seed).integers(200, size=40)]
    given_ = guesses(seed, truths, 1000)
    answers = Answer(IMAGENET_A)(given_)
    for row, of_row, right, confidence in zip(
        given_.logits.tolist(), truths, answers.right, answers.confidence, strict=True
    ):
        kept = [row[i] for i in IMAGENET_A]
        assert right == (IMAGENET_A[kept.index(max(kept))] == of_row.label)
        assert confidence == pytest.approx(max(softmax(kept)), rel=1e-5)
    assert answers.right.sum() > ARGMAX(given_).right.sum() > 0  # fewer wrong answers to choose from


def test_a_label_outside_the_subset_tells_that_this_is_another_suite() -> None:
    with pytest.raises(DataError, match=r"n0/a\.JPEG: its label 0 is not among the 200 classes"):
        Answer(IMAGENET_A)(predictions(np.eye(1000)[:2], [truth(6), truth(0)]))


def test_or_the_image_is_left_out_and_counted_where_the_protocol_says_so() -> None:
    answers = Answer(IMAGENET_A, only_these=True)(predictions(np.eye(1000)[:8], [truth(i) for i in range(8)]))
    assert (len(answers), answers.num_left_out) == (1, 7) and answers.right.all()


def test_any_of_a_set_of_labels_is_right_and_an_empty_set_is_left_out() -> None:
    truths = [truth(labels=(1, 3)), truth(labels=()), truth(labels=(0,))]
    answers = Answer(right=label_set)(predictions(np.eye(4)[[3, 2, 1]], truths))
    assert answers.right.tolist() == [True, False] and answers.num_left_out == 1


@pytest.mark.parametrize("seed", range(3))
def test_of_the_1000_classes_the_answer_is_mapped_to_nine_after_the_argmax(seed: int) -> None:
    truths = [truth(int(i)) for i in np.random.default_rng(seed).integers(9, size=60)]
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(60, 1000)).astype(np.float32)
    for row, of_row in zip(logits, truths, strict=True):
        row[rng.choice(list(IN9.values())[of_row.label])] += 3
    answers = Answer(right=in9_superclass)(predictions(logits, truths))
    to_nine = {index: i for i, indices in enumerate(IN9.values()) for index in indices}
    expected = [
        to_nine.get(int(np.argmax(row)), -1) == of_row.label for row, of_row in zip(logits, truths, strict=True)
    ]
    assert answers.right.tolist() == expected and 0 < sum(expected) < 60
    # The class whose probabilities sum highest is another protocol, and another answer.
    summed = [[softmax(row)[list(indices)].sum() for indices in IN9.values()] for row in logits]
    assert [int(np.argmax(row)) == of_row.label for row, of_row in zip(summed, truths, strict=True)] != expected


def test_an_index_of_none_of_the_nine_is_wrong_for_every_class() -> None:
    outside = [171, 172, 999]  # dogs without a class among them
    logits = np.eye(1000)[np.repeat(outside, 9)]
    assert not Answer(right=in9_superclass)(predictions(logits, [truth(i) for i in range(9)] * 3)).right.any()


def test_an_image_without_a_label_is_an_error_and_not_a_mistake_of_the_model() -> None:
    with pytest.raises(DataError, match=r"n0/b\.JPEG: has no label"):
        ARGMAX(predictions(np.eye(3), [truth(0), truth(-1, file_name="n0/b.JPEG"), truth(2)]))


def parts_of(whole: Predictions, size: int) -> list[Predictions]:
    rows = range(0, len(whole), size)
    return [Predictions(whole.logits[i : i + size], None, whole.truths[i : i + size]) for i in rows]


@pytest.mark.parametrize("answer", [ARGMAX, Answer(tuple(range(5)), only_these=True), Answer(right=label_set)])
def test_batch_by_batch_is_the_same_as_at_once(answer: Answer) -> None:
    truths = [
        truth(i % 9, labels=(i % 9,) if i % 4 else (), group=f"g{i % 3}", file_name=f"x/y/{i}") for i in range(25)
    ]
    whole = guesses(0, truths, 9)
    at_once, joined = answer(whole), Answers.concatenate([answer(part) for part in parts_of(whole, 7)])
    assert joined.rank.tolist() == at_once.rank.tolist()
    assert joined.confidence.tolist() == at_once.confidence.tolist()
    assert (joined.groups, joined.images) == (at_once.groups, at_once.images)
    assert joined.num_left_out == at_once.num_left_out
    assert len(set(at_once.images)) == len(at_once)


@pytest.mark.parametrize("seed", range(3))
def test_doubt_orders_images_as_the_negative_softmax_of_the_subset_does(seed: int) -> None:
    truths = [truth(IMAGENET_A[i] if i % 2 else 0) for i in range(50)]
    given_ = guesses(seed, truths, 1000)
    doubts = Doubt(IMAGENET_A)(given_).values
    official = [-max(softmax(row[list(IMAGENET_A)])) for row in given_.logits]
    np.testing.assert_allclose(doubts, -np.log(-np.array(official)), rtol=1e-6)
    assert len(Doubt(IMAGENET_A, only_these=True)(given_)) == 25


def test_codes_are_positions_among_the_sorted_names() -> None:
    names, code = codes(["b", "a", "b", "c"])
    assert names == ["a", "b", "c"] and code.tolist() == [1, 0, 1, 2]
