"""The scores of context: V_min and V_avg, from images without one of their classes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from etils import epath
from scipy import special

from luab_jax.data.transforms import ANY_SIZE
from luab_jax.errors import DataError
from luab_jax.evaluation.columns import Columns, joined
from luab_jax.evaluation.finite import check_finite
from luab_jax.evaluation.predictor import BatchPredictor
from luab_jax.evaluation.procedures.by_image import ByImage, Items, Scores, Splits, threads_of
from luab_jax.evaluation.procedures.object_removal import Edit, Removal, Skips, all_edits
from luab_jax.evaluation.resume import Work
from luab_jax.evaluation.scores.context import context_violations


class _Reader:
    """Predicts the edits of whole images, about a batch at a time."""

    def __init__(self, directory: epath.Path, removal: Removal, predictor: BatchPredictor[Any], work: Work):
        self._directory, self._removal, self._predictor, self._work = directory, removal, predictor, work
        self._kept: list[Columns] = [step.columns for step in work.done()]
        self._edits: list[Edit] = []
        self._skips: list[Skips] = []
        self.done = sum(len(columns["skips"]) for columns in self._kept)

    def take(self, item: tuple[list[Edit], Skips]) -> None:
        edits, skips = item
        self._edits += edits
        self._skips.append(skips)
        if len(self._edits) >= self._predictor.batch_size:
            self._predict()

    def _predict(self) -> None:
        """Of all images that are done with."""
        edits, num_classes = self._edits, self._predictor.loaded.num_classes
        batches = _batches(edits, self._predictor.batch_size)
        logits = [self._predictor.logits(np.stack([edit.pixels for edit in batch])) for batch in batches]
        columns: Columns = {
            "image": np.asarray([edit.index for edit in edits], np.int64),
            "removed": np.asarray([edit.removed for edit in edits], np.int64),
            "logits": np.concatenate([np.zeros((0, num_classes), np.float32), *logits]),
            "skips": np.asarray(self._skips, np.int64),
        }
        check_finite(self._predictor.loaded, columns["logits"], [edit.file_name for edit in edits])
        self._kept.append(columns)
        self._work.add(len(self._skips), columns)
        self._edits, self._skips = [], []

    def scores(self) -> Scores:
        if self._skips:
            self._predict()
        columns = joined(self._kept)
        if not len(columns["image"]):
            raise DataError(f"{self._directory}: no image has two classes with masks that could be removed")
        # Double precision: the sigmoids of large logits are all 1 in single.
        scores = special.expit(columns["logits"].astype(np.float64))
        violations = context_violations(columns["image"], columns["removed"], scores)
        skipped = Skips(*columns["skips"].sum(axis=0).tolist())
        left_out = {f"n_{name}": count for name, count in skipped._asdict().items()}
        removal = dataclasses.asdict(self._removal)
        return {**violations, "n_edits": len(columns["image"]), **left_out, "removal": removal}


def _batches(edits: Sequence[Edit], size: int) -> Iterator[Sequence[Edit]]:
    for start in range(0, len(edits), size):
        yield edits[start : start + size]


def context_dependence_by(removal: Removal) -> ByImage:
    """With classes removed in another way than the default."""

    def begin(predictor: BatchPredictor[Any], splits: Splits) -> Items:
        split, threads = splits["val"], threads_of(predictor)
        edits = partial(all_edits, split, predictor.loaded.preprocessing, removal, threads=threads)
        reader = partial(_Reader, split.directory, removal)
        return Items(total=len(split.records), after=lambda start: edits(start=start), reader=reader)

    return ByImage("object removal", begin, lambda predictor: predictor.pixels_of(ANY_SIZE))


context_dependence = context_dependence_by(Removal())
"""V_min and V_avg: see `object_removal` and `scores.context`; how classes were removed stands in the scores."""
