"""Where the object of an image is: by masks of its pixels, or by boxes."""

from __future__ import annotations

import enum
import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool

from data_prep.images import BadImage
from data_prep.problems import Reason
from luab_jax.byproducts.records import Size
from luab_jax.data.decoding import decode_mask
from luab_jax.data.features import Example
from luab_jax.data.masks import rasterise
from luab_jax.errors import DataError

_ROUNDING = 1e-3
"""Pixels. Edges are kept as float32 fractions, whose product with a side misses a whole number by less."""


class By(enum.StrEnum):
    """What tells the object from its background."""

    MASKS = "masks"
    BOXES = "boxes"


class Rectangle(NamedTuple):
    """Pixels `top <= y < bottom`, `left <= x < right`."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def area(self) -> int:
        return max(0, self.right - self.left) * max(0, self.bottom - self.top)

    @property
    def slices(self) -> tuple[slice, slice]:
        return slice(self.top, self.bottom), slice(self.left, self.right)


class Foreground(NamedTuple):
    """The object of an image."""

    pixels: Bool[np.ndarray, "h w"]
    """By masks its own pixels, by boxes all of these."""
    rectangle: Rectangle
    """Around all of them."""


def main_label(example: Example) -> int:
    """The class of the object: the image's label, or of a set of labels that of the largest box; -1 if there is none.

    Regions that COCO marks as crowds count only where there is no other.
    """
    if example.label >= 0:
        return example.label
    labels, corners = example.column("boxes", "label"), _corners(example)
    known = np.isin(labels, example.labels) & (labels >= 0)
    if not known.any():
        return -1
    sides = np.clip(corners[:, 2:], 0, 1) - np.clip(corners[:, :2], 0, 1)
    area = np.prod(np.maximum(sides, 0), axis=1)
    alone = known & ~example.column("boxes", "is_crowd")
    chosen = alone if alone.any() else known
    return int(labels[int(np.argmax(np.where(chosen, area, -1)))])


def kinds(example: Example, label: int) -> frozenset[By]:
    """What the image has of its object; nothing where no class is the object's."""
    if label < 0:
        return frozenset()
    of_class = _of_class(example, label)
    masked = set(example.column("masks", "box").tolist())
    found: set[By] = set()
    if of_class:
        found.add(By.BOXES)
    if example.foreground_masks or (of_class and masked.issuperset(of_class)):
        found.add(By.MASKS)
    return frozenset(found)


def foreground(example: Example, label: int, by: By) -> Foreground:
    """The object, or all objects of its class, as one.

    Raises `BadImage` where there is none: no box or mask, one that lies outside, or a damaged one.
    """
    size = example.size
    pixels = _by_masks(example, label, size) if by is By.MASKS else _by_boxes(example, label, size)
    if not pixels.any():
        raise BadImage(Reason.OBJECT_OUTSIDE, f"{by} of {size.width} x {size.height} pixels")
    return Foreground(pixels, bounding(pixels))


def bounding(pixels: Bool[np.ndarray, "h w"]) -> Rectangle:
    """The smallest rectangle around what is True, of which there is some."""
    rows, columns = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
    return Rectangle(int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)


def _corners(example: Example) -> np.ndarray:
    return np.stack([example.column("boxes", name) for name in ("x_min", "y_min", "x_max", "y_max")], axis=-1)


def _of_class(example: Example, label: int) -> list[int]:
    """The boxes of the class, those without a class among them where the image has one label."""
    wanted = (label, -1) if example.label >= 0 else (label,)
    return np.flatnonzero(np.isin(example.column("boxes", "label"), wanted)).tolist()


def _by_boxes(example: Example, label: int, size: Size) -> Bool[np.ndarray, "h w"]:
    boxes = _of_class(example, label)
    if not boxes:
        raise BadImage(Reason.NO_OBJECT, "no box of its class")
    pixels = np.zeros((size.height, size.width), bool)
    for x0, y0, x1, y1 in _corners(example)[boxes].astype(np.float64):
        left, top = (math.floor(v * side + _ROUNDING) for v, side in ((x0, size.width), (y0, size.height)))
        right, bottom = (math.ceil(v * side - _ROUNDING) for v, side in ((x1, size.width), (y1, size.height)))
        pixels[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)] = True
    return pixels


def _by_masks(example: Example, label: int, size: Size) -> Bool[np.ndarray, "h w"]:
    pixels = np.zeros((size.height, size.width), bool)
    try:
        if example.foreground_masks:
            for png in example.foreground_masks:
                pixels |= decode_mask(png, size)
            return pixels
        boxes = _of_class(example, label)
        masks = dict(zip(example.column("masks", "box").tolist(), example.column("masks", "segmentation"), strict=True))
        if not boxes or not all(box in masks for box in boxes):
            raise BadImage(Reason.NO_OBJECT, "an object of its class has no mask" if boxes else "no mask of its class")
        for box in boxes:
            pixels |= rasterise(masks[box], size)
    except BadImage:
        raise
    except DataError as e:
        raise BadImage(Reason.FOREGROUND_MASK, str(e)) from e
    return pixels
