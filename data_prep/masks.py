"""COCO's `segmentation`, as `Box.mask` keeps it: whether a point lies on it, and its outline.

Polygons or run lengths down the columns, as lists or in pycocotools' compressed text (cocodataset/cocoapi maskApi.c,
`rleFrString`). pycocotools would do it too, but has to be compiled where it has no wheel, for these few lines.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from luab_jax.byproducts.records import Size


def contains(mask: str, size: Size, x: float, y: float) -> bool:
    """Whether the pixel under a point, given in fractions of an image of `size`, is on the mask (polygons even-odd)."""
    column, row = int(np.clip(x * size.width, 0, size.width - 1)), int(np.clip(y * size.height, 0, size.height - 1))
    segmentation = json.loads(mask)
    if isinstance(segmentation, dict):
        ends = np.cumsum(run_lengths(segmentation["counts"]))
        return bool(np.searchsorted(ends, column * size.height + row, side="right") % 2)
    return any(_in_polygon(corners, column + 0.5, row + 0.5) for corners in map(_corners, segmentation))


def polygons(mask: str) -> list[Float[np.ndarray, "corners 2"]]:
    """The polygons in pixels; none for run lengths."""
    segmentation = json.loads(mask)
    return [] if isinstance(segmentation, dict) else [_corners(polygon) for polygon in segmentation]


def runs(mask: str, size: Size) -> Bool[np.ndarray, "h w"] | None:
    """The pixels of run lengths; `None` for polygons."""
    segmentation = json.loads(mask)
    if not isinstance(segmentation, dict):
        return None
    counts = run_lengths(segmentation["counts"])
    pixels = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    pixels = np.resize(pixels, size.width * size.height) if len(pixels) else np.zeros(size.width * size.height, bool)
    return pixels.reshape(size.width, size.height).T


def run_lengths(counts: list[int] | str) -> Int[np.ndarray, " runs"]:
    """Lengths of runs, off and on in turn. Text has five bits and a sign in each character, from the third run on the
    difference to the run before the last."""
    if not isinstance(counts, str):
        return np.asarray(counts, np.int64)
    lengths: list[int] = []
    value = shift = 0
    for character in counts:
        bits = ord(character) - 48
        value |= (bits & 0x1F) << shift
        shift += 5
        if not bits & 0x20:
            if bits & 0x10:
                value -= 1 << shift
            lengths.append(value + (lengths[-2] if len(lengths) > 2 else 0))
            value = shift = 0
    return np.maximum(np.asarray(lengths, np.int64), 0)


def _corners(polygon: Any) -> Float[np.ndarray, "corners 2"]:
    return np.asarray(polygon, np.float64).reshape(-1, 2)


def _in_polygon(corners: Float[np.ndarray, "corners 2"], x: float, y: float) -> bool:
    """Even-odd rule: how many edges a ray to the right crosses."""
    (x0, y0), (x1, y1) = corners.T, np.roll(corners, -1, axis=0).T
    crossing = (y0 > y) != (y1 > y)
    height = np.where(crossing, y1 - y0, 1.0)
    return bool(np.sum(crossing & (x < x0 + (y - y0) * (x1 - x0) / height)) % 2)
