"""Exact means that can be added over batches and hosts, and the sums they are made of."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int


class Mean(NamedTuple):
    """A sum and its count; two means add to the mean over both."""

    total: Float[Array, ""]
    count: Float[Array, ""]


Means = dict[str, Mean]


def masked_mean(values: Float[Array, " n"], mask: Bool[Array, " n"]) -> Mean:
    """Sum and count of the values whose mask is True; masked values may be NaN."""
    return Mean(jnp.sum(jnp.where(mask, values, 0.0)), jnp.sum(mask.astype(jnp.float32)))


def single(value: Float[Array, ""]) -> Mean:
    return Mean(value, jnp.ones(()))


def top_k_correct(logits: Float[Array, "b c"], labels: Int[Array, " b"], k: int) -> Float[Array, " b"]:
    """1 where the label is among the k largest logits.

    Ties and NaN count against the label, so a model that is constant or diverged scores 0.
    """
    own = jnp.take_along_axis(logits, jnp.maximum(labels, 0)[:, None], axis=-1)
    better = jnp.sum(~(logits < own), axis=-1) - 1
    return ((better < k) & (labels >= 0)).astype(jnp.float32)


def box_iou(boxes: Float[Array, "*batch 4"], others: Float[Array, "*batch 4"]) -> Float[Array, "*batch"]:
    """Intersection over union of boxes x_min, y_min, x_max, y_max; 0 for a box with its corners the wrong way round."""
    low = jnp.maximum(boxes[..., :2], others[..., :2])
    high = jnp.minimum(boxes[..., 2:], others[..., 2:])
    common = jnp.prod(jnp.maximum(high - low, 0.0), axis=-1)
    areas = [jnp.prod(jnp.maximum(b[..., 2:] - b[..., :2], 0.0), axis=-1) for b in (boxes, others)]
    union = areas[0] + areas[1] - common
    return jnp.where(union > 0, common / jnp.where(union > 0, union, 1.0), 0.0)


def summarise(means: Iterable[Means]) -> dict[str, float]:
    """Adds means on the host in float64 and divides once; without the names for which nothing was counted."""
    totals: dict[str, np.ndarray] = {}
    for batch in jax.device_get(list(means)):
        for name, mean in batch.items():
            totals[name] = totals.get(name, np.zeros(2)) + np.asarray([mean.total, mean.count], np.float64)
    return {name: float(t / c) for name, (t, c) in totals.items() if c}
