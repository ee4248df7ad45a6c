"""The table of suites: which data, which view of it, which answers, which score.

A suite reads one or more parts; suites whose parts are the same data share its decoding. A new suite is a row here and,
if its kind of score is new, a file in `scores/`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from luab_jax.data.label_tables import IMAGENET_A, IMAGENET_O, IMAGENET_R, OBJECTNET
from luab_jax.data.transforms import Stored
from luab_jax.evaluation.answers import Answer, Doubt, in9_superclass, label_set
from luab_jax.evaluation.label_spaces import IMAGENET, IN9
from luab_jax.evaluation.predictions import whole
from luab_jax.evaluation.procedures import bgc_accuracy, context_dependence, generated_corruptions, localisation
from luab_jax.evaluation.scores.byproduct import byproduct_error
from luab_jax.evaluation.scores.classification import backgrounds, beside, by_group, real, top_k
from luab_jax.evaluation.scores.corruptions import corruptions
from luab_jax.evaluation.scores.detection import detection
from luab_jax.evaluation.scores.label_sets import label_set_map
from luab_jax.evaluation.suite import Part, Suite, View, by_procedure


def _only(score: Callable[[Any], Mapping[str, object]]) -> Callable[[Mapping[str, Any]], Mapping[str, object]]:
    """A score of a suite with a single part."""
    return lambda parts: score(next(iter(parts.values())))


def _centre_occlusion(parts: Mapping[str, Any]) -> Mapping[str, object]:
    """PiT (Heo et al. 2021, §4.3): top-1 with the centre of the input set to zero.

    Whether that zero is a normalised one is not stated there; the network's input being the normalised
    image, that reading is the headline, and black stands beside it.
    """
    return beside("mean")(parts)


def _v2(parts: Mapping[str, Any]) -> Mapping[str, Any]:
    """Recht et al. 2019: matched-frequency is what tables show; top-1 of the others beside it."""
    others = beside("matched_frequency")(parts)
    headline = top_k(parts["matched_frequency"])
    return {
        **headline,
        **others,
        "intervals": {**headline["intervals"], **others["intervals"]},
    }


_OBJECTNET_PROTOCOLS = {
    "top1": "argmax over 1,000, mapped to its classes (objectnet-template-pytorch)",
    "top1_of_125": "argmax over its 125 indices (imagenet-testbed)",
}
"""They differ by much, so every result says which is which."""


def _objectnet(parts: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**beside("template")(parts), "protocols": _OBJECTNET_PROTOCOLS}


_VAL = ("imagenet_real", "imagenet", "imagenet_localisation", "prepared", ".")
_VAL_WITH_BYPRODUCTS = ("imagenet", "imagenet_localisation", "imagenet_real", "prepared", ".")
_VAL_WITH_BOXES = ("imagenet_localisation", "imagenet", "prepared", ".")
_SQUARES_OF_224 = Stored(side=224)
_GET_VAL = "python -m data_prep suite imagenet --source=ILSVRC2012_img_val.tar --out=DATA"
_GET_REAL = "python -m data_prep suite imagenet_real --source=ILSVRC2012_img_val.tar --real=real.json --out=DATA"
_GET_COCO = "python -m data_prep suite coco --source=val2014.zip --instances=annotations_trainval2014.zip --out=DATA"
_GET_DEMO = "python -m data_prep demo --out=DATA"


def _get(name: str, source: str, flags: str = "") -> str:
    return f"python -m data_prep suite {name} --source={source}{flags} --out=DATA"


def _published(name: str, split: str = "test", *, tfds: str = "", optional: bool = False) -> Part:
    """A set that data_prep (or TFDS, under its own name) prepares by name."""
    names = (name, tfds) if tfds else (name,)
    return Part(names, split, datasets=names, optional=optional)


def _demo(name: str) -> Part:
    return Part((f"suites/{name}",), "test")


_A = _published("imagenet_a")
_O = _published("imagenet_o")
_R = _published("imagenet_r")
_C = replace(_published("imagenet_c"), stored=_SQUARES_OF_224)
_OBJECTNET = replace(_published("objectnet"), stored=Stored(border=2))
_OBJECTNET_INDICES = tuple(sorted(i for indices in OBJECTNET.values() for i in indices))
_BACKGROUNDS = ("mixed_same", "mixed_rand", "original", "mixed_next", "no_fg", "only_bg_b", "only_bg_t", "only_fg")
_IN9_PART = replace(_published("backgrounds_challenge"), stored=_SQUARES_OF_224, reduce=Answer(right=in9_superclass))


def _si_score(kind: str, archive: str) -> Suite:
    """SI-Score (Djolonga et al. 2021): top-1 over ImageNet's classes, one index for each of the 61 labels.

    Its authors fix no preprocessing; the images (squares of 500 or 512 px) are taken as any other, so that the centre
    crop cuts objects at the border of the location set.
    """
    part = _published("si_score", kind, tfds="siscore")
    return Suite(f"si_{kind}", {kind: part}, _only(top_k), "top1", _get("si_score", archive), IMAGENET)


SUITES: tuple[Suite, ...] = (
    Suite("imagenet", {"val": Part(_VAL, "val")}, _only(top_k), "top1", _GET_VAL),
    Suite("imagenet_real", {"val": Part(_VAL, "val", reduce=Answer(right=label_set))}, _only(real), "top1", _GET_REAL),
    Suite(
        "cocc",
        {"mean": Part(_VAL, "val", View.CENTRE_MEAN), "black": Part(_VAL, "val", View.CENTRE_BLACK)},
        _centre_occlusion,
        "top1",
        _GET_VAL,
    ),
    Suite(
        "byproduct",
        {"val": Part(_VAL_WITH_BYPRODUCTS, "val", reduce=whole)},
        _only(byproduct_error),
        "median_distance",
        "python -m data_prep imagenet_ab --images=VAL --split=val --byproducts=... (or --boxes=...) --out=DATA",
        needs_byproduct_head=True,
    ),
    Suite(
        "imagenet_v2",
        {
            "matched_frequency": _published("imagenet_v2", "matched_frequency"),
            "threshold_0_7": _published("imagenet_v2", "threshold_0_7", optional=True),
            "top_images": _published("imagenet_v2", "top_images", optional=True),
        },
        _v2,
        "top1",
        _get("imagenet_v2", "imagenetv2-matched-frequency.tar.gz"),
        IMAGENET,
    ),
    # hendrycks/natural-adv-examples eval.py: the 200 logits of the subset are kept, then argmax.
    Suite(
        "imagenet_a",
        {"test": replace(_A, reduce=Answer(IMAGENET_A))},
        _only(top_k),
        "top1",
        _get("imagenet_a", "imagenet-a.tar"),
        IMAGENET,
    ),
    # hendrycks/imagenet-r eval.py: likewise; `clean` are the images of the same classes of the validation set.
    Suite(
        "imagenet_r",
        {
            "test": replace(_R, reduce=Answer(IMAGENET_R)),
            "of_1000": _R,
            "clean": Part(_VAL, "val", reduce=Answer(IMAGENET_R, only_these=True), optional=True),
        },
        beside("test"),
        "top1",
        _get("imagenet_r", "imagenet-r.tar"),
        IMAGENET,
    ),
    Suite(
        "imagenet_c",
        {"test": _C, "extra": replace(_C, split="extra", optional=True)},
        corruptions,
        "top1",
        _get("imagenet_c", "FOLDER_OF_TARS"),
        IMAGENET,
    ),
    # hendrycks/natural-adv-examples eval_many_models.py: the softmax is over the subset, and the images that it must be
    # told from are those of the validation set that are of the subset's classes.
    Suite(
        "imagenet_o",
        {
            "out": replace(_O, reduce=Doubt(IMAGENET_O)),
            "in": Part(_VAL, "val", reduce=Doubt(IMAGENET_O, only_these=True)),
        },
        detection,
        "aupr",
        f"{_get('imagenet_o', 'imagenet-o.tar')}; {_GET_VAL}",
        IMAGENET,
    ),
    Suite(
        "imagenet_sketch",
        {"test": _published("imagenet_sketch")},
        _only(top_k),
        "top1",
        _get("imagenet_sketch", "ImageNet-Sketch.zip"),
        IMAGENET,
    ),
    # The headline is abarbu/objectnet-template-pytorch's: argmax over 1,000, any index of the class is right, one that
    # is no class of ObjectNet is wrong. Beside it modestyachts/imagenet-testbed's: argmax over the 125 indices. Both
    # cut the border of 2 px away.
    Suite(
        "objectnet",
        {
            "template": replace(_OBJECTNET, reduce=Answer(right=label_set)),
            "of_125": replace(_OBJECTNET, reduce=Answer(_OBJECTNET_INDICES, right=label_set)),
        },
        _objectnet,
        "top1",
        _get("objectnet", "objectnet-1.0.zip", " --password=..."),
        IMAGENET,
    ),
    _si_score("size", "size.zip"),
    _si_score("location", "location.zip"),
    _si_score("rotation", "rotation.zip"),
    # MadryLab/backgrounds_challenge: argmax over 1,000, then mapped to nine; 630 of them are wrong for every class.
    Suite(
        "backgrounds_challenge",
        {name: replace(_IN9_PART, split=name, optional=i > 1) for i, name in enumerate(_BACKGROUNDS)},
        backgrounds,
        "gap",
        _get("backgrounds_challenge", "backgrounds_challenge_data.tar.gz"),
        IN9,
    ),
    Suite(
        "bgc_accuracy",
        {name: replace(_IN9_PART, split=name) for name in ("original", "only_bg_t")},
        by_procedure,
        "bgc_accuracy",
        _get("backgrounds_challenge", "backgrounds_challenge_data.tar.gz"),
        IN9,
        procedure=bgc_accuracy,
    ),
    Suite(
        "localisation",
        {"val": Part(_VAL_WITH_BOXES, "val")},
        by_procedure,
        "max_box_acc_v2",
        _get("imagenet_localisation", "ILSVRC2012_img_val.tar", " --boxes=ILSVRC2012_bbox_val_v3.tgz"),
        procedure=localisation,
    ),
    Suite(
        "imagenet_c_generated",
        {"val": Part(_VAL, "val")},
        by_procedure,
        "top1",
        _GET_VAL,
        procedure=generated_corruptions,
        only_if_named=True,
    ),
    Suite(
        "coco",
        {"val": Part(("coco", "."), "val", reduce=whole)},
        _only(label_set_map),
        "map",
        _GET_COCO,
        label_sets=True,
    ),
    Suite(
        "coco_context",
        {"val": Part(("coco", "."), "val")},
        by_procedure,
        "v_min",
        _GET_COCO,
        label_sets=True,
        procedure=context_dependence,
    ),
    Suite(
        "demo_backgrounds",
        {name: _demo(name) for name in ("mixed_same", "mixed_rand", "only_bg")},
        backgrounds,
        "gap",
        _GET_DEMO,
    ),
    Suite("demo_size", {"test": _demo("size")}, _only(by_group), "top1", _GET_DEMO),
    Suite("demo_position", {"test": _demo("position")}, _only(by_group), "top1", _GET_DEMO),
    Suite("demo_rotation", {"test": _demo("rotation")}, _only(by_group), "top1", _GET_DEMO),
    Suite("demo_corruptions", {"test": _demo("corruptions")}, _only(by_group), "top1", _GET_DEMO),
)
