"""ImageNet-W (Li et al. 2023): what a watermark that many cartons of the training set bear does to accuracy."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from luab_jax.data.class_lists import imagenet
from luab_jax.evaluation.answers import Answers
from luab_jax.evaluation.scores import intervals
from luab_jax.evaluation.scores.classification import Scores, calibration
from luab_jax.results.answers import Kind, Sample
from luab_jax.results.score import FRACTION, Direction, Score

CARTON = 478
"""ImageNet's index. facebookresearch/Whac-A-Mole, imagenet_w/watermark_transform.py."""


def watermark_gap(parts: Mapping[str, Answers]) -> Scores:
    """`in_w_gap` is accuracy with the watermark less that without: negative where it misleads.

    `carton_gap` is the same of the cartons, which the watermark helps; without any of them it is not there.
    """
    marked, clean = parts["watermark"], parts["clean"]
    scores: Scores = {
        "in_w_gap": _gap(marked, clean),
        "top1_watermark": intervals.share(marked.right, images=marked.images),
        "top1_clean": intervals.share(clean.right, images=clean.images),
        **calibration(marked),
        "n": len(marked),
    }
    carton = imagenet().ids[CARTON]
    of_cartons = [np.asarray([i.startswith(f"{carton}/") for i in part.images], bool) for part in (marked, clean)]
    if all(rows.any() for rows in of_cartons):
        with_mark, without = (
            float(part.right[rows].mean()) for part, rows in zip((marked, clean), of_cartons, strict=True)
        )
        scores["carton_gap"] = Score(with_mark - without, FRACTION, Direction.LOWER)
    return scores


def _gap(marked: Answers, clean: Answers) -> Score:
    """Over pairs, where both have the same images."""
    value = float(marked.right.mean() - clean.right.mean())
    if marked.images == clean.images and len(marked) > 1:
        parts = marked.right.astype(np.float64) - clean.right
        half = intervals.Z * float(np.sqrt(parts.var(ddof=1) / len(parts)))
        sample = Sample(Kind.MEANS, parts, marked.images)
        return Score(
            value, FRACTION, Direction.HIGHER, (value - half, value + half), intervals.CLUSTERED, sample=sample
        )
    return Score(value, FRACTION, Direction.HIGHER)
