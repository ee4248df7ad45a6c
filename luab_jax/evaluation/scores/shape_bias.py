"""Shape bias (Geirhos et al. 2019), and how alike two models err (Geirhos, Meding and Wichmann 2020)."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from luab_jax.data.label_tables import SIXTEEN
from luab_jax.errors import DataError
from luab_jax.evaluation.decisions import Decisions
from luab_jax.evaluation.scores import intervals
from luab_jax.evaluation.scores.classification import Scores
from luab_jax.results.score import NUMBER, Direction, Score


def shape_bias(decisions: Decisions) -> Scores:
    """Of the images whose shape and texture differ: shape decisions among those for shape or texture.

    `shape` and `texture` are the shares of decisions among the images that have such a conflict;
    bethgelab/model-vs-human (plotting/analyses.py) divides both by all images, which leaves the bias as it is.
    Raises `DataError` where no decision is for either.
    """
    conflict = decisions.shape != decisions.texture
    by_shape = (decisions.decision == decisions.shape) & conflict
    by_texture = (decisions.decision == decisions.texture) & conflict
    either = by_shape | by_texture
    if not either.any():
        raise DataError("no decision is for the shape or the texture of an image, so there is no shape bias")
    names = np.asarray(decisions.images, object)
    return {
        "shape_bias": intervals.share(by_shape[either], images=names[either].tolist()),
        "shape": intervals.share(by_shape[conflict], images=names[conflict].tolist()),
        "texture": intervals.share(by_texture[conflict], Direction.NONE, names[conflict].tolist()),
        "n_without_conflict": int(np.sum(~conflict)),
        "n_for_either": int(either.sum()),
        "n": len(decisions),
        **human_consistency(decisions),
    }


def human_consistency(decisions: Decisions) -> Scores:
    """How alike the model and people err, where people's answers were prepared with the images; else nothing.

    `error_consistency` is the mean over subjects of Cohen's kappa with each, on the images that the subject answered,
    those without a conflict among them; right is the shape's category, and `na` is wrong (plotting/analyses.py).
    `error_consistency_of_humans` is the mean over pairs of subjects.
    """
    categories = list(SIXTEEN)
    said = [dict(pair.split("=", 1) for pair in text.split("+")) if text else {} for text in decisions.humans]
    subjects = sorted({subject for of_image in said for subject in of_image})
    if not subjects:
        return {}
    shape = [categories[i] for i in decisions.shape]
    right: dict[str, np.ndarray] = {}
    for subject in subjects:
        answered = [of_image.get(subject) for of_image in said]
        known = zip(answered, shape, strict=True)
        right[subject] = np.asarray([np.nan if a is None else a == s for a, s in known], np.float64)
    model = (decisions.decision == decisions.shape).astype(np.float64)
    of_subject = {subject: _kappa(model, of) for subject, of in right.items()}
    pairs = [_kappa(right[a], right[b])[0] for i, a in enumerate(subjects) for b in subjects[i + 1 :]]
    value = float(np.mean([kappa for kappa, _ in of_subject.values()]))
    without = np.mean([of_others for _, of_others in of_subject.values()], axis=0)
    found = intervals.jackknifed_difference(value, without, Direction.HIGHER, decisions.images)
    fields = (found.interval, found.method)
    return {
        "error_consistency": Score(value, NUMBER, Direction.HIGHER, *fields, sample=found.sample),
        **({"error_consistency_of_humans": Score(float(np.mean(pairs)), NUMBER)} if pairs else {}),
        "error_consistency_by_subject": {subject: kappa for subject, (kappa, _) in of_subject.items()},
        "n_subjects": len(subjects),
    }


def _kappa(first: Float[np.ndarray, " n"], second: Float[np.ndarray, " n"]) -> tuple[float, Float[np.ndarray, " n"]]:
    """Of the images that both answered, NaN standing for no answer; and what it is without each image."""
    both = ~np.isnan(first) & ~np.isnan(second)
    a, b = np.where(both, first, 0), np.where(both, second, 0)
    same = np.where(both, first == second, False)
    without = both.astype(np.float64)
    counts = (both.sum() - without, a.sum() - a, b.sum() - b, same.sum() - same)
    return float(_of_counts(both.sum(), a.sum(), b.sum(), same.sum())), _of_counts(*counts)


def _of_counts(n: Any, right_a: Any, right_b: Any, same: Any) -> Any:
    """Kappa of n images, of which the observers answer so many rightly, and the same of them so."""
    with np.errstate(divide="ignore", invalid="ignore"):
        a, b, observed = right_a / n, right_b / n, same / n
        expected = a * b + (1 - a) * (1 - b)
        return np.where(observed == 1, 1.0, (observed - expected) / (1 - expected))


def error_consistency(first: Bool[np.ndarray, " n"], second: Bool[np.ndarray, " n"]) -> Score:
    """Cohen's kappa of which images two observers answer rightly, the same images in the same order.

    1 where both are right about the same images, 0 as for independent errors of the same accuracies; 1 also if both
    are right about all or none (plotting/analyses.py). Raises `DataError` for none or for different numbers of images.
    """
    if len(first) != len(second) or not len(first):
        raise DataError(f"{len(first)} and {len(second)} answers: error consistency is of the same images")
    right_a, right_b = float(np.mean(first)), float(np.mean(second))
    expected = right_a * right_b + (1 - right_a) * (1 - right_b)
    observed = float(np.mean(first == second))
    value = 1.0 if observed == 1 else (observed - expected) / (1 - expected)
    return Score(value, NUMBER, Direction.NONE)
