"""How well the byproduct head found what the annotator clicked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from luab_jax.byproducts.kinds import TargetKind
from luab_jax.byproducts.targets import Target, kind_of
from luab_jax.errors import DataError
from luab_jax.evaluation.predictions import Predictions
from luab_jax.evaluation.scores import intervals


def predicted_points(predictions: Predictions) -> Float[np.ndarray, "n 2"]:
    """The head's point, or the centre of its box.

    Of other targets there is none to compare with a click: the box of a trace begins where the pointer came in, and a
    heat map, a time, a number of corrections or an annotator is no point, even where its shape is that of one. How well
    these are predicted stands in the training log (`eval/box_iou`, `eval/heat_map_divergence`, ...).
    """
    byproduct = predictions.byproduct
    if byproduct is None:
        raise DataError("the checkpoint has no byproduct head (target `none`), so there is no point to score")
    target = predictions.target
    if target is not None and target is not Target.BOX and kind_of(target) is not TargetKind.POINT:
        raise DataError(
            f"the byproduct head predicts {target.value}, which is not scored: it is no point on the object"
        )
    if byproduct.shape[1:] == (1, 2):
        return byproduct[:, 0]
    if byproduct.shape[1:] == (1, 4):
        return (byproduct[:, 0, :2] + byproduct[:, 0, 2:]) / 2
    raise DataError(f"byproducts of shape {byproduct.shape[1:]} are no single point or box")


def byproduct_error(predictions: Predictions) -> dict[str, Any]:
    """Median distance to the final click, in fractions of the input's side; share of points inside the class's box.

    Images whose click (box) lies outside the model's input are left out of the one (the other). Beside them what the
    centre of the image would score, without which neither number says anything.
    """
    points = predicted_points(predictions)
    centre = np.full_like(points, 0.5)
    scores: dict[str, Any] = {"n": len(predictions)}
    bounds: dict[str, intervals.Interval] = {}
    clicks = {i: truth.click for i, truth in enumerate(predictions.truths) if truth.click is not None}
    boxes = {i: truth.box for i, truth in enumerate(predictions.truths) if truth.box is not None}
    clicked, boxed = list(clicks), list(boxes)
    if not clicks and not boxes:
        raise DataError("no image of this set has a click or a box to compare the predicted point with")
    if clicks:
        scores["n_clicked"] = len(clicked)
        at = np.stack(list(clicks.values()))
        distances = {
            "median_distance": np.linalg.norm(points[clicked] - at, axis=-1),
            "median_distance_of_centre": np.linalg.norm(centre[clicked] - at, axis=-1),
        }
        scores |= _medians(distances)
        bounds |= intervals.of_resamples(lambda rng: _medians(distances, rng.integers(len(at), size=len(at))))
    if boxes:
        scores["n_boxed"] = len(boxed)
        around = np.stack(list(boxes.values()))
        inside = {
            "inside_box": _inside(points[boxed], around),
            "inside_box_of_centre": _inside(centre[boxed], around),
        }
        scores |= {name: float(values.mean()) for name, values in inside.items()}
        bounds |= {name: intervals.wilson(values) for name, values in inside.items()}
    method = f"shares: {intervals.WILSON}; distances: {intervals.bootstrap()}"
    return {**scores, "intervals": bounds, "interval_method": method}


def _medians(
    distances: Mapping[str, Float[np.ndarray, " n"]], rows: Int[np.ndarray, " n"] | None = None
) -> dict[str, float]:
    return {name: float(np.median(values if rows is None else values[rows])) for name, values in distances.items()}


def _inside(points: Float[np.ndarray, "n 2"], boxes: Float[np.ndarray, "n 4"]) -> np.ndarray:
    return np.all((points >= boxes[:, :2]) & (points <= boxes[:, 2:]), axis=-1)
