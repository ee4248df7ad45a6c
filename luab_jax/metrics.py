"""Exact means that can be added over batches and hosts, and the sums they are made of."""

from __future__ import annotations

import math
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
    """Adds means on the host in float64 and divides once; NaN where nothing was counted."""
    totals: dict[str, np.ndarray] = {}
    for batch in jax.device_get(list(means)):
        for name, mean in batch.items():
            totals[name] = totals.get(name, np.zeros(2)) + np.asarray([mean.total, mean.count], np.float64)
    return {name: float(t / c) if c else float("nan") for name, (t, c) in totals.items()}


def average_precision(scores: Float[np.ndarray, "n c"], labels: Bool[np.ndarray, "n c"]) -> Float[np.ndarray, " c"]:
    """AP of every class: Σ_k (R_k - R_{k-1}) · P_k over the distinct scores, in descending order.

    Not interpolated; images of equal score enter together, so that their order does not matter (as scikit-learn's
    `average_precision_score`). NaN for a class that no image shows. Any increasing function of a probability gives the
    same value; logits are better than float32 probabilities, which round to ties at 1. Scores must be finite.
    """
    order = np.argsort(-scores, axis=0, kind="stable")
    scores, labels = np.take_along_axis(scores, order, axis=0), np.take_along_axis(labels, order, axis=0)
    num_images = len(scores)
    hits = np.cumsum(labels, axis=0)
    precision = hits / np.arange(1, num_images + 1)[:, None]
    # Every image takes the precision behind the last image of its score.
    is_last = np.ones_like(labels)
    is_last[:-1] = scores[:-1] != scores[1:]
    rows = np.where(is_last, np.arange(num_images)[:, None], num_images)
    last = np.minimum.accumulate(rows[::-1], axis=0)[::-1]
    total = np.sum(labels * np.take_along_axis(precision, last, axis=0), axis=0)
    positives = labels.sum(axis=0)
    return np.where(positives > 0, total / np.maximum(positives, 1), np.nan)


def mean_average_precision(scores: Float[np.ndarray, "n c"], labels: Bool[np.ndarray, "n c"]) -> dict[str, float | int]:
    """mAP over the classes that some image shows, and their number; NaN without any, or if a score is not finite."""
    if not np.all(np.isfinite(scores)):
        return {"map": math.nan, "n_classes": 0}
    per_class = average_precision(scores, labels)
    shown = ~np.isnan(per_class)
    return {"map": float(per_class[shown].mean()) if shown.any() else math.nan, "n_classes": int(shown.sum())}
