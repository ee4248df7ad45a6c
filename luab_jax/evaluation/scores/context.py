"""How much a class's score hangs on its context: V_min and V_avg (Shetty, Schiele and Fritz 2019; LUAB's COCO table).

Where classes c and o are both in an image, o is context of c. The context is *violated* if taking o away costs c more
than taking c itself away: S_c(image without o) < S_c(image without c). The authors' formulas could not be had; V_avg
has two readings, and both are given.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from luab_jax.errors import DataError
from luab_jax.evaluation.scores import intervals
from luab_jax.results.score import Direction, Score

_NAMES = ("v_min", "v_avg", "v_avg_of_scores")


def context_violations(
    images: Int[np.ndarray, " e"], removed: Int[np.ndarray, " e"], scores: Float[np.ndarray, "e c"]
) -> dict[str, Any]:
    """V_min and V_avg, in fractions; lower is better.

    Row e is image `images[e]` without class `removed[e]`, with the scores of all C classes in [0, 1], as LUAB's poster
    shows them: their mean is another than that of logits. A pair (image, c) counts
    if c was removed there and so was another class. Per pair
        V_min            1 if the worst context violates: min over o of S_c(without o) < S_c(without c)
        V_avg            the share of contexts o that violate
        V_avg_of_scores  1 if the mean over o of S_c(without o) < S_c(without c)
    and the scores are means over all pairs; `*_by_class` are means over classes of the means over their pairs.
    """
    rows_of: dict[int, list[int]] = defaultdict(list)
    for row, image in enumerate(images.tolist()):
        rows_of[image].append(row)
    pairs: list[tuple[float, float, float]] = []
    of_image: list[int] = []
    of_class: list[int] = []
    for image, rows in enumerate(rows_of.values()):
        for row in rows:
            label = int(removed[row])
            context = np.asarray([scores[other, label] for other in rows if other != row])
            if context.size:
                own = scores[row, label]
                pairs.append((float(context.min() < own), float(np.mean(context < own)), float(context.mean() < own)))
                of_image.append(image)
                of_class.append(label)
    if not pairs:
        raise DataError("no image has two classes that could be removed, so there is no context to judge")
    values, image_codes = np.asarray(pairs), np.unique(of_image, return_inverse=True)[1]
    classes, class_codes = np.unique(of_class, return_inverse=True)
    found: dict[str, Any] = {}
    for name, column in zip(_NAMES, values.T, strict=True):
        found[name] = _mean(column, image_codes, np.zeros(len(column), np.int64))
    for name, column in zip(_NAMES, values.T, strict=True):
        found[f"{name}_by_class"] = _mean(column, image_codes, class_codes)
    return {
        **found,
        "n": len(values),
        "n_images": int(image_codes.max()) + 1,
        "n_classes": len(classes),
    }


def _mean(values: Float[np.ndarray, " p"], images: Int[np.ndarray, " p"], groups: Int[np.ndarray, " p"]) -> Score:
    """The mean over groups of the means of their pairs; a group that an image alone has is not there without it."""
    shape = (int(images.max()) + 1, int(groups.max()) + 1)
    place = np.ravel_multi_index((images, groups), shape)
    size = shape[0] * shape[1]
    sums = np.bincount(place, values, size).reshape(shape)
    counts = np.bincount(place, minlength=size).reshape(shape)
    mean = float(np.mean(sums.sum(axis=0) / counts.sum(axis=0)))
    left = counts.sum(axis=0) - counts
    of_groups = np.divide(sums.sum(axis=0) - sums, left, out=np.zeros(shape), where=left > 0)
    some = (left > 0).sum(axis=1)
    without = np.divide(of_groups.sum(axis=1), some, out=np.full(shape[0], np.nan), where=some > 0)
    return intervals.jackknife(mean, without, Direction.LOWER)
