"""mAP of the suites with sets of labels."""

from __future__ import annotations

import numpy as np

from luab_jax.errors import DataError
from luab_jax.evaluation.predictions import Predictions
from luab_jax.metrics import mean_average_precision


def label_set_map(predictions: Predictions) -> dict[str, float | int]:
    """The suite's score; every image counts, those without any class too."""
    labels = np.zeros(predictions.logits.shape, bool)
    for row, truth in enumerate(predictions.truths):
        labels[row, list(truth.labels)] = True
    if not labels.any():
        raise DataError("no image of this set has a label set with a class in it, so there is no mAP")
    if not np.all(np.isfinite(predictions.logits)):
        raise DataError("the checkpoint's scores are not finite, so there is no mAP")
    return {**mean_average_precision(predictions.logits, labels), "n": len(predictions)}
