"""Resizing pixels as Pillow does it, several times faster where `cykooz_resizer` (SIMD, of Rust) is installed.

Plain bilinear is OpenCV's, which antialiases nothing. The antialiased filters go over the rows first and over the
columns then, with 8 bits in between. That is every Pillow up to 12, and so the published numbers; from 13 on a single
call of Pillow goes the other way for some shapes, which changes where bicubic's overshoot is cut, hence two calls.
"""

from __future__ import annotations

import enum
import functools
import importlib
import importlib.util
import threading
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from luab_jax.byproducts.records import Size


class ResizeFilter(enum.Enum):
    """Interpolation, antialiased when shrinking unless it is called plain."""

    BILINEAR = "bilinear"
    BICUBIC = "bicubic"
    BILINEAR_PLAIN = "bilinear_plain"
    """Of the four nearest pixels at any scale, so that shrinking aliases; in training also from chroma that is not
    smoothed, unless a GPU decodes. The fast mode."""


_PILLOW_FILTERS = {
    ResizeFilter.BILINEAR: Image.Resampling.BILINEAR,
    ResizeFilter.BICUBIC: Image.Resampling.BICUBIC,
}
"""Of the antialiased."""

_threads = threading.local()
cv2.setNumThreads(1)  # the callers are threads already, one for each core


@functools.cache
def _library() -> Any:
    """The module; None where it is not installed."""
    if importlib.util.find_spec("cykooz_resizer") is None:
        return None
    return importlib.import_module("cykooz_resizer")


def is_available() -> bool:
    """Whether pixels are resized by `cykooz_resizer` here."""
    return _library() is not None


@functools.cache
def _options(filter: ResizeFilter) -> Any:
    library = _library()
    kernels = {
        ResizeFilter.BILINEAR: library.FilterType.bilinear,
        ResizeFilter.BICUBIC: library.FilterType.catmull_rom,  # a = -0.5, as Pillow's bicubic
    }
    return library.ResizeOptions(resize_alg=library.ResizeAlg.convolution(kernels[filter]), use_alpha=False)


def _resizer() -> Any:
    """This thread's resizer; it keeps buffers of its own."""
    if not hasattr(_threads, "resizer"):
        _threads.resizer = _library().Resizer()
    return _threads.resizer


def resize(pixels: UInt8[np.ndarray, "h w 3"], size: Size, filter: ResizeFilter) -> UInt8[np.ndarray, "h2 w2 3"]:
    """All of `pixels` at another size."""
    if filter is ResizeFilter.BILINEAR_PLAIN:
        return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_LINEAR))
    if not is_available():
        return np.asarray(resize_by_pillow(Image.fromarray(pixels), size, filter))
    library = _library()
    height, width = pixels.shape[:2]
    options, kind = _options(filter), library.PixelType.U8x3
    image = library.ImageData(width, height, kind, pixels.tobytes())
    rows = library.ImageData(size.width, height, kind)
    _resizer().resize(image, rows, options)
    resized = library.ImageData(size.width, size.height, kind)
    _resizer().resize(rows, resized, options)
    return np.frombuffer(resized.get_buffer(), np.uint8).reshape(size.height, size.width, 3)


def resize_by_pillow(
    image: Image.Image, size: Size, filter: ResizeFilter, part: tuple[float, float, float, float] | None = None
) -> Image.Image:
    """The reference. `part`: left, top, right, bottom of what is resized, pixels; all of it if None."""
    left, top, right, bottom = part or (0, 0, image.width, image.height)
    if filter is ResizeFilter.BILINEAR_PLAIN:
        return image.transform(size, Image.Transform.EXTENT, (left, top, right, bottom), Image.Resampling.BILINEAR)
    rows = image.resize((size.width, image.height), _PILLOW_FILTERS[filter], (left, 0, right, image.height))
    return rows.resize(size, _PILLOW_FILTERS[filter], (0, top, size.width, bottom))
