"""What a change costs: accuracy and calibration on changed images beside those on the same images unchanged."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from luab_jax.evaluation.answers import Answers
from luab_jax.evaluation.scores import intervals
from luab_jax.evaluation.scores.calibration import calibration_error
from luab_jax.evaluation.scores.classification import Scores, by_group, calibration, gap, group_means
from luab_jax.results.answers import Kind, Sample
from luab_jax.results.score import FRACTION, Direction, Score

NUM_SEVERITIES = 5


def under_shift(parts: Mapping[str, Answers]) -> Scores:
    """Of `test`, whose groups are `kind,severity=n`, and `clean`, the same images.

    `ece_clean` and `ece_severity_n` are calibration under shift (Ovadia et al. 2019): the expected calibration error of
    all images of one severity together.
    """
    test, clean = parts["test"], parts["clean"]
    scores = _with_loss(test, clean)
    severity = np.asarray([int(group.rpartition("=")[2]) for group in test.groups])
    for n in sorted(set(severity.tolist())):
        rows = severity == n
        scores[f"top1_severity_{n}"] = Score(_mean_of_groups(test, rows), FRACTION, Direction.HIGHER)
        scores |= _ece(f"ece_severity_{n}", test.confidence[rows], test.right[rows])
    kinds: dict[str, list[float]] = {}
    for group, value in scores["groups"].items():
        kinds.setdefault(group.partition(",")[0], []).append(value)
    return {**scores, "kinds": {kind: float(np.mean(values)) for kind, values in kinds.items()}}


def other_corruptions(answers: Answers) -> Scores:
    """Of groups `kind,severity=n`: mean over all of them; without some of a kind's severities the mean is partial."""
    scores = by_group(answers)
    kinds: dict[str, list[float]] = {}
    for group, value in scores["groups"].items():
        kinds.setdefault(group.partition(",")[0], []).append(value)
    missing = [kind for kind, values in kinds.items() if len(values) < NUM_SEVERITIES]
    return {
        **scores,
        **({"partial": True, "kinds_without_some_severity": missing} if missing else {}),
        "kinds": {kind: float(np.mean(values)) for kind, values in kinds.items()},
        "n_images": len(set(answers.images)),
    }


def mean_of_parts(parts: Mapping[str, Answers]) -> Scores:
    """Top-1 of all images of several sets together, and of each set."""
    whole = Answers.concatenate(list(parts.values()))
    names = [f"{name}/{image}" for name, part in parts.items() for image in part.images]
    shares = {f"top1_{name}": intervals.share(part.right, images=part.images) for name, part in parts.items()}
    return {
        "top1": intervals.share(whole.right, images=names),
        **shares,
        **_ece("ece", whole.confidence, whole.right),
        "n": len(whole),
    }


def of_origins(answers: Answers) -> Scores:
    """Top-1 of all images together, and of those of each group."""
    per_group, _ = group_means(answers)
    return {
        "top1": intervals.share(answers.right, images=answers.images),
        "groups": per_group,
        **calibration(answers),
        "n": len(answers),
    }


def counter_drop(parts: Mapping[str, Answers]) -> Scores:
    """CounterAnimal: accuracy against common backgrounds less that against others, by images and by classes."""
    means = {name: _mean_of_classes(part) for name, part in parts.items()}
    return {
        "drop": gap(parts["common"], parts["counter"]),
        **{f"top1_{name}": intervals.share(part.right, images=part.images) for name, part in parts.items()},
        **{f"top1_{name}_of_classes": Score(mean, FRACTION, Direction.HIGHER) for name, mean in means.items()},
        "drop_of_classes": Score(means["common"] - means["counter"], FRACTION, Direction.LOWER),
        **calibration(parts["counter"]),
        "n": len(parts["counter"]),
    }


def _mean_of_classes(answers: Answers) -> float:
    classes = np.asarray([image.partition("/")[0] for image in answers.images], object)
    return float(np.mean([answers.right[classes == name].mean() for name in sorted(set(classes.tolist()))]))


def by_severity(answers: Answers) -> Scores:
    """`ece_severity_n`: calibration of all images of one severity together (Ovadia et al. 2019)."""
    severity = np.asarray([int(group.rpartition("=")[2]) for group in answers.groups])
    scores: Scores = {}
    for n in sorted(set(severity.tolist())):
        rows = severity == n
        scores |= _ece(f"ece_severity_{n}", answers.confidence[rows], answers.right[rows])
    return scores


def occlusions(parts: Mapping[str, Answers]) -> Scores:
    """Of `test`, whose groups are `centre=side`, `cell=row,column` and `object=part`, and `clean`, the same images.

    `centre`, `cell` and `object` are means over their groups; `object_all` is what is left to tell the class by where
    the object is hidden, of which neither more nor less is better.
    """
    scores = _with_loss(parts["test"], parts["clean"])
    of_kind: dict[str, list[float]] = {}
    for group, value in scores["groups"].items():
        of_kind.setdefault("object_all" if group == "object=all" else group.partition("=")[0], []).append(value)
    for kind, values in of_kind.items():
        direction = Direction.NONE if kind == "object_all" else Direction.HIGHER
        scores[kind] = Score(float(np.mean(values)), FRACTION, direction)
    return scores


def _with_loss(test: Answers, clean: Answers) -> Scores:
    """Top-1 as mean over groups, that without a change, and the difference with its interval over images."""
    scores = by_group(test)
    _, weights = group_means(test)
    scores["top1_clean"] = intervals.share(clean.right, images=clean.images)
    scores["loss"] = _loss(test, clean, weights)
    return {**scores, **_ece("ece_clean", clean.confidence, clean.right)}


def _loss(test: Answers, clean: Answers, weights: np.ndarray) -> Score:
    names, of_image = intervals.per_image(test.right.astype(np.float64), weights, test.images)
    of_clean, n = dict(zip(clean.images, clean.right.astype(np.float64), strict=True)), len(clean)
    value = float(clean.right.mean() - of_image.mean())
    if set(names) != of_clean.keys() or len(names) != n or n < 2:
        return Score(value, FRACTION, Direction.LOWER)
    parts = np.asarray([of_clean[name] for name in names]) - of_image
    half = intervals.Z * float(np.sqrt(parts.var(ddof=1) / n))
    sample = Sample(Kind.MEANS, parts, names)
    return Score(value, FRACTION, Direction.LOWER, (value - half, value + half), intervals.CLUSTERED, sample=sample)


def _mean_of_groups(answers: Answers, rows: np.ndarray) -> float:
    groups = np.asarray(answers.groups, object)[rows]
    right = answers.right[rows]
    return float(np.mean([right[groups == group].mean() for group in sorted(set(groups.tolist()))]))


def _ece(name: str, confidence: np.ndarray, right: np.ndarray) -> Scores:
    error = calibration_error(confidence, right)
    return {} if error is None else {name: Score(error, FRACTION, Direction.LOWER)}
