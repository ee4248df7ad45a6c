"""Pixels to bytes: PNG, which loses nothing, or JPEG."""

from __future__ import annotations

import io

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image


def encode_image(pixels: UInt8[np.ndarray, "h w 3"], quality: int | None) -> bytes:
    """A JPEG of this quality with full chroma; a PNG if None."""
    file = io.BytesIO()
    if quality is None:
        Image.fromarray(pixels).save(file, "PNG", compress_level=3)  # the default takes three times as long
    else:
        Image.fromarray(pixels).save(file, "JPEG", quality=quality, subsampling=0)
    return file.getvalue()


def encode_mask(mask: Bool[np.ndarray, "h w"]) -> bytes:
    """A PNG of one bit a pixel."""
    file = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8) * 255).convert("1", dither=Image.Dither.NONE).save(file, "PNG")
    return file.getvalue()
