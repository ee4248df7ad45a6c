"""Where annotators pointed, where they could have pointed by chance, and the boxes of what they pointed at."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from luab_jax.byproducts.columns import ByproductColumns
from luab_jax.byproducts.icons import IconRule, class_points


def last_click(byproducts: ByproductColumns) -> Float[np.ndarray, " 2"] | None:
    return _click(byproducts, lambda clicks: clicks[-1])


def first_click(byproducts: ByproductColumns) -> Float[np.ndarray, " 2"] | None:
    return _click(byproducts, lambda clicks: clicks[0])


def mean_click(byproducts: ByproductColumns) -> Float[np.ndarray, " 2"] | None:
    return _click(byproducts, lambda clicks: clicks.mean(axis=0))


def _click(
    byproducts: ByproductColumns, pick: Callable[[Float[np.ndarray, "n 2"]], Float[np.ndarray, " 2"]]
) -> Float[np.ndarray, " 2"] | None:
    """One click of each showing in which the image was selected, averaged over these; `None` without any."""
    # Loops over the few clicks of an image: a dozen calls of numpy would take a tenth of the time of decoding it.
    selected, xy = byproducts.selected.tolist(), byproducts.clicks.xy
    rows: dict[int, list[int]] = {}
    for row, showing in enumerate(byproducts.clicks.showing.tolist()):
        if selected[showing]:
            rows.setdefault(showing, []).append(row)
    picked = [pick(xy[of_showing]) for of_showing in rows.values()]
    return np.mean(picked, axis=0) if len(picked) > 1 else next(iter(picked), None)


def random_click(byproducts: ByproductColumns, seed: int) -> Float[np.ndarray, " 2"] | None:
    """A random point where the image was clicked, so that there are as many as clicks."""
    return None if last_click(byproducts) is None else random_point(byproducts.file_name, seed)


def random_point(file_name: str, seed: int, label: int | None = None) -> Float[np.ndarray, " 2"]:
    """A uniform point of the image that stays the same in every epoch, on every host and in every worker."""
    name = f"{seed}/{file_name}" if label is None else f"{seed}/{file_name}#{label}"
    digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
    return np.frombuffer(digest, "<u4").astype(np.float64) / 2**32


def icons(rule: IconRule, byproducts: ByproductColumns, num_classes: int) -> Float[np.ndarray, "classes 2"]:
    """The point of every present class in fractions of the whole image, NaN where there is none.

    A class that the annotator saw and the ground truth does not know has no row: its label is 0.
    """
    points = np.full((num_classes, 2), np.nan)
    recorded = class_points(rule, byproducts.actions, num_classes)
    points[byproducts.labels] = recorded[byproducts.labels]
    return points


def random_icons(byproducts: ByproductColumns, num_classes: int, seed: int) -> Float[np.ndarray, "classes 2"]:
    """A random point for every present class that has an icon in the end."""
    points = icons(IconRule.FINAL, byproducts, num_classes)
    for label in np.flatnonzero(~np.isnan(points[:, 0])).tolist():
        points[label] = random_point(byproducts.file_name, seed, label)
    return points


def class_box(byproducts: ByproductColumns) -> Float[np.ndarray, " 4"] | None:
    """The union of the boxes of the image's class (of boxes without a label too); `None` without any."""
    of_class = np.isin(byproducts.box_labels, (byproducts.label, -1))
    boxes = byproducts.boxes[of_class]
    return _union(boxes) if len(boxes) else None


def class_boxes(byproducts: ByproductColumns, num_classes: int) -> Float[np.ndarray, "classes 4"]:
    """The union of the boxes of each class, NaN for a class without any."""
    boxes = np.full((num_classes, 4), np.nan)
    for label in set(byproducts.box_labels.tolist()) & set(range(num_classes)):
        boxes[label] = _union(byproducts.boxes[byproducts.box_labels == label])
    return boxes


def _union(boxes: Float[np.ndarray, "n 4"]) -> Float[np.ndarray, " 4"]:
    return np.concatenate([boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)])


def box_centre(boxes: Float[np.ndarray, "*n 4"]) -> Float[np.ndarray, "*n 2"]:
    return (boxes[..., :2] + boxes[..., 2:]) / 2
