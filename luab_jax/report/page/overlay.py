"""A map of where a model looked as a picture to lay over the image, and how far two maps differ."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from PIL import Image

_SIDE = 48
"""Pixels; the map is smooth, a browser enlarges it without harm."""
# From dark violet to light yellow: lightness grows all the way, so that the order shows without colours too.
_COLOURS = np.asarray([(38, 6, 84), (122, 18, 122), (205, 50, 84), (247, 131, 33), (253, 231, 108)], np.float32)
_OPACITY = (0.12, 0.78)
"""Of the lowest and of the highest value."""


def overlay(cells: Sequence[Sequence[float]]) -> bytes:
    """A PNG of values in [0, 1], lowest transparent; enlarged by cubic interpolation."""
    values = np.clip(_enlarged(cells), 0.0, 1.0)
    pixels = np.concatenate([_colours(values), 255 * _opacity(values)[..., None]], axis=-1)
    buffer = io.BytesIO()
    Image.fromarray(np.rint(pixels).astype(np.uint8), "RGBA").save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def ramp() -> str:
    """The colours from lowest to highest, as a CSS gradient over white."""
    shares = np.linspace(0.0, 1.0, 9)
    opacity = _opacity(shares)[:, None]
    stops = np.rint(opacity * _colours(shares) + (1 - opacity) * 255).astype(int)
    return f"linear-gradient(90deg,{','.join(f'rgb({r} {g} {b})' for r, g, b in stops)})"


def dissimilarity(first: Sequence[Sequence[float]], other: Sequence[Sequence[float]]) -> float:
    """1 less Pearson's correlation of two maps of any grids: 0 for the same place, 1 for unrelated, 2 for opposite."""
    return float(1.0 - np.corrcoef(_enlarged(first).ravel(), _enlarged(other).ravel())[0, 1])


def _enlarged(cells: Sequence[Sequence[float]]) -> Float[np.ndarray, "48 48"]:
    image = Image.fromarray(np.asarray(cells, np.float32), "F")
    return np.asarray(image.resize((_SIDE, _SIDE), Image.Resampling.BICUBIC))


def _colours(values: np.ndarray) -> np.ndarray:
    """RGB in [0, 255] along a last axis."""
    places = np.linspace(0.0, 1.0, len(_COLOURS))
    return np.stack([np.interp(values, places, channel) for channel in _COLOURS.T], axis=-1)


def _opacity(values: np.ndarray) -> np.ndarray:
    low, high = _OPACITY
    return low + (high - low) * values
