"""Hard ImageNet's tiles against the authors' definition, coordinate by coordinate."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from data_prep.datasets.tiles import tiled


def by_coordinates(pixels: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """As ablations.py defines it: x is a row of the mask and the box, and a column of the picture beside the box."""
    out, side = pixels.copy(), len(pixels)
    labels = np.empty(mask.shape, np.int32)
    ndimage.label(mask, output=labels)
    for part in range(1, labels.max() + 1):
        xs, ys = np.nonzero(labels == part)
        x1, x2, y1, y2 = xs.min(), xs.max() - 1, ys.min(), ys.max() - 1
        if x2 <= x1 or y2 <= y1:
            continue
        w, h = x2 - x1, y2 - y1
        candidates = {
            "right": (range(x2, min(x2 + w, side)), range(y1, y2)),
            "left": (range(max(x1 - w, 0), x1), range(y1, y2)),
            "up": (range(x1, x2), range(y2, min(y2 + h, side))),
            "down": (range(x1, x2), range(max(y1 - h, 0), y2)),
        }
        found = {name: trimmed(mask, name, *at) for name, at in candidates.items()}
        name = max(found, key=lambda name: found[name][0])
        size, of_x, of_y = found[name]
        for i in range(w):
            for j in range(h):
                if not size:
                    out[x1 + i, y1 + j] = 0
                    continue
                x = {"right": i, "left": i - w}.get(name, i) % len(of_x)
                y = {"up": j, "down": j - h}.get(name, j) % len(of_y)
                out[x1 + i, y1 + j] = pixels[of_y[y], of_x[x]]  # as it was before this box
        pixels = out.copy()
    return out


def trimmed(mask: np.ndarray, name: str, of_x: range, of_y: range) -> tuple[int, range, range]:
    """By what size a neighbour counts, and what is left of it."""
    held = {(x, y) for x in of_x for y in of_y if mask[y, x]}
    if not held:
        return len(of_x) * len(of_y), of_x, of_y
    by_x, by_y = [any(x == a for a, _ in held) for x in of_x], [any(y == b for _, b in held) for y in of_y]
    length = len(of_x) if name in ("right", "left") else len(of_y)
    if name in ("right", "up"):
        free = [i for i in range(length) if not any(by_x[: length - i])]
    else:
        free = [i for i in range(length) if not any(by_y[i:])]
    cut = free[0] if free else 0
    if name in ("right", "left"):
        return cut * len(of_y), of_x[:cut] if name == "right" else of_x[cut:], of_y
    return cut * len(of_x), of_x, of_y[:cut] if name == "up" else of_y[cut:]


@pytest.mark.parametrize("seed", range(40))
def test_boxes_are_filled_as_the_authors_fill_them(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = np.zeros((28, 28), bool)
    for _ in range(rng.integers(1, 5)):
        (top, left), (height, width) = rng.integers(0, 26, 2), rng.integers(1, 14, 2)
        mask[top : top + height, left : left + width] = True
    pixels = rng.integers(1, 256, (28, 28, 3), np.uint8)
    assert np.array_equal(tiled(pixels, mask), by_coordinates(pixels, mask))


def test_an_object_far_from_the_diagonal_is_filled_by_its_mirrored_place() -> None:
    """The left neighbour, to which the box is counted, is the largest there, and is repeated from its end."""
    mask = np.zeros((14, 14), bool)
    mask[1:5, 8:12] = True
    pixels = np.arange(196, dtype=np.uint8).reshape(14, 14, 1).repeat(3, axis=2)
    expected = pixels.copy()
    expected[1:3, 8:10] = pixels[8:10, 1:3].swapaxes(0, 1)  # without the last two rows and columns
    assert np.array_equal(tiled(pixels, mask), expected)


def test_without_a_neighbour_a_box_becomes_black_and_thin_objects_stay() -> None:
    pixels = np.full((6, 6, 3), 200, np.uint8)
    whole = tiled(pixels, np.ones((6, 6), bool))
    assert (whole[:4, :4] == 0).all() and (whole[4:] == 200).all()
    thin = np.zeros((6, 6), bool)
    thin[2:4] = True
    assert np.array_equal(tiled(pixels, thin), pixels)
