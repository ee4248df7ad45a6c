"""MaxBoxAccV2: how well a map of where a class is seen becomes its box (Choe et al. 2020, §3; clovaai/wsolevaluation).

The facts below are those of its evaluation.py and main.py: maps of the model's input size, scaled to [0, 1] and then to
bytes, thresholds in steps of 0.001, boxes around all contours, IoU that counts pixels (hence the ones that are added).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import cv2
import numpy as np
from jaxtyping import Float, Int, UInt8

from luab_jax.errors import DataError

THRESHOLDS = np.arange(0, 1, 0.001)
IOUS = (0.3, 0.5, 0.7)


class Located(NamedTuple):
    """One image: where the model sees its class, and where the class is."""

    file_name: str
    scores: Float[np.ndarray, "h w"]
    """Of any scale; larger is more of the class."""
    boxes: Float[np.ndarray, "n 4"]
    """x_min, y_min, x_max, y_max in fractions of the map, one for each object of the class."""


Map = Callable[[Callable[[Located], np.ndarray], Iterable[Located]], Iterable[np.ndarray]]


def max_box_acc_v2(images: Iterable[Located], map_images: Map = map) -> dict[str, Any]:
    """MaxBoxAccV2 and its three parts in fractions: the best threshold is chosen over the whole set, for each IoU.

    `map_images` may do several images at a time.
    """
    right = np.zeros((len(IOUS), len(THRESHOLDS)), np.int64)
    count = 0
    for ious in map_images(best_ious, images):
        right += ious[None, :] >= np.asarray(IOUS)[:, None]
        count += 1
    if not count:
        raise DataError("no image of this set has a box of its class, so nothing can be localised")
    accuracies = right.max(axis=1) / count
    at = THRESHOLDS[right.argmax(axis=1)]
    return {
        "max_box_acc_v2": float(accuracies.mean()),
        **{f"box_acc_{round(100 * iou)}": float(accuracy) for iou, accuracy in zip(IOUS, accuracies, strict=True)},
        "thresholds": {str(round(100 * iou)): float(threshold) for iou, threshold in zip(IOUS, at, strict=True)},
        "n": count,
    }


def best_ious(image: Located) -> Float[np.ndarray, " t"]:
    """For every threshold the largest IoU of any of its boxes with any of the image's.

    The map has 256 values at most, so most thresholds cut it alike and are computed once.
    """
    if not np.all(np.isfinite(image.scores)):
        raise DataError(f"{image.file_name}: its map has a value that is not finite; the model diverged")
    height, width = image.scores.shape
    # The tiny addition keeps float32 fractions of whole pixels from falling below them.
    true = np.floor(image.boxes * np.asarray([width, height] * 2) + 1e-4).astype(np.int64)
    levels = as_levels(image.scores)
    cuts = (THRESHOLDS * int(levels.max())).astype(np.int64)
    distinct, of_threshold = np.unique(cuts, return_inverse=True)
    found = [float(_ious(boxes_above(levels, int(cut)), true).max()) for cut in distinct]
    return np.asarray(found)[of_threshold]


def as_levels(scores: Float[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    """From least to largest as 0 to 255; zero where all are equal."""
    least, largest = scores.min(), scores.max()
    if least == largest:
        return np.zeros(scores.shape, np.uint8)
    return ((scores - least) / (largest - least) * 255).astype(np.uint8)


def boxes_above(levels: UInt8[np.ndarray, "h w"], cut: int) -> Int[np.ndarray, "n 4"]:
    """Boxes around every outline of what lies above `cut`, holes among them; one at the origin if nothing does."""
    height, width = levels.shape
    outlines = cv2.findContours((levels > cut).astype(np.uint8), cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)[-2]
    boxes = [cv2.boundingRect(outline) for outline in outlines]
    corners = [(x, y, min(x + w, width - 1), min(y + h, height - 1)) for x, y, w, h in boxes]
    return np.asarray(corners or [(0, 0, 0, 0)], np.int64)


def _ious(first: Int[np.ndarray, "a 4"], second: Int[np.ndarray, "b 4"]) -> Float[np.ndarray, "a b"]:
    """Both corners belong to a box."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    shared = np.prod(np.maximum(high - low + 1, 0), axis=-1)
    areas = [np.prod(boxes[:, 2:] - boxes[:, :2] + 1, axis=-1) for boxes in (first, second)]
    return shared / (areas[0][:, None] + areas[1][None, :] - shared)
