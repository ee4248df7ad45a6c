"""How well the byproduct head found what the annotator clicked."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float

from luab_jax.byproducts.targets import Target, predicts_point
from luab_jax.errors import DataError
from luab_jax.evaluation.predictions import Predictions
from luab_jax.evaluation.scores import intervals
from luab_jax.results.answers import Kind, Sample
from luab_jax.results.score import SIDE, Direction, Score


def predicted_points(
    byproduct: Float[np.ndarray, "n k d"] | None, target: Target | None = None
) -> Float[np.ndarray, "n 2"]:
    """The head's point, or the centre of its box; of a dense head the point that its heat map stands for.

    Of other targets there is none to compare with a click: the box of a trace begins where the pointer came in, and a
    heat map, a time, a number of corrections or an annotator is no point, even where its shape is that of one. How well
    these are predicted stands in the training log (`eval/box_iou`, `eval/heat_map_divergence`, ...).
    """
    if byproduct is None:
        raise DataError("the checkpoint has no byproduct head (target `none`), so there is no point to score")
    if not _is_scored(target):
        assert target is not None
        raise DataError(
            f"the byproduct head predicts {target.value}, which is not scored: it is no point on the object"
        )
    if byproduct.shape[1:] == (1, 2):
        return byproduct[:, 0]
    if byproduct.shape[1:] == (1, 4):
        return (byproduct[:, 0, :2] + byproduct[:, 0, 2:]) / 2
    raise DataError(f"byproducts of shape {byproduct.shape[1:]} are no single point or box")


def _is_scored(target: Target | None) -> bool:
    return target is None or target is Target.BOX or predicts_point(target)


def byproduct_error(predictions: Predictions) -> dict[str, Any]:
    """Median distance to the final click, in fractions of the input's side; share of points inside the class's box.

    Images whose click (box) lies outside the model's input are left out of the one (the other). Beside them what the
    centre of the image would score, without which neither number says anything, and how far the centre of its box is
    from the click: no head that knows the object and not the annotator's hand comes much nearer. Of several heads the
    first that has a point gives `median_distance` and `inside_box`, the others theirs under their target's name
    (`median_distance_of_box`); a head without a point is listed in `not_scored`.
    """
    heads: list[tuple[Target | None, Any]] = [(predictions.target, predictions.byproduct)]
    heads += [(Target(name), values) for name, values in predictions.more.items()]
    scored = [(target, values) for target, values in heads if _is_scored(target)]
    if not scored:
        scored = heads[:1]  # whose message says why
    scores: dict[str, Any] = {}
    for number, (target, values) in enumerate(scored):
        of_head = _of_points(predicted_points(values, target), predictions)
        if number and target is not None:
            own = ("median_distance", "inside_box")
            of_head = {f"{name}_of_{target.value}": of_head[name] for name in own if name in of_head}
        scores |= of_head
    if unscored := [target.value for target, _ in heads if target is not None and not _is_scored(target)]:
        scores["not_scored"] = unscored
    return scores


def _of_points(points: Float[np.ndarray, "n 2"], predictions: Predictions) -> dict[str, Any]:
    centre = np.full_like(points, 0.5)
    scores: dict[str, Any] = {"n": len(predictions)}
    names = [truth.file_name for truth in predictions.truths]
    clicks = {i: truth.click for i, truth in enumerate(predictions.truths) if truth.click is not None}
    boxes = {i: truth.box for i, truth in enumerate(predictions.truths) if truth.box is not None}
    clicked, boxed = list(clicks), list(boxes)
    if not clicks and not boxes:
        raise DataError("no image of this set has a click or a box to compare the predicted point with")
    if clicks:
        scores["n_clicked"] = len(clicked)
        at = np.stack(list(clicks.values()))
        scores["median_distance"] = _median(np.linalg.norm(points[clicked] - at, axis=-1), Direction.LOWER)
        scores["median_distance_of_centre"] = _median(np.linalg.norm(centre[clicked] - at, axis=-1), Direction.NONE)
    if both := [i for i in clicked if i in boxes]:
        middles = np.stack([(boxes[i][:2] + boxes[i][2:]) / 2 for i in both])
        at = np.stack([clicks[i] for i in both])
        scores["median_distance_of_true_box"] = _median(np.linalg.norm(middles - at, axis=-1), Direction.NONE)
    if boxes:
        scores["n_boxed"] = len(boxed)
        around = np.stack(list(boxes.values()))
        images = [names[i] for i in boxed]
        scores["inside_box"] = intervals.share(_inside(points[boxed], around), images=images)
        scores["inside_box_of_centre"] = intervals.share(_inside(centre[boxed], around), Direction.NONE, images)
    return scores


def _median(distances: Float[np.ndarray, " n"], direction: Direction) -> Score:
    """The resamples are for comparing runs; the interval of one needs none."""
    n = len(distances)
    replicates = intervals.resampled(lambda rng: float(np.median(distances[rng.integers(n, size=n)])))
    bounds = intervals.median_interval(distances)
    sample = Sample(Kind.RESAMPLES, replicates)
    method = intervals.ORDER_STATISTICS if bounds else ""
    return Score(float(np.median(distances)), SIDE, direction, bounds, method, sample=sample)


def _inside(points: Float[np.ndarray, "n 2"], boxes: Float[np.ndarray, "n 4"]) -> np.ndarray:
    return np.all((points >= boxes[:, :2]) & (points <= boxes[:, 2:]), axis=-1)
