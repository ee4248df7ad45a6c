"""From the byproducts of an image to Z, what the byproduct head learns to predict.

Every target has a fixed shape `[K, D]` with `valid [K]`: K things located on the image (one, for a single-label image)
by D numbers each. A target is made in fractions of the whole image and then moved with the crop; what leaves the crop
is invalid and does not count in the loss (the ImageNet loader of the paper masks it likewise, suites.md §16).

| target      | Z                                                         | seed of the idea                     |
|-------------|-----------------------------------------------------------|--------------------------------------|
| none        | nothing: the baseline, no head                            | paper, no-AB row                     |
| random      | a point drawn once per image                              | paper, Rand row                      |
| click_last  | last click of each selected showing, their mean           | the last click is the final choice   |
| click_first | first click of each selected showing, their mean          | the paper's loader                   |
| click_mean  | mean click of each selected showing, their mean           | toggling is hesitation: use all of it |
| box         | ground-truth box, the union if the class has several      | an upper bound that costs annotation |
| box_centre  | its centre                                                | a click without the annotator's noise |
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


class Target(enum.Enum):
    """What the byproduct head predicts; see the table above."""

    NONE = "none"
    RANDOM = "random"
    CLICK_LAST = "click_last"
    CLICK_FIRST = "click_first"
    CLICK_MEAN = "click_mean"
    BOX = "box"
    BOX_CENTRE = "box_centre"


class TargetValues(NamedTuple):
    """Z of one image; rows that are not valid hold zeros."""

    values: Float[np.ndarray, "k d"]
    valid: Bool[np.ndarray, " k"]


def target_shape(target: Target) -> tuple[int, int] | None:
    """(K, D) of a target, `None` for the baseline, which has no head."""
    if target is Target.NONE:
        return None
    return (1, 4) if target is Target.BOX else (1, 2)


def make_target(target: Target, byproducts: ByproductColumns, view: Affine, *, seed: int) -> TargetValues:
    """Z of one image as `view` shows it, in fractions of the crop.

    `seed` matters for `random` only, whose points depend on it and on the image's name, and not on the crop.
    """
    match target:
        case Target.NONE:
            return TargetValues(np.zeros((0, 0), np.float32), np.zeros(0, bool))
        case Target.RANDOM:
            return _moved_point(random_point(byproducts.file_name, seed), view)
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


def random_point(file_name: str, seed: int) -> Float[np.ndarray, " 2"]:
    """A uniform point of the image that stays the same in every epoch, on every host and in every worker."""
    digest = hashlib.blake2b(f"{seed}/{file_name}".encode(), digest_size=8).digest()
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
    if not len(boxes):
        return None
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
