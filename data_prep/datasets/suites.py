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
from luab_jax.data.class_lists import ClassList, imagenet, in9, sixteen


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
    published: Mapping[str, int | None]
    """Images by split; None where no source that could be read states how many."""
    layout: str
    meaning: Callable[[Path], Meaning | None]
    classes: Callable[[], ClassList] = imagenet
    subset: tuple[int, ...] | None = None
    """The only ImageNet classes that it has, where it has not all."""
    by_wnid: bool = False
    masks: tuple[str, str] | None = None
    """The folder of masks, and the split whose images they belong to."""
    has_other_folders: bool = False
    """Whether what is published holds images of classes that the protocol leaves out."""


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
    """Folders are class indices as text, so that sorting them as text would permute the labels.

    Copies in which someone renamed them to wnids are common; records are then named as in the original.
    """
    label = _wnids().get(path[-1])
    if label is None:
        if not (path[-1].isascii() and path[-1].isdigit() and int(path[-1]) < 1000):
            return None
        label = int(path[-1])
    names = [split for part in path[:-1] for name, split in _V2_VARIANTS.items() if name in part.lower()]
    return Meaning(names[-1] if names else "", str(label), label)


def _imagenet_c(path: Path) -> Meaning | None:
    if len(path) < 3 or path[-1] not in _wnids() or path[-2] not in ("1", "2", "3", "4", "5"):
        return None
    kind, severity, wnid = path[-3:]
    if kind not in CORRUPTIONS and kind not in EXTRA_CORRUPTIONS:
        return None
    split = "test" if kind in CORRUPTIONS else "extra"
    return Meaning(split, f"{kind}/{severity}/{wnid}", _wnids()[wnid], group=f"{kind},severity={severity}")


C_BAR = (
    *("blue_noise_sample", "brownish_noise", "caustic_refraction", "checkerboard_cutout", "cocentric_sine_waves"),
    *("inverse_sparkles", "perlin_noise", "plasma_noise", "single_frequency_greyscale", "sparkles"),
)
"""Kinds of ImageNet-C-bar. facebookresearch/augmentation-corruption, README.md."""
THREE_D = (
    *("near_focus", "far_focus", "fog_3d", "flash", "color_quant", "low_light", "xy_motion_blur", "z_motion_blur"),
    *("iso_noise", "bit_error", "h265_abr", "h265_crf"),
)
"""Kinds of ImageNet-3DCC. EPFL-VILAB/3DCommonCorruptions, tools/download_imagenet_3dcc.sh."""


def _corrupted(kinds: tuple[str, ...]) -> Callable[[Path], Meaning | None]:
    """Folders as ImageNet-C has them, of other kinds."""

    def meaning(path: Path) -> Meaning | None:
        if len(path) < 3 or path[-1] not in _wnids() or path[-2] not in ("1", "2", "3", "4", "5"):
            return None
        kind, severity, wnid = path[-3:]
        if kind not in kinds:
            return None
        return Meaning("test", f"{kind}/{severity}/{wnid}", _wnids()[wnid], group=f"{kind},severity={severity}")

    return meaning


_ATTRIBUTES = ("background", "texture", "material")


def _imagenet_d(path: Path) -> Meaning | None:
    """A class with several ImageNet indices has a set of labels and no single one."""
    labels = label_tables.IMAGENET_D.get(path[-1])
    found = [part for part in path[:-1] if part in _ATTRIBUTES]
    if labels is None or not found:
        return None
    return Meaning(found[-1], path[-1], labels[0] if len(labels) == 1 else -1, labels, group=path[-1])


def _cue_conflict(path: Path) -> Meaning | None:
    """The folder is the category of the shape; the texture's is in the name."""
    label = list(label_tables.SIXTEEN).index(path[-1]) if path[-1] in label_tables.SIXTEEN else None
    return None if label is None else Meaning("test", path[-1], label)


_GROUPS = ("common", "counter")


def _counteranimal(path: Path) -> Meaning | None:
    """The class is the number before its name, the split what stands before the background."""
    *_, of_class, folder = ("", *path)
    number, split = of_class.partition(" ")[0], folder.partition("-")[0]
    if split not in _GROUPS or not (number.isascii() and number.isdigit() and int(number) < 1000):
        return None
    label = int(number)
    return Meaning(split, imagenet().ids[label], label, group=folder)


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
            layout="imagenetv2-<variant>-format-val/<class index or wnid>/<image>",
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
            has_other_folders=True,
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
        Suite(
            name="cue_conflict",
            published={"test": 1280},
            layout="<category>/<shape>-<texture>.png",
            meaning=_cue_conflict,
            classes=sixteen,
        ),
        Suite(
            name="counteranimal",
            published=dict.fromkeys(_GROUPS),
            layout="LAION-final/<index> <name>/common-<background>|counter-<background>/<image>",
            meaning=_counteranimal,
        ),
        Suite(
            name="imagenet_c_bar",
            published={"test": 10 * 5 * 50_000},
            layout="<corruption>/<severity>/<wnid>/<image>",
            meaning=_corrupted(C_BAR),
        ),
        Suite(
            name="imagenet_d",
            published=dict.fromkeys(_ATTRIBUTES),
            layout="ImageNet-D/background|texture|material/<class>/<image>",
            meaning=_imagenet_d,
        ),
        Suite(
            name="imagenet_3dcc",
            published={"test": 12 * 5 * 50_000},
            layout="<corruption>/<severity>/<wnid>/<image>",
            meaning=_corrupted(THREE_D),
        ),
    )
}

VAL_SUITES = ("imagenet", "imagenet_real", "imagenet_localisation", "imagenet_x", "imagenet_w", "hard_imagenet")
"""Suites on ILSVRC's validation images, which come without folders."""
AT_224 = ("imagenet_p", "imagenet_w", "hard_imagenet")
"""Suites that are made as they are stored, so that `--max_side` has nothing to do."""
COCO_PUBLISHED = {"val": 40_504, "train": 82_783}
"""Images of COCO 2014, those without instances among them."""
NAMES = (*VAL_SUITES, *SUITES, "imagenet_p", "imagenet_hard", "coco")


def options_of(name: str, *, generated: bool) -> tuple[str, ...]:
    """Which of the files and phrases that `data_prep suite` can be given mean something for a suite."""
    if name == "coco":
        return ("instances",)
    if name in ("imagenet_p", "imagenet_hard"):
        return ()
    if name == "hard_imagenet":
        return ("masks", "val_labels")
    if name == "cue_conflict":
        return ("humans", "boxes", "password")
    if name == "imagenet_x":
        return ("factors", "prototypes", "val_labels")
    if name == "imagenet_w":
        return ("font", "val_labels")
    if name in VAL_SUITES:
        return ("boxes", "real", "val_labels")
    if name == "imagenet_c" and generated:
        return ("val_labels",)
    return ("boxes", "password")
