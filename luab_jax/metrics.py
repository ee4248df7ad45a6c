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


def summarise(means: Iterable[Means]) -> dict[str, float]:
    """Adds means on the host in float64 and divides once; without the names for which nothing was counted."""
    totals: dict[str, np.ndarray] = {}
    for batch in jax.device_get(list(means)):
        for name, mean in batch.items():
            totals[name] = totals.get(name, np.zeros(2)) + np.asarray([mean.total, mean.count], np.float64)
    return {name: float(t / c) for name, (t, c) in totals.items() if c}
