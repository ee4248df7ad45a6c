"""MaxBoxAccV2 of a model's map of the true class, on images squashed to the input."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import partial
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from luab_jax.byproducts.records import Size
from luab_jax.data.dataset import PreparedSplit
from luab_jax.data.decoding import decode
from luab_jax.data.features import Example
from luab_jax.data.resampling import ResizeFilter, resize_by_pillow
from luab_jax.evaluation.columns import Columns, joined
from luab_jax.evaluation.finite import check_finite
from luab_jax.evaluation.predictor import BatchPredictor
from luab_jax.evaluation.procedures.by_image import ByImage, Items, Scores, Splits, threads_of
from luab_jax.evaluation.resume import Work
from luab_jax.evaluation.scores.localisation import Located, right_thresholds, scores_of_thresholds
from luab_jax.evaluation.shared_decoding import on_all_hosts


@dataclasses.dataclass(frozen=True, slots=True)
class _Squashed:
    file_name: str
    pixels: UInt8[np.ndarray, "h w 3"]
    label: int
    boxes: Float[np.ndarray, "n 4"]


def _squash(split: PreparedSplit, side: int, index: int) -> _Squashed:
    """An image as wsolevaluation's data_loaders.py takes it, whatever its aspect ratio, with the boxes of its class."""
    example = Example(split.records[index])
    byproducts = example.byproducts()
    of_class = byproducts.boxes[np.isin(byproducts.box_labels, (example.label, -1))]
    pixels = np.zeros((side, side, 3), np.uint8)
    if len(of_class) and example.label >= 0:
        image = decode(example.image, example.file_name)
        pixels = np.asarray(resize_by_pillow(image, Size(side, side), ResizeFilter.BILINEAR))
    return _Squashed(example.file_name, pixels, example.label, of_class)


def _side(predictor: BatchPredictor[Any]) -> int:
    return predictor.loaded.preprocessing.image_size


class _Reader:
    """Maps of those images that have a box of their class, a batch at a time."""

    def __init__(self, num_images: int, predictor: BatchPredictor[Any], work: Work):
        self._num_images, self._predictor, self._work = num_images, predictor, work
        self._kept: list[Columns] = [step.columns for step in work.done()]
        self._batch: list[_Squashed] = []
        self._num_seen = 0
        self.done = sum(int(columns["seen"].sum()) for columns in self._kept)

    def take(self, item: _Squashed) -> None:
        self._num_seen += 1
        if len(item.boxes) and item.label >= 0:
            self._batch.append(item)
        if len(self._batch) == self._predictor.maps_at_once:
            self._compare()

    def _compare(self) -> None:
        located = list(self._located()) if self._batch else []
        right = right_thresholds(located, partial(on_all_hosts, threads=threads_of(self._predictor)))
        columns: Columns = {"seen": np.asarray([self._num_seen]), "right": right}
        self._kept.append(columns)
        self._work.add(self._num_seen, columns)
        self._batch, self._num_seen = [], 0

    def _located(self) -> Iterator[Located]:
        side = _side(self._predictor)
        labels = np.asarray([image.label for image in self._batch], np.int32)
        maps = self._predictor.maps(np.stack([image.pixels for image in self._batch]), labels)
        check_finite(self._predictor.loaded, maps, [image.file_name for image in self._batch])
        for image, scores in zip(self._batch, maps, strict=True):
            resized = np.asarray(cv2.resize(scores, (side, side), interpolation=cv2.INTER_CUBIC))
            yield Located(image.file_name, resized, image.boxes.astype(np.float32))

    def scores(self) -> Scores:
        if self._num_seen:
            self._compare()
        right = joined(self._kept)["right"]
        without_box = self._num_images - len(right)
        return {**scores_of_thresholds(right), "n_without_box": without_box}


def _begin(predictor: BatchPredictor[Any], splits: Splits) -> Items:
    split, threads = splits["val"], threads_of(predictor)
    squash, num_images = partial(_squash, split, _side(predictor)), len(split.records)
    return Items(
        total=num_images,
        after=lambda start: on_all_hosts(squash, range(start, num_images), threads),
        reader=partial(_Reader, num_images),
    )


localisation = ByImage("localisation", _begin, _side)
"""MaxBoxAccV2 of the model's map of the true class (`map` says of which kind), on images squashed to the input."""
