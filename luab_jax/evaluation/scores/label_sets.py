"""Scores of images that have a set of labels."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from luab_jax.average_precision import mean_average_precision
from luab_jax.evaluation.predictions import Predictions
from luab_jax.evaluation.scores import intervals

_NUM_RESAMPLES = 100


def label_set_map(predictions: Predictions) -> dict[str, Any]:
    """The suite's score; every image counts, those without any class too."""
    labels = np.zeros(predictions.logits.shape, bool)
    for row, truth in enumerate(predictions.truths):
        labels[row, list(truth.labels)] = True
    scores = mean_average_precision(predictions.logits, labels)
    num_images = len(labels)
    times = np.random.default_rng(0).multinomial(num_images, np.full(num_images, 1 / num_images), _NUM_RESAMPLES)
    return {
        **scores,
        "n": num_images,
        "intervals": {"map": intervals.of_values(resampled_map(predictions.logits, labels, times))},
        "interval_method": intervals.bootstrap(_NUM_RESAMPLES),
    }


def resampled_map(
    scores: Float[np.ndarray, "n c"], labels: Bool[np.ndarray, "n c"], times: Int[np.ndarray, "r n"]
) -> Float[np.ndarray, " shown"]:
    """mAP of every resample, in which image i stands `times[r, i]` times; each class is sorted once for all of them.

    A resample of a tiny set in which no image shows a class has none, and is left out.
    """
    of_class = []
    for column, shown in zip(scores.T, labels.T, strict=True):
        order = np.argsort(-column, kind="stable")
        ends = np.append(np.nonzero(np.diff(column[order]))[0], len(column) - 1)
        drawn = times[:, order]
        hits = np.cumsum(drawn * shown[order], axis=1)[:, ends]
        precision = hits / np.maximum(np.cumsum(drawn, axis=1)[:, ends], 1)
        total = np.sum(np.diff(hits, prepend=0, axis=1) * precision, axis=1)
        of_class.append(np.where(hits[:, -1] > 0, total / np.maximum(hits[:, -1], 1), np.nan))
    per_class = np.asarray(of_class)
    shown = ~np.isnan(per_class)
    some = shown.any(axis=0)
    return np.sum(per_class[:, some], axis=0, where=shown[:, some]) / shown[:, some].sum(axis=0)
