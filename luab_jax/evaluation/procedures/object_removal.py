"""Images of sets of labels with one class removed: the data of V_min and V_avg (Shetty, Schiele and Fritz 2019, §3).

Every object of a class is erased by its ground-truth mask, grown by some pixels, and filled in by an inpainter. The
edit is done on the model's input, so that the size of what is grown and filled does not depend on the size of the
photo. What remains of the class afterwards is a guess of the inpainter; absolute values depend on it, which is why its
name stands beside every result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, UInt8

from luab_jax.byproducts.records import Box, Size
from luab_jax.data.dataset import PreparedSplit
from luab_jax.data.decoding import decode
from luab_jax.data.features import Example
from luab_jax.data.masks import rasterise, view_mask
from luab_jax.data.transforms import Preprocessing, resize_and_centre_crop
from luab_jax.errors import DataError
from luab_jax.evaluation.shared_decoding import on_all_hosts

Pixels = UInt8[np.ndarray, "h w 3"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """How a class is taken out of an image; stands in the result."""

    dilation: int = 5
    """Pixels of the input by which a mask grows on all sides: the outline and the shadow give a class away."""
    largest_share: float = 0.3
    """Classes that cover more of the image are not removed: little would be left to judge by."""
    inpainter: str = "opencv_telea"
    """Name in `INPAINTERS`."""
    radius: float = 5.0
    """Of the inpainter's neighbourhood, pixels."""


class Edit(NamedTuple):
    """One image without one class, which it has."""

    file_name: str
    index: int
    """Of the record."""
    removed: int
    """The class."""
    pixels: Pixels


class Skips(NamedTuple):
    """Why a class that is present was not removed, counted over pairs of image and class."""

    without_mask: int = 0
    too_large: int = 0
    not_in_view: int = 0

    def plus(self, other: Skips) -> Skips:
        return Skips(*map(sum, zip(self, other, strict=True)))


def _opencv(flags: int) -> Callable[[Pixels, Bool[np.ndarray, "h w"], float], Pixels]:
    return lambda pixels, hole, radius: np.asarray(cv2.inpaint(pixels, hole.astype(np.uint8), radius, flags))


INPAINTERS: dict[str, Callable[[Pixels, Bool[np.ndarray, "h w"], float], Pixels]] = {
    "opencv_telea": _opencv(cv2.INPAINT_TELEA),
    "opencv_navier_stokes": _opencv(cv2.INPAINT_NS),
}


def grow(mask: Bool[np.ndarray, "h w"], pixels: int) -> Bool[np.ndarray, "h w"]:
    """All that lies within `pixels` of the mask."""
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * pixels + 1, 2 * pixels + 1))
    return np.asarray(cv2.dilate(mask.astype(np.uint8), disc)).astype(bool)


def edits_of(example: Example, index: int, preprocessing: Preprocessing, removal: Removal) -> tuple[list[Edit], Skips]:
    """The image without each of its classes in turn; nothing where it has only one, which has no context."""
    labels = sorted(set(example.labels.tolist()))
    if len(labels) < 2:
        return [], Skips()
    name = example.file_name
    image = decode(example.image, name)
    try:
        pixels, view = resize_and_centre_crop(image, preprocessing)
        boxes = [box for box in example.record().boxes if box.label in labels]
        whole = {label: _class_mask([b for b in boxes if b.label == label], Size(*image.size)) for label in labels}
    except DataError as e:
        raise DataError(f"{name}: {e}") from e
    edits, skips = [], Skips()
    for label, mask in whole.items():
        if mask is None:
            skips = skips.plus(Skips(without_mask=1))
        elif mask.mean() > removal.largest_share:
            skips = skips.plus(Skips(too_large=1))
        elif not np.any(hole := view_mask(mask, view, preprocessing.image_size)):
            skips = skips.plus(Skips(not_in_view=1))
        else:
            filled = INPAINTERS[removal.inpainter](pixels, grow(hole, removal.dilation), removal.radius)
            edits.append(Edit(name, index, label, filled))
    return edits, skips


def _class_mask(boxes: list[Box], size: Size) -> Bool[np.ndarray, "h w"] | None:
    """All objects of a class, crowds too; `None` if one of them has no mask, for it would stay in the image."""
    if not boxes or not all(box.mask for box in boxes):
        return None
    return np.logical_or.reduce([rasterise(box.mask, size) for box in boxes])


def all_edits(
    split: PreparedSplit, preprocessing: Preprocessing, removal: Removal, *, threads: int, start: int = 0
) -> Iterator[tuple[list[Edit], Skips]]:
    """`edits_of` every image from `start` on, in the order of the records."""

    def work(index: int) -> tuple[list[Edit], Skips]:
        return edits_of(Example(split.records[index]), index, preprocessing, removal)

    return on_all_hosts(work, range(start, len(split.records)), threads)
