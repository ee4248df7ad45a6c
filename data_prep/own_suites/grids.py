"""Objects cut out by their masks at other sizes, places and angles, on backgrounds of other images.

After SI-Score (Djolonga et al. 2021, appendix D; google-research/si-score): size is the area of the object in shares of
the image; places are those of its centre; angles are 1, 21, ... 341 degrees, since turns by 0 or 90 degrees are sharper
than others. What reaches over the frame is cut, as its authors recommend now (README, `min_pct_in_image` of 0). Here
the area is that of the object's own pixels, and backgrounds are the tiled ones of the same split, of any class.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image

from data_prep.images import BadImage
from data_prep.own_suites import composites
from data_prep.own_suites.backgrounds import Photo, labels_on, partners
from data_prep.own_suites.encoding import encode_image, encode_mask
from data_prep.own_suites.foregrounds import By, bounding, foreground, main_label
from data_prep.own_suites.outcomes import made
from data_prep.own_suites.splits import SplitSource
from data_prep.problems import Reason
from data_prep.writing.shards import Outcome
from luab_jax.byproducts.records import Box, ImageRecord, Size
from luab_jax.data.decoding import decode
from luab_jax.data.resampling import ResizeFilter, resize_by_pillow

AREAS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0)
AREA = 0.2
"""Of the object where place or angle is what changes, as SI-Score's location set has it."""
ANGLES = tuple(range(1, 360, 20))
KINDS = ("size", "position", "rotation")
Pixels = UInt8[np.ndarray, "h w 3"]
Mask = Bool[np.ndarray, "h w"]


class Placed(NamedTuple):
    """One image to be made."""

    file_name: str
    index: int
    label: int
    background: int
    area: float
    x: float
    y: float
    angle: float
    group: str
    labels: tuple[int, ...] = ()
    """All that is to be seen on it, where images have sets of labels."""


def groups(kind: str, places: int) -> list[tuple[str, float, float, float, float]]:
    """Name, area, centre and angle of every group."""
    if kind == "size":
        return [(f"area={area:g}", area, 0.5, 0.5, 0.0) for area in AREAS]
    if kind == "rotation":
        return [(f"angle={angle:03d}", AREA, 0.5, 0.5, float(angle)) for angle in ANGLES]
    at = [i / (places - 1) for i in range(places)]
    return [(f"x={x:.2f},y={y:.2f}", AREA, x, y, 0.0) for y in at for x in at]


def list_placed(kind: str, photos: Sequence[Photo], places: int, seed: int) -> list[Placed]:
    """Every object in every group, on the same background in all of them."""
    found = partners(photos, seed)
    return [
        Placed(
            f"{name}/{photo.name_in_folder}",
            *(photo.index, photo.label, background.index, area, x, y, angle, name),
            labels_on(photo, background),
        )
        for photo, background in zip(photos, found, strict=True)
        for name, area, x, y, angle in groups(kind, places)
    ]


@dataclass(frozen=True, slots=True)
class Place:
    """Makes one image."""

    source: SplitSource
    quality: int | None

    def __call__(self, item: Placed) -> Outcome:
        return made(self._made, item)

    def _made(self, item: Placed) -> Outcome:
        example = self.source.example(item.index)
        image = np.asarray(decode(example.image, example.file_name))
        height, width = image.shape[:2]
        own = foreground(example, item.label, By.MASKS)
        other = self.source.example(item.background)
        behind = np.asarray(decode(other.image, other.file_name))
        behind = composites.tiled(behind, foreground(other, main_label(other), By.MASKS).rectangle)
        pixels, mask = placed(image, own.pixels, composites.covering(behind, Size(width, height)), item)
        if not mask.any():
            raise BadImage(Reason.OBJECT_OUTSIDE, f"after it was moved to {item.group}")
        left, top, right, bottom = bounding(mask)
        box = Box(x_min=left / width, y_min=top / height, x_max=right / width, y_max=bottom / height, label=item.label)
        record = ImageRecord(
            file_name=item.file_name,
            image=encode_image(pixels, self.quality),
            height=height,
            width=width,
            label=item.label,
            labels=item.labels,
            group=item.group,
            boxes=(box,),
            foreground_masks=(encode_mask(mask),),
        )
        return Outcome(record, Counter(images_found=1, images=1), ())


def placed(image: Pixels, mask: Mask, background: Pixels, item: Placed) -> tuple[Pixels, Mask]:
    """The object with its rectangle's centre at (x, y) of the background, scaled to the area and turned clockwise.

    First scaled (bicubic, antialiased), then turned (bicubic), pixels and mask alike; a pixel shows the object where at
    least half of what it is made of does.
    """
    height, width = background.shape[:2]
    rectangle = bounding(mask)
    scale = (item.area * width * height / mask.sum()) ** 0.5
    size = Size(
        max(1, round((rectangle.right - rectangle.left) * scale)),
        max(1, round((rectangle.bottom - rectangle.top) * scale)),
    )
    own = _scaled(image[rectangle.slices], size)
    shape = _scaled(np.repeat(mask[rectangle.slices][..., None], 3, axis=-1).astype(np.uint8) * 255, size)
    if item.angle:
        own, shape = (picture.rotate(-item.angle, Image.Resampling.BICUBIC, expand=True) for picture in (own, shape))
    left, top = round(item.x * width - own.width / 2), round(item.y * height - own.height / 2)
    pixels, seen = Image.fromarray(background), Image.new("L", (width, height))
    opaque = shape.convert("L").point(_half)
    pixels.paste(own, (left, top), opaque)
    seen.paste(opaque, (left, top))
    return np.asarray(pixels), np.asarray(seen) > 0


def _scaled(pixels: Pixels, size: Size) -> Image.Image:
    image = Image.fromarray(np.ascontiguousarray(pixels))
    return image if image.size == tuple(size) else resize_by_pillow(image, size, ResizeFilter.BICUBIC)


def _half(level: int) -> int:
    return 255 if level > 127 else 0
