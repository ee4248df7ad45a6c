"""Means that are exact however the rows were batched, and accuracy that flatters no model."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import top_k_accuracy_score

from luab_jax.metrics.means import Mean, box_iou, masked_mean, single, summarise, top_k_correct


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.tuples(st.integers(-1000, 1000), st.booleans()), min_size=1, max_size=24),
    st.lists(st.integers(1, 8), min_size=24, max_size=24),
)
def test_a_masked_mean_is_exact_however_rows_are_batched(rows: list[tuple[int, bool]], sizes: list[int]) -> None:
    batches, start = [], 0
    for size in sizes:
        batch = rows[start : start + size]
        start += size
        if batch:
            values, mask = zip(*batch, strict=True)
            batches.append({"m": masked_mean(jnp.array(values, jnp.float32), jnp.array(mask))})
    counted = [value for value, ok in rows if ok]
    expected = {"m": sum(counted) / len(counted)} if counted else {}
    assert summarise(batches) == pytest.approx(expected, rel=1e-12)


def test_what_is_masked_may_be_nan() -> None:
    mean = masked_mean(jnp.array([1.0, jnp.nan, 3.0, jnp.inf]), jnp.array([True, False, True, False]))
    assert summarise([{"m": mean}]) == {"m": 2.0}


def test_means_of_many_batches_are_added_in_double_precision() -> None:
    """In float32 the second term would be lost."""
    means = [{"m": Mean(jnp.float32(2**24), jnp.float32(1))}, {"m": Mean(jnp.float32(1), jnp.float32(1))}]
    assert summarise(means)["m"] == (2**24 + 1) / 2


def test_a_mean_of_nothing_is_left_out_and_names_may_differ_between_batches() -> None:
    nothing = {"empty": masked_mean(jnp.ones(2), jnp.zeros(2, bool)), "loss": single(jnp.float32(3.0))}
    summary = summarise([nothing, {"loss": single(jnp.float32(5.0))}])
    assert summary["loss"] == 4.0
    assert "empty" not in summary
    assert summarise([]) == {}


@pytest.mark.parametrize("k", [1, 2, 5, 9])
@pytest.mark.parametrize("seed", [0, 1])
def test_top_k_agrees_with_sklearn(k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(64, 10)).astype(np.float32)
    labels = rng.integers(0, 10, 64)
    correct = top_k_correct(jnp.asarray(logits), jnp.asarray(labels), k)
    assert float(correct.mean()) == pytest.approx(top_k_accuracy_score(labels, logits, k=k, labels=range(10)))


def test_a_model_that_cannot_decide_is_not_right() -> None:
    labels = jnp.arange(10)
    assert not top_k_correct(jnp.zeros((10, 10)), labels, 1).any()
    assert not top_k_correct(jnp.zeros((10, 10)), labels, 5).any()
    tie_of_two = jnp.array([[1.0, 1.0, 0.0]])
    assert top_k_correct(tie_of_two, jnp.array([0]), 1).tolist() == [0.0]
    assert top_k_correct(tie_of_two, jnp.array([0]), 2).tolist() == [1.0]


@pytest.mark.parametrize("row", [[jnp.nan] * 4, [jnp.nan, 5.0, 0.0, 0.0], [9.0, jnp.nan, 1.0, 0.0]])
def test_a_model_that_diverged_is_not_right(row: list[float]) -> None:
    """A NaN beats the label, and a label whose own logit is NaN is beaten by all."""
    assert top_k_correct(jnp.array([row]), jnp.array([0]), 1).tolist() == [0.0]


def test_a_row_without_a_label_is_never_right() -> None:
    logits = jnp.array([[9.0, 0.0, 0.0], [0.0, 0.0, 9.0]])
    assert top_k_correct(logits, jnp.array([-1, -1]), 1).tolist() == [0.0, 0.0]
    assert top_k_correct(logits, jnp.array([-1, 2]), 3).tolist() == [0.0, 1.0]


corners = st.lists(st.integers(0, 8), min_size=4, max_size=4)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(corners, corners), min_size=1, max_size=5))
def test_intersection_over_union_counts_unit_squares(
    pairs: list[tuple[list[int], list[int]]],
) -> None:
    def squares(box: list[int]) -> set[tuple[int, int]]:
        return {(x, y) for x in range(box[0], box[2]) for y in range(box[1], box[3])}

    expected = []
    for one, other in pairs:
        # What has its corners the wrong way round covers nothing.
        common, union = squares(one) & squares(other), squares(one) | squares(other)
        expected.append(len(common) / len(union) if union else 0.0)
    ones, others = (np.array(boxes, np.float32) for boxes in zip(*pairs, strict=True))
    np.testing.assert_allclose(box_iou(jnp.asarray(ones), jnp.asarray(others)), expected, rtol=1e-6)
