"""From the byproducts of an image to Z, what the byproduct head learns to predict.

Every target has a fixed shape `[K, D]` with `valid [K]`: K things, each described by D numbers. Images with one label
have K = 1; images with a set of labels have K = number of classes, and only rows of present classes are valid. What has
a place is made in fractions of the whole image and then moved with the crop; what leaves the crop is invalid and does
not count in the loss (the ImageNet loader of the paper masks it likewise: imagenet_dataloader.ipynb).

| target          | Z                                                               | seed of the idea             |
|-----------------|-----------------------------------------------------------------|------------------------------|
| none            | nothing: the baseline, no head                                  | paper, no-AB row             |
| random          | a random point of the crop wherever click_last is in the crop   | control: as many, as often   |
| random_in_image | a random point of every image that was clicked, moved as clicks | paper, Rand row: as many     |
| click_last      | last click of each selected showing, mean over showings         | the last click is final      |
| click_first     | first click of each selected showing, mean over showings        | the paper's loader           |
| click_mean      | mean of the clicks of each selected showing, mean over showings | an annotator who toggled     |
| box             | ground-truth box, the union if the class has several            | an upper bound: costs more   |
| box_centre      | its centre                                                      | a click without the noise    |
| coco_final      | where the icon of each present class lies in the end            | the corrections count        |
| coco_added      | where it was last added in the last record                      | the paper's loader           |
| trace_box       | box around each selected showing's mouse trace, mean over them  | boxes from eye tracks [1]    |
| trace_heat_map  | share of the pointer's time in each of G² cells of the crop     | mouse as gaze, attention [2] |
| time_to_click   | log ms from the pointer's coming to the first click             | response time, difficulty [3]|
| num_corrections | log(1 + clicks beyond the first); moves and removes of an icon  | what is hard to judge [4]    |
| annotator       | who selected the image, the first of the known ones             | annotators differ [5]        |

[1] Papadopoulos et al., Training object class detectors from eye tracking data, ECCV 2014. [2] Jiang et al., SALICON,
CVPR 2015 (the mouse in place of the eye); Linsley et al., Learning what and where to attend, ICLR 2019 (human maps
supervise attention). [3] Tudor Ionescu et al., How hard can it be?, CVPR 2016. [4] Whitehill et al., Whose vote should
count more, NIPS 2009 (difficulty of an image, skill of an annotator). [5] Dawid and Skene 1979; Rodrigues and Pereira,
Deep learning from crowds, AAAI 2018; Geva et al., Are we modeling the task or the annotator?, EMNLP 2019.

Two controls regress points that no annotator chose. `random` is matched to the click (to coco_final's icons for sets of
labels): it counts in exactly the crops, and under augmentation with exactly the weight, in which the click would. Its
point is uniform over the crop, the same place in all crops of an image or another in each (`RandomPoint`).
`random_in_image` is one uniform point of the whole image, which counts in other crops than the click, and in fewer,
since clicks lie where crops overlap.

Images with one label have all but coco_*. Sets of labels have none, random, random_in_image, box, box_centre, coco_*
and num_corrections (per class): COCO-AB records neither clicks nor traces, the time of an icon depends on the page of
icons that it is on, and one annotator for all classes of an image is no target of K classes.

Rules: boxes are clipped to the crop (`trace_box` too: the box is moved, not made anew of the samples that are left).
`responses.py` and `traces.py` say how times, corrections and dwell are counted. The two numbers are standardised by
their mean and standard deviation over the training split. The class of an annotator is its place in the vocabulary of
the training split, as a float in `[1, 1]`: the head has D = size of the vocabulary, one logit each.
A next target is a row of `_TABLE` and a function; loss, metric and the head's width follow from its kind. One that is
standardised by a `Response` says so in its row.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from luab_jax.byproducts import points, responses, traces
from luab_jax.byproducts.columns import ByproductColumns
from luab_jax.byproducts.geometry import Affine, Affines, inside
from luab_jax.byproducts.icons import IconRule
from luab_jax.byproducts.kinds import (
    DEFAULT_SETTINGS,
    RandomPoint,
    TargetKind,
    TargetSettings,
    TargetValues,
    moved,
    width,
)
from luab_jax.byproducts.responses import Response


class Target(enum.Enum):
    """What the byproduct head predicts; see the table above."""

    NONE = "none"
    RANDOM = "random"
    RANDOM_IN_IMAGE = "random_in_image"
    CLICK_LAST = "click_last"
    CLICK_FIRST = "click_first"
    CLICK_MEAN = "click_mean"
    BOX = "box"
    BOX_CENTRE = "box_centre"
    COCO_FINAL = "coco_final"
    COCO_ADDED = "coco_added"
    TRACE_BOX = "trace_box"
    TRACE_HEAT_MAP = "trace_heat_map"
    TIME_TO_CLICK = "time_to_click"
    NUM_CORRECTIONS = "num_corrections"
    ANNOTATOR = "annotator"


class _Request(NamedTuple):
    """What a rule may ask beside the byproducts."""

    view: Affine
    seed: int
    num_classes: int
    """1 for images with one label."""
    settings: TargetSettings


_Rule = Callable[[ByproductColumns, _Request], np.ndarray | None]
"""D numbers of an image with one label, `None` where there is nothing; of a set of labels `[classes, D]`, NaN there."""


class _Row(NamedTuple):
    """One target."""

    kind: TargetKind
    of_image: _Rule | None = None
    """The rule for images with one label; `None` where the target does not exist for them."""
    of_classes: _Rule | None = None
    """The rule for sets of labels."""
    response: Response | None = None
    """Whose mean and standard deviation over the training split the rule needs."""


def fits(target: Target, num_classes: int | None) -> bool:
    """Whether images with one label (`None`), or with sets of `num_classes` labels, can have this target."""
    return target is Target.NONE or _rule(target, num_classes) is not None


def kind_of(target: Target) -> TargetKind | None:
    """`None` for the baseline."""
    return None if target is Target.NONE else _TABLE[target].kind


def target_shape(
    target: Target, num_classes: int | None = None, settings: TargetSettings = DEFAULT_SETTINGS
) -> tuple[int, int] | None:
    """(K, D) of a target, `None` for the baseline, which has no head.

    `num_classes` is given for sets of labels and makes K; `None` means one label per image.
    """
    _check_fit(target, num_classes)
    kind = kind_of(target)
    if kind is None:
        return None
    return (num_classes or 1, width(kind, settings))


def head_shape(
    target: Target, num_classes: int | None = None, settings: TargetSettings = DEFAULT_SETTINGS
) -> tuple[int, int] | None:
    """(K, D) of what the head predicts: the target's, but for a class a logit for each, and for a control its point."""
    shape = target_shape(target, num_classes, settings)
    if shape is None:
        return None
    if kind_of(target) is TargetKind.CONTROL_POINT:
        return (shape[0], 2)
    if kind_of(target) is not TargetKind.CLASS:
        return shape
    if not settings.statistics.annotators:
        raise ValueError(f"target {target.value} needs the annotators of the training split")
    return (shape[0], len(settings.statistics.annotators))


def responses_of(target: Target) -> tuple[Response, ...]:
    """Those whose scale over the training split the target needs."""
    response = None if target is Target.NONE else _TABLE[target].response
    return () if response is None else (response,)


def scored_target(target: Target, num_classes: int | None) -> Target:
    """What evaluation compares the head's output with.

    For a point the final click, or the final icons of sets of labels, whatever point the model was trained on: what a
    user asks is how far from the click it is. For all else the target itself.
    """
    if kind_of(target) not in (None, TargetKind.POINT, TargetKind.CONTROL_POINT):
        return target
    return Target.CLICK_LAST if num_classes is None else Target.COCO_FINAL


def predicts_point(target: Target) -> bool:
    """Whether what the head predicts is one place in the image, which can be compared with a click."""
    return kind_of(target) in (TargetKind.POINT, TargetKind.CONTROL_POINT)


def _rule(target: Target, num_classes: int | None) -> _Rule | None:
    row = _TABLE[target]
    return row.of_image if num_classes is None else row.of_classes


def _check_fit(target: Target, num_classes: int | None) -> None:
    if not fits(target, num_classes):
        data = "images with one label each" if num_classes is None else "images with sets of labels"
        raise ValueError(f"target {target.value} does not exist for {data}")


def make_target(
    target: Target,
    byproducts: ByproductColumns,
    view: Affine,
    *,
    seed: int,
    num_classes: int | None = None,
    settings: TargetSettings = DEFAULT_SETTINGS,
) -> TargetValues:
    """Z of one image as `view` shows it; see `make_targets`."""
    many = make_targets(target, [byproducts], Affines.of([view]), seed=seed, num_classes=num_classes, settings=settings)
    return TargetValues(many.values[0], many.valid[0])


def make_targets(
    target: Target,
    byproducts: Sequence[ByproductColumns],
    views: Affines,
    *,
    seed: int,
    num_classes: int | None = None,
    settings: TargetSettings = DEFAULT_SETTINGS,
) -> TargetValues:
    """Z of n images as the views show them, in fractions of the crop: `[n, K, D]` and `[n, K]`.

    `num_classes` as in `target_shape`. `seed` matters for the random points only, which depend on it and on the image's
    name (and class); that of `random` also on the crop if the settings say so.
    """
    shape = target_shape(target, num_classes, settings)
    if shape is None:
        return TargetValues(np.zeros((len(byproducts), 0, 0), np.float32), np.zeros((len(byproducts), 0), bool))
    rule = _rule(target, num_classes)
    assert rule is not None, target
    rows = np.full((len(byproducts), *shape), np.nan)
    for i, of_image in enumerate(byproducts):
        found = rule(of_image, _Request(views[i], seed, shape[0], settings))
        if found is not None:
            rows[i] = found.reshape(shape)
    return moved(_TABLE[target].kind, rows, views)


_ICON_RULES = {Target.COCO_FINAL: IconRule.FINAL, Target.COCO_ADDED: IconRule.ADDED}


def classes_outside(
    target: Target, byproducts: ByproductColumns, view: Affine, num_classes: int
) -> Bool[np.ndarray, " classes"]:
    """Which present classes have an icon that `view` does not show: the labels that follow their points.

    The icons are those of `target` if it has any, else the final ones.
    """
    icons = points.icons(_ICON_RULES.get(target, IconRule.FINAL), byproducts, num_classes)
    return ~np.isnan(icons[:, 0]) & ~inside(view.points(icons))


def _control_click(byproducts: ByproductColumns, request: _Request) -> Float[np.ndarray, " 4"] | None:
    """A random point of the crop, and the last click, in fractions of the whole image."""
    click = points.last_click(byproducts)
    if click is None:
        return None
    return np.concatenate([points.random_point(_control_name(byproducts, request), request.seed), click])


def _control_icons(byproducts: ByproductColumns, request: _Request) -> Float[np.ndarray, "classes 4"]:
    icons = points.icons(IconRule.FINAL, byproducts, request.num_classes)
    rows = np.concatenate([np.full_like(icons, np.nan), icons], axis=1)
    name = _control_name(byproducts, request)
    for label in np.flatnonzero(~np.isnan(icons[:, 0])).tolist():
        rows[label, :2] = points.random_point(name, request.seed, label)
    return rows


def _control_name(byproducts: ByproductColumns, request: _Request) -> str:
    """What the point is a function of, beside the seed."""
    if request.settings.random_point is RandomPoint.PER_IMAGE:
        return byproducts.file_name
    view = np.concatenate([request.view.matrix.ravel(), request.view.offset]).astype("<f8")
    return f"{byproducts.file_name}/{view.tobytes().hex()}"


def _box_centre(byproducts: ByproductColumns, request: _Request) -> Float[np.ndarray, " 2"] | None:
    box = points.class_box(byproducts)
    return None if box is None else points.box_centre(box)


def _standardised_response(response: Response) -> _Rule:
    def rule(byproducts: ByproductColumns, request: _Request) -> Float[np.ndarray, " 1"] | None:
        value = responses.log_response(response, byproducts)
        return None if value is None else _standardised(np.array([value]), response, request.settings)

    return rule


def _class_corrections(byproducts: ByproductColumns, request: _Request) -> Float[np.ndarray, " classes"]:
    corrections = responses.class_log_corrections(byproducts, request.num_classes)
    return _standardised(corrections, Response.NUM_CORRECTIONS, request.settings)


def _standardised(values: np.ndarray, response: Response, settings: TargetSettings) -> np.ndarray:
    if response not in settings.statistics.scales:
        raise ValueError(f"target {response.value} needs its mean and standard deviation over the training split")
    scale = settings.statistics.scales[response]
    return (values - scale.mean) / scale.std


def _annotator(byproducts: ByproductColumns, request: _Request) -> Float[np.ndarray, " 1"] | None:
    """The first of those who selected the image that is in the vocabulary."""
    vocabulary = request.settings.statistics.annotator_classes
    known = [vocabulary[annotator] for annotator in responses.annotators(byproducts) if annotator in vocabulary]
    return np.array([float(known[0])]) if known else None


_TABLE: dict[Target, _Row] = {
    Target.RANDOM: _Row(TargetKind.CONTROL_POINT, _control_click, _control_icons),
    Target.RANDOM_IN_IMAGE: _Row(
        TargetKind.POINT,
        lambda byproducts, request: points.random_click(byproducts, request.seed),
        lambda byproducts, request: points.random_icons(byproducts, request.num_classes, request.seed),
    ),
    Target.CLICK_LAST: _Row(TargetKind.POINT, lambda byproducts, _: points.last_click(byproducts)),
    Target.CLICK_FIRST: _Row(TargetKind.POINT, lambda byproducts, _: points.first_click(byproducts)),
    Target.CLICK_MEAN: _Row(TargetKind.POINT, lambda byproducts, _: points.mean_click(byproducts)),
    Target.BOX: _Row(
        TargetKind.BOX,
        lambda byproducts, _: points.class_box(byproducts),
        lambda byproducts, request: points.class_boxes(byproducts, request.num_classes),
    ),
    Target.BOX_CENTRE: _Row(
        TargetKind.POINT,
        _box_centre,
        lambda byproducts, request: points.box_centre(points.class_boxes(byproducts, request.num_classes)),
    ),
    Target.COCO_FINAL: _Row(
        TargetKind.POINT,
        of_classes=lambda byproducts, request: points.icons(IconRule.FINAL, byproducts, request.num_classes),
    ),
    Target.COCO_ADDED: _Row(
        TargetKind.POINT,
        of_classes=lambda byproducts, request: points.icons(IconRule.ADDED, byproducts, request.num_classes),
    ),
    Target.TRACE_BOX: _Row(TargetKind.BOX, lambda byproducts, _: traces.trace_box(byproducts)),
    Target.TRACE_HEAT_MAP: _Row(
        TargetKind.DISTRIBUTION,
        lambda byproducts, request: traces.heat_map(byproducts, request.view, request.settings.heat_map_side),
    ),
    Target.TIME_TO_CLICK: _Row(
        TargetKind.NUMBER, _standardised_response(Response.TIME_TO_CLICK), response=Response.TIME_TO_CLICK
    ),
    Target.NUM_CORRECTIONS: _Row(
        TargetKind.NUMBER,
        _standardised_response(Response.NUM_CORRECTIONS),
        _class_corrections,
        response=Response.NUM_CORRECTIONS,
    ),
    Target.ANNOTATOR: _Row(TargetKind.CLASS, _annotator),
}
