"""Rows of published suites beyond those of the paper's tables."""

from __future__ import annotations

from luab_jax.data.label_tables import IMAGENET_R, PERTURBATIONS
from luab_jax.data.transforms import Stored
from luab_jax.evaluation.answers import Answer, label_set
from luab_jax.evaluation.decisions import decide
from luab_jax.evaluation.label_spaces import IMAGENET, SIXTEEN, WHOLE_IMAGENET
from luab_jax.evaluation.procedures.perturbations import flip_rates
from luab_jax.evaluation.scores.effective_robustness import effective_robustness
from luab_jax.evaluation.scores.factors import error_ratios
from luab_jax.evaluation.scores.foreground import object_reliance
from luab_jax.evaluation.scores.shape_bias import shape_bias
from luab_jax.evaluation.scores.shift import counter_drop, mean_of_parts, of_origins, other_corruptions
from luab_jax.evaluation.scores.watermark import watermark_gap
from luab_jax.evaluation.suite import Need, Part, Procedure, Scored, Suite, View

_VAL = ("imagenet_real", "imagenet", "imagenet_localisation", "prepared", ".")
_SQUARES_OF_224 = Stored(side=224)
_GROUP = "Shifted"
_OF_IMAGENET_X = " --factors=imagenet_x_val_multi_factor.jsonl --prototypes=prototypical_paths.csv"


def _part(name: str, split: str = "test", *, optional: bool = False, stored: Stored | None = None) -> Part:
    return Part((name,), split, datasets=(name,), optional=optional, stored=stored or Stored())


def _get(name: str, source: str, flags: str = "") -> str:
    return f"python -m data_prep suite {name} --source={source}{flags} --out=DATA"


def _corruptions(name: str, source: str, kinds: str, of: str) -> Suite:
    return Suite(
        name,
        {"test": _part(name, stored=_SQUARES_OF_224)},
        Scored(lambda parts: other_corruptions(parts["test"])),
        "top1",
        _get(name, source),
        IMAGENET,
        protocol=f"argmax over 1,000, mean over {kinds} kinds and 5 severities ({of})",
        group=_GROUP,
    )


MORE_SUITES: tuple[Suite, ...] = (
    Suite(
        "cue_conflict",
        {"test": Part(("cue_conflict",), "test", datasets=("cue_conflict",), reduce=decide)},
        Scored(lambda parts: shape_bias(parts["test"])),
        "shape_bias",
        _get("cue_conflict", "cue-conflict"),
        SIXTEEN,
        protocol="mean softmax of the classes of each of 16 categories, the largest decides; shape decisions among"
        " those for shape or texture, of images in which these differ (bethgelab/model-vs-human)",
        protocols={"error_consistency": "mean over subjects of Cohen's kappa of who is right about the shape"},
        group=_GROUP,
    ),
    Suite(
        "imagenet_x",
        {"val": _part("imagenet_x", "val")},
        Scored(lambda parts: error_ratios(parts["val"])),
        "worst_factor",
        _get("imagenet_x", "ILSVRC2012_img_val.tar", _OF_IMAGENET_X),
        IMAGENET,
        protocol="argmax over 1,000; accuracy of the factor with the lowest, and the error of each over that of all"
        " (facebookresearch/imagenetx)",
        group=_GROUP,
    ),
    Suite(
        "imagenet_d",
        {
            name: Part(("imagenet_d",), name, datasets=("imagenet_d",), reduce=Answer(right=label_set))
            for name in ("background", "texture", "material")
        },
        Scored(mean_of_parts),
        "top1",
        _get("imagenet_d", "ImageNet-D.tar"),
        IMAGENET,
        protocol="argmax over 1,000, any index of the class is right; mean over all images of the three sets"
        " (chenshuang-zhang/imagenet_d evaluate_imagenet_models.py, which prints the sets one by one)",
        group=_GROUP,
    ),
    Suite(
        "imagenet_w",
        {name: _part("imagenet_w", name, stored=_SQUARES_OF_224) for name in ("watermark", "clean")},
        Scored(watermark_gap),
        "in_w_gap",
        _get("imagenet_w", "ILSVRC2012_img_val.tar", " --font=SourceHanSerifSC-ExtraLight.otf"),
        IMAGENET,
        protocol="argmax over 1,000, accuracy with the watermark less that without (facebookresearch/Whac-A-Mole"
        " eval_watermark_shortcut.py)",
        protocols={"carton_gap": "the same of images of cartons"},
        group=_GROUP,
    ),
    Suite(
        "imagenet_w_generated",
        {"watermark": Part(_VAL, "val", View.WATERMARK), "clean": Part(_VAL, "val")},
        Scored(watermark_gap),
        "in_w_gap",
        _get("imagenet", "ILSVRC2012_img_val.tar"),
        IMAGENET,
        protocol="argmax over 1,000, accuracy with the watermark, drawn on the input of the model, less that without"
        " (facebookresearch/Whac-A-Mole watermark_transform.py, eval_watermark_shortcut.py)",
        protocols={"carton_gap": "the same of images of cartons"},
        group=_GROUP,
    ),
    Suite(
        "hard_imagenet",
        {
            name: _part("hard_imagenet", name, optional=name == "tile", stored=_SQUARES_OF_224)
            for name in ("original", "grey", "grey_box", "tile", "noisy_object", "noisy_background")
        },
        Scored(object_reliance),
        "top1",
        _get("hard_imagenet", "ILSVRC2012_img_val.tar", " --masks=hardImageNet.zip"),
        IMAGENET,
        protocol="argmax over 1,000, images squashed to 256 x 256, centre 224 (mmoayeri/HardImageNet)",
        protocols={
            "top1_grey": "with a half grey object (ablations.py)",
            "top1_grey_box": "with a half grey box around the object (ablations.py)",
            "top1_tile": "with the box of the object filled by what is beside it (ablations.py)",
            "rfs": "relative foreground sensitivity under noise of 0.25, one draw (rfs.py)",
        },
        group=_GROUP,
    ),
    Suite(
        "counteranimal",
        {name: _part("counteranimal", name) for name in ("common", "counter")},
        Scored(counter_drop),
        "drop",
        _get("counteranimal", "LAION-final"),
        IMAGENET,
        protocol="argmax over 1,000, accuracy against common backgrounds less that against uncommon ones (Wang et al."
        " 2024)",
        protocols={"drop_of_classes": "the same of means over classes"},
        group=_GROUP,
    ),
    Suite(
        "imagenet_hard",
        {"test": Part(("imagenet_hard",), "test", datasets=("imagenet_hard",), reduce=Answer(right=label_set))},
        Scored(lambda parts: of_origins(parts["test"])),
        "top1",
        _get("imagenet_hard", "imagenet-hard/data"),
        IMAGENET,
        protocol="argmax over 1,000, any of the image's labels is right (taesiri/ZoomIsAllYouNeed"
        " src/ImageNet_Hard/benchmark_openclip.py)",
        group=_GROUP,
    ),
    _corruptions("imagenet_c_bar", "imagenet_c_bar.tar.gz", "10", "Mintun et al. 2021"),
    _corruptions("imagenet_3dcc", "ImageNet-3DCC", "12", "Kar et al. 2022"),
    Suite(
        "imagenet_p",
        {kind: _part("imagenet_p", kind, optional=True, stored=_SQUARES_OF_224) for kind in PERTURBATIONS},
        Procedure(flip_rates),
        "flip_rate",
        _get("imagenet_p", "noise.tar"),
        WHOLE_IMAGENET,
        needs=frozenset({Need.LOGITS}),
        only_if_named=True,
        protocol="share of frames whose argmax over 1,000 is not that of the frame before (of noise: of the clean"
        " frame), mean over videos, then over perturbations; not divided by AlexNet's (hendrycks/robustness"
        " ImageNet-P/test.py, difficulty 1)",
        protocols={"top5_distance": "by how many places the five best classes move, likewise"},
        group=_GROUP,
    ),
    Suite(
        "effective_robustness",
        {
            "imagenet_v2": _part("imagenet_v2", "matched_frequency"),
            "val": Part(_VAL, "val"),
            "imagenet_sketch": _part("imagenet_sketch", optional=True),
            "imagenet_r": Part(
                ("imagenet_r",), "test", datasets=("imagenet_r",), optional=True, reduce=Answer(IMAGENET_R)
            ),
            "val_of_imagenet_r": Part(_VAL, "val", optional=True, reduce=Answer(IMAGENET_R, only_these=True)),
        },
        Scored(effective_robustness),
        "imagenet_v2",
        f"{_get('imagenet_v2', 'imagenetv2-matched-frequency.tar.gz')}; {_get('imagenet', 'ILSVRC2012_img_val.tar')}",
        WHOLE_IMAGENET,  # the 82 models, too, chose among all classes
        protocol="accuracy on ImageNet-V2 less what accuracy on val lets expect, by 82 models of"
        " modestyachts/imagenet-testbed on logit scales (Taori et al. 2020)",
        group=_GROUP,
    ),
)
