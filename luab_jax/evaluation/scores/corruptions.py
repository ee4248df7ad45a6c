"""ImageNet-C (Hendrycks and Dietterich 2019): accuracies by kind and severity, and the mCE."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from luab_jax.evaluation.answers import Answers
from luab_jax.evaluation.scores import intervals
from luab_jax.evaluation.scores.classification import Scores, calibration, group_means
from luab_jax.evaluation.scores.shift import by_severity
from luab_jax.results.answers import Kind, Sample
from luab_jax.results.score import FRACTION, Direction, Score

SEVERITIES = (1, 2, 3, 4, 5)

ALEXNET_ERROR = {
    "gaussian_noise": 0.886428,
    "shot_noise": 0.894468,
    "impulse_noise": 0.922640,
    "defocus_blur": 0.819880,
    "glass_blur": 0.826268,
    "motion_blur": 0.785948,
    "zoom_blur": 0.798360,
    "snow": 0.866816,
    "frost": 0.826572,
    "fog": 0.819324,
    "brightness": 0.564592,
    "contrast": 0.853204,
    "elastic_transform": 0.646056,
    "pixelate": 0.717840,
    "jpeg_compression": 0.606500,
}
"""AlexNet's error on the 15 kinds of the headline, mean over severities: google-research/augmix imagenet.py; by
severity in issue 10 of hendrycks/robustness."""


def corruptions(parts: Mapping[str, Answers]) -> Scores:
    """Accuracy as mean over the 15 kinds and 5 severities; mCE; and the accuracy over all 19 kinds, where there.

    mCE is the mean over the 15 of the model's error over AlexNet's, both means over severities: a fraction, which may
    exceed 1. Without all 15 kinds at all severities there is none, and the accuracy is the mean over what is there.
    """
    answers = parts["test"]
    per_group, weights = group_means(answers)
    per_kind = _by_kind(per_group)
    scores: Scores = {"top1": intervals.mean_accuracy(answers.right, weights, answers.images)}
    missing = [name for kind in ALEXNET_ERROR for s in SEVERITIES if (name := _group(kind, s)) not in per_group]
    if missing:
        scores |= {"partial": True, "groups_missing": missing}
    else:
        scores["mce"] = _mce(answers, weights)
    extra: dict[str, float] = {}
    if "extra" in parts and len(parts["extra"]):
        extra, _ = group_means(parts["extra"])
        all_kinds = [*per_kind.values(), *_by_kind(extra).values()]
        with_extra = Score(float(np.mean(all_kinds)), FRACTION, Direction.HIGHER)
        scores |= {"top1_with_extra": with_extra, "kinds_extra": _by_kind(extra)}
    return {
        **scores,
        "kinds": per_kind,
        "groups": per_group | extra,
        **calibration(answers),
        **by_severity(answers),
        "n": len(answers),
        "n_images": len(set(answers.images)),
    }


def _mce(answers: Answers, weights: Float[np.ndarray, " n"]) -> Score:
    alexnet = np.asarray([ALEXNET_ERROR[group.partition(",")[0]] for group in answers.groups])
    names, of_image = intervals.per_image(1.0 - answers.right, weights / alexnet, answers.images)
    low, high = intervals.of_weighted_sum(1.0 - answers.right, weights / alexnet, answers.images)
    value = float(of_image.mean())
    # Errors are no less than 0; of a single image nothing is known.
    bounds = (max(0.0, low), high) if np.isfinite(high) else None
    sample = Sample(Kind.MEANS, of_image, names)
    return Score(value, FRACTION, Direction.LOWER, bounds, intervals.CLUSTERED, sample=sample)


def _group(kind: str, severity: int) -> str:
    return f"{kind},severity={severity}"


def _by_kind(per_group: Mapping[str, float]) -> dict[str, float]:
    """Means over severities."""
    kinds: dict[str, list[float]] = {}
    for group, value in per_group.items():
        kinds.setdefault(group.partition(",")[0], []).append(value)
    return {kind: float(np.mean(values)) for kind, values in kinds.items()}
