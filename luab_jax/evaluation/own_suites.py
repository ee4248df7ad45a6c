"""The rows of suites that `data_prep` makes out of any prepared split with objects, boxes or masks."""

from __future__ import annotations

from dataclasses import replace

from luab_jax.evaluation.predictions import whole
from luab_jax.evaluation.procedures import own_bgc_accuracy
from luab_jax.evaluation.scores.classification import backgrounds, by_group
from luab_jax.evaluation.scores.groups import without_groups, worst_group
from luab_jax.evaluation.scores.label_sets import grid_of_objects, object_backgrounds, sets_under_shift
from luab_jax.evaluation.scores.shift import occlusions, under_shift
from luab_jax.evaluation.suite import Need, Part, Procedure, Scored, Suite

_GROUP = "Own"
_FROM = "--from=DATA --split=val --out=DATA"
_GET_BACKGROUNDS = f"python -m data_prep backgrounds {_FROM}"
_SETS = ("mixed_same", "mixed_rand", "original", "mixed_next", "no_fg", "only_bg_b", "only_bg_t", "only_fg")


def _own(name: str, split: str = "test", *, optional: bool = False) -> Part:
    return Part((name,), split, datasets=(name,), optional=optional)


def _grid(kind: str, what: str) -> Suite:
    return Suite(
        f"own_{kind}",
        {kind: _own("own_grids", kind)},
        Scored(lambda parts: by_group(parts[kind])),
        "top1",
        f"python -m data_prep grids {_FROM}",
        protocol=f"argmax over the model's classes, mean over groups of objects that differ in {what} (after SI-Score,"
        " Djolonga et al. 2021)",
        group=_GROUP,
    )


def _grid_of_sets(kind: str, what: str) -> Suite:
    return Suite(
        f"own_{kind}_of_sets",
        {kind: replace(_own("own_grids", kind), reduce=whole)},
        Scored(grid_of_objects),
        "map",
        f"python -m data_prep grids {_FROM}",
        label_sets=True,
        protocol="mean over the classes of the average precision with which their scores find the images whose object"
        f" is of the class, mean over groups of objects that differ in {what}; other classes of an image's set are left"
        " out of account (after SI-Score, Djolonga et al. 2021)",
        group=_GROUP,
    )


def _changed_of_sets(command: str, over: str) -> Suite:
    name = f"own_{command}"
    parts = {"test": _own(name), "clean": _own(name, "clean")}
    return Suite(
        f"{name}_of_sets",
        {part: replace(of_part, reduce=whole) for part, of_part in parts.items()},
        Scored(sets_under_shift),
        "map",
        f"python -m data_prep {command} {_FROM}",
        label_sets=True,
        protocol=f"mean over the classes of the average precision of their scores, mean over {over}",
        protocols={"map_clean": "the same images without a change", "loss": "map_clean less map"},
        group=_GROUP,
    )


_BACKGROUNDS = {name: _own("own_backgrounds", name, optional=i > 1) for i, name in enumerate(_SETS)}
_GAP = "mixed_same less mixed_rand"

OWN_SUITES: tuple[Suite, ...] = (
    Suite(
        "own_backgrounds",
        _BACKGROUNDS,
        Scored(backgrounds),
        "gap",
        _GET_BACKGROUNDS,
        protocol="argmax over the model's classes, objects on the backgrounds of other images (after Xiao et al. 2021)",
        protocols={"gap": _GAP},
        group=_GROUP,
    ),
    Suite(
        "own_backgrounds_of_sets",
        {name: replace(part, reduce=whole) for name, part in _BACKGROUNDS.items()},
        Scored(object_backgrounds),
        "gap",
        _GET_BACKGROUNDS,
        label_sets=True,
        protocol="mean over the classes of the average precision with which their scores find the images whose object"
        " is of the class; other classes of an image's set are left out of account (after Xiao et al. 2021)",
        protocols={"gap": _GAP},
        group=_GROUP,
    ),
    Suite(
        "own_bgc_accuracy",
        {name: _own("own_backgrounds", name) for name in ("original", "only_bg_t")},
        Procedure(own_bgc_accuracy),
        "bgc_accuracy",
        _GET_BACKGROUNDS,
        needs=frozenset({Need.LOGITS}),
        protocol="share of objects that keep their class on every only_bg_t background, pasted at the model's input"
        " (after MadryLab/backgrounds_challenge challenge_eval.py)",
        group=_GROUP,
    ),
    Suite(
        "own_corruptions",
        {"test": _own("own_corruptions"), "clean": _own("own_corruptions", "clean")},
        Scored(under_shift),
        "top1",
        f"python -m data_prep corruptions {_FROM}",
        protocol="argmax over the model's classes, mean over kinds and severities of ImageNet-C's corruptions",
        protocols={"top1_clean": "the same images without corruption", "loss": "top1_clean less top1"},
        group=_GROUP,
    ),
    Suite(
        "own_occlusions",
        {"test": _own("own_occlusions"), "clean": _own("own_occlusions", "clean")},
        Scored(occlusions),
        "top1",
        f"python -m data_prep occlusions {_FROM}",
        protocol="argmax over the model's classes, mean over the hidden parts of the image",
        protocols={"top1_clean": "the same images with nothing hidden", "loss": "top1_clean less top1"},
        group=_GROUP,
    ),
    _grid("size", "size"),
    _grid("position", "place"),
    _grid("rotation", "angle"),
    _changed_of_sets("corruptions", "kinds and severities of ImageNet-C's corruptions"),
    _changed_of_sets("occlusions", "the hidden parts of the image"),
    _grid_of_sets("size", "size"),
    _grid_of_sets("position", "place"),
    _grid_of_sets("rotation", "angle"),
    Suite(
        "own_groups",
        {"test": Part(("folder", "prepared", "."), "test")},
        Scored(lambda parts: worst_group(parts["test"])),
        "worst_group",
        "python -m data_prep folder --source=PHOTOS --annotations=TABLE.csv --groups=A,B --split=test --out=DATA",
        why_not=without_groups,
        protocol="argmax over the model's classes, accuracy of the group with the lowest (Sagawa et al. 2020)",
        protocols={"gap": "top1 over all images less worst_group"},
        group=_GROUP,
    ),
)
