"""ImageNet-C computed on the device, from images that are decoded once and corrupted once for all models.

As the authors made their files, but for the JPEG that they stored in between; see `luab_jax/corruptions`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from luab_jax.corruptions.corrupt import corrupt, image_keys
from luab_jax.corruptions.frost_photos import packaged_photos
from luab_jax.corruptions.parameters import NAMES, SEVERITIES
from luab_jax.data.dataset import PreparedSplit
from luab_jax.data.resampling import ResizeFilter
from luab_jax.data.transforms import Preprocessing, Stored
from luab_jax.errors import DataError
from luab_jax.evaluation.answers import ARGMAX, Answers
from luab_jax.evaluation.columns import as_answers, of_kept
from luab_jax.evaluation.finite import check_finite
from luab_jax.evaluation.predictions import Predictions
from luab_jax.evaluation.predictor import BatchPredictor, Rows
from luab_jax.evaluation.procedures.by_image import ByImage, Items, Scores, Splits
from luab_jax.evaluation.resume import Work
from luab_jax.evaluation.scores.corruptions import corruptions
from luab_jax.evaluation.suite import View

_SIDE = 224
_STORED = Stored(side=_SIDE)
"""Of ImageNet-C."""
_INPUT = Preprocessing(image_size=_SIDE, resize_side=256, filter=ResizeFilter.BILINEAR)


class Corrupted:
    """A batch under one kind and severity."""

    def __init__(self, rows: Rows, pixels: Any, group: str):
        self.rows, self.pixels = rows, pixels
        self.truths = [dataclasses.replace(truth, group=group) for truth in rows.truths]
        self._placed: dict[type, Any] = {}

    def __len__(self) -> int:
        return len(self.truths)

    def logits_of(self, predictor: BatchPredictor[Any]) -> np.ndarray:
        """In the order of `truths`. Predictors of one kind are fed from one place."""
        kind = type(predictor)
        if kind not in self._placed:
            self._placed[kind] = predictor.place(self.pixels)
        logits, _ = predictor.outputs_of(self._placed[kind], View.PLAIN)
        return np.asarray(logits)[self.rows.order]


def _corrupted(
    predictor: BatchPredictor[Any],
    split: PreparedSplit,
    kinds: Sequence[str],
    severities: Sequence[int],
    start: int,
) -> Iterator[Corrupted]:
    """All groups of a batch, then the next batch; `start` counts corrupted images."""
    photos = packaged_photos() if "frost" in kinds else None
    chosen = [(kind, severity) for kind in kinds for severity in severities]
    if start == len(chosen) * len(split.records):
        return
    batch, done_of_batch = divmod(start, len(chosen) * predictor.batch_size)
    for rows in predictor.batches(split, _INPUT, start=batch * predictor.batch_size):
        done, done_of_batch = done_of_batch // len(rows.truths), 0
        # Padding has keys too, so that every batch runs the same program.
        names = [""] * len(rows.images)
        for row, truth in zip(np.flatnonzero(rows.mask), rows.own, strict=True):
            names[row] = truth.file_name.rsplit("/", 1)[-1].rsplit(".", 1)[0]
        for kind, severity in chosen[done:]:
            keys = image_keys(names, kind, severity)
            pixels = corrupt(rows.images, keys, name=kind, severity=severity, photos=photos)
            yield Corrupted(rows, pixels, f"{kind},severity={severity}")


class _Reader:
    """Keeps the answers, group by group of a batch: all groups of one, for many models, can take minutes."""

    def __init__(self, predictor: BatchPredictor[Any], work: Work):
        """Raises `DataError` for a model of another input."""
        loaded = predictor.loaded
        if loaded.side_for(_STORED) != _SIDE:
            raise DataError(
                f"corruptions are made at {_SIDE} pixels, the checkpoint's input has {loaded.preprocessing.image_size};"
                " `python -m data_prep suite imagenet_c --generate` stores them instead"
            )
        self._predictor, self._work = predictor, work
        self._answers = [as_answers(step.columns) for step in work.done()]
        self.done = sum(len(answers) + answers.num_left_out for answers in self._answers)

    def take(self, item: Corrupted) -> None:
        logits = item.logits_of(self._predictor)
        check_finite(self._predictor.loaded, logits, [truth.file_name for truth in item.truths])
        answers = ARGMAX(Predictions(logits, None, item.truths))
        self._answers.append(answers)
        self._work.add(len(item), of_kept(answers))

    def scores(self) -> Scores:
        return {**corruptions({"test": Answers.concatenate(self._answers)}), "generated": "on the device"}


def generated_corruptions_of(kinds: Sequence[str] = NAMES, severities: Sequence[int] = SEVERITIES) -> ByImage:
    """Of some kinds and severities."""

    def begin(predictor: BatchPredictor[Any], splits: Splits) -> Items:
        split, total = splits["val"], len(splits["val"].records) * len(kinds) * len(severities)
        after = partial(_corrupted, predictor, split, kinds, severities)
        return Items(total, after, _Reader, done_by=len, unit="corrupted images")

    return ByImage("imagenet_c, generated", begin, lambda predictor: predictor.batch_size)


generated_corruptions = generated_corruptions_of()
"""All 15 kinds at 5 severities."""
