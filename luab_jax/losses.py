"""The losses of LUAB: L(g(f(X)), Y) + λ · smoothL1(h(f(X)), Z) (Neglected Free Lunch, ICCV 2023, eq. on the poster)."""

from __future__ import annotations

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


def byproduct_loss(
    predictions: Float[Array, "b k d"],
    targets: Float[Array, "b k d"],
    valid: Bool[Array, "b k"],
    *,
    beta: float = 1.0,
) -> Float[Array, ""]:
    """Σ valid · smoothL1 / max(1, Σ valid), over the global batch: a host with few clicks does not weigh more.

    A target that is not valid may be anything, NaN too: it takes no part in the loss or in its gradient.
    """
    weights = valid.astype(jnp.float32)
    targets = jnp.where(valid[..., None], targets, 0.0)
    values = smooth_l1(predictions, targets, beta=beta)
    return jnp.sum(weights * values) / jnp.maximum(1.0, jnp.sum(weights))
