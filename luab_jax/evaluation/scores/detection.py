"""Telling images of no known class from others, by how unsure the model is: AUPR, AUROC, FPR at 95 %.

The definitions of hendrycks/natural-adv-examples calibration_tools.py; out-of-distribution images are the positives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import scipy
from jaxtyping import Float, Int

from luab_jax.errors import DataError
from luab_jax.evaluation.answers import Doubts
from luab_jax.evaluation.scores import intervals
from luab_jax.evaluation.scores.classification import Scores
from luab_jax.metrics.average_precision import average_precision_without_each
from luab_jax.results.answers import Kind, Sample
from luab_jax.results.score import FRACTION, Direction, Score

_RECALL = 0.95


def detection(parts: Mapping[str, Doubts]) -> Scores:
    """`aupr`, `auroc`, `fpr95` of the part `out` against the part `in`."""
    out, known = parts["out"].values, parts["in"].values
    if not len(out) or not len(known):
        raise DataError("detection needs images of either kind: val has none of this suite's classes, or the set none")
    if not (np.all(np.isfinite(out)) and np.all(np.isfinite(known))):
        raise DataError("the predictions are not finite, so nothing can be detected by them")

    others: dict[str, Score] = {}
    for name in ("energy", "max_logit"):
        of_out, of_known = getattr(parts["out"], name), getattr(parts["in"], name)
        if len(of_out) and len(of_known):
            found = scores_with_intervals(of_out, of_known, ("aupr", "auroc"))
            others |= {f"{score}_{name}": value for score, value in found.items()}
    return {
        **scores_with_intervals(out, known),
        **others,
        "n": len(out) + len(known),
        "n_out": len(out),
        "n_in": len(known),
        "n_tied_in_float32": int(np.sum(np.exp(-np.concatenate([out, known])).astype(np.float32) == 1)),
    }


def scores_with_intervals(
    out: Float[np.ndarray, " n"], known: Float[np.ndarray, " m"], names: Sequence[str] | None = None
) -> dict[str, Score]:
    """Of `detection_scores`, all or some; the images of either kind are drawn on their own."""
    found = detection_scores(out, known)
    return {name: WITH_INTERVAL[name](found[name], out, known) for name in names or WITH_INTERVAL}


def _aupr(score: float, out: Float[np.ndarray, " n"], known: Float[np.ndarray, " m"]) -> Score:
    _, without = average_precision_without_each(
        np.concatenate([out, known]), np.arange(len(out) + len(known)) < len(out)
    )
    return intervals.jackknife(score, without, Direction.HIGHER, _strata(out))


def _auroc(score: float, out: Float[np.ndarray, " n"], known: Float[np.ndarray, " m"]) -> Score:
    without = _auroc_without_each(out, known)
    return intervals.jackknife(score, without, Direction.HIGHER, _strata(out), method=intervals.DELONG)


def _fpr95(score: float, out: Float[np.ndarray, " n"], known: Float[np.ndarray, " m"]) -> Score:
    """It goes by one threshold, for which no jackknife holds."""

    # Where an image stands in the order does not change when it is drawn again, so they are sorted once.
    _, place = np.unique(-np.concatenate([out, known]), return_inverse=True)
    of_kinds, num_places = (place[: len(out)], place[len(out) :]), int(place.max()) + 1

    def again(rng: np.random.Generator) -> float:
        drawn = (np.bincount(rng.choice(places, len(places)), minlength=num_places) for places in of_kinds)
        return _false_rate(*(np.cumsum(counts) for counts in drawn))

    replicates = intervals.resampled(again)
    bounds = intervals.on_logit_scale(score, float(replicates.std()), len(known))
    sample = Sample(Kind.RESAMPLES, replicates)
    return Score(score, FRACTION, Direction.LOWER, bounds, intervals.BOOTSTRAP_LOGIT, sample=sample)


WITH_INTERVAL = {"aupr": _aupr, "auroc": _auroc, "fpr95": _fpr95}
"""From a score, the doubts of images of no known class and those of others to the score with its interval."""


def _strata(out: Float[np.ndarray, " n"]) -> tuple[slice, slice]:
    return slice(None, len(out)), slice(len(out), None)


def _auroc_without_each(out: Float[np.ndarray, " n"], known: Float[np.ndarray, " m"]) -> Float[np.ndarray, " nm"]:
    """AUROC is a mean over pairs, so leaving an image out leaves its own pairs out (DeLong et al. 1988)."""
    n, m = len(out), len(known)
    ranks = scipy.stats.rankdata(np.concatenate([out, known]))
    of_out = (ranks[:n] - scipy.stats.rankdata(out)) / m  # the share of the other kind that each exceeds
    of_known = 1 - (ranks[n:] - scipy.stats.rankdata(known)) / n
    area = float(of_out.mean())
    if min(n, m) < 2:
        return np.full(n + m, np.nan)
    return np.concatenate([(n * area - of_out) / (n - 1), (m * area - of_known) / (m - 1)])


def detection_scores(positive: Float[np.ndarray, " n"], negative: Float[np.ndarray, " m"]) -> dict[str, float]:
    """Of scores that should be larger for positives; equal scores are one threshold."""
    true, false = _counts(positive, negative)
    recall, precision = true / len(positive), true / (true + false)
    aupr = float(np.sum(np.diff(recall, prepend=0.0) * precision))
    rate = np.concatenate([[0.0], false / len(negative)])
    auroc = float(np.sum(np.diff(rate) * (np.concatenate([[0.0], recall[:-1]]) + recall) / 2))
    return {"aupr": aupr, "auroc": auroc, "fpr95": _false_rate(true, false)}


def _false_rate(true: Int[np.ndarray, " t"], false: Int[np.ndarray, " t"]) -> float:
    """FPR95 from the positives and negatives at or above thresholds that fall; the last has all of both.

    Of the thresholds up to the first that finds every positive: the one whose recall is nearest, the lower if tied.
    """
    upto = int(np.searchsorted(true, true[-1])) + 1
    distance = np.abs(true[:upto] / true[-1] - _RECALL)
    nearest = upto - 1 - int(np.argmin(distance[::-1]))
    return float(false[nearest] / false[-1])


def _counts(
    positive: Float[np.ndarray, " n"], negative: Float[np.ndarray, " m"]
) -> tuple[Int[np.ndarray, " t"], Int[np.ndarray, " t"]]:
    """Positives and negatives at or above every distinct score, in descending order."""
    scores = np.concatenate([positive, negative])
    is_positive = np.arange(len(scores)) < len(positive)
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.nonzero(np.diff(scores[order]))[0], len(scores) - 1)
    true = np.cumsum(is_positive[order])[ends]
    return true, ends + 1 - true
