"""From the byproducts of an image to Z, what the byproduct head learns to predict.

Every target has a fixed shape `[K, D]` with `valid [K]`: K things located on the image by D numbers each. Images with
one label have K = 1; images with a set of labels have K = number of classes, and only rows of present classes are
valid. A target is made in fractions of the whole image and then moved with the crop; what leaves the crop is invalid
and does not count in the loss (the ImageNet loader of the paper masks it likewise: imagenet_dataloader.ipynb).

| target      | Z                                                               | seed of the idea                  |
|-------------|-----------------------------------------------------------------|-----------------------------------|
| none        | nothing: the baseline, no head                                  | paper, no-AB row                  |
| random      | a random point in place of every point that was clicked         | paper, Rand row: as many points   |
| click_last  | last click of each selected showing, mean over showings         | the last click is the final one   |
| click_first | first click of each selected showing, mean over showings        | the paper's loader                |
| click_mean  | mean of the clicks of each selected showing, mean over showings | an annotator who toggled          |
| box         | ground-truth box, the union if the class has several            | an upper bound: costs more        |
| box_centre  | its centre                                                      | a click without the noise         |
| coco_final  | where the icon of each present class lies in the end            | the corrections count             |
| coco_added  | where it was last added in the last record                      | the paper's loader                |

Clicks exist for single labels only, icons for sets of labels only; the others are for both.
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from luab_jax.byproducts.columns import ByproductColumns
from luab_jax.byproducts.geometry import Affine, clip_boxes, inside
from luab_jax.byproducts.icons import IconRule, class_points


class Target(enum.Enum):
    """What the byproduct head predicts; see the table above."""

    NONE = "none"
    RANDOM = "random"
    CLICK_LAST = "click_last"
    CLICK_FIRST = "click_first"
    CLICK_MEAN = "click_mean"
    BOX = "box"
    BOX_CENTRE = "box_centre"
    COCO_FINAL = "coco_final"
    COCO_ADDED = "coco_added"


_ICON_RULES = {Target.COCO_FINAL: IconRule.FINAL, Target.COCO_ADDED: IconRule.ADDED}
_CLICKS = (Target.CLICK_LAST, Target.CLICK_FIRST, Target.CLICK_MEAN)


class TargetValues(NamedTuple):
    """Z of one image; rows that are not valid hold zeros."""

    values: Float[np.ndarray, "k d"]
    valid: Bool[np.ndarray, " k"]


def fits(target: Target, num_classes: int | None) -> bool:
    """Whether images with one label (`None`), or with sets of `num_classes` labels, can have this target."""
    return target not in (_ICON_RULES if num_classes is None else _CLICKS)


def target_shape(target: Target, num_classes: int | None = None) -> tuple[int, int] | None:
    """(K, D) of a target, `None` for the baseline, which has no head.

    `num_classes` is given for sets of labels and makes K; `None` means one label per image.
    """
    _check_fit(target, num_classes)
    if target is Target.NONE:
        return None
    return (num_classes or 1, 4 if target is Target.BOX else 2)


def _check_fit(target: Target, num_classes: int | None) -> None:
    if not fits(target, num_classes):
        data = "images with one label each" if num_classes is None else "images with sets of labels"
        raise ValueError(f"target {target.value} does not exist for {data}")


def make_target(
    target: Target, byproducts: ByproductColumns, view: Affine, *, seed: int, num_classes: int | None = None
) -> TargetValues:
    """Z of one image as `view` shows it, in fractions of the crop; `num_classes` as in `target_shape`.

    `seed` matters for `random` only, whose points depend on it and on the image's name (and class), not on the crop.
    """
    if num_classes is not None:
        return _class_targets(target, byproducts, view, seed, num_classes)
    _check_fit(target, num_classes)
    match target:
        case Target.NONE:
            return TargetValues(np.zeros((0, 0), np.float32), np.zeros(0, bool))
        case Target.RANDOM:
            clicked = _click(byproducts, lambda clicks: clicks[-1]) is not None
            return _moved_point(random_point(byproducts.file_name, seed) if clicked else None, view)
        case Target.CLICK_LAST:
            return _moved_point(_click(byproducts, lambda clicks: clicks[-1]), view)
        case Target.CLICK_FIRST:
            return _moved_point(_click(byproducts, lambda clicks: clicks[0]), view)
        case Target.CLICK_MEAN:
            return _moved_point(_click(byproducts, lambda clicks: clicks.mean(axis=0)), view)
        case Target.BOX:
            return _moved_box(class_box(byproducts), view)
        case Target.BOX_CENTRE:
            box = class_box(byproducts)
            return _moved_point(None if box is None else (box[:2] + box[2:]) / 2, view)
        case _:
            raise AssertionError(target)


def _class_targets(
    target: Target, byproducts: ByproductColumns, view: Affine, seed: int, num_classes: int
) -> TargetValues:
    """One row for each class, in label order."""
    shape = target_shape(target, num_classes)
    if shape is None:
        return TargetValues(np.zeros((0, 0), np.float32), np.zeros(0, bool))
    if target in (Target.BOX, Target.BOX_CENTRE):
        boxes = np.full((num_classes, 4), np.nan)
        for label in set(byproducts.box_labels.tolist()) & set(range(num_classes)):
            boxes[label] = _union(byproducts.boxes[byproducts.box_labels == label])
        if target is Target.BOX:
            clipped, visible = clip_boxes(view.boxes(boxes))
            return TargetValues(np.where(visible[:, None], clipped, 0).astype(np.float32), visible)
        points = (boxes[:, :2] + boxes[:, 2:]) / 2
    else:
        points = present_points(target, byproducts, num_classes, seed=seed)
    moved = view.points(points)
    valid = inside(moved)
    return TargetValues(np.where(valid[:, None], moved, 0).astype(np.float32), valid)


def present_points(
    target: Target, byproducts: ByproductColumns, num_classes: int, *, seed: int = 0
) -> Float[np.ndarray, "classes 2"]:
    """The point of every present class in fractions of the whole image, NaN where there is none.

    A class that the annotator saw and the ground truth does not know has no row: its label is 0.
    """
    points = np.full((num_classes, 2), np.nan)
    rule = _ICON_RULES[Target.COCO_FINAL if target is Target.RANDOM else target]
    recorded = class_points(rule, byproducts.actions, num_classes)
    points[byproducts.labels] = recorded[byproducts.labels]
    if target is Target.RANDOM:
        for label in np.flatnonzero(~np.isnan(points[:, 0])).tolist():
            points[label] = random_point(byproducts.file_name, seed, label)
    return points


def classes_outside(
    target: Target, byproducts: ByproductColumns, view: Affine, num_classes: int
) -> Bool[np.ndarray, " classes"]:
    """Which present classes have an icon that `view` does not show: the labels that follow their points.

    The icons are those of `target` if it has any, else the final ones.
    """
    points = present_points(target if target in _ICON_RULES else Target.COCO_FINAL, byproducts, num_classes)
    return ~np.isnan(points[:, 0]) & ~inside(view.points(points))


def random_point(file_name: str, seed: int, label: int | None = None) -> Float[np.ndarray, " 2"]:
    """A uniform point of the image that stays the same in every epoch, on every host and in every worker."""
    name = f"{seed}/{file_name}" if label is None else f"{seed}/{file_name}#{label}"
    digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
    return np.frombuffer(digest, "<u4").astype(np.float64) / 2**32


def _click(
    byproducts: ByproductColumns, pick: Callable[[Float[np.ndarray, "n 2"]], Float[np.ndarray, " 2"]]
) -> Float[np.ndarray, " 2"] | None:
    """One click of each showing in which the image was selected, averaged over these; `None` without any."""
    showing: Int[np.ndarray, " n"] = byproducts.clicks.showing
    picked = [
        pick(byproducts.clicks.xy[showing == index])
        for index in np.flatnonzero(byproducts.selected)
        if np.any(showing == index)
    ]
    return np.mean(picked, axis=0) if picked else None


def class_box(byproducts: ByproductColumns) -> Float[np.ndarray, " 4"] | None:
    """The union of the boxes of the image's class (of boxes without a label too); `None` without any."""
    of_class = np.isin(byproducts.box_labels, (byproducts.label, -1))
    boxes = byproducts.boxes[of_class]
    return _union(boxes) if len(boxes) else None


def _union(boxes: Float[np.ndarray, "n 4"]) -> Float[np.ndarray, " 4"]:
    return np.concatenate([boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)])


def _moved_point(point: np.ndarray | None, view: Affine) -> TargetValues:
    if point is None:
        return TargetValues(np.zeros((1, 2), np.float32), np.zeros(1, bool))
    moved = view.points(point[None])
    valid = inside(moved)
    return TargetValues(np.where(valid[:, None], moved, 0).astype(np.float32), valid)


def _moved_box(box: np.ndarray | None, view: Affine) -> TargetValues:
    if box is None:
        return TargetValues(np.zeros((1, 4), np.float32), np.zeros(1, bool))
    clipped, visible = clip_boxes(view.boxes(box[None]))
    return TargetValues(np.where(visible[:, None], clipped, 0).astype(np.float32), visible)
