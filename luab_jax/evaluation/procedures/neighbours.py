"""Telling images of no known class by how far their features lie from those of training images (Sun et al. 2022)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from luab_jax.data.dataset import PreparedSplit
from luab_jax.data.features import Example
from luab_jax.data.label_tables import IMAGENET_O
from luab_jax.data.transforms import ANY_SIZE, input_of_file
from luab_jax.errors import DataError
from luab_jax.evaluation.finite import check_finite
from luab_jax.evaluation.predictor import BatchPredictor
from luab_jax.evaluation.procedures.by_image import ByImage, Items, Scores, Splits, threads_of
from luab_jax.evaluation.resume import Work
from luab_jax.evaluation.scores.detection import scores_with_intervals
from luab_jax.evaluation.shared_decoding import on_all_hosts

NUM_TRAINING, K_OF_ALL = 1_281_167, 1000
"""The authors' neighbour, among all training images. deeplearning-wisc/knn-ood, run_imagenet.py."""
BANK = 12_812
"""At most so many training images are compared with: every hundredth of all, of which the neighbour is the tenth."""


_BANK = "bank"


class _Image(NamedTuple):
    part: str
    file_name: str
    pixels: UInt8[np.ndarray, "h w 3"]


def _begin(predictor: BatchPredictor[Any], splits: Splits) -> Items:
    """The bank, thinned evenly, then `out`, then of `in` the images of ImageNet-O's 200 classes.

    Raises `DataError` where one of them has none.
    """
    chosen: dict[str, Sequence[int]] = {
        _BANK: thinned(len(splits[_BANK].records)),
        "out": range(len(splits["out"].records)),
        "in": _of_classes(splits["in"], frozenset(IMAGENET_O)),
    }
    if empty := [f"{splits[name].directory} ({splits[name].manifest.split})" for name, of in chosen.items() if not of]:
        raise DataError(f"{empty[0]}: holds no image that nearest neighbours could be of")
    preprocessing, threads = predictor.preprocessing_for(ANY_SIZE), threads_of(predictor)
    places = [(part, index) for part, of in chosen.items() for index in of]

    def read(place: tuple[str, int]) -> _Image:
        part, index = place
        example = Example(splits[part].records[index])
        return _Image(part, example.file_name, input_of_file(example.image, example.file_name, preprocessing)[0])

    return Items(
        total=len(places),
        after=lambda start: on_all_hosts(read, places[start:], threads),
        reader=partial(_Reader, {part: len(of) for part, of in chosen.items()}),
    )


class _Reader:
    """Keeps the features of the bank, and of the others the distances to them, a batch at a time.

    The features of 12,812 images take as much memory as a ResNet-50's parameters.
    """

    def __init__(self, sizes: Mapping[str, int], predictor: BatchPredictor[Any], work: Work):
        self._sizes, self._predictor, self._work = sizes, predictor, work
        self._k = max(1, round(K_OF_ALL * sizes[_BANK] / NUM_TRAINING))
        self._kept: dict[str, list[np.ndarray]] = {part: [] for part in sizes}
        self._batch: list[_Image] = []
        self.done = 0
        for step in work.done():
            (part,) = (part for part in sizes if part in step.columns)
            self._kept[part].append(step.columns[part])
            self.done += len(step.columns[part])

    def take(self, item: _Image) -> None:
        if self._batch and self._batch[0].part != item.part:
            self._compare()
        self._batch.append(item)
        if len(self._batch) == self._predictor.batch_size:
            self._compare()

    def _compare(self) -> None:
        images, self._batch = self._batch, []
        features = self._predictor.features(np.stack([image.pixels for image in images]))
        check_finite(self._predictor.loaded, features, [image.file_name for image in images])
        part, values = images[0].part, of_length_1(features)
        if part != _BANK:
            values = distances(values, self._all_of(_BANK), self._k)
        self._kept[part].append(values)
        self._work.add(len(values), {part: values})

    def _all_of(self, part: str) -> np.ndarray:
        """Joined, which is done once."""
        if len(self._kept[part]) > 1:
            self._kept[part] = [np.concatenate(self._kept[part])]
        return self._kept[part][0]

    def scores(self) -> Scores:
        if self._batch:
            self._compare()
        out, known = (self._all_of(part).astype(np.float64) for part in ("out", "in"))
        return {
            **scores_with_intervals(out, known),
            "n": len(out) + len(known),
            "n_out": len(out),
            "n_in": len(known),
            "n_bank": self._sizes[_BANK],
            "k": self._k,
        }


detection_by_neighbours = ByImage("nearest neighbours", _begin, lambda predictor: predictor.pixels_of(ANY_SIZE))
"""AUPR, AUROC and FPR at 95 % of the distance to the k-th neighbour, k in proportion to the bank."""


def thinned(num_images: int) -> range:
    """Which images of the bank are compared with: evenly many between, at most `BANK`; of 1,281,167 each hundredth."""
    return range(0, num_images, max(1, -(-num_images // BANK)))


def distances(features: Float[np.ndarray, "n f"], bank: Float[np.ndarray, "m f"], k: int) -> Float[np.ndarray, " n"]:
    """The squared distance of each row to its k-th neighbour of the bank; all rows have length 1."""
    return np.partition(2 - 2 * (features @ bank.T), k - 1, axis=-1)[:, k - 1].astype(np.float32)


def of_length_1(features: Float[np.ndarray, "n f"]) -> Float[np.ndarray, "n f"]:
    return features / np.maximum(np.linalg.norm(features, axis=-1, keepdims=True), 1e-10)


def _of_classes(split: PreparedSplit, classes: frozenset[int]) -> list[int]:
    """Which records are of these classes."""
    return [i for i in range(len(split.records)) if Example(split.records[i]).label in classes]
