"""Hard ImageNet's third ablation: the box of each part of the object, filled by what is beside it.

mmoayeri/HardImageNet, ablations.py, `tile`: for every connected part of the mask the four neighbours of its box are
cut back where they hold an object, and the largest is repeated over the box. That program takes rows for columns when
it looks beside the box, counts the box to its left neighbour, and measures some along the wrong side. The published
accuracies were made so, and here it is the same, pixel by pixel: neighbours are those of the box in the picture
mirrored at its diagonal. A box that has no such neighbour becomes black.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, UInt8
from scipy import ndimage

Pixels = UInt8[np.ndarray, "h w 3"]
Object = Bool[np.ndarray, "h w"]


class _Box(NamedTuple):
    """Ends are left out, as of a slice."""

    top: int
    bottom: int
    left: int
    right: int


class _Tile(NamedTuple):
    """A neighbour of a box, in the mirrored picture; cut back, or not."""

    pixels: Pixels
    axis: int
    """Along which it is repeated."""
    from_end: bool
    """Whether repeating starts at the end of the box."""
    size: int
    """What the tiles are ranked by; after cutting back it is not the area (as in the original)."""


def tiled(pixels: Pixels, of_object: Object) -> Pixels:
    """The image with all boxes filled, one after the other, so that a later one may take from an earlier one."""
    made = pixels.copy()
    labels = np.empty(of_object.shape, np.int32)
    ndimage.label(of_object, output=labels)
    for rows, columns in ndimage.find_objects(labels):
        # Both the box and its corners leave out their last row and column.
        box = _Box(rows.start, rows.stop - 2, columns.start, columns.stop - 2)
        if box.top >= box.bottom or box.left >= box.right:
            continue
        best = max(
            _neighbours(made.swapaxes(0, 1), of_object.T, box), key=lambda tile: tile.size
        )  # the first of equals
        made[box.top : box.bottom, box.left : box.right] = _repeated(best, box) if best.size else 0
    return made


def _neighbours(mirrored: Pixels, of_object: Object, box: _Box) -> Iterator[_Tile]:
    """Below, above, right and left of the box, in the order in which equal ones are preferred."""
    height, width = box.bottom - box.top, box.right - box.left
    rows, columns = slice(box.top, box.bottom), slice(box.left, box.right)
    for at, axis, from_end in (
        ((slice(box.bottom, box.bottom + height), columns), 0, False),
        ((slice(max(box.top - height, 0), box.top), columns), 0, True),
        ((rows, slice(box.right, box.right + width)), 1, False),
        ((rows, slice(max(box.left - width, 0), box.right)), 1, True),  # the box is part of it, there too
    ):
        yield _cut_back(mirrored[at], of_object[at], axis, from_end)


def _cut_back(pixels: Pixels, of_object: Object, axis: int, from_end: bool) -> _Tile:
    """Below and left the object's extent is taken along the axis, above and right across it, as there."""
    length = pixels.shape[axis]
    if not of_object.any():
        return _Tile(pixels, axis, from_end, pixels.shape[0] * pixels.shape[1])
    if from_end:
        by_column = np.any(of_object, axis=0)
        cut = next((i for i in range(length) if not by_column[i:].any()), 0)
        kept = slice(cut, None)
    else:
        by_row = np.any(of_object, axis=1)
        cut = next((i for i in range(length) if not by_row[: length - i].any()), 0)
        kept = slice(0, cut)
    tile = pixels[kept] if axis == 0 else pixels[:, kept]
    return _Tile(tile, axis, from_end, cut * pixels.shape[1 - axis])


def _repeated(tile: _Tile, box: _Box) -> Pixels:
    length = box.bottom - box.top if tile.axis == 0 else box.right - box.left
    places = np.arange(length) - (length if tile.from_end else 0)
    return np.take(tile.pixels, places % tile.pixels.shape[tile.axis], axis=tile.axis)
