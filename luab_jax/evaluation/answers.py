"""From logits to answers: what the model chose, whether that is right, how sure it was.

An answer takes a few bytes where logits take thousands, so that a set of millions of images fits into memory. Which
outputs may be chosen and which choices are right is the protocol of a suite, and a property of its row.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float, Int

from luab_jax.data import label_tables
from luab_jax.data.pipeline import Truth
from luab_jax.errors import DataError
from luab_jax.evaluation.predictions import Predictions

Right = Callable[[Truth], tuple[int, ...]]
"""Which outputs are right for an image; none for one that is not scored."""


@dataclass(frozen=True, slots=True)
class Answers:
    """Rows are the images that are scored."""

    rank: Int[np.ndarray, " n"]
    """How many wrong outputs score at least as high as the best right one; 0 is a right answer."""
    confidence: Float[np.ndarray, " n"]
    """Softmax of the chosen output, among those that may be chosen."""
    groups: list[str]
    images: list[str]
    """`<class>/<name>`: the same for the versions of one image."""
    num_left_out: int = 0

    @property
    def right(self) -> Bool[np.ndarray, " n"]:
        return self.rank == 0

    def __len__(self) -> int:
        return len(self.rank)

    @classmethod
    def concatenate(cls, parts: Sequence[Answers]) -> Answers:
        return cls(
            rank=np.concatenate([part.rank for part in parts]),
            confidence=np.concatenate([part.confidence for part in parts]),
            groups=[group for part in parts for group in part.groups],
            images=[image for part in parts for image in part.images],
            num_left_out=sum(part.num_left_out for part in parts),
        )


def own_label(truth: Truth) -> tuple[int, ...]:
    """The image's single label."""
    if truth.label < 0:
        raise DataError(f"{truth.file_name}: has no label, so no accuracy can be computed on this set")
    return (truth.label,)


def label_set(truth: Truth) -> tuple[int, ...]:
    """Any of the image's labels; an image without any is left out."""
    return truth.labels


def first_label(truth: Truth) -> tuple[int, ...]:
    """The first of the image's labels, in the order of the suite's own table."""
    return truth.labels[:1]


_IN9 = tuple(label_tables.IN9.values())


def in9_superclass(truth: Truth) -> tuple[int, ...]:
    """The ImageNet indices of the image's class of nine."""
    own_label(truth)
    return _IN9[truth.label]


@dataclass(frozen=True, slots=True)
class Answer:
    """A protocol: the largest of the logits that may be chosen is the answer. Ties and NaN are wrong answers.

    So a model that is constant or diverged scores 0, not the share of whatever class comes first.
    """

    outputs: tuple[int, ...] | None = None
    """The outputs that may be chosen; all of them if None."""
    right: Right = own_label
    only_these: bool = False
    """Leave out images whose right answer is not among `outputs`; it is an error otherwise."""

    def __call__(self, predictions: Predictions) -> Answers:
        """Raises `DataError` naming an image whose label the protocol does not know."""
        rights = [self._right(truth) for truth in predictions.truths]
        rows = [row for row, right in enumerate(rights) if right]
        logits = predictions.logits[rows]
        is_right = np.zeros(logits.shape, bool)
        for row, i in enumerate(rows):
            is_right[row, list(rights[i])] = True
        if self.outputs is not None:
            logits, is_right = logits[:, self.outputs], is_right[:, self.outputs]
        best = np.max(np.where(is_right, logits, -np.inf), axis=-1, initial=-np.inf)
        truths = [predictions.truths[row] for row in rows]
        return Answers(
            rank=np.sum(~(logits < best[:, None]) & ~is_right, axis=-1).astype(np.int32),
            confidence=np.exp(log_confidence(logits)).astype(np.float32),
            groups=[sys.intern(truth.group) for truth in truths],
            images=[sys.intern("/".join(truth.file_name.rsplit("/", 2)[-2:])) for truth in truths],
            num_left_out=len(rights) - len(rows),
        )

    def _right(self, truth: Truth) -> tuple[int, ...]:
        right = self.right(truth)
        if self.outputs is None or not right:
            return right
        known = _known(self.outputs)
        if known.issuperset(right):
            return right
        if self.only_these:
            return ()
        raise DataError(
            f"{truth.file_name}: its label {right[0]} is not among the {len(self.outputs)} classes of this suite;"
            " is this the data of another suite?"
        )


ARGMAX = Answer()
"""The usual protocol: any output may be chosen, and the image's label is right."""


@functools.cache
def _known(outputs: tuple[int, ...]) -> frozenset[int]:
    return frozenset(outputs)


def codes(names: Sequence[str]) -> tuple[list[str], Int[np.ndarray, " n"]]:
    """The distinct names, sorted, and for every row the position of its own; no array of text is made."""
    distinct = sorted(set(names))
    position = {name: i for i, name in enumerate(distinct)}
    return distinct, np.fromiter((position[name] for name in names), np.int64, len(names))


@dataclass(frozen=True, slots=True)
class Doubts:
    """How unsure a model was of each image, by three scores."""

    values: Float[np.ndarray, " n"]
    """By the largest softmax."""
    energy: Float[np.ndarray, " m"] = field(default_factory=lambda: np.zeros(0))
    """The negative logarithm of the sum of the exponentials of the logits (Liu et al. 2020); empty if not kept."""
    max_logit: Float[np.ndarray, " m"] = field(default_factory=lambda: np.zeros(0))
    """The negative of the largest logit (Hendrycks et al. 2022); empty if not kept."""

    def __len__(self) -> int:
        return len(self.values)

    @classmethod
    def concatenate(cls, parts: Sequence[Doubts]) -> Doubts:
        return cls(
            np.concatenate([part.values for part in parts]),
            np.concatenate([part.energy for part in parts]),
            np.concatenate([part.max_logit for part in parts]),
        )


@dataclass(frozen=True, slots=True)
class Doubt:
    """The negative logarithm of the largest softmax among `outputs`: in the order of the negative softmax, without
    its ties where that rounds to 1."""

    outputs: tuple[int, ...]
    only_these: bool = False
    """Leave out images whose label is not among `outputs`."""

    def __call__(self, predictions: Predictions) -> Doubts:
        known = _known(self.outputs)
        rows = [i for i, t in enumerate(predictions.truths) if not self.only_these or t.label in known]
        logits = predictions.logits[rows][:, self.outputs].astype(np.float64)
        doubts = -log_confidence(logits)
        if not logits.size:
            return Doubts(doubts, np.zeros(len(rows)), np.zeros(len(rows)))
        largest = logits.max(axis=-1)
        # log Σ exp z = max z - log of the largest softmax
        return Doubts(doubts, -(largest + doubts), -largest)


def log_confidence(logits: Float[np.ndarray, "n c"]) -> Float[np.ndarray, " n"]:
    """Logarithm of the largest softmax; NaN where a logit is."""
    if not logits.size:
        return np.zeros(len(logits))
    wide = logits.astype(np.float64)
    with np.errstate(invalid="ignore"):  # inf - inf of a diverged model is NaN, and stays it
        return -np.log(np.sum(np.exp(wide - wide.max(axis=-1, keepdims=True)), axis=-1))
