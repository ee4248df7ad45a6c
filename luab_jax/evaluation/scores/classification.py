"""Accuracies of answers: top-k, by group, against background. Fractions, not percent."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool

from luab_jax.data.dataset import IMAGES_WITH_REAL_LABELS, PreparedSplit
from luab_jax.data.features import Example
from luab_jax.errors import DataError
from luab_jax.evaluation.answers import Answers, codes
from luab_jax.evaluation.scores import intervals
from luab_jax.evaluation.scores.calibration import calibration_error
from luab_jax.results.answers import Kind, Sample
from luab_jax.results.score import FRACTION, Direction, Score

Scores = dict[str, Any]
Scoring = Callable[[Mapping[str, Answers]], Scores]


def accuracies(right: Mapping[str, Bool[np.ndarray, " n"]], images: Sequence[str] = ()) -> Scores:
    """Shares with their intervals."""
    return {name: intervals.share(values, images=images) for name, values in right.items()}


def calibration(answers: Answers) -> Scores:
    """`ece`, where there is one."""
    error = calibration_error(answers.confidence, answers.right)
    return {} if error is None else {"ece": Score(error, FRACTION, Direction.LOWER)}


def top_k(answers: Answers) -> Scores:
    """ImageNet's top-1 and top-5."""
    return {
        **accuracies({"top1": answers.right, "top5": answers.rank < 5}, answers.images),
        **calibration(answers),
        "n": len(answers),
    }


_NO_REAL = "no image of this set has ReaL labels; prepare it with --real=real.json"
_LOOKED_AT = 64
"""Images spread over a set. ReaL has labels for 46,837 of 50,000, so that one of these has some, if any has."""


def without_real(split: PreparedSplit) -> str | None:
    """Why the set is not for ReaL, by what its preparation counted and by some of its images; None if that is unknown.

    Only of sets that state counts, as those of data_prep do: of others every image is asked, by `real`.
    """
    counts = split.manifest.counts
    if not counts or counts.get(IMAGES_WITH_REAL_LABELS):
        return None
    num_images = len(split.records)
    try:
        for i in range(0, num_images, max(1, num_images // _LOOKED_AT)):
            if Example(split.records[i]).record().labels:
                return None
    except DataError:  # a broken shard is told of by what reads the whole
        return None
    return _NO_REAL


def real(answers: Answers) -> Scores:
    """ReaL (Beyer et al. 2020): right if the argmax is among the correct labels; images without any are left out."""
    if not len(answers):
        raise DataError(_NO_REAL)
    return {
        **accuracies({"top1": answers.right}, answers.images),
        **calibration(answers),
        "n": len(answers),
        "n_left_out": answers.num_left_out,
    }


def beside(headline: str) -> Scoring:
    """Top-1 of the part `headline`, and of every other part as `top1_<part>`."""

    def score(parts: Mapping[str, Answers]) -> Scores:
        main = parts[headline]
        others = {f"top1_{name}": part for name, part in parts.items() if name != headline and len(part)}
        shares = {
            name: intervals.share(part.right, images=part.images) for name, part in {"top1": main, **others}.items()
        }
        return {**shares, **calibration(main), "n": len(main)}

    return score


def by_group(answers: Answers) -> Scores:
    """Top-1 of every group (size, angle, corruption ...), and the mean over groups."""
    per_group, weights = group_means(answers)
    return {
        "top1": intervals.mean_accuracy(answers.right, weights, answers.images),
        "groups": per_group,
        **calibration(answers),
        "n": len(answers),
    }


def group_means(answers: Answers) -> tuple[dict[str, float], np.ndarray]:
    """Top-1 of each group; and weights of the rows by which a sum is the mean over groups."""
    names, group = codes(answers.groups)
    counts = np.bincount(group, minlength=len(names))
    right = np.bincount(group, weights=answers.right, minlength=len(names))
    weights = 1 / (len(names) * counts[group])
    return dict(zip(names, (right / counts).tolist(), strict=True)), weights


def backgrounds(parts: Mapping[str, Answers]) -> Scores:
    """Xiao et al. 2021: accuracy that is lost when the background stops going with the class, and that of every part.

    `n` is of each of the two sets that the gap is between.
    """
    same, rand = parts["mixed_same"], parts["mixed_rand"]
    # With a bare background neither more nor less is better.
    shares = {
        name: intervals.share(
            answers.right, Direction.HIGHER if name in _WITH_FOREGROUND else Direction.NONE, answers.images
        )
        for name, answers in parts.items()
    }
    return {"gap": gap(same, rand), **shares, "n": len(rand)}


_WITH_FOREGROUND = ("original", "mixed_same", "mixed_rand", "mixed_next", "only_fg")


def gap(same: Answers, rand: Answers) -> Score:
    """The share of right answers in `same` less that in `rand`, two sets of images."""
    value = float(same.right.mean() - rand.right.mean())
    n = len(same) + len(rand)
    parts = np.concatenate([same.right * (n / len(same)), rand.right * (-n / len(rand))])
    sample = Sample(Kind.MEANS, parts, [*(f"same/{i}" for i in same.images), *(f"rand/{i}" for i in rand.images)])
    interval = intervals.difference(same.right, rand.right)
    return Score(value, FRACTION, Direction.LOWER, interval, intervals.NEWCOMBE, sample=sample)
