"""Pixels of one image in or on those of another. Pure functions of arrays; nothing here is random.

The sets are those of ImageNet-9 (Xiao et al. 2021, table 1), whose authors published the images and not the program
that made them. So what their text leaves open is fixed here, and stated where it is.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image

from data_prep.own_suites.foregrounds import Rectangle
from luab_jax.byproducts.records import Size
from luab_jax.data.resampling import ResizeFilter, resize_by_pillow

Pixels = UInt8[np.ndarray, "h w 3"]
Mask = Bool[np.ndarray, "h w"]


def blacked(image: Pixels, where: Mask) -> Pixels:
    """Black inside of `where`."""
    return np.where(where[..., None], np.uint8(0), image)


def tiled(image: Pixels, rectangle: Rectangle) -> Pixels:
    """The rectangle filled with repetitions of the largest strip of the image beside it.

    The strips are all of the image left, right, above and below of the rectangle. One at a side repeats across in its
    own rows, one above or below downwards in its own columns, so that what runs along the strip goes on.
    """
    height, width = image.shape[:2]
    left, top, right, bottom = rectangle
    sides = (left * height, (width - right) * height, top * width, (height - bottom) * width)
    if not max(sides):
        raise ValueError("the rectangle leaves nothing of the image")
    filled = image.copy()
    across, down = np.arange(right - left), np.arange(bottom - top)
    match int(np.argmax(sides)):
        case 0:
            filled[top:bottom, left:right] = image[top:bottom, across % left]
        case 1:
            filled[top:bottom, left:right] = image[top:bottom, right + across % (width - right)]
        case 2:
            filled[top:bottom, left:right] = image[down % top, left:right]
        case _:
            filled[top:bottom, left:right] = image[bottom + down % (height - bottom), left:right]
    return filled


def covering(image: Pixels, size: Size) -> Pixels:
    """Resized (bicubic) so that it covers `size`, aspect kept, and the centre of that; as it is if it has that size."""
    height, width = image.shape[:2]
    if (width, height) == tuple(size):
        return image
    scale = max(size.width / width, size.height / height)
    scaled = Size(max(size.width, round(width * scale)), max(size.height, round(height * scale)))
    resized = np.asarray(resize_by_pillow(Image.fromarray(image), scaled, ResizeFilter.BICUBIC))
    left, top = (scaled.width - size.width) // 2, (scaled.height - size.height) // 2
    return resized[top : top + size.height, left : left + size.width]


def pasted(image: Pixels, where: Mask, background: Pixels) -> Pixels:
    """`image` inside of `where`, elsewhere `background`, which covers it."""
    return np.where(where[..., None], image, covering(background, Size(image.shape[1], image.shape[0])))
