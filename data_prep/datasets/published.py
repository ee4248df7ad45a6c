"""How many images a split of ImageNet-AB or COCO-AB has as published; a smaller one is partial, as with the suites."""

from __future__ import annotations

import re
from collections.abc import Collection

from data_prep.datasets.suites import COCO_PUBLISHED
from data_prep.datasets.val_labels import NUM_VAL
from luab_jax.data.class_lists import ClassList, imagenet
from luab_jax.data.coco_classes import coco

_IMAGENET = {"val": NUM_VAL, "train": 1_281_167}
"""Of ILSVRC 2012."""
_COCO_2017 = {"val": 5000, "train": 118_287}
_NAME_2014 = re.compile(r"COCO_(\w+)2014_\d{12}\.jpg")
_NAME_2017 = re.compile(r"\d{12}\.jpg")


def published_imagenet(split: str, classes: ClassList, num_images: int) -> int | None:
    """None where the class list is not ImageNet's own, for other splits, and where there are more images than that."""
    published = _IMAGENET.get(split) if classes.hash == imagenet().hash else None
    return published if published is not None and num_images <= published else None


def published_coco(split: str, classes: ClassList, names: Collection[str]) -> int | None:
    """The same of COCO's classes. The names of the images tell 2014 from 2017, and images of one's own."""
    if classes.hash != coco().hash:
        return None
    found = [name.rpartition("/")[2] for name in names]
    if all((match := _NAME_2014.fullmatch(name)) and match[1] == split for name in found):
        published = COCO_PUBLISHED.get(split)
    elif all(map(_NAME_2017.fullmatch, found)):
        published = _COCO_2017.get(split)
    else:
        return None
    return published if published is not None and len(found) <= published else None
