"""The watermark of ImageNet-W (Li et al. 2023): "shortcut" three times in Chinese, white and half opaque.

facebookresearch/Whac-A-Mole, imagenet_w/watermark_transform.py, draws it on the input of a model, after resizing and
crop, with Pillow. The font is not shipped: it is given as a file.
"""

from __future__ import annotations

import functools
import hashlib
import io
import os
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from etils import epath
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from luab_jax.errors import DataError, option
from luab_jax.io import storage

TEXT = "\u6377\u5f84" * 3
_OPACITY = 128
"""Half of 255, rounded as there."""
_PLACE = (0.01, 0.4)
"""Of the text's upper left corner, in shares of width and height."""
_FONT_SIZES = {224: 36, 384: 62, 512: 82, 518: 84}
"""By the side of the input; of others the side over 6.22, rounded down."""

Pixels = TypeVar("Pixels")
"""Integer pixels of numpy or jax, `[..., h, w, 3]`."""


@dataclass(frozen=True, slots=True)
class Font:
    """A file of a font, whose bytes travel to worker processes."""

    data: bytes
    digest: str

    def __repr__(self) -> str:
        return self.digest


def read_font(path: epath.PathLike) -> Font:
    """Raises `DataError` for what is no font."""
    try:
        data = storage.read_all(storage.place(os.fspath(path)))
        ImageFont.truetype(io.BytesIO(data), _FONT_SIZES[224])
    except OSError as e:
        raise DataError(f"{option('font', os.fspath(path))}: cannot be read as a font ({e})") from e
    return Font(data, hashlib.blake2b(data, digest_size=6).hexdigest())


def layer(font: Font, side: int) -> Image.Image:
    """What is laid on a square input."""
    size = _FONT_SIZES.get(side, int(side / 6.22))
    if size < 1:
        raise DataError(f"the watermark is not drawn on an input of {side} px: its characters would have no size")
    drawn = Image.new("RGBA", (side, side), (255, 255, 255, 0))
    at = (_PLACE[0] * side, _PLACE[1] * side)
    truetype = ImageFont.truetype(io.BytesIO(font.data), size)
    ImageDraw.Draw(drawn).text(at, TEXT, fill=(255, 255, 255, _OPACITY), font=truetype)
    return drawn


@functools.lru_cache(maxsize=8)
def opacity(font: Font, side: int) -> UInt8[np.ndarray, "side side 1"]:
    """Of each pixel of the watermark, which is white everywhere; 0 beside it."""
    found = np.asarray(layer(font, side).getchannel("A"))[..., None]
    found.flags.writeable = False  # one array for all that ask
    return found


def marked(image: Image.Image, font: Font) -> Image.Image:
    """A square image under the watermark."""
    return Image.alpha_composite(image.convert("RGBA"), layer(font, image.width)).convert("RGB")


def laid_on(pixels: Pixels, of_mark: UInt8[Any, "h w 1"]) -> Pixels:
    """White of the given opacity over pixels: the whole numbers of Pillow's `alpha_composite` on an opaque image.

    (255 a + p (255 - a) + 128) / 255 with its division by shifts, in which v / 255 is (v + v / 256) / 256.
    """
    alpha = of_mark.astype(np.int32)
    value = (255 * alpha + pixels.astype(np.int32) * (255 - alpha) + 128) * 128  # type: ignore[attr-defined]
    return (((value >> 8) + value) >> 15).astype(np.uint8)
