"""The losses of LUAB: L(g(f(X)), Y) + λ · smoothL1(h(f(X)), Z) (Neglected Free Lunch, ICCV 2023, eq. on the poster).

Where Z is a distribution or a class, a divergence or a cross-entropy takes the place of smooth-L1.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int


def cross_entropy(
    logits: Float[Array, "b c"], labels: Int[Array, " b"], *, label_smoothing: float = 0.0
) -> Float[Array, " b"]:
    """-Σ_c q_c log softmax(logits)_c with q = (1 - s) · onehot(label) + s / C, one value per image."""
    targets = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[-1]), label_smoothing)
    return optax.softmax_cross_entropy(logits, targets)


def binary_cross_entropy(logits: Float[Array, "b c"], labels: Bool[Array, "b c"]) -> Float[Array, " b"]:
    """-1/C Σ_c [y_c log σ(z_c) + (1 - y_c) log(1 - σ(z_c))], one value per image: the mean over classes.

    As torch's BCEWithLogitsLoss, whose mean over batch and classes is the mean of these.
    """
    return jnp.mean(optax.sigmoid_binary_cross_entropy(logits, labels.astype(logits.dtype)), axis=-1)


def smooth_l1(
    predictions: Float[Array, "*batch d"], targets: Float[Array, "*batch d"], *, beta: float = 1.0
) -> Float[Array, "*batch"]:
    """Mean over the D numbers of d²/(2β) where |d| < β and |d| - β/2 elsewhere, as torch's SmoothL1Loss.

    Optax's `huber_loss` is β times this.
    """
    return jnp.mean(optax.huber_loss(predictions, targets, delta=beta), axis=-1) / beta


def distribution_divergence(
    logits: Float[Array, "*batch d"], targets: Float[Array, "*batch d"]
) -> Float[Array, "*batch"]:
    """KL(p ‖ q) = Σ_i p_i (log p_i - log q_i) of the target p from q = softmax(logits), with 0 log 0 = 0.

    The soft cross-entropy less the entropy of the target: same gradient, and 0 where the prediction is right. The usual
    divergence between maps of human attention (Bylinskii et al., What do different evaluation metrics tell us about
    saliency models?, TPAMI 2018).
    """
    return optax.losses.kl_divergence(jax.nn.log_softmax(logits), targets)


def class_cross_entropy(logits: Float[Array, "*batch d"], classes: Float[Array, "*batch 1"]) -> Float[Array, "*batch"]:
    """-log softmax(logits)_c; the class c comes as a float, as all targets do."""
    return optax.softmax_cross_entropy_with_integer_labels(logits, classes[..., 0].astype(jnp.int32))


def byproduct_loss(
    predictions: Float[Array, "b k h"],
    targets: Float[Array, "b k d"],
    weights: Bool[Array, "b k"] | Float[Array, "b k"],
    *,
    loss: Callable[[Array, Array], Array] = smooth_l1,
    count: Float[Array, ""] | None = None,
) -> Float[Array, ""]:
    """Σ weight · loss / max(1, Σ weight), over the global batch: a host with few clicks does not weigh more.

    weights: whether a target is valid, or how much it counts, 0 to 1. Where that is nothing it may be anything, NaN
    too: it takes no part in the loss or in its gradient.
    count: What to divide by instead, for a part of a batch.
    """
    targets = jnp.where(weights[..., None] > 0, targets, 0.0)
    weights = weights.astype(jnp.float32)
    values = loss(predictions, targets)
    return jnp.sum(weights * values) / (num_counted(weights) if count is None else count)


def num_counted(weights: Bool[Array, "b k"] | Float[Array, "b k"]) -> Float[Array, ""]:
    """max(1, Σ weight), by which the byproduct loss of these targets is divided."""
    return jnp.maximum(1.0, jnp.sum(weights.astype(jnp.float32)))


def mean_one(weights: Float[Array, " b"]) -> Float[Array, " b"]:
    """Weights of a global batch whose mean is one: w_i · n / Σ w over the n images that have one, 1 for those with 0.

    So an image without a byproduct counts as much as the average image with one, and the size of the loss, hence the
    best learning rate, does not change with the weights.
    """
    present = weights > 0
    total = jnp.sum(jnp.where(present, weights, 0.0))
    scale = jnp.sum(present.astype(jnp.float32)) / jnp.where(total > 0, total, 1.0)
    return jnp.where(present, weights * scale, 1.0)
