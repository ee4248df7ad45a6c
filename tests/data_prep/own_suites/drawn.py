"""Drawn splits whose objects and backgrounds are known pixel by pixel."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from data_prep.writing.publish import prepare
from data_prep.writing.shards import Outcome, Plan
from luab_jax.byproducts.records import Box, ImageRecord
from luab_jax.data.class_lists import ClassList
from luab_jax.data.dataset import open_split
from luab_jax.data.features import Example

CLASSES = ClassList(("red", "green", "blue"), ("red", "green", "blue"))
SIDE = 24


@dataclass(frozen=True)
class Drawn:
    """An image: background of grey levels that tell class and image, and an object of the class's colour."""

    index: int
    label: int
    kind: str = "mask"
    """What is known of the object: mask, polygon, box, outside, or nothing; `apart` is the mask of two distant
    pixels."""
    box: tuple[int, int, int, int] = (6, 9, 14, 19)
    """Left, top, right, bottom in pixels; the object is this less its corner pixels."""
    labels: tuple[int, ...] = ()

    @property
    def file_name(self) -> str:
        return f"{CLASSES.ids[self.label]}/{self.index:03d}.png"

    @property
    def mask(self) -> np.ndarray:
        left, top, right, bottom = self.box
        mask = np.zeros((SIDE, SIDE), bool)
        if self.kind == "apart":
            mask[bottom - 1, left] = mask[top, right - 1] = True
            return mask
        mask[top:bottom, left:right] = True
        mask[top, left] = mask[bottom - 1, right - 1] = False
        return mask

    @property
    def pixels(self) -> np.ndarray:
        pixels = np.zeros((SIDE, SIDE, 3), np.uint8)
        pixels[:] = background_level(self.label) + (np.arange(SIDE)[:, None, None] + np.arange(SIDE)[None, :, None]) % 7
        pixels[0, 0] = self.index  # which image this is
        pixels[self.mask] = 0
        pixels[self.mask, self.label] = 255 - self.index
        return pixels


def background_level(label: int) -> int:
    return 60 + 50 * label


def draw(item: Drawn) -> Outcome:
    file = io.BytesIO()
    Image.fromarray(item.pixels).save(file, "PNG")
    left, top, right, bottom = (v / SIDE for v in item.box)
    box = Box(x_min=left, y_min=top, x_max=right, y_max=bottom, label=item.label)
    masks: tuple[bytes, ...] = ()
    boxes = (box,) if item.kind in ("box", "mask", "apart") else ()
    if item.kind in ("mask", "apart"):
        png = io.BytesIO()
        Image.fromarray(item.mask).save(png, "PNG")
        masks = (png.getvalue(),)
    if item.kind == "polygon":
        left, top, right, bottom = item.box
        corners = json.dumps([[left, top, right, top, right, bottom, left, bottom]])
        boxes = (Box(**{n: getattr(box, n) for n in ("x_min", "y_min", "x_max", "y_max", "label")}, mask=corners),)
    if item.kind == "outside":
        boxes = (Box(x_min=1.2, y_min=0.2, x_max=1.4, y_max=0.4, label=item.label),)
    record = ImageRecord(
        file_name=item.file_name,
        image=file.getvalue(),
        height=SIDE,
        width=SIDE,
        label=-1 if item.labels else item.label,
        labels=item.labels,
        boxes=boxes,
        foreground_masks=masks,
    )
    return Outcome(record, {"images": 1}, ())


def prepare_drawn(directory: Path, items: list[Drawn], split: str = "val") -> Path:
    plan = Plan(directory=directory, dataset="drawn", split=split, classes=CLASSES, items=items, read=draw,
                num_shards=1, source={})  # fmt: skip
    prepare(plan, workers=1, strict=True)
    return directory


def nine(kind: str = "mask") -> list[Drawn]:
    return [Drawn(i, i % 3, kind) for i in range(9)]


def examples(directory: Path, split: str) -> dict[str, Example]:
    records = open_split(directory, split).records
    return {(example := Example(records[i])).file_name: example for i in range(len(records))}


def pixels_of(example: Example) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(example.image)).convert("RGB"))
