"""From COCO's segmentations, as shards keep them, to pixels."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from jaxtyping import Bool
from pycocotools import mask as coco_mask

from luab_jax.byproducts.geometry import Affine
from luab_jax.byproducts.records import Size
from luab_jax.errors import DataError


def rasterise(segmentation: str, size: Size) -> Bool[np.ndarray, "h w"]:
    """The pixels of an object of an image of `size`, by COCO's own rules; see `Box.mask` for the text.

    Raises `DataError` if the text is no segmentation of such an image.
    """
    try:
        value = json.loads(segmentation)
        decoded = coco_mask.decode(_run_lengths(value, size))
    except (ValueError, KeyError, TypeError) as e:
        raise DataError(f"not a COCO segmentation ({e}): {segmentation[:40]}") from e
    if decoded.shape != (size.height, size.width):
        raise DataError(f"a segmentation of {decoded.shape[::-1]} pixels in an image of {tuple(size)}")
    return decoded.astype(bool)


def _run_lengths(value: Any, size: Size) -> Any:
    """As pycocotools decodes them, which believes what it is given."""
    height, width = size.height, size.width
    if isinstance(value, dict):
        if isinstance(value["counts"], str):
            return value
        if sum(value["counts"]) != height * width:
            raise ValueError("the runs do not fill the image")
        return coco_mask.frPyObjects(value, height, width)  # pyright: ignore[reportCallIssue, reportArgumentType]
    # What lies far outside is cut, or the scan along a polygon's edge would take memory for all of it.
    polygons = [np.clip(np.asarray(p, float).reshape(-1, 2), 0, (width, height)).ravel().tolist() for p in value]
    if not polygons or min(map(len, polygons)) < 6:
        raise ValueError("a polygon has three corners at least")
    return coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))


def view_mask(mask: Bool[np.ndarray, "h w"], view: Affine, side: int) -> Bool[np.ndarray, "side side"]:
    """The mask as the model's input shows it: the nearest pixel; what `view` adds outside of the image is False."""
    height, width = mask.shape
    centres = (np.arange(side) + 0.5) / side
    whole = view.inverse()
    x, y = whole.points(np.stack([centres, np.full(side, 0.5)], -1)), whole.points(np.stack([centres * 0, centres], -1))
    columns, rows = np.floor(x[:, 0] * width).astype(int), np.floor(y[:, 1] * height).astype(int)
    seen = mask[np.clip(rows, 0, height - 1)][:, np.clip(columns, 0, width - 1)]
    inside_rows, inside_columns = (rows >= 0) & (rows < height), (columns >= 0) & (columns < width)
    return seen & inside_rows[:, None] & inside_columns[None, :]
