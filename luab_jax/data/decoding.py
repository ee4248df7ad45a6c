"""What counts as a whole image, and its pixels: one definition for preparation, `verify`, training, evaluation, pages.

An image is a JPEG or a PNG by its content, has at least one and at most `MAX_PIXELS` pixels, and Pillow decodes all of
it without an error. Warnings of libjpeg (a damaged scan that still fills the picture) are no errors: ImageNet has such
files, and its published counts include them. No other of Pillow's readers is ever asked, since some of them start
other programs (Ghostscript for EPS) or follow what a file says about other files.

`check_whole` decides by decoding. It decodes a JPEG at an eighth of its size first: every code of every scan is still
read, and only the pixels are spared. What fails so (lossless JPEG has no such size) is decoded as a whole, so that the
answer is that of `decode` (`python -m tools.damage` compares the two). Training and evaluation then decode the part
that they show: what preparation was told not to check, and is damaged elsewhere, is not seen there.
"""

from __future__ import annotations

import enum
import io
from typing import Any

import numpy as np
from jaxtyping import Bool
from PIL import Image, ImageFile

from luab_jax.byproducts.records import Size
from luab_jax.errors import DataError

FORMATS = ("JPEG", "PNG")
MAX_PIXELS = 89_478_485
"""256 MiB of RGB, Pillow's own limit. The largest image of ImageNet has about 70 million."""

_SIXTEEN_BITS = ("I;16", "I;16B", "I;16L", "I;16N", "I")
"""Modes of a grey PNG of 16 bits, by version of Pillow. `convert` would clip them to 255 instead of scaling them."""
_EIGHT_BITS = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")


class Fault(enum.Enum):
    """Why bytes are no image."""

    EMPTY = "the file is empty"
    FORMAT = "neither JPEG nor PNG"
    KIND = "a JPEG of a kind that is not read"
    TOO_LARGE = "too large"
    DAMAGED = "cut off or damaged"


class ImageFault(DataError):  # noqa: N818 (it describes the image)
    """Bytes that are no whole image; the caller names the file."""

    def __init__(self, fault: Fault, detail: str = ""):
        super().__init__(f"{fault.value}: {detail}" if detail else fault.value)
        self.fault, self.detail = fault, detail


def open_image(encoded: bytes) -> ImageFile.ImageFile:
    """Reads the header. Raises `ImageFault`."""
    if not encoded:
        raise ImageFault(Fault.EMPTY)
    try:
        image = Image.open(io.BytesIO(encoded), formats=FORMATS)
    except Image.DecompressionBombError as e:
        # Pillow's message ends with its own two limits, of which ours is one.
        claimed = str(e).partition(" exceeds")[0]
        raise ImageFault(Fault.TOO_LARGE, f"{claimed}, at most {MAX_PIXELS:,} pixels") from e
    except Image.UnidentifiedImageError as e:
        raise _unidentified(encoded) from e
    except Exception as e:  # a damaged header makes Pillow's parsers raise nearly anything
        raise ImageFault(Fault.FORMAT, str(e)) from e
    width, height = image.size
    if width < 1 or height < 1:
        raise ImageFault(Fault.DAMAGED, f"its header says {width} x {height} pixels")
    if width * height > MAX_PIXELS:
        raise ImageFault(Fault.TOO_LARGE, f"{width} x {height}, at most {MAX_PIXELS:,} pixels")
    return image


def _unidentified(encoded: bytes) -> ImageFault:
    """Says of a JPEG that no reader takes what its frame header states."""
    position = 2 if encoded.startswith(b"\xff\xd8\xff") else len(encoded)
    while position + 9 < len(encoded) and encoded[position] == 0xFF:
        marker, start = encoded[position + 1], position + 4
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            bits = encoded[start]
            height, width = (int.from_bytes(encoded[at : at + 2], "big") for at in (start + 1, start + 3))
            if not height or not width:
                return ImageFault(Fault.DAMAGED, f"its header says {width} x {height} pixels")
            return ImageFault(Fault.KIND, f"{bits} bits a sample, process SOF{marker - 0xC0}")
        position += 1 if marker == 0xFF else 2 + int.from_bytes(encoded[start - 2 : start], "big")
    return ImageFault(Fault.FORMAT, f"starts with {encoded[:16]!r}")


def load(image: ImageFile.ImageFile) -> None:
    """Decodes all of an opened image. Raises `ImageFault`."""
    try:
        image.load()
    except Exception as e:  # damaged data makes Pillow's decoders raise nearly anything
        raise ImageFault(Fault.DAMAGED, str(e) or type(e).__name__) from e


def check_whole(image: ImageFile.ImageFile, encoded: bytes) -> None:
    """Raises `ImageFault` for an image, opened from `encoded`, that `decode` would refuse; its pixels are of no use."""
    if image.format != "PNG":
        _draft(image)
        try:
            load(image)
        except ImageFault:
            image = open_image(encoded)
        else:
            return
    load(image)


def _draft(image: Any) -> None:
    """Has a JPEG decoded at an eighth; Pillow declares the mode as a text although it takes None."""
    image.draft(None, (1, 1))


def eight_bits(image: Image.Image) -> Image.Image:
    """16 bits become 8 by their upper byte, as Pillow reads colour PNGs of 16 bits; other modes stay.

    Raises `ImageFault` for modes that no JPEG and no PNG has, whose range is not known.
    """
    if image.mode in _SIXTEEN_BITS:
        values = np.clip(np.asarray(image), 0, 0xFFFF)
        return Image.fromarray((values >> 8).astype(np.uint8))
    if image.mode not in _EIGHT_BITS:
        raise ImageFault(Fault.FORMAT, f"pixels of mode {image.mode}")
    return image


def to_rgb(image: Image.Image) -> Image.Image:
    """Grey, palette and CMYK converted, transparency ignored (as `convert("RGB")` of torchvision's loader)."""
    image = eight_bits(image)
    image.info.pop("transparency", None)  # Pillow would warn of every palette whose transparency it drops
    return image.convert("RGB")


def decode(encoded: bytes, file_name: str) -> Image.Image:
    """All pixels as RGB, EXIF orientation not applied. Raises `DataError` that names the file."""
    try:
        image = open_image(encoded)
        load(image)
        return to_rgb(image)
    except ImageFault as e:
        raise DataError(
            f"{file_name}: the image cannot be decoded ({e}); `python -m data_prep verify` lists such"
        ) from e


def decode_mask(png: bytes, size: Size | None = None) -> Bool[np.ndarray, "h w"]:
    """A foreground mask. Raises `ImageFault` for what is no PNG, or none of `size` pixels."""
    image = open_image(png)
    if image.format != "PNG":
        raise ImageFault(Fault.FORMAT, "a mask is a PNG")
    if size is not None and image.size != tuple(size):
        raise ImageFault(Fault.DAMAGED, f"a mask of {image.size} pixels, the image has {tuple(size)}")
    load(image)
    return np.asarray(eight_bits(image).convert("L")) > 0
