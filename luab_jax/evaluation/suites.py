"""The table of suites: which data, which view of it, which score.

A suite reads one or more parts; suites whose parts are the same data share its decoding. A new suite is a row here and,
if its kind of score is new, a file in `scores/`.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from luab_jax.evaluation.predictions import Predictions
from luab_jax.evaluation.scores.byproduct import byproduct_error
from luab_jax.evaluation.scores.classification import by_group, real, top_k
from luab_jax.evaluation.scores.label_sets import label_set_map


class View(enum.Enum):
    """What is done to the model's input after preprocessing."""

    PLAIN = "plain"
    CENTRE_MEAN = "centre_mean"
    """The centre square of half the side is zero after normalisation: the mean colour."""
    CENTRE_BLACK = "centre_black"
    """The same square is zero before normalisation: black."""


@dataclass(frozen=True, slots=True)
class Part:
    """One prepared split, seen in one way."""

    directories: tuple[str, ...]
    """Where it may lie under --data, the first that exists."""
    split: str
    view: View = View.PLAIN


@dataclass(frozen=True, slots=True)
class Suite:
    """One row: a name, what it reads, how it is scored, and how a user gets its data."""

    name: str
    parts: Mapping[str, Part]
    score: Callable[[Mapping[str, Predictions]], Mapping[str, object]]
    headline: str
    """The score that stands in a table's column."""
    how_to_get: str
    needs_byproduct_head: bool = False
    label_sets: bool = False
    """For models of sets of labels, and not for the others."""


def _only(
    score: Callable[[Predictions], Mapping[str, object]],
) -> Callable[[Mapping[str, Predictions]], Mapping[str, object]]:
    """A score of a suite with a single part."""
    return lambda parts: score(next(iter(parts.values())))


def _centre_occlusion(parts: Mapping[str, Predictions]) -> Mapping[str, object]:
    """PiT (Heo et al. 2021, §4.3): top-1 with the centre of the input set to zero.

    Whether that zero is a normalised one is not stated there; the network's input being the normalised
    image, that reading is the headline, and black stands beside it.
    """
    mean, black = top_k(parts["mean"]), top_k(parts["black"])
    return {"top1": mean["top1"], "top1_black": black["top1"], "n": mean["n"]}


def _backgrounds(parts: Mapping[str, Predictions]) -> Mapping[str, object]:
    """Xiao et al. 2021: accuracy that is lost when the background stops going with the class."""
    top1 = {name: top_k(predictions)["top1"] for name, predictions in parts.items()}
    return {
        "gap": top1["mixed_same"] - top1["mixed_rand"],
        "mixed_same": top1["mixed_same"],
        "mixed_rand": top1["mixed_rand"],
        "only_bg": top1["only_bg"],
        "n": len(parts["mixed_rand"]),
    }


_VAL = ("imagenet", "imagenet_real", "imagenet_localisation", "prepared", ".")
_REAL = ("imagenet_real", "imagenet", "prepared", ".")
_GET_VAL = "python -m data_prep suite imagenet --source=ILSVRC2012_img_val.tar --out=DATA"
_GET_REAL = "python -m data_prep suite imagenet_real --source=ILSVRC2012_img_val.tar --real=real.json --out=DATA"
_GET_COCO = "python -m data_prep suite coco --source=val2014.zip --instances=annotations_trainval2014.zip --out=DATA"
_GET_DEMO = "python -m data_prep demo --out=DATA"


def _demo(name: str) -> Part:
    return Part((f"suites/{name}",), "test")


SUITES: tuple[Suite, ...] = (
    Suite("imagenet", {"val": Part(_VAL, "val")}, _only(top_k), "top1", _GET_VAL),
    Suite("imagenet_real", {"val": Part(_REAL, "val")}, _only(real), "top1", _GET_REAL),
    Suite(
        "cocc",
        {"mean": Part(_VAL, "val", View.CENTRE_MEAN), "black": Part(_VAL, "val", View.CENTRE_BLACK)},
        _centre_occlusion,
        "top1",
        _GET_VAL,
    ),
    Suite(
        "byproduct",
        {"val": Part(_VAL, "val")},
        _only(byproduct_error),
        "median_distance",
        "python -m data_prep imagenet_ab --images=VAL --split=val --byproducts=... (or --boxes=...) --out=DATA",
        needs_byproduct_head=True,
    ),
    Suite("coco", {"val": Part(("coco", "."), "val")}, _only(label_set_map), "map", _GET_COCO, label_sets=True),
    Suite(
        "demo_backgrounds",
        {name: _demo(name) for name in ("mixed_same", "mixed_rand", "only_bg")},
        _backgrounds,
        "gap",
        _GET_DEMO,
    ),
    Suite("demo_size", {"test": _demo("size")}, _only(by_group), "top1", _GET_DEMO),
    Suite("demo_position", {"test": _demo("position")}, _only(by_group), "top1", _GET_DEMO),
    Suite("demo_rotation", {"test": _demo("rotation")}, _only(by_group), "top1", _GET_DEMO),
    Suite("demo_corruptions", {"test": _demo("corruptions")}, _only(by_group), "top1", _GET_DEMO),
)
