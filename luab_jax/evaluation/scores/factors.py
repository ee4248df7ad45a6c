"""ImageNet-X (Idrissi et al. 2023): how much more often a model errs where a factor makes an image unusual."""

from __future__ import annotations

import numpy as np

from luab_jax.data.label_tables import FACTORS
from luab_jax.errors import DataError
from luab_jax.evaluation.answers import Answers
from luab_jax.evaluation.scores import intervals
from luab_jax.evaluation.scores.classification import Scores, calibration
from luab_jax.evaluation.scores.groups import size_of_worst
from luab_jax.results.answers import Kind, Sample
from luab_jax.results.score import FRACTION, NUMBER, Direction, Score


def error_ratios(answers: Answers) -> Scores:
    """An image's group is its factors with `+` between, or empty.

    `error_ratio_<factor>`  error of the images with the factor over the error of all (aggregate.py, `error_ratio`)
    `worst_factor`          the lowest accuracy of any factor
    `top1`                  of all annotated images
    Raises `DataError` where no image has a factor.
    """
    has = {name: np.asarray([name in group.split("+") for group in answers.groups]) for name in FACTORS}
    rows = {name: np.flatnonzero(found) for name, found in has.items() if found.any()}
    if not rows:
        raise DataError("no image has a factor; prepare the set with --factors=imagenet_x_val_multi_factor.jsonl")
    right = answers.right
    accuracy = {name: float(right[of].mean()) for name, of in rows.items()}
    worst = min(accuracy, key=lambda name: accuracy[name])
    parts = [right[of] for of in rows.values()]
    replicates = intervals.resampled(lambda rng: min(float(rng.choice(part, len(part)).mean()) for part in parts))
    bounds = intervals.on_logit_scale(accuracy[worst], float(replicates.std()), size_of_worst(parts))
    sample = Sample(Kind.RESAMPLES, replicates)
    top1 = intervals.share(right, images=answers.images)
    scores: Scores = {
        "worst_factor": Score(
            accuracy[worst], FRACTION, Direction.HIGHER, bounds, intervals.BOOTSTRAP_LOGIT, sample=sample
        ),
        "top1": top1,
        **calibration(answers),
        "groups": accuracy,
        "name_of_worst_factor": worst,
        "images_of_factors": {name: len(of) for name, of in rows.items()},
        "n": len(answers),
    }
    if float(top1) < 1:
        ratios = {name: (1 - value) / (1 - float(top1)) for name, value in accuracy.items()}
        scores |= {f"error_ratio_{name}": Score(ratio, NUMBER, Direction.LOWER) for name, ratio in ratios.items()}
    return scores
