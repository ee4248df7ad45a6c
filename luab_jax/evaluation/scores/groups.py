"""Accuracy where it is worst: of the worst group, and gaps between the values of one attribute (Sagawa et al. 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool

from luab_jax.data.dataset import PreparedSplit
from luab_jax.data.features import Example
from luab_jax.errors import DataError
from luab_jax.evaluation.answers import Answers, codes
from luab_jax.evaluation.scores import intervals
from luab_jax.evaluation.scores.classification import calibration, group_means
from luab_jax.results.answers import Kind, Sample
from luab_jax.results.score import FRACTION, Direction, Score

_LOOKED_AT = 16
NO_GROUPS = "its images have no groups; prepare them with `data_prep folder --annotations=... --groups=...`"


def without_groups(split: PreparedSplit) -> str | None:
    """Why the set is not for scores of groups, by some of its images; None if they have groups."""
    num_images = len(split.records)
    try:
        if any(Example(split.records[i]).group for i in range(0, num_images, max(1, num_images // _LOOKED_AT))):
            return None
    except DataError:  # a broken shard is told of by what reads the whole
        return None
    return NO_GROUPS


def size_of_worst(of_groups: Sequence[Bool[np.ndarray, " _"]]) -> int:
    """Images of the group with the lowest accuracy; of equal ones the smallest. The sizes of others say nothing."""
    return min((right.mean(), len(right)) for right in of_groups)[1]


def worst_group(answers: Answers) -> dict[str, Any]:
    """Groups are `attribute=value,attribute=value`; images without one are left out of all scores but `top1`.

    `worst_group`      accuracy of the group with the lowest; the interval is that of the minimum, over resamples within
                       each group. The minimum of small groups lies below the lowest true accuracy.
    `top1_of_groups`   mean over groups
    `gap_<attribute>`  largest difference between means over groups that agree in the attribute
    `gap`              `top1`, over all images, less `worst_group`
    """
    rows = np.flatnonzero([bool(group) for group in answers.groups])
    if not len(rows):
        raise DataError(NO_GROUPS)
    grouped = Answers(
        answers.rank[rows],
        answers.confidence[rows],
        [answers.groups[i] for i in rows],
        [answers.images[i] for i in rows],
    )
    names, group = codes(grouped.groups)
    per_group, weights = group_means(grouped)
    of_groups = [grouped.right[group == g] for g in range(len(names))]
    worst = min(per_group.values())
    replicates = intervals.resampled(
        lambda rng: min(float(rng.choice(right, len(right)).mean()) for right in of_groups)
    )
    bounds = intervals.on_logit_scale(worst, float(replicates.std()), size_of_worst(of_groups))
    top1 = intervals.share(answers.right, images=answers.images)
    return {
        "worst_group": Score(worst, FRACTION, Direction.HIGHER, bounds, intervals.BOOTSTRAP_LOGIT,
                             sample=Sample(Kind.RESAMPLES, replicates)),
        "top1": top1,
        "top1_of_groups": intervals.mean_accuracy(grouped.right, weights, grouped.images),
        "gap": Score(float(top1) - worst, FRACTION, Direction.LOWER),
        **{f"gap_{name}": Score(gap, FRACTION, Direction.LOWER) for name, gap in _gaps(per_group).items()},
        **calibration(answers),
        "groups": per_group,
        "name_of_worst_group": min(per_group, key=lambda name: per_group[name]),
        "images_of_groups": {name: len(right) for name, right in zip(names, of_groups, strict=True)},
        "n_without_group": len(answers) - len(rows),
        "n": len(answers),
    }  # fmt: skip


def _gaps(per_group: dict[str, float]) -> dict[str, float]:
    values: dict[str, dict[str, list[float]]] = {}
    for name, accuracy in per_group.items():
        for part in name.split(","):
            attribute, equals, value = part.partition("=")
            if equals:
                values.setdefault(attribute, {}).setdefault(value, []).append(accuracy)
    means = {name: [float(np.mean(of)) for of in by_value.values()] for name, by_value in values.items()}
    return {name: max(of) - min(of) for name, of in means.items() if len(of) > 1}
