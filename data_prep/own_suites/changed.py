"""Images of a split changed one by one: corrupted, or with a part hidden."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image

from data_prep.datasets.imagenet_c import corrupted
from data_prep.datasets.listing import stem_of
from data_prep.own_suites.backgrounds import Photo
from data_prep.own_suites.encoding import encode_image
from data_prep.own_suites.foregrounds import By, Rectangle, foreground
from data_prep.own_suites.outcomes import made
from data_prep.own_suites.splits import SplitSource
from data_prep.writing.shards import Outcome
from luab_jax.byproducts.records import ImageRecord
from luab_jax.data.decoding import decode
from luab_jax.data.features import Example
from luab_jax.data.resampling import ResizeFilter
from luab_jax.data.transforms import Preprocessing, resize_and_centre_crop

CLEAN = "clean"
"""The split of the same images without a change."""
HALVES = ("left", "right", "top", "bottom")
CENTRES = (0.25, 0.5, 0.75)
"""Sides of the hidden centre, in sides of the image; 0.5 is that of `cocc`."""
Pixels = UInt8[np.ndarray, "h w 3"]


class Change(NamedTuple):
    """One image to be made."""

    file_name: str
    index: int
    label: int
    labels: tuple[int, ...]
    group: str = ""


def list_changes(photos: Sequence[Photo], groups: Sequence[str]) -> list[Change]:
    """Every image in every group; group `""` is the image as it is."""
    return [
        Change(f"{group}/{name}" if group else name, photo.index, photo.label, labels, group)
        for photo in photos
        for name in [photo.name_in_folder]
        for labels in [() if photo.others is None else tuple(sorted({photo.label, *photo.others} - {-1}))]
        for group in groups
    ]


@dataclass(frozen=True, slots=True)
class Square:
    """How images become what is corrupted."""

    side: int | None
    """Pixels: the short side to 8/7 of it (256 for 224), the centre square of that; None keeps images as they are."""

    def __call__(self, image: Image.Image) -> Pixels:
        if self.side is None or image.size == (self.side, self.side):
            return np.asarray(image)
        preprocessing = Preprocessing(
            image_size=self.side, resize_side=round(self.side * 8 / 7), filter=ResizeFilter.BILINEAR
        )
        return resize_and_centre_crop(image, preprocessing)[0]


@dataclass(frozen=True, slots=True)
class Corrupt:
    """Makes one corrupted image, on the CPU, so that every machine writes the same bytes."""

    source: SplitSource
    square: Square
    quality: int | None
    frost: str | None = None

    def __call__(self, item: Change) -> Outcome:
        return made(self._made, item)

    def _made(self, item: Change) -> Outcome:
        example = self.source.example(item.index)
        pixels = self.square(decode(example.image, example.file_name))
        if item.group:
            kind, severity = item.group.split(",severity=")
            name = stem_of(example.file_name).rpartition("/")[2]
            pixels = corrupted(pixels, name, kind, int(severity), self.frost)
        return _outcome(item, pixels, self.quality)


def occlusion_groups(cells: int, by: By | None) -> list[str]:
    """The centre at three sizes, every cell of a grid in turn, and parts of the object where it is known."""
    centre = [f"centre={side:g}" for side in CENTRES]
    grid = [f"cell={row},{column}" for row in range(cells) for column in range(cells)]
    return [*centre, *grid, *([] if by is None else [f"object={part}" for part in (*HALVES, "all")])]


@dataclass(frozen=True, slots=True)
class Occlude:
    """Hides a part of one image by the mean colour of the image, or by black."""

    source: SplitSource
    cells: int
    by: By | None
    black: bool
    quality: int | None

    def __call__(self, item: Change) -> Outcome:
        return made(self._made, item)

    def _made(self, item: Change) -> Outcome:
        example = self.source.example(item.index)
        pixels = np.asarray(decode(example.image, example.file_name))
        if not item.group:
            return _outcome(item, pixels, self.quality, as_it_came=example.image)
        hidden = self.hidden(example, item, pixels.shape[0], pixels.shape[1])
        colour = np.zeros(3) if self.black else pixels.mean(axis=(0, 1))
        return _outcome(item, np.where(hidden[..., None], np.rint(colour).astype(np.uint8), pixels), self.quality)

    def hidden(self, example: Example, item: Change, height: int, width: int) -> Bool[np.ndarray, "h w"]:
        """The pixels that a group hides; of an object those of its rectangle, since its outline would give it away."""
        hidden = np.zeros((height, width), bool)
        kind, _, value = item.group.partition("=")
        if kind == "object":
            assert self.by is not None
            found = foreground(example, item.label, self.by)
            hidden[half_of(found.rectangle, value).slices] = True
            return hidden
        rectangle = (
            centre_of(float(value), width, height) if kind == "centre" else cell_of(value, self.cells, width, height)
        )
        hidden[rectangle.slices] = True
        return hidden


def half_of(rectangle: Rectangle, part: str) -> Rectangle:
    """Half of it, the smaller one where its side is odd; `all` is the whole."""
    left, top, right, bottom = rectangle
    across, down = (right - left) // 2, (bottom - top) // 2
    match part:
        case "left":
            return Rectangle(left, top, left + across, bottom)
        case "right":
            return Rectangle(right - across, top, right, bottom)
        case "top":
            return Rectangle(left, top, right, top + down)
        case "bottom":
            return Rectangle(left, bottom - down, right, bottom)
    return rectangle


def centre_of(side: float, width: int, height: int) -> Rectangle:
    """The centre, `side` times as wide and as high as the image."""
    across, down = round(side * width), round(side * height)
    left, top = (width - across) // 2, (height - down) // 2
    return Rectangle(left, top, left + across, top + down)


def cell_of(place: str, cells: int, width: int, height: int) -> Rectangle:
    """`row,column` of a grid of cells whose sides differ by a pixel at most; together they are the image."""
    row, column = map(int, place.split(","))
    return Rectangle(
        column * width // cells, row * height // cells, (column + 1) * width // cells, (row + 1) * height // cells
    )


def _outcome(item: Change, pixels: Pixels, quality: int | None, as_it_came: bytes | None = None) -> Outcome:
    height, width = pixels.shape[:2]
    record = ImageRecord(
        file_name=item.file_name,
        image=encode_image(pixels, quality) if as_it_came is None else as_it_came,
        height=height,
        width=width,
        label=item.label,
        labels=item.labels,
        group=item.group,
    )
    return Outcome(record, Counter(images_found=1, images=1), ())
