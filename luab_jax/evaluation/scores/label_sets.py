"""Scores of images that have a set of labels."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from luab_jax.errors import DataError
from luab_jax.evaluation.predictions import Predictions
from luab_jax.evaluation.scores import intervals
from luab_jax.metrics.average_precision import average_precision_without_each, mean_average_precision
from luab_jax.results.score import FRACTION, Direction, Score


def label_set_map(predictions: Predictions) -> dict[str, Any]:
    """The suite's score; every image counts, those without any class too."""
    labels = _shown(predictions)
    scores = mean_average_precision(predictions.logits, labels)
    images = [truth.file_name for truth in predictions.truths]
    without = map_without_each(predictions.logits, labels)
    value = intervals.jackknife(float(scores["map"]), without, Direction.HIGHER, images=images)
    return {"map": value, "n_classes": scores["n_classes"], "n": len(labels)}


def _shown(predictions: Predictions) -> Bool[np.ndarray, "n c"]:
    labels = np.zeros(predictions.logits.shape, bool)
    for row, truth in enumerate(predictions.truths):
        labels[row, list(truth.labels)] = True
    return labels


def map_without_each(scores: Float[np.ndarray, "n c"], labels: Bool[np.ndarray, "n c"]) -> Float[np.ndarray, " n"]:
    """The mAP of the other images, for every image: the mean over the classes that these show, NaN if they show none.

    A class that one image alone shows is not in the mean without that image.
    """
    of_class = [
        average_precision_without_each(column, shown)[1] for column, shown in zip(scores.T, labels.T, strict=True)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the mean of nothing
        return np.nanmean(np.asarray(of_class), axis=0)


def object_backgrounds(parts: Mapping[str, Predictions]) -> dict[str, Any]:
    """`object_map` of every set of a backgrounds challenge, and what is lost when the background stops going with it.

    The interval of the gap is over images, each with its two versions.
    """
    found = {name: object_map(predictions) for name, predictions in parts.items()}
    without_object = ("no_fg", "only_bg_b", "only_bg_t")
    scores = {
        name: Score(value, FRACTION, Direction.NONE if name in without_object else Direction.HIGHER)
        for name, value in found.items()
    }
    same, rand = parts["mixed_same"], parts["mixed_rand"]
    return {"gap": _gap(same, rand), **scores, "n": len(rand)}


Measured = tuple[float, Float[np.ndarray, " n"]]
"""A score of some images, and what it is without each of them."""


def set_map(predictions: Predictions) -> Measured:
    """`label_set_map`'s, for the functions below."""
    found = label_set_map(predictions)
    return float(found["map"]), map_without_each(predictions.logits, _shown(predictions))


def grid_of_objects(parts: Mapping[str, Predictions]) -> dict[str, Any]:
    """`map` is the mean over groups of `object_map`."""
    predictions = next(iter(parts.values()))
    groups, mean, without, names = _over_groups(
        predictions, lambda of_group: (object_map(of_group), _object_map_without_each(of_group))
    )
    value = intervals.jackknife(mean, without, Direction.HIGHER, images=names)
    return {"map": value, "groups": groups, "n": len(predictions)}


def sets_under_shift(parts: Mapping[str, Predictions]) -> dict[str, Any]:
    """`map` is the mean over the groups of `test` of the mAP, `map_clean` that of the same images without a change.

    `loss` is the difference, over images with all their versions.
    """
    groups, mean, without, names = _over_groups(parts["test"], set_map)
    clean, without_clean = set_map(parts["clean"])
    of_clean = dict(zip([_image(truth.file_name) for truth in parts["clean"].truths], without_clean, strict=True))
    loss = Score(clean - mean, FRACTION, Direction.LOWER)
    if set(of_clean) == set(names):
        both = np.asarray([of_clean[name] for name in names]) - without
        loss = intervals.jackknifed_difference(clean - mean, both, Direction.LOWER, names)
    return {
        "map": intervals.jackknife(mean, without, Direction.HIGHER, images=names),
        "map_clean": label_set_map(parts["clean"])["map"],
        "loss": loss,
        "groups": groups,
        "n": len(parts["test"]),
    }


def _over_groups(
    predictions: Predictions, measure: Callable[[Predictions], Measured]
) -> tuple[dict[str, float], float, Float[np.ndarray, " m"], list[str]]:
    """The score of every group, their mean, and that without each image with all its versions."""
    of_group: dict[str, list[int]] = {}
    for row, truth in enumerate(predictions.truths):
        of_group.setdefault(truth.group, []).append(row)
    values: dict[str, float] = {}
    without: list[dict[str, float]] = []
    for group, rows in sorted(of_group.items()):
        truths = [predictions.truths[row] for row in rows]
        values[group], left = measure(Predictions(predictions.logits[rows], None, truths))
        without.append(dict(zip([_image(truth.file_name) for truth in truths], left.tolist(), strict=True)))
    names = sorted({name for left in without for name in left})
    of_all = list(values.values())
    # A group that has not the image is the same without it.
    means = [[left.get(name, value) for name in names] for left, value in zip(without, of_all, strict=True)]
    return values, float(np.mean(of_all)), np.mean(means, axis=0), names


def _image(file_name: str) -> str:
    """The same for the versions of one image, as in `Answers`."""
    return "/".join(file_name.rsplit("/", 2)[-2:])


def _gap(same: Predictions, rand: Predictions) -> Score:
    value = object_map(same) - object_map(rand)
    names = [truth.file_name for truth in same.truths]
    if names != [truth.file_name for truth in rand.truths]:
        return Score(value, FRACTION, Direction.LOWER)
    without = _object_map_without_each(same) - _object_map_without_each(rand)
    return intervals.jackknifed_difference(value, without, Direction.LOWER, names)


def object_map(predictions: Predictions) -> float:
    """How well the scores of a class find the images whose object is of it: mean over these classes of the AP.

    The positives of a class are the images labelled with it. An image that may show it beside its object, since it is
    in the image's set, is neither positive nor negative. Raises `DataError` where no image has a label.
    """
    found = [precision for precision, _ in _of_objects(predictions)]
    if not found:
        raise DataError("no image has a label, so nothing can be found by it")
    return float(np.mean(found))


def _object_map_without_each(predictions: Predictions) -> Float[np.ndarray, " n"]:
    """The `object_map` of the other images, for every image; a class that one image alone shows is not in it then."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the mean of nothing
        return np.nanmean([without for _, without in _of_objects(predictions)], axis=0)


def _of_objects(predictions: Predictions) -> Iterator[tuple[float, Float[np.ndarray, " n"]]]:
    """AP of every class that is some image's label, and that without each image."""
    labels = predictions.labels
    for label in sorted(set(labels[labels >= 0].tolist())):
        shown = labels == label
        beside = np.asarray([label in truth.labels for truth in predictions.truths]) & ~shown
        precision, without = average_precision_without_each(predictions.logits[~beside, label], shown[~beside])
        of_all = np.full(len(labels), precision)
        of_all[~beside] = without
        yield precision, of_all
