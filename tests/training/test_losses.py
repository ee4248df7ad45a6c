"""The losses against loops over their formulas, and what a target that is not valid may do: nothing."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from scipy.special import rel_entr, softmax

from luab_jax.training.losses import (
    byproduct_loss,
    class_cross_entropy,
    cross_entropy,
    distribution_divergence,
    mean_one,
    smooth_l1,
)

few = settings(max_examples=25, deadline=None)
numbers = st.floats(-20, 20, width=32)


@functools.cache
def jitted(function: Callable[..., jax.Array], **options: float) -> Callable[..., jax.Array]:
    """One compilation instead of one per operation."""
    return jax.jit(functools.partial(function, **options))


def softmax_probabilities(logits: list[float]) -> list[float]:
    largest = max(logits)
    exponentials = [math.exp(value - largest) for value in logits]
    return [value / sum(exponentials) for value in exponentials]


def cross_entropy_by_loops(logits: np.ndarray, labels: np.ndarray, smoothing: float) -> list[float]:
    losses = []
    for row, label in zip(logits.astype(np.float64).tolist(), labels.tolist(), strict=True):
        wanted = [smoothing / len(row) + (1 - smoothing) * (c == label) for c in range(len(row))]
        largest = max(row)
        log_total = largest + math.log(sum(math.exp(value - largest) for value in row))
        losses.append(-sum(q * (value - log_total) for q, value in zip(wanted, row, strict=True)))
    return losses


def smooth_l1_by_loops(predictions: np.ndarray, targets: np.ndarray, beta: float) -> list[float]:
    losses = []
    for prediction, target in zip(predictions.astype(np.float64), targets.astype(np.float64), strict=True):
        total = 0.0
        for d in np.abs(prediction - target).tolist():
            total += d * d / (2 * beta) if d < beta else d - beta / 2
        losses.append(total / len(prediction))
    return losses


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@few
@given(npst.arrays(np.float32, (3, 4), elements=numbers), st.lists(st.integers(0, 3), min_size=3, max_size=3))
def test_cross_entropy_is_its_formula(smoothing: float, logits: np.ndarray, labels: list[int]) -> None:
    losses = jitted(cross_entropy, label_smoothing=smoothing)(logits, np.array(labels))
    expected = cross_entropy_by_loops(logits, np.array(labels), smoothing)
    np.testing.assert_allclose(losses, expected, rtol=1e-5, atol=1e-5)


def test_cross_entropy_of_logits_that_say_nothing_is_that_of_a_guess() -> None:
    np.testing.assert_allclose(jitted(cross_entropy)(np.zeros((2, 10)), np.array([0, 9])), math.log(10), rtol=1e-6)


def test_the_gradient_of_cross_entropy_is_probability_minus_truth() -> None:
    logits = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    labels = np.array([2, 0, 3])
    gradient = jax.jit(jax.grad(lambda x: cross_entropy(x, jnp.asarray(labels)).sum()))(logits)
    expected = np.array([softmax_probabilities(row) for row in logits.tolist()])
    expected[np.arange(3), labels] -= 1
    np.testing.assert_allclose(gradient, expected, atol=1e-6)


@pytest.mark.parametrize("beta", [1.0, 0.05, 3.0])
@few
@given(npst.arrays(np.float32, (2, 3, 2), elements=st.floats(-4, 4, width=32)))
def test_smooth_l1_is_its_formula(beta: float, pair: np.ndarray) -> None:
    losses = jitted(smooth_l1, beta=beta)(pair[0], pair[1])
    np.testing.assert_allclose(losses, smooth_l1_by_loops(pair[0], pair[1], beta), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("beta", [0.1, 1.0])
def test_smooth_l1_meets_at_beta_and_pulls_no_harder_than_one(beta: float) -> None:
    distances = beta * np.array([0.0, 0.5, 0.999, 1.001, 2.0, 50.0], np.float32)
    slopes = jax.jit(jax.grad(lambda d: smooth_l1(d[:, None], jnp.zeros((6, 1)), beta=beta).sum()))(distances)
    np.testing.assert_allclose(slopes, [0.0, 0.5, 0.999, 1.0, 1.0, 1.0], atol=1e-6)
    at_beta = jitted(smooth_l1, beta=beta)(np.full((1, 1), beta), np.zeros((1, 1)))
    np.testing.assert_allclose(at_beta, beta / 2, rtol=1e-6)


def byproducts(seed: int, batch: int, things: int = 1, numbers: int = 2) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Predictions, targets, and which of them are valid."""
    rng = np.random.default_rng(seed)
    shape = (batch, things, numbers)
    predictions, targets = rng.normal(size=shape), rng.uniform(size=shape)
    return predictions.astype(np.float32), targets.astype(np.float32), rng.random((batch, things)) < 0.6


def loss_and_gradient(predictions: np.ndarray, targets: np.ndarray, valid: np.ndarray) -> tuple[float, np.ndarray]:
    value, gradient = jax.jit(jax.value_and_grad(byproduct_loss))(predictions, targets, valid)
    return float(value), np.asarray(gradient)


@pytest.mark.parametrize("shape", [(6, 1, 2), (6, 1, 4), (3, 5, 2)])
def test_the_byproduct_loss_is_the_mean_over_valid_targets(shape: tuple[int, int, int]) -> None:
    predictions, targets, valid = byproducts(0, *shape)
    losses = [smooth_l1_by_loops(p, t, 1.0) for p, t in zip(predictions, targets, strict=True)]
    of_valid = [
        loss for row, flags in zip(losses, valid, strict=True) for loss, ok in zip(row, flags, strict=True) if ok
    ]
    assert 0 < len(of_valid) < valid.size
    value, _ = loss_and_gradient(predictions, targets, valid)
    assert value == pytest.approx(sum(of_valid) / len(of_valid), rel=1e-5)


@pytest.mark.parametrize("garbage", [0.0, -7.0, 1e30, np.inf, np.nan])
def test_a_target_that_is_not_valid_has_no_influence_and_no_gradient(garbage: float) -> None:
    predictions, targets, valid = byproducts(1, 8)
    spoilt = np.where(valid[..., None], targets, np.float32(garbage))
    value, gradient = loss_and_gradient(predictions, targets, valid)
    spoilt_value, spoilt_gradient = loss_and_gradient(predictions, spoilt, valid)
    assert spoilt_value == value
    np.testing.assert_array_equal(spoilt_gradient, gradient)
    assert not gradient[~valid].any()
    assert gradient[valid].all()


def test_without_a_valid_target_loss_and_gradient_are_zero() -> None:
    predictions, targets, valid = byproducts(2, 4)
    value, gradient = loss_and_gradient(predictions, targets, np.zeros_like(valid))
    assert value == 0
    assert not gradient.any()


@pytest.mark.parametrize("cuts", [(4,), (2,), (1, 7), (3, 4, 6)])
def test_the_loss_of_the_global_batch_does_not_depend_on_how_it_is_split(cuts: tuple[int, ...]) -> None:
    """The mean over all valid rows, and not the mean of the parts' means: parts weigh by their valid rows."""
    predictions, targets, valid = byproducts(3, 8)
    valid[0] = False
    whole, gradient = loss_and_gradient(predictions, targets, valid)
    edges = [0, *cuts, 8]
    parts = [slice(a, b) for a, b in itertools.pairwise(edges)]
    of_parts = [loss_and_gradient(predictions[p], targets[p], valid[p]) for p in parts]
    weights = np.array([valid[p].sum() for p in parts]) / valid.sum()
    assert whole == pytest.approx(sum(w * value for w, (value, _) in zip(weights, of_parts, strict=True)), rel=1e-5)
    recombined = np.concatenate([w * of_part for w, (_, of_part) in zip(weights, of_parts, strict=True)])
    np.testing.assert_allclose(gradient, recombined, rtol=1e-5)


# --- where Z is a distribution or a class


@few
@given(npst.arrays(np.float32, (3, 5), elements=numbers), npst.arrays(np.int64, (3, 5), elements=st.integers(0, 4)))
def test_the_divergence_is_scipys_relative_entropy(logits: np.ndarray, counts: np.ndarray) -> None:
    counts[:, 0] += counts.sum(axis=1) == 0
    targets = (counts / counts.sum(axis=1, keepdims=True)).astype(np.float32)
    expected = rel_entr(targets.astype(np.float64), softmax(logits.astype(np.float64), axis=-1)).sum(axis=-1)
    np.testing.assert_allclose(jitted(distribution_divergence)(logits, targets), expected, rtol=1e-4, atol=1e-5)


def test_the_divergence_is_zero_where_the_prediction_is_right() -> None:
    targets = np.array([[0.5, 0.25, 0.125, 0.125]], np.float32)
    np.testing.assert_allclose(jitted(distribution_divergence)(np.log(targets) + 3, targets), 0, atol=1e-6)


def test_its_gradient_is_that_of_the_soft_cross_entropy_predicted_less_true() -> None:
    logits = np.random.default_rng(0).normal(size=(2, 4)).astype(np.float32)
    targets = np.array([[0.5, 0.5, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]], np.float32)
    gradient = jax.jit(jax.grad(lambda x: distribution_divergence(x, jnp.asarray(targets)).sum()))(logits)
    expected = np.array([softmax_probabilities(row) for row in logits.tolist()]) - targets
    np.testing.assert_allclose(gradient, expected, atol=1e-6)


@few
@given(npst.arrays(np.float32, (3, 2, 4), elements=numbers), npst.arrays(np.int64, (3, 2), elements=st.integers(0, 3)))
def test_the_loss_of_a_class_is_cross_entropy(logits: np.ndarray, classes: np.ndarray) -> None:
    losses = jitted(class_cross_entropy)(logits, classes[..., None].astype(np.float32))
    expected = cross_entropy_by_loops(logits.reshape(6, 4), classes.ravel(), 0.0)
    np.testing.assert_allclose(np.ravel(losses), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("garbage", [0.0, -7.0, np.nan])
@pytest.mark.parametrize(("loss", "width"), [(distribution_divergence, 4), (class_cross_entropy, 1)])
def test_these_too_ignore_what_is_not_valid(loss: Callable[..., jax.Array], width: int, garbage: float) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4, 1, 4)).astype(np.float32)
    targets = np.full((4, 1, width), 0.25 if width == 4 else 2.0, np.float32)
    valid = np.array([[True], [False], [True], [False]])
    spoilt = np.where(valid[..., None], targets, np.float32(garbage))
    value, gradient = jax.jit(jax.value_and_grad(functools.partial(byproduct_loss, loss=loss)))(logits, spoilt, valid)
    assert float(value) == pytest.approx(
        float(jnp.mean(loss(jnp.asarray(logits[::2]), jnp.asarray(targets[::2])))), rel=1e-5
    )
    assert np.isfinite(gradient).all()
    assert not gradient[1::2].any() and gradient[::2].all()


# --- sample weights


@few
@given(npst.arrays(np.float32, 6, elements=st.just(0.0) | st.floats(0.0625, 1, width=32)))
def test_weights_have_mean_one_keep_their_ratios_and_are_one_where_there_is_none(weights: np.ndarray) -> None:
    made = np.asarray(jitted(mean_one)(weights))
    assert made.mean() == pytest.approx(1, rel=1e-5)
    np.testing.assert_array_equal(made[weights == 0], 1)
    present = weights > 0
    if present.any():
        np.testing.assert_allclose(made[present], weights[present] / weights[present].mean(), rtol=1e-5)
