"""Scores of images that have a set of labels."""

from __future__ import annotations

import numpy as np

from luab_jax.average_precision import mean_average_precision
from luab_jax.evaluation.predictions import Predictions


def label_set_map(predictions: Predictions) -> dict[str, float | int]:
    """The suite's score; every image counts, those without any class too."""
    labels = np.zeros(predictions.logits.shape, bool)
    for row, truth in enumerate(predictions.truths):
        labels[row, list(truth.labels)] = True
    return {**mean_average_precision(predictions.logits, labels), "n": len(predictions)}
