"""Random predictions, and the truths about images that nobody drew."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from luab_jax.data.pipeline import Truth
from luab_jax.evaluation.predictions import Predictions


def truth(label: int = 0, *, labels: tuple[int, ...] = (), group: str = "", file_name: str = "n0/a.JPEG") -> Truth:
    return Truth(file_name=file_name, label=label, labels=labels, group=group, click=None, box=None)


def predictions(logits: np.ndarray, truths: Sequence[Truth]) -> Predictions:
    return Predictions(np.asarray(logits, np.float32), None, list(truths))


def guesses(seed: int, truths: Sequence[Truth], num_classes: int, help: float = 1.5) -> Predictions:
    """Logits by which images are right now and then: the label (or the first of the labels) is helped."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(len(truths), num_classes)).astype(np.float32)
    for row, of_row in zip(logits, truths, strict=True):
        known = of_row.labels or ((of_row.label,) if of_row.label >= 0 else ())
        row[list(known[:1])] += help
    return predictions(logits, truths)


def softmax(row: Sequence[float]) -> np.ndarray:
    exponentials = np.exp(np.asarray(row, np.float64) - max(row))
    return exponentials / exponentials.sum()
