"""MaxBoxAccV2: how well a map of where a class is seen becomes its box (Choe et al. 2020, §3; clovaai/wsolevaluation).

The facts below are those of its evaluation.py and main.py: maps of the model's input size, scaled to [0, 1] and then to
bytes, thresholds in steps of 0.001, boxes around all contours, IoU that counts pixels (hence the ones that are added).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from luab_jax.errors import DataError
from luab_jax.evaluation.scores import intervals
from luab_jax.results.answers import Kind, Sample
from luab_jax.results.score import FRACTION, Direction, Role, Score

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
Right = UInt8[np.ndarray, "n b"]
"""Whether an image's box is right by each IoU at each threshold, in bits: 3 x 1000 for every image."""

_NUM_RESAMPLES = 200
_CHUNK = 1024

INTERVAL = (
    f"of a mean on the logit scale, less the optimism of the chosen thresholds by {_NUM_RESAMPLES} bootstrap resamples,"
    " 95 %"
)


def max_box_acc_v2(images: Iterable[Located]) -> dict[str, Any]:
    """MaxBoxAccV2 and its three parts in fractions: the best threshold is chosen over the whole set, for each IoU."""
    return scores_of_thresholds(right_thresholds(images))


def right_thresholds(images: Iterable[Located], map_images: Map = map) -> Right:
    """Of every image; `map_images` may do several at a time."""

    def bits(image: Located) -> UInt8[np.ndarray, " b"]:
        return np.packbits(best_ious(image)[None, :] >= np.asarray(IOUS)[:, None])

    return np.asarray([*map_images(bits, images)], np.uint8).reshape(-1, -(-len(IOUS) * len(THRESHOLDS) // 8))


def scores_of_thresholds(right: Right) -> dict[str, Any]:
    """The scores of a set, and the thresholds that give them."""
    count = len(right)
    if not count:
        raise DataError("no image of this set has a box of its class, so nothing can be localised")
    times = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), _NUM_RESAMPLES)
    drawn = np.concatenate([np.ones((1, count)), times]).astype(np.float32)  # the set itself comes first
    hits = np.zeros((len(drawn), len(IOUS) * len(THRESHOLDS)))
    for start in range(0, count, _CHUNK):
        some = np.unpackbits(right[start : start + _CHUNK], axis=1, count=hits.shape[1])
        hits += drawn[:, start : start + _CHUNK] @ some.astype(np.float32)
    shares = hits.reshape(len(drawn), len(IOUS), -1) / count
    chosen = shares[0].argmax(axis=1)
    fixed = np.take_along_axis(shares, np.broadcast_to(chosen[:, None], (*shares.shape[:2], 1)), axis=-1)[..., 0]
    optimism = (shares.max(axis=-1) - fixed)[1:].mean(axis=0)
    places = np.arange(len(IOUS)) * len(THRESHOLDS) + chosen
    is_right = np.stack([right[:, place // 8] >> (7 - place % 8) & 1 for place in places], axis=-1).astype(bool)
    names = [f"box_acc_{round(100 * iou)}" for iou in IOUS]
    parts = {name: _score(is_right[:, i], float(optimism[i])) for i, name in enumerate(names)}
    settings = {
        f"threshold_{round(100 * iou)}": Score(float(THRESHOLDS[place]), FRACTION, role=Role.PROTOCOL)
        for iou, place in zip(IOUS, chosen, strict=True)
    }
    return {
        "max_box_acc_v2": _score(is_right.mean(axis=1), float(optimism.mean())),
        **parts,
        **settings,
        "n": count,
    }


def _score(of_image: Bool[np.ndarray, " n"] | Float[np.ndarray, " n"], optimism: float) -> Score:
    """The mean over images at the thresholds that were chosen on the same images.

    These are the best there and not quite elsewhere. By how much is estimated on resamples, of which each has a best
    threshold of its own (Efron 1983): that is taken off the middle of the interval, not off the score. To first order
    the choice does not change how much the score varies (the envelope theorem), so its deviation is that of a mean.
    """
    value, n = float(of_image.mean()), len(of_image)
    deviation = float(of_image.std(ddof=1)) / n**0.5 if n > 1 else 0.0
    interval = intervals.on_logit_scale(value, deviation, n, optimism)
    sample = Sample(Kind.MEANS, of_image.astype(np.float32))
    return Score(value, FRACTION, Direction.HIGHER, interval, INTERVAL, sample=sample)


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
    boxes = [boxes_above(levels, int(cut)) for cut in distinct]
    # All cuts in one array: most have one or two boxes, and NumPy takes as long for these as for hundreds.
    of_box = _ious(np.asarray([box for of_cut in boxes for box in of_cut], np.int64), true).max(axis=1)
    starts = np.cumsum([0, *map(len, boxes[:-1])])
    return np.maximum.reduceat(of_box, starts)[of_threshold]


def as_levels(scores: Float[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    """From least to largest as 0 to 255; zero where all are equal."""
    least, largest = scores.min(), scores.max()
    if least == largest:
        return np.zeros(scores.shape, np.uint8)
    return ((scores - least) / (largest - least) * 255).astype(np.uint8)


def boxes_above(levels: UInt8[np.ndarray, "h w"], cut: int) -> list[tuple[int, int, int, int]]:
    """Boxes around every outline of what lies above `cut`, holes among them; one at the origin if nothing does."""
    height, width = levels.shape
    above = (levels > cut).view(np.uint8)
    outlines = cv2.findContours(above, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)[-2]
    boxes = [cv2.boundingRect(outline) for outline in outlines]
    return [(x, y, min(x + w, width - 1), min(y + h, height - 1)) for x, y, w, h in boxes] or [(0, 0, 0, 0)]


def _ious(first: Int[np.ndarray, "a 4"], second: Int[np.ndarray, "b 4"]) -> Float[np.ndarray, "a b"]:
    """Both corners belong to a box."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    sides = np.maximum(high - low + 1, 0)
    shared = sides[..., 0] * sides[..., 1]
    areas = [np.prod(boxes[:, 2:] - boxes[:, :2] + 1, axis=-1) for boxes in (first, second)]
    return shared / (areas[0][:, None] + areas[1][None, :] - shared)
