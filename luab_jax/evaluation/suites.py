"""The table of suites: which data, which view of it, which answers, which score.

A suite reads one or more parts; suites whose parts are the same data share its decoding. A new suite is a row here and,
if its kind of score is new, a file in `scores/`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from luab_jax.data.class_lists import imagenet
from luab_jax.data.coco_classes import coco
from luab_jax.data.label_tables import IMAGENET_A, IMAGENET_O, IMAGENET_R, OBJECTNET
from luab_jax.data.transforms import Stored
from luab_jax.evaluation.answers import Answer, Doubt, first_label, in9_superclass, label_set
from luab_jax.evaluation.label_spaces import IMAGENET, IN9, WHOLE_IMAGENET
from luab_jax.evaluation.more_suites import MORE_SUITES
from luab_jax.evaluation.own_suites import OWN_SUITES
from luab_jax.evaluation.predictions import whole
from luab_jax.evaluation.procedures import bgc_accuracy, context_dependence, generated_corruptions, localisation
from luab_jax.evaluation.procedures.neighbours import detection_by_neighbours
from luab_jax.evaluation.scores.byproduct import byproduct_error
from luab_jax.evaluation.scores.classification import backgrounds, beside, by_group, real, top_k, without_real
from luab_jax.evaluation.scores.corruptions import corruptions
from luab_jax.evaluation.scores.detection import detection
from luab_jax.evaluation.scores.label_sets import label_set_map
from luab_jax.evaluation.suite import Named, Need, Part, Procedure, Scored, Suite, View


def _only(score: Callable[[Any], Mapping[str, object]]) -> Scored:
    """A score of a suite with a single part."""
    return Scored(lambda parts: score(next(iter(parts.values()))))


def _v2(parts: Mapping[str, Any]) -> Mapping[str, Any]:
    """Recht et al. 2019: matched-frequency is what tables show; top-1 of the others beside it."""
    others = beside("matched_frequency")(parts)
    headline = top_k(parts["matched_frequency"])
    return {**headline, **others}


_OF_IMAGENET = Named(
    ("imagenet", "imagenet_ab", "imagenet_real", "imagenet_localisation", "imagenet2012", "imagenet2012_real"), imagenet
)
_OF_COCO = Named(("coco", "coco_ab"), coco)
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
_CORRUPTED = "argmax over 1,000, mean over 15 kinds and 5 severities (Hendrycks and Dietterich 2019)"
_OF_CORRUPTIONS = {
    "mce": "errors by kind over AlexNet's, as fraction",
    "top1_with_extra": "mean over 19 kinds and 5 severities",
}
_TIES = (
    "ranked by the softmax in float64; the authors' float32 softmax ties where it rounds to 1, which counts as one"
    " threshold there"
)
_IN9_PART = replace(_published("backgrounds_challenge"), stored=_SQUARES_OF_224, reduce=Answer(right=in9_superclass))


def _si_score(kind: str, archive: str) -> Suite:
    """Its authors fix no preprocessing.

    The images (squares of 500 or 512 px) are taken as any other, so that the centre crop cuts objects at the border of
    the location set.
    """
    part = _published("si_score", kind, tfds="siscore")
    return Suite(
        f"si_{kind}",
        {kind: part},
        _only(top_k),
        "top1",
        _get("si_score", archive),
        IMAGENET,
        protocol="argmax over 1,000, one index for each of the 61 labels (SI-Score, Djolonga et al. 2021)",
    )


def _demo_suite(name: str, changed: str) -> Suite:
    protocol = f"argmax over the model's classes, mean over groups of drawn images that differ in {changed}"
    parts = {"test": _demo(name)}
    return Suite(f"demo_{name}", parts, _only(by_group), "top1", _GET_DEMO, protocol=protocol, group="Demo")


SUITES: tuple[Suite, ...] = (
    Suite(
        "imagenet",
        {"val": Part(_VAL, "val")},
        _only(top_k),
        "top1",
        _GET_VAL,
        protocol="argmax over the model's classes",
        named_after=_OF_IMAGENET,
        of_any_photos=True,
    ),
    Suite(
        "imagenet_real",
        {"val": Part(_VAL, "val", reduce=Answer(right=label_set))},
        _only(real),
        "top1",
        _GET_REAL,
        why_not=without_real,
        protocol="argmax over the model's classes is among the image's labels; images without any are left out"
        " (Beyer et al. 2020)",
        named_after=_OF_IMAGENET,
        of_any_photos=True,
    ),
    # PiT (Heo et al. 2021, §4.3): whether the zero is a normalised one is not stated there; the network's input being
    # the normalised image, that reading is the headline, and black stands beside it.
    Suite(
        "cocc",
        {"mean": Part(_VAL, "val", View.CENTRE_MEAN), "black": Part(_VAL, "val", View.CENTRE_BLACK)},
        Scored(beside("mean")),
        "top1",
        _GET_VAL,
        protocol="argmax over the model's classes, centre square of half the side hidden (PiT, Heo et al. 2021, §4.3)",
        protocols={"top1": "hidden by zero after normalisation, the mean colour", "top1_black": "hidden by black"},
        named_after=_OF_IMAGENET,
        of_any_photos=True,
    ),
    Suite(
        "byproduct",
        {"val": Part(_VAL_WITH_BYPRODUCTS, "val", reduce=whole)},
        _only(byproduct_error),
        "median_distance",
        "python -m data_prep imagenet_ab --images=VAL --split=val --byproducts=... (or --boxes=...) --out=DATA",
        needs=frozenset({Need.BYPRODUCT_HEAD}),
        protocol="predicted place against the last click, or the centre of the class's box where there is no click",
        group="Location",
        named_after=_OF_IMAGENET,
        of_any_photos=True,
    ),
    Suite(
        "imagenet_v2",
        {
            "matched_frequency": _published("imagenet_v2", "matched_frequency"),
            "threshold_0_7": _published("imagenet_v2", "threshold_0_7", optional=True),
            "top_images": _published("imagenet_v2", "top_images", optional=True),
        },
        Scored(_v2),
        "top1",
        _get("imagenet_v2", "imagenetv2-matched-frequency.tar.gz"),
        IMAGENET,
        protocol="argmax over 1,000; matched-frequency (Recht et al. 2019)",
    ),
    Suite(
        "imagenet_a",
        {"test": replace(_A, reduce=Answer(IMAGENET_A))},
        _only(top_k),
        "top1",
        _get("imagenet_a", "imagenet-a.tar"),
        IMAGENET,
        protocol="argmax over its 200 classes (hendrycks/natural-adv-examples eval.py)",
    ),
    # `clean` are the images of the same classes of the validation set.
    Suite(
        "imagenet_r",
        {
            "test": replace(_R, reduce=Answer(IMAGENET_R)),
            "of_1000": _R,
            "clean": Part(_VAL, "val", reduce=Answer(IMAGENET_R, only_these=True), optional=True),
        },
        Scored(beside("test")),
        "top1",
        _get("imagenet_r", "imagenet-r.tar"),
        IMAGENET,
        protocol="argmax over its 200 classes (hendrycks/imagenet-r eval.py)",
        protocols={
            "top1_of_1000": "argmax over 1,000",
            "top1_clean": "argmax over the same 200 classes, validation images of these",
        },
    ),
    Suite(
        "imagenet_c",
        {"test": _C, "extra": replace(_C, split="extra", optional=True)},
        Scored(corruptions),
        "top1",
        _get("imagenet_c", "FOLDER_OF_TARS"),
        IMAGENET,
        protocol=_CORRUPTED,
        protocols=_OF_CORRUPTIONS,
    ),
    # The softmax is over the subset, and the images that it must be told from are those of the validation set that are
    # of the subset's classes.
    Suite(
        "imagenet_o",
        {
            "out": replace(_O, reduce=Doubt(IMAGENET_O)),
            "in": Part(_VAL, "val", reduce=Doubt(IMAGENET_O, only_these=True)),
        },
        Scored(detection),
        "aupr",
        f"{_get('imagenet_o', 'imagenet-o.tar')}; {_GET_VAL}",
        WHOLE_IMAGENET,
        protocol="how small the largest softmax over its 200 classes is, against validation images of these classes;"
        " out-of-distribution images are the positives (hendrycks/natural-adv-examples eval_many_models.py)",
        protocols={
            **dict.fromkeys(("aupr", "auroc", "fpr95"), _TIES),
            **dict.fromkeys(("aupr_energy", "auroc_energy"), "by the energy of the 200 logits (Liu et al. 2020)"),
            **dict.fromkeys(("aupr_max_logit", "auroc_max_logit"), "by the largest of the 200 logits"),
        },
    ),
    Suite(
        "imagenet_o_knn",
        {"out": _O, "in": Part(_VAL, "val"), "bank": Part(("imagenet_ab", "imagenet", "prepared", "."), "train")},
        Procedure(detection_by_neighbours),
        "auroc",
        "python -m data_prep imagenet_ab --images=TRAIN --split=train --out=DATA/imagenet_ab;"
        f" {_get('imagenet_o', 'imagenet-o.tar')}; {_GET_VAL}",
        WHOLE_IMAGENET,
        needs=frozenset({Need.FEATURES}),
        protocol="distance of the features, scaled to length 1, to the k-th nearest of every hundredth training image"
        " (12,812 at most), against validation images of the same 200 classes; k is the authors' 1,000 of 1,281,167 in"
        " proportion (Sun et al. 2022, deeplearning-wisc/knn-ood run_imagenet.py)",
    ),
    Suite(
        "imagenet_sketch",
        {"test": _published("imagenet_sketch")},
        _only(top_k),
        "top1",
        _get("imagenet_sketch", "ImageNet-Sketch.zip"),
        IMAGENET,
        protocol="argmax over 1,000 (Wang et al. 2019)",
    ),
    # The headline is the authors': an answer that is no class of ObjectNet is wrong. Both cut away the border of 2 px.
    Suite(
        "objectnet",
        {
            "template": replace(_OBJECTNET, reduce=Answer(right=label_set)),
            "of_125": replace(_OBJECTNET, reduce=Answer(_OBJECTNET_INDICES, right=label_set)),
            "first_index": replace(_OBJECTNET, reduce=Answer(right=first_label)),
        },
        Scored(beside("template")),
        "top1",
        _get("objectnet", "objectnet-1.0.zip", " --password=..."),
        IMAGENET,
        protocol="images of the 113 classes that overlap with ImageNet's, any index of the class is right",
        protocols={
            "top1": "argmax over 1,000 (as objectnet-template-pytorch, which resizes to 224; here {preprocessing})",
            "top1_of_125": "argmax over its 125 indices (as imagenet-testbed; here {preprocessing})",
            "top1_first_index": "argmax over 1,000, the first index of the class alone is right"
            " (as hila-chefer/RobustViT, which leaves the border in)",
        },
    ),
    _si_score("size", "size.zip"),
    _si_score("location", "location.zip"),
    _si_score("rotation", "rotation.zip"),
    Suite(
        "backgrounds_challenge",
        {name: replace(_IN9_PART, split=name, optional=i > 1) for i, name in enumerate(_BACKGROUNDS)},
        Scored(backgrounds),
        "gap",
        _get("backgrounds_challenge", "backgrounds_challenge_data.tar.gz"),
        IN9,
        protocol="argmax over 1,000, then mapped to nine; 630 of them are wrong for every class"
        " (MadryLab/backgrounds_challenge)",
        protocols={"gap": "mixed_same less mixed_rand"},
    ),
    Suite(
        "bgc_accuracy",
        {name: replace(_IN9_PART, split=name) for name in ("original", "only_bg_t")},
        Procedure(bgc_accuracy),
        "bgc_accuracy",
        _get("backgrounds_challenge", "backgrounds_challenge_data.tar.gz"),
        IN9,
        needs=frozenset({Need.LOGITS}),
        protocol="share of foregrounds that keep their class on every only_bg_t background"
        " (MadryLab/backgrounds_challenge challenge_eval.py)",
    ),
    Suite(
        "localisation",
        {"val": Part(_VAL_WITH_BOXES, "val")},
        Procedure(localisation),
        "max_box_acc_v2",
        _get("imagenet_localisation", "ILSVRC2012_img_val.tar", " --boxes=ILSVRC2012_bbox_val_v3.tgz"),
        needs=frozenset({Need.MAP}),
        protocol="MaxBoxAccV2 of the map of the true class (clovaai/wsolevaluation)",
        preprocessing="squashed to {side} x {side} (bilinear), no crop",
        group="Location",
        named_after=_OF_IMAGENET,
        of_any_photos=True,
    ),
    Suite(
        "imagenet_c_generated",
        {"val": Part(_VAL, "val")},
        Procedure(generated_corruptions),
        "top1",
        _GET_VAL,
        only_if_named=True,
        needs=frozenset({Need.LOGITS}),
        protocol=_CORRUPTED,
        preprocessing="short side to 256 (bilinear), centre crop 224, corrupted on the device, no JPEG in between",
        protocols=_OF_CORRUPTIONS,
        group="Shifted",
        named_after=_OF_IMAGENET,
        of_any_photos=True,
    ),
    Suite(
        "coco",
        {"val": Part(("coco", "."), "val", reduce=whole)},
        _only(label_set_map),
        "map",
        _GET_COCO,
        label_sets=True,
        protocol="mean over the classes of the average precision of their scores",
        named_after=_OF_COCO,
    ),
    Suite(
        "coco_context",
        {"val": Part(("coco", "."), "val")},
        Procedure(context_dependence),
        "v_min",
        _GET_COCO,
        label_sets=True,
        needs=frozenset({Need.LOGITS}),
        protocol="whether a class's score is lower without another class than without itself (Shetty et al. 2019)",
        named_after=_OF_COCO,
    ),
    Suite(
        "demo_backgrounds",
        {name: _demo(name) for name in ("mixed_same", "mixed_rand", "only_bg")},
        Scored(backgrounds),
        "gap",
        _GET_DEMO,
        protocol="argmax over the model's classes, on drawn images with their own and other backgrounds",
        protocols={"gap": "mixed_same less mixed_rand"},
        group="Demo",
    ),
    _demo_suite("size", "size"),
    _demo_suite("position", "position"),
    _demo_suite("rotation", "rotation"),
    _demo_suite("corruptions", "corruption"),
    *MORE_SUITES,
    *OWN_SUITES,
)
