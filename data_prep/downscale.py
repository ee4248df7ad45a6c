"""Images stored smaller than they came (`--max_side`, `--quality`): faster to decode, no longer the published bytes.

An image whose longer side is above the limit is decoded as training decodes it (RGB, EXIF orientation not applied; a
greyscale one stays so), resized with an antialiased bicubic filter and stored as a baseline JPEG without metadata. An
image that is small enough keeps its bytes. Byproducts and boxes are fractions and need nothing; masks are in pixels and
follow. The longer side is what ffcv limits too (`max_resolution`).
"""

from __future__ import annotations

import io
import json
from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool
from PIL import Image

from data_prep.images import BadImage
from data_prep.problems import Problems, Reason
from luab_jax.byproducts.records import Box, ImageRecord, Size
from luab_jax.data import decoding
from luab_jax.data.masks import rasterise
from luab_jax.data.resampling import ResizeFilter, resize_by_pillow
from luab_jax.errors import DataError

DEFAULT_QUALITY = 90
"""Of ffcv's and of most resized copies of ImageNet."""


@dataclass(frozen=True, slots=True)
class Smaller:
    """A limit for the images of a split."""

    max_side: int
    """Of the longer side, pixels."""
    quality: int = DEFAULT_QUALITY
    """Of the JPEG, 1 to 100, as Pillow and libjpeg count."""

    def __str__(self) -> str:
        return f"at most {self.max_side} pixels a side, JPEG quality {self.quality}"

    def size_of(self, size: Size) -> Size:
        """The size at which an image is stored."""
        longer = max(size)
        if longer <= self.max_side:
            return size
        return Size(*(max(1, round(side * self.max_side / longer)) for side in size))

    def __call__(self, record: ImageRecord, problems: Problems) -> ImageRecord:
        """The record with a smaller image and masks of its size, or as it is.

        Raises `BadImage` for an image that cannot be decoded as a whole.
        """
        size, smaller = Size(record.width, record.height), self.size_of(Size(record.width, record.height))
        if smaller == size:
            return record
        return replace(
            record,
            image=self._image(record.image, smaller),
            width=smaller.width,
            height=smaller.height,
            boxes=tuple(_box(box, size, smaller, problems) for box in record.boxes),
            foreground_masks=tuple(_mask_png(mask, smaller) for mask in record.foreground_masks),
        )

    def _image(self, data: bytes, size: Size) -> bytes:
        try:
            opened = decoding.open_image(data)
            decoding.load(opened)
            image = decoding.eight_bits(opened)
            image = image if image.mode == "L" else decoding.to_rgb(image)
        except DataError as e:
            raise BadImage(Reason.IMAGE_TRUNCATED, str(e)) from e
        buffer = io.BytesIO()
        resize_by_pillow(image, size, ResizeFilter.BICUBIC).save(buffer, "JPEG", quality=self.quality)
        return buffer.getvalue()


def stored_smaller(record: ImageRecord, smaller: Smaller, counts: Counter[str], problems: Problems) -> ImageRecord:
    """As `smaller` says, and counted; raises `BadImage`."""
    stored = smaller(record, problems)
    counts["images_made_smaller"] += stored is not record
    return stored


def _mask_png(mask: bytes, size: Size) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(decoding.decode_mask(mask)).resize(size, Image.Resampling.NEAREST).save(buffer, "PNG")
    return buffer.getvalue()


def _box(box: Box, size: Size, smaller: Size, problems: Problems) -> Box:
    """The box with COCO's `segmentation` in pixels of the smaller image."""
    if not box.mask:
        return box
    segmentation = json.loads(box.mask)
    if isinstance(segmentation, list):
        scales = smaller.width / size.width, smaller.height / size.height
        polygons = [[round(v * scales[i % 2], 2) for i, v in enumerate(polygon)] for polygon in segmentation]
        return replace(box, mask=json.dumps(polygons, separators=(",", ":")))
    try:
        runs = _runs(rasterise(box.mask, size), smaller)
    except DataError as e:
        problems.add(Reason.OBJECT_MASK, str(e))
        return replace(box, mask="")
    return replace(
        box, mask=json.dumps({"size": [smaller.height, smaller.width], "counts": runs}, separators=(",", ":"))
    )


def _runs(mask: Bool[np.ndarray, "h w"], size: Size) -> list[int]:
    """COCO's run lengths, down the columns and beginning with a run of 0, of the mask at its nearest pixels."""
    flat = np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST)).T.ravel()
    changes = np.flatnonzero(np.diff(np.concatenate([[False], flat])))
    return np.diff(np.concatenate([[0], changes, [flat.size]])).tolist()
