"""Accuracies of answers: top-k, by group, against background. Fractions, not percent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool

from luab_jax.errors import DataError
from luab_jax.evaluation.answers import Answers, codes
from luab_jax.evaluation.scores import intervals
from luab_jax.evaluation.scores.calibration import calibration_error

Scores = dict[str, Any]
Score = Callable[[Mapping[str, Answers]], Scores]


def accuracies(right: Mapping[str, Bool[np.ndarray, " n"]]) -> Scores:
    """Shares with their intervals."""
    return {name: float(values.mean()) for name, values in right.items()} | {
        "intervals": {name: intervals.wilson(values) for name, values in right.items()},
        "interval_method": intervals.WILSON,
    }


def calibration(answers: Answers) -> Scores:
    """`ece`, where there is one."""
    error = calibration_error(answers.confidence, answers.right)
    return {} if error is None else {"ece": error}


def top_k(answers: Answers) -> Scores:
    """ImageNet's top-1 and top-5."""
    return {
        **accuracies({"top1": answers.right, "top5": answers.rank < 5}),
        **calibration(answers),
        "n": len(answers),
    }


def real(answers: Answers) -> Scores:
    """ReaL (Beyer et al. 2020): right if the argmax is among the correct labels; images without any are left out."""
    if not len(answers):
        raise DataError("no image of this set has ReaL labels; prepare it with --real=real.json")
    return {
        **accuracies({"top1": answers.right}),
        **calibration(answers),
        "n": len(answers),
        "n_left_out": answers.num_left_out,
    }


def beside(headline: str) -> Score:
    """Top-1 of the part `headline`, and of every other part as `top1_<part>`."""

    def score(parts: Mapping[str, Answers]) -> Scores:
        main = parts[headline]
        named = {"top1": main.right}
        named |= {f"top1_{name}": answers.right for name, answers in parts.items() if name != headline and len(answers)}
        return {**accuracies(named), **calibration(main), "n": len(main)}

    return score


def by_group(answers: Answers) -> Scores:
    """Top-1 of every group (size, angle, corruption ...), and the mean over groups."""
    per_group, weights = group_means(answers)
    return {
        "top1": float(np.mean(list(per_group.values()))),
        "groups": per_group,
        **calibration(answers),
        "n": len(answers),
        "intervals": {"top1": intervals.of_mean_accuracy(answers.right, weights, answers.images)},
        "interval_method": intervals.CLUSTERED,
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
    scores = accuracies({name: answers.right for name, answers in parts.items()})
    gap = {"gap": intervals.difference(same.right, rand.right)}
    return {
        "gap": float(same.right.mean() - rand.right.mean()),
        **scores,
        "intervals": {**gap, **scores["intervals"]},
        "interval_method": f"{intervals.WILSON}; gap: {intervals.NEWCOMBE}",
        "n": len(rand),
    }
