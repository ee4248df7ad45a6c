"""Accuracies: top-k, multi-label (ReaL), by group. Fractions, not percent."""

from __future__ import annotations

import numpy as np

from luab_jax.errors import DataError
from luab_jax.evaluation.predictions import Predictions


def correct_at(predictions: Predictions, k: int) -> np.ndarray:
    """`[n]` whether the label is among the k largest logits.

    Ties and NaN count against the label, so a model that is constant or diverged scores 0.
    """
    labels = predictions.labels
    if np.any(labels < 0):
        name = predictions.truths[int(np.argmax(labels < 0))].file_name
        raise DataError(f"{name}: has no label, so no accuracy can be computed on this set")
    own = np.take_along_axis(predictions.logits, labels[:, None], axis=-1)
    return np.sum(~(predictions.logits < own), axis=-1) <= k


def top_k(predictions: Predictions) -> dict[str, float | int]:
    """ImageNet's top-1 and top-5."""
    return {
        "top1": float(correct_at(predictions, 1).mean()),
        "top5": float(correct_at(predictions, 5).mean()),
        "n": len(predictions),
    }


def real(predictions: Predictions) -> dict[str, float | int]:
    """ReaL (Beyer et al. 2020): right if the argmax is among the correct labels; images without any are left out."""
    argmax = predictions.logits.argmax(axis=-1)
    labels = [truth.labels for truth in predictions.truths]
    right = [guess in correct for guess, correct in zip(argmax, labels, strict=True) if correct]
    if not right:
        raise DataError("no image of this set has ReaL labels; prepare it with --real=real.json")
    return {"top1": float(np.mean(right)), "n": len(right), "n_left_out": len(labels) - len(right)}


def by_group(predictions: Predictions) -> dict[str, object]:
    """Top-1 of every group (size, angle, corruption ...), and the mean over groups."""
    correct = correct_at(predictions, 1)
    groups = np.asarray([truth.group for truth in predictions.truths])
    per_group = {group: float(correct[groups == group].mean()) for group in sorted(set(groups.tolist()))}
    return {"top1": float(np.mean(list(per_group.values()))), "groups": per_group, "n": len(predictions)}
