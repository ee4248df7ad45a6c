"""Telling images of no known class by how far their features lie from those of training images (Sun et al. 2022)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from luab_jax.data.dataset import PreparedSplit
from luab_jax.data.features import Example
from luab_jax.data.label_tables import IMAGENET_O
from luab_jax.data.pipeline import num_cores
from luab_jax.data.transforms import ANY_SIZE, input_of_file
from luab_jax.errors import DataError
from luab_jax.evaluation.columns import Columns, joined
from luab_jax.evaluation.finite import check_finite
from luab_jax.evaluation.predict_together import progress
from luab_jax.evaluation.predictor import BatchPredictor
from luab_jax.evaluation.resume import Work
from luab_jax.evaluation.scores.detection import scores_with_intervals
from luab_jax.evaluation.shared_decoding import on_all_hosts

NUM_TRAINING, K_OF_ALL = 1_281_167, 1000
"""The authors' neighbour, among all training images. deeplearning-wisc/knn-ood, run_imagenet.py."""
BANK = 12_812
"""At most so many training images are compared with: every hundredth of all, of which the neighbour is the tenth."""


def detection_by_neighbours(
    predictor: BatchPredictor[Any], splits: Mapping[str, PreparedSplit], work: Work
) -> Mapping[str, Any]:
    """AUPR, AUROC and FPR at 95 % of the distance to the k-th neighbour, k in proportion to the bank.

    `bank` is thinned evenly; of `in` the images of ImageNet-O's 200 classes are taken. Raises `DataError` where one of
    them has none.
    """
    bank = splits["bank"]
    chosen = {
        "bank": thinned(len(bank.records)),
        "out": range(len(splits["out"].records)),
        "in": _of_classes(splits["in"], frozenset(IMAGENET_O)),
    }
    if empty := [f"{splits[name].directory} ({splits[name].manifest.split})" for name, of in chosen.items() if not of]:
        raise DataError(f"{empty[0]}: holds no image that nearest neighbours could be of")
    kept: dict[str, list[Columns]] = {name: [] for name in chosen}
    for step in work.done():
        kept[next(name for name in chosen if name in step.columns)].append(step.columns)
    done = {name: sum(len(columns[name]) for columns in of) for name, of in kept.items()}
    index = joined(kept["bank"])["bank"] if kept["bank"] else None
    k = max(1, round(K_OF_ALL * len(chosen["bank"]) / NUM_TRAINING))
    with progress("nearest neighbours", sum(map(len, chosen.values())), sum(done.values())) as told:
        for name, of in chosen.items():
            for features in _features(predictor, splits[name], of[done[name] :]):
                values = features if name == "bank" else distances(features, index, k)
                columns = {name: values}
                kept[name].append(columns)
                work.add(len(values), columns)
                told.advance(len(values))
            if name == "bank":
                index = joined(kept["bank"])["bank"]
    out, known = (joined(kept[name])[name].astype(np.float64) for name in ("out", "in"))
    return {
        **scores_with_intervals(out, known),
        "n": len(out) + len(known),
        "n_out": len(out),
        "n_in": len(known),
        "n_bank": len(chosen["bank"]),
        "k": k,
    }


def thinned(num_images: int) -> range:
    """Which images of the bank are compared with: evenly many between, at most `BANK`; of 1,281,167 each hundredth."""
    return range(0, num_images, max(1, -(-num_images // BANK)))


def distances(
    features: Float[np.ndarray, "n f"], bank: Float[np.ndarray, "m f"] | None, k: int
) -> Float[np.ndarray, " n"]:
    """The squared distance of each row to its k-th neighbour of the bank; all rows have length 1."""
    assert bank is not None
    return np.partition(2 - 2 * (features @ bank.T), k - 1, axis=-1)[:, k - 1].astype(np.float32)


def of_length_1(features: Float[np.ndarray, "n f"]) -> Float[np.ndarray, "n f"]:
    return features / np.maximum(np.linalg.norm(features, axis=-1, keepdims=True), 1e-10)


def _of_classes(split: PreparedSplit, classes: frozenset[int]) -> list[int]:
    """Which records are of these classes."""
    return [i for i in range(len(split.records)) if Example(split.records[i]).label in classes]


def _features(
    predictor: BatchPredictor[Any], split: PreparedSplit, indices: Sequence[int]
) -> Iterator[Float[np.ndarray, "n f"]]:
    """Of length 1, batch by batch."""
    preprocessing = predictor.preprocessing_for(ANY_SIZE)

    def read(index: int) -> tuple[str, UInt8[np.ndarray, "h w 3"]]:
        example = Example(split.records[index])
        return example.file_name, input_of_file(example.image, example.file_name, preprocessing)[0]

    waiting: list[tuple[str, np.ndarray]] = []
    for number, image in enumerate(on_all_hosts(read, indices, predictor.reading.num_threads or num_cores()), 1):
        waiting.append(image)
        if len(waiting) == predictor.batch_size or number == len(indices):
            features = predictor.features(np.stack([pixels for _, pixels in waiting]))
            check_finite(predictor.loaded, features, [name for name, _ in waiting])
            yield of_length_1(features)
            waiting = []
