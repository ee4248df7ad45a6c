"""Mean average precision of sets of labels, exactly, on the host."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

from luab_jax.errors import DataError


def average_precision(scores: Float[np.ndarray, "n c"], labels: Bool[np.ndarray, "n c"]) -> Float[np.ndarray, " c"]:
    """AP of every class: Σ_k (R_k - R_{k-1}) · P_k over the distinct scores, in descending order.

    Not interpolated; images of equal score enter together, so that their order does not matter (as scikit-learn's
    `average_precision_score`). NaN for a class that no image shows. Any increasing function of a probability gives the
    same value; logits are better than float32 probabilities, which round to ties at 1.
    """
    if not np.all(np.isfinite(scores)):
        raise DataError("the scores are not finite, so no average precision can be computed")
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
    """mAP over the classes that some image shows, and how many these are."""
    if not labels.any():
        raise DataError("no image of this set has a label set with a class in it, so there is no mAP")
    per_class = average_precision(scores, labels)
    shown = ~np.isnan(per_class)
    return {"map": float(per_class[shown].mean()), "n_classes": int(shown.sum())}


def average_precision_without_each(
    scores: Float[np.ndarray, " n"], labels: Bool[np.ndarray, " n"]
) -> tuple[float, Float[np.ndarray, " n"]]:
    """AP of one class, and the AP that the other images have without each one: what a jackknife needs.

    In O(n log n), exactly, ties included. NaN where no positive is left.
    """
    num_images = len(scores)
    order = np.argsort(-scores, kind="stable")
    sorted_scores, sorted_labels = scores[order], labels[order]
    ends = np.append(np.nonzero(np.diff(sorted_scores))[0], num_images - 1)
    group = np.searchsorted(ends, np.arange(num_images))
    seen = ends + 1.0
    hits = np.cumsum(sorted_labels)[ends].astype(np.float64)
    own = np.diff(hits, prepend=0.0)
    positives = hits[-1]
    if not positives:
        return float("nan"), np.full(num_images, np.nan)
    terms = own * hits / seen
    before = np.cumsum(terms) - terms
    without = np.empty(num_images)
    for label in (0, 1):
        # Behind the image that is taken away, every count is smaller by it.
        behind = own * (hits - label) / np.maximum(seen - 1, 1)
        of_group = (own - label) * (hits - label) / np.maximum(seen - 1, 1)
        total = before + of_group + behind.sum() - np.cumsum(behind)
        left = positives - label
        rows = sorted_labels == bool(label)
        without[rows] = total[group[rows]] / left if left else np.nan
    found = np.empty(num_images)
    found[order] = without
    return float(terms.sum() / positives), found
