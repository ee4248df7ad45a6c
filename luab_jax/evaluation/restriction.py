"""Suites of ImageNet's classes for a model that knows some of these classes only.

A model whose class list is a subset of ImageNet's wnids can be scored on the images of its classes. What it then says
is no result of the suite: it has fewer classes to confuse, so the result is marked and never stands in the suite's row.
"""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass

import numpy as np

from luab_jax.data.class_lists import ClassList, imagenet
from luab_jax.evaluation.answers import Answer, Right, own_label
from luab_jax.evaluation.predictions import Predictions

_NUM_CLASSES = 1000
OF_ALL_CLASSES = ("mce",)
"""Scores relative to those of another model on all classes, which a part of the classes does not have."""


@dataclass(frozen=True, slots=True)
class Restriction:
    """Which of ImageNet's classes a model knows; all of them, if it has them in another order."""

    indices: tuple[int, ...]
    """Of every output of the model its place among ImageNet's 1,000 classes."""

    def of_suite(self, predictions: Predictions, right: Right = own_label) -> Predictions:
        """The predictions as ImageNet's logits, of the images whose right answer is among the model's classes.

        Classes that the model does not know have a logit of minus infinity, so that no protocol can choose them.
        """
        known = frozenset(self.indices)
        rows = [row for row, truth in enumerate(predictions.truths) if known.intersection(right(truth))]
        logits = np.full((len(rows), _NUM_CLASSES), -np.inf, np.float32)
        logits[:, self.indices] = predictions.logits[rows]
        byproduct, more = predictions.rows(rows)
        truths = []
        for row in rows:
            truth = predictions.truths[row]
            labels = tuple(label for label in truth.labels if label in known)  # in their order: `first_label` has one
            truths.append(dataclasses.replace(truth, labels=labels))
        return Predictions(
            logits,
            byproduct,
            truths,
            predictions.target,
            more,
        )

    def in_words(self, outputs: tuple[int, ...] | None) -> str:
        """`12 of 200 classes, 0a1b2c3d`; `outputs` are those that a suite lets choose, all if None.

        The number is a hash of these classes, in whatever order, so that only results of the same ones share a row.
        Empty if the model knows all of ImageNet's classes, which it merely orders otherwise.
        """
        if len(frozenset(self.indices)) == _NUM_CLASSES:
            return ""
        of_suite = range(_NUM_CLASSES) if outputs is None else outputs
        known = sorted(frozenset(self.indices).intersection(of_suite))
        digest = hashlib.blake2b(repr(known).encode(), digest_size=4).hexdigest()
        return f"{len(known):,} of {len(of_suite):,} classes, {digest}"


def restriction(classes: ClassList | None) -> Restriction | None:
    """None for a class list that is not known, is ImageNet's own, or has a class that is not ImageNet's."""
    if classes is None:
        return None
    whole = imagenet()
    label_of = whole.label_of()
    if classes.hash == whole.hash or not label_of.keys() >= set(classes.ids):
        return None
    return Restriction(tuple(label_of[wnid] for wnid in classes.ids))


def apply(restricted: Restriction | None, predictions: Predictions, reduce: object) -> Predictions:
    """The predictions as a suite's `reduce` takes them."""
    if restricted is None:
        return predictions
    return restricted.of_suite(predictions, reduce.right if isinstance(reduce, Answer) else own_label)
