"""Hard ImageNet: validation images whose object is outlined, with the object greyed, and with noise on it or around it.

As mmoayeri/HardImageNet does on the input of a model: image and mask squashed to 256 x 256 by Pillow's bilinear filter,
centre of 224, whatever of the mask is not zero is the object (augmentations.py, datasets/hard_imagenet.py); grey is a
half (ablations.py, `replace_with_gray`), tiles are those of its `tile` (`tiles.py` beside this), noise is normal with a
deviation of a quarter of white (rfs.py, `noisy_fg_bg_accs`). Here all of it is stored at 224 in eight bits, with
one draw of noise instead of three.

The classes are those of the masks' names, `<wnid>_<image>`; the pickles beside them are not read.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from data_prep.datasets.imagenet_ab import ReadImage
from data_prep.datasets.listing import Item, Listing, stem_of
from data_prep.datasets.tiles import Object, Pixels, tiled
from data_prep.own_suites.encoding import encode_image, encode_mask
from data_prep.problems import Reason
from data_prep.sources.tree import File, Reader, Source, walk
from data_prep.writing.shards import Outcome
from luab_jax.data.decoding import decode
from luab_jax.errors import DataError

VERSION = 1
SPLITS = ("original", "grey", "grey_box", "tile", "noisy_object", "noisy_background")
SIDE, RESIZED = 224, 256
GREY = 128
"""A half of white, rounded."""
DEVIATION = 0.25
_MASK = re.compile(r"(n\d{8})_(.+)\.\w+")


def keep_outlined(listing: Listing, masks: Source) -> None:
    """Leaves the images that have a mask, with it. Raises `DataError` if none has one."""
    found: dict[str, File] = {}
    for folder, files in walk(masks):
        of_training = folder.rpartition("/")[2] == "train"
        for file in [] if of_training else files:
            if match := _MASK.fullmatch(file.name):
                found["/".join(match.groups())] = File(f"{folder}/{file.name}" if folder else file.name, file.span)
    kept = [item._replace(mask=found[key]) for item in listing.items if (key := stem_of(item.file_name)) in found]
    if not kept:
        there = f"none of its {len(found):,} masks is of an image of --source" if found else "it holds no masks"
        raise DataError(f"--masks={masks.place}: {there}; expected val/<wnid>_<image> as in hardImageNet.zip")
    listing.counts["masks_without_image"] = len(found) - len(kept)
    listing.counts["images_without_mask_left_out"] = len(listing.items) - len(kept)
    listing.items = kept


@dataclass(frozen=True, slots=True)
class Ablate:
    """Reads one listed image with its mask, and makes what a split shows."""

    read: ReadImage
    masks: Reader
    split: str

    def __call__(self, item: Item) -> Outcome:
        outcome = self.read(item._replace(mask=None))
        if outcome.record is None or item.mask is None:
            return outcome
        try:
            image = decode(outcome.record.image, item.file_name)
            mask = decode(self.masks(item.mask.name, item.mask.span), item.mask.name)
        except (OSError, DataError) as e:
            return Outcome.left_out(item.file_name, Reason.FOREGROUND_MASK, str(e))
        # Each squashed by itself, as the authors do: a mask may have another size than its image.
        pixels, of_object = squashed(image), np.asarray(squashed(mask).any(axis=-1))
        made = changed(pixels, of_object, self.split, item.file_name)
        record = replace(
            outcome.record,
            image=encode_image(made, quality=None),
            height=SIDE,
            width=SIDE,
            foreground_masks=(encode_mask(of_object),),
        )
        return Outcome(record, Counter(outcome.counts) + Counter(images_with_mask=1), outcome.problems)


def squashed(image: Image.Image) -> Pixels:
    margin = (RESIZED - SIDE) // 2
    resized = image.resize((RESIZED, RESIZED), Image.Resampling.BILINEAR)
    return np.asarray(resized.crop((margin, margin, margin + SIDE, margin + SIDE)))


def changed(pixels: Pixels, of_object: Object, split: str, file_name: str) -> Pixels:
    """What a split shows of an image."""
    match split:
        case "grey":
            return np.where(of_object[..., None], np.uint8(GREY), pixels)
        case "grey_box":
            return np.where(box_of(of_object)[..., None], np.uint8(GREY), pixels)
        case "tile":
            return tiled(pixels, of_object)
        case "noisy_object" | "noisy_background":
            where = of_object if split == "noisy_object" else ~of_object
            seed = int.from_bytes(hashlib.blake2b(f"{split}/{file_name}".encode(), digest_size=8).digest(), "big")
            noise = np.random.default_rng(seed).normal(0, DEVIATION * 255, pixels.shape)
            return np.rint(np.clip(pixels + where[..., None] * noise, 0, 255)).astype(np.uint8)
    return pixels


def box_of(of_object: Object) -> Object:
    """The box around the object without its last row and column, as `get_bbox` of ablations.py has it."""
    box = np.zeros_like(of_object)
    if of_object.any():
        rows, columns = (np.flatnonzero(of_object.any(axis=axis)) for axis in (1, 0))
        box[rows[0] : rows[-1], columns[0] : columns[-1]] = True
    return box
