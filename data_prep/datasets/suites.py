"""The table of evaluation suites: published counts, layouts, and what a folder of images means.

A label comes from the name of the folder that holds the image, by an explicit table (wnid, index, the suite's own
names), wherever that folder lies in what was downloaded. `published` are the counts against which a set is checked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from luab_jax.corruptions.parameters import EXTRA_NAMES as EXTRA_CORRUPTIONS
from luab_jax.corruptions.parameters import NAMES as CORRUPTIONS
from luab_jax.data import label_tables
from luab_jax.data.class_lists import ClassList, imagenet, in9


class Meaning(NamedTuple):
    """What a folder of images stands for."""

    split: str
    """Empty where the folder does not tell; --split must then."""
    key: str
    """What stands before `/<name>` in the file names of records."""
    label: int = -1
    labels: tuple[int, ...] = ()
    group: str = ""


Path = tuple[str, ...]
"""Folders from the name of what was given down to the one that holds images."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """One row. `meaning` is `None` for a folder that is not of the suite."""

    name: str
    published: Mapping[str, int]
    """Images by split."""
    layout: str
    meaning: Callable[[Path], Meaning | None]
    classes: Callable[[], ClassList] = imagenet
    subset: tuple[int, ...] | None = None
    """The only ImageNet classes that it has, where it has not all."""
    by_wnid: bool = False
    masks: tuple[str, str] | None = None
    """The folder of masks, and the split whose images they belong to."""


@cache
def _wnids() -> dict[str, int]:
    return imagenet().label_of()


def _wnid(path: Path) -> Meaning | None:
    label = _wnids().get(path[-1])
    return None if label is None else Meaning("test", path[-1], label)


def _imagenet_o(path: Path) -> Meaning | None:
    """The wnid is the class that the image resembles; it shows none of the 1,000, so it has no label."""
    return Meaning("test", path[-1], group=path[-1]) if path[-1] in _wnids() else None


_V2_VARIANTS = {
    "matched-frequency": "matched_frequency",
    "threshold0.7": "threshold_0_7",
    "threshold-0.7": "threshold_0_7",
    "top-images": "top_images",
    "topimages": "top_images",
}


def _imagenet_v2(path: Path) -> Meaning | None:
    """Folders are class indices as text, so that sorting them as text would permute the labels."""
    if not (path[-1].isascii() and path[-1].isdigit() and int(path[-1]) < 1000):
        return None
    names = [split for part in path[:-1] for name, split in _V2_VARIANTS.items() if name in part.lower()]
    return Meaning(names[-1] if names else "", path[-1], int(path[-1]))


def _imagenet_c(path: Path) -> Meaning | None:
    if len(path) < 3 or path[-1] not in _wnids() or path[-2] not in ("1", "2", "3", "4", "5"):
        return None
    kind, severity, wnid = path[-3:]
    if kind not in CORRUPTIONS and kind not in EXTRA_CORRUPTIONS:
        return None
    split = "test" if kind in CORRUPTIONS else "extra"
    return Meaning(split, f"{kind}/{severity}/{wnid}", _wnids()[wnid], group=f"{kind},severity={severity}")


def _objectnet(path: Path) -> Meaning | None:
    """A class with several ImageNet indices has a set of labels and no single one."""
    labels = label_tables.OBJECTNET.get(path[-1])
    if labels is None:
        return None
    return Meaning("test", path[-1], labels[0] if len(labels) == 1 else -1, labels, group=path[-1])


_SI_FOLDERS = {
    "area": "size",
    "size": "size",
    "rotation": "rotation",
    "location": "location",
    "location20_area02_min0pc": "location",
}


def _si_score(path: Path) -> Meaning | None:
    """Neither folder nor name (a number) tells the size, place or angle of an image, so there are no groups."""
    label = label_tables.SI_SCORE.get(path[-1])
    splits = [_SI_FOLDERS[part] for part in path[:-1] if part in _SI_FOLDERS]
    return None if label is None else Meaning(splits[-1] if splits else "", path[-1], label)


_BACKGROUNDS = ("original", "mixed_same", "mixed_rand", "mixed_next", "no_fg", "only_bg_b", "only_bg_t", "only_fg")


def _backgrounds(path: Path) -> Meaning | None:
    variants = [part for part in path[:-1] if part in (*_BACKGROUNDS, "fg_mask")]
    if path[-1] not in label_tables.IN9:
        return None
    return Meaning(variants[-1] if variants else "", path[-1], in9().label_of()[path[-1]])


def _of_wnids(name: str, published: int, subset: tuple[int, ...] | None = None) -> Suite:
    meaning = _imagenet_o if name == "imagenet_o" else _wnid
    layout = "<wnid>/<image>"
    return Suite(name=name, published={"test": published}, layout=layout, meaning=meaning, subset=subset, by_wnid=True)


SUITES: dict[str, Suite] = {
    suite.name: suite
    for suite in (
        _of_wnids("imagenet_a", 7500, label_tables.IMAGENET_A),
        _of_wnids("imagenet_o", 2000, label_tables.IMAGENET_O),
        _of_wnids("imagenet_r", 30_000, label_tables.IMAGENET_R),
        _of_wnids("imagenet_sketch", 50_889),
        Suite(
            name="imagenet_v2",
            published=dict.fromkeys(("matched_frequency", "threshold_0_7", "top_images"), 10_000),
            layout="imagenetv2-<variant>-format-val/<class index>/<image>",
            meaning=_imagenet_v2,
        ),
        Suite(
            name="imagenet_c",
            published={"test": 15 * 5 * 50_000, "extra": 4 * 5 * 50_000},
            layout="<corruption>/<severity>/<wnid>/<image>",
            meaning=_imagenet_c,
        ),
        Suite(
            name="objectnet",
            published={"test": 18_574},
            layout="objectnet-1.0/images/<class>/<image>.png",
            meaning=_objectnet,
        ),
        Suite(
            name="si_score",
            published={"size": 92_884, "location": 541_548, "rotation": 39_540},
            layout="area|location20_area02_min0pc|rotation/<label>/<id>.jpg",
            meaning=_si_score,
        ),
        Suite(
            name="backgrounds_challenge",
            published=dict.fromkeys(_BACKGROUNDS, 4050),
            layout="<variant>/val/<00_dog ... 08_fish>/<image>",
            meaning=_backgrounds,
            classes=in9,
            masks=("fg_mask", "original"),
        ),
    )
}

VAL_SUITES = ("imagenet", "imagenet_real", "imagenet_localisation")
"""Suites on ILSVRC's validation images, which come without folders."""
COCO_PUBLISHED = {"val": 40_504, "train": 82_783}
"""Images of COCO 2014, those without instances among them."""
NAMES = (*VAL_SUITES, *SUITES, "coco")


def options_of(name: str, *, generated: bool) -> tuple[str, ...]:
    """Which of the files and phrases that `data_prep suite` can be given mean something for a suite."""
    if name == "coco":
        return ("instances",)
    if name in VAL_SUITES:
        return ("boxes", "real", "val_labels")
    if name == "imagenet_c" and generated:
        return ("val_labels",)
    return ("boxes", "password")
