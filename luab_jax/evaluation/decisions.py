"""Choices among the 16 categories of Geirhos et al., for images whose shape and texture are of different ones.

A category's score is the mean of the softmax of its ImageNet classes, and the largest is the decision
(bethgelab/model-vs-human, datasets/decision_mappings.py).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int
from scipy import special

from luab_jax.data.label_tables import SIXTEEN
from luab_jax.data.pipeline import Truth
from luab_jax.errors import DataError
from luab_jax.evaluation.predictions import Predictions

_CATEGORIES = tuple(SIXTEEN)


@dataclass(frozen=True, slots=True)
class Decisions:
    """Rows are images; numbers are positions among the 16 categories."""

    decision: Int[np.ndarray, " n"]
    shape: Int[np.ndarray, " n"]
    texture: Int[np.ndarray, " n"]
    images: list[str]
    humans: list[str] = field(default_factory=list)
    """What people answered to each image, `<subject>=<category>` with `+` between; empty where it is not known."""

    def __len__(self) -> int:
        return len(self.decision)

    @classmethod
    def concatenate(cls, parts: Sequence[Decisions]) -> Decisions:
        return cls(
            np.concatenate([part.decision for part in parts]),
            np.concatenate([part.shape for part in parts]),
            np.concatenate([part.texture for part in parts]),
            [image for part in parts for image in part.images],
            [said for part in parts for said in part.humans],
        )


def decide(predictions: Predictions) -> Decisions:
    """Raises `DataError` for an image whose name tells no texture."""
    texture = [texture_of(truth) for truth in predictions.truths]
    return Decisions(
        category_scores(predictions.logits).argmax(axis=-1).astype(np.int32),
        predictions.labels.astype(np.int32),
        np.asarray(texture, np.int32),
        [sys.intern("/".join(truth.file_name.rsplit("/", 2)[-2:])) for truth in predictions.truths],
        [sys.intern(truth.group) for truth in predictions.truths],
    )


def category_scores(logits: Float[np.ndarray, "n 1000"]) -> Float[np.ndarray, "n 16"]:
    """The mean softmax of each category's classes."""
    softmax = special.softmax(logits.astype(np.float64), axis=-1)
    return np.stack([softmax[:, list(indices)].mean(axis=-1) for indices in SIXTEEN.values()], axis=-1)


def texture_of(truth: Truth) -> int:
    """From a name such as `cat7-elephant2.png`: the last word, without its number."""
    stem = truth.file_name.rpartition("/")[2].rpartition(".")[0]
    word = re.sub(r"\d", "", stem.rpartition("_")[2].rpartition("-")[2])
    if "-" not in stem or word not in SIXTEEN:
        raise DataError(f"{truth.file_name}: its name tells no texture, expected one as in cat7-elephant2.png")
    return _CATEGORIES.index(word)
