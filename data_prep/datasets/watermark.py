"""ImageNet-W: a watermark on validation images, as facebookresearch/Whac-A-Mole draws it on the input of a model.

Six Chinese characters in white, half opaque, from a hundredth of the width and four tenths of the height
(imagenet_w/watermark_transform.py). Its program draws after the resizing and cut of each model; here the squares of 224
are stored, short side 256 by Pillow's bilinear filter first, which is what torchvision's models have.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from data_prep.datasets.imagenet_ab import ReadImage
from data_prep.datasets.imagenet_c import PREPROCESSING
from data_prep.datasets.listing import Item
from data_prep.problems import Reason
from data_prep.writing.shards import Outcome
from luab_jax.data.decoding import decode
from luab_jax.data.transforms import resize_and_centre_crop
from luab_jax.errors import DataError

VERSION = 1
SPLITS = ("watermark", "clean")
TEXT = "\u6377\u5f84" * 3
FONT_SIZE = 36
OPACITY = 128
"""Half of 255, rounded as there."""
PLACE = (0.01, 0.4)
"""Of the text's upper left corner, in shares of width and height."""


@dataclass(frozen=True, slots=True)
class Font:
    """A file of a font, whose bytes travel to the workers."""

    data: bytes
    digest: str

    def __repr__(self) -> str:
        return self.digest


def read_font(path: str) -> Font:
    """Raises `DataError` for what is no font."""
    try:
        data = Path(path).read_bytes()
        ImageFont.truetype(io.BytesIO(data), FONT_SIZE)
    except OSError as e:
        raise DataError(f"--font={path}: cannot be read as a font ({e})") from e
    return Font(data, hashlib.blake2b(data, digest_size=6).hexdigest())


def marked(image: Image.Image, font: Font) -> Image.Image:
    """The image under the watermark."""
    layer = Image.new("RGBA", image.size, (255, 255, 255, 0))
    at = (PLACE[0] * image.width, PLACE[1] * image.height)
    drawn = ImageFont.truetype(io.BytesIO(font.data), FONT_SIZE)
    ImageDraw.Draw(layer).text(at, TEXT, fill=(255, 255, 255, OPACITY), font=drawn)
    return Image.alpha_composite(image.convert("RGBA"), layer).convert("RGB")


@dataclass(frozen=True, slots=True)
class Marked:
    """Reads one listed image, cuts it, and marks it if there is a font; stored as PNG."""

    read: ReadImage
    font: Font | None

    def __call__(self, item: Item) -> Outcome:
        outcome = self.read(item)
        if outcome.record is None:
            return outcome
        try:
            pixels = resize_and_centre_crop(decode(outcome.record.image, item.file_name), PREPROCESSING)[0]
        except DataError as e:
            left_out = Outcome.left_out(item.file_name, Reason.IMAGE_TRUNCATED, str(e))
            return left_out._replace(problems=(*outcome.problems, *left_out.problems))
        image = Image.fromarray(np.asarray(pixels))
        file = io.BytesIO()
        (image if self.font is None else marked(image, self.font)).save(file, "PNG", compress_level=3)
        record = replace(outcome.record, image=file.getvalue(), height=image.height, width=image.width)
        return Outcome(record, outcome.counts, outcome.problems)
