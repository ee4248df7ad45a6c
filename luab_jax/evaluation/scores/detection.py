"""Telling images of no known class from others, by how unsure the model is: AUPR, AUROC, FPR at 95 %.

The definitions of hendrycks/natural-adv-examples calibration_tools.py; out-of-distribution images are the positives.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Int

from luab_jax.errors import DataError
from luab_jax.evaluation.answers import Doubts
from luab_jax.evaluation.scores import intervals
from luab_jax.evaluation.scores.classification import Scores

_RECALL = 0.95


def detection(parts: Mapping[str, Doubts]) -> Scores:
    """`aupr`, `auroc`, `fpr95` of the part `out` against the part `in`."""
    out, known = parts["out"].values, parts["in"].values
    if not len(out) or not len(known):
        raise DataError("detection needs images of either kind: val has none of this suite's classes, or the set none")
    if not (np.all(np.isfinite(out)) and np.all(np.isfinite(known))):
        raise DataError("the predictions are not finite, so nothing can be detected by them")

    def resampled(rng: np.random.Generator) -> dict[str, float]:
        draws = (rng.choice(values, len(values)) for values in (out, known))
        return detection_scores(*draws)

    return {
        **detection_scores(out, known),
        "n": len(out) + len(known),
        "n_out": len(out),
        "n_in": len(known),
        "intervals": intervals.of_resamples(resampled),
        "interval_method": intervals.bootstrap(),
    }


def detection_scores(positive: Float[np.ndarray, " n"], negative: Float[np.ndarray, " m"]) -> dict[str, float]:
    """Of scores that should be larger for positives; equal scores are one threshold."""
    true, false = _counts(positive, negative)
    recall, precision = true / len(positive), true / (true + false)
    aupr = float(np.sum(np.diff(recall, prepend=0.0) * precision))
    rate = np.concatenate([[0.0], false / len(negative)])
    auroc = float(np.sum(np.diff(rate) * (np.concatenate([[0.0], recall[:-1]]) + recall) / 2))
    # Of the thresholds up to the first that finds every positive: the one whose recall is nearest, the larger if tied.
    upto = int(np.searchsorted(true, len(positive))) + 1
    distance = np.abs(recall[:upto] - _RECALL)
    nearest = upto - 1 - int(np.argmin(distance[::-1]))
    return {"aupr": aupr, "auroc": auroc, "fpr95": float(false[nearest] / len(negative))}


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
