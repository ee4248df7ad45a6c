"""The byproduct's score against loops over its definition; what a model that knows nothing gets."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import numpy as np
import pytest

from luab_jax.byproducts.targets import Target
from luab_jax.data.pipeline import Truth
from luab_jax.errors import DataError
from luab_jax.evaluation.predictions import Predictions
from luab_jax.evaluation.scores import intervals
from luab_jax.evaluation.scores.byproduct import byproduct_error, predicted_points


def truth(
    label: int = 0,
    *,
    labels: tuple[int, ...] = (),
    group: str = "",
    click: Sequence[float] | None = None,
    box: Sequence[float] | None = None,
) -> Truth:
    return Truth(
        file_name="a.JPEG",
        label=label,
        labels=labels,
        group=group,
        click=None if click is None else np.array(click, np.float32),
        box=None if box is None else np.array(box, np.float32),
    )


# --- byproduct


def with_points(points: Sequence[Sequence[float]], truths: list[Truth]) -> Predictions:
    return Predictions(np.zeros((len(truths), 3), np.float32), np.array(points, np.float32)[:, None], truths)


def random_points(seed: int, n: int = 41) -> Predictions:
    """A third of the images have no click, a quarter no box."""
    rng = np.random.default_rng(seed)
    truths = []
    for i in range(n):
        x_min, y_min = rng.uniform(0, 0.6, 2)
        box = (x_min, y_min, x_min + rng.uniform(0.1, 0.4), y_min + rng.uniform(0.1, 0.4))
        truths.append(truth(click=rng.uniform(size=2) if i % 3 else None, box=box if i % 4 else None))
    return with_points(rng.uniform(size=(n, 2)), truths)


def without_intervals(predictions: Predictions) -> dict[str, float | int]:
    scores = byproduct_error(predictions)
    return {name: value for name, value in scores.items() if not name.startswith("interval")}


def byproduct_by_loop(predictions: Predictions) -> dict[str, float]:
    distances, of_centre, of_box_centre, inside, centre_inside = [], [], [], [], []
    for (x, y), of_row in zip(predictions.byproduct[:, 0].tolist(), predictions.truths, strict=True):
        click_x, click_y = (np.nan, np.nan) if of_row.click is None else of_row.click.tolist()
        x_min, y_min, x_max, y_max = [np.nan] * 4 if of_row.box is None else of_row.box.tolist()
        if of_row.click is not None:
            distances.append(math.hypot(x - click_x, y - click_y))
            of_centre.append(math.hypot(0.5 - click_x, 0.5 - click_y))
        if of_row.box is not None:
            inside.append(x_min <= x <= x_max and y_min <= y <= y_max)
            centre_inside.append(x_min <= 0.5 <= x_max and y_min <= 0.5 <= y_max)
        if of_row.click is not None and of_row.box is not None:
            of_box_centre.append(math.hypot((x_min + x_max) / 2 - click_x, (y_min + y_max) / 2 - click_y))
    return {
        "n_clicked": len(distances),
        "n_boxed": len(inside),
        "median_distance": statistics.median(distances),
        "median_distance_of_centre": statistics.median(of_centre),
        "median_distance_of_true_box": statistics.median(of_box_centre),
        "inside_box": statistics.mean(inside),
        "inside_box_of_centre": statistics.mean(centre_inside),
    }


@pytest.mark.parametrize("seed", range(3))
def test_byproduct_error_is_its_definition(seed: int) -> None:
    expected = byproduct_by_loop(random_points(seed))
    assert without_intervals(random_points(seed)) == pytest.approx({"n": 41, **expected}, rel=1e-5)
    assert 0 < expected["n_clicked"] < 41 and 0 < expected["n_boxed"] < 41


def test_every_byproduct_score_has_an_interval() -> None:
    scores = byproduct_error(random_points(0))
    inside = round(scores["inside_box"] * scores["n_boxed"])
    assert scores["inside_box"].interval == intervals.wilson(np.arange(scores["n_boxed"]) < inside)
    for name in ("median_distance", "median_distance_of_centre", "inside_box", "inside_box_of_centre"):
        low, high = scores[name].interval
        assert low <= scores[name] < high, name


def test_a_model_that_always_says_the_centre_gets_the_centres_scores() -> None:
    truths = random_points(0).truths
    scores = byproduct_error(with_points([[0.5, 0.5]] * len(truths), truths))
    assert scores["median_distance"] == scores["median_distance_of_centre"]
    assert scores["inside_box"] == scores["inside_box_of_centre"]


def test_a_model_that_always_finds_the_click_has_no_error() -> None:
    truths = [truth(click=(0.25, 0.75)), truth(click=(0.5, 0.125))]
    assert byproduct_error(with_points([[0.25, 0.75], [0.5, 0.125]], truths))["median_distance"] == 0


def test_only_what_can_be_scored_is() -> None:
    clicked = without_intervals(with_points([[0.5, 0.5]], [truth(click=(0.5, 1.0))]))
    assert clicked == {"n": 1, "n_clicked": 1, "median_distance": 0.5, "median_distance_of_centre": 0.5}
    boxed = without_intervals(with_points([[0.0, 0.5]], [truth(box=(0.25, 0.25, 0.75, 0.75))]))
    assert boxed == {"n": 1, "n_boxed": 1, "inside_box": 0.0, "inside_box_of_centre": 1.0}
    with pytest.raises(DataError, match="no image of this set has a click or a box"):
        byproduct_error(with_points([[0.5, 0.5]], [truth()]))


def test_the_point_of_a_box_head_is_its_centre() -> None:
    boxes = np.array([[[0.0, 0.5, 0.5, 1.0]], [[0.25, 0.25, 0.25, 0.75]]], np.float32)
    predictions = Predictions(np.zeros((2, 3), np.float32), boxes, [truth(), truth()])
    np.testing.assert_array_equal(
        predicted_points(predictions.byproduct, predictions.target), [[0.25, 0.75], [0.25, 0.5]]
    )


def test_of_several_heads_each_with_a_point_has_its_scores() -> None:
    heads = {"box": 4, "annotator": 3, "box_centre": 2}
    whole = random_points(0)
    more = {name: np.random.default_rng(1).random((len(whole), 1, size), np.float32) for name, size in heads.items()}
    several = Predictions(whole.logits, whole.byproduct, whole.truths, Target.CLICK_LAST, more)
    scores, alone = without_intervals(several), without_intervals(whole)
    own = {f"{name}_of_{head}" for name in ("median_distance", "inside_box") for head in ("box", "box_centre")}
    assert scores.keys() == alone.keys() | own | {"not_scored"}
    assert {name: scores[name] for name in alone} == alone and scores["not_scored"] == ["annotator"]
    centre = Predictions(whole.logits, more["box_centre"], whole.truths, Target.BOX_CENTRE)
    assert scores["inside_box_of_box_centre"] == byproduct_error(centre)["inside_box"]
    first = Predictions(whole.logits, more["annotator"], whole.truths, Target.ANNOTATOR, {"box": more["box"]})
    assert "median_distance" in byproduct_error(first)  # the first that has a point


@pytest.mark.parametrize(
    ("target", "width"),
    [(Target.TRACE_BOX, 4), (Target.TRACE_HEAT_MAP, 4), (Target.NUM_CORRECTIONS, 1), (Target.ANNOTATOR, 2)],
)
def test_what_is_no_point_is_not_scored_even_where_it_has_the_shape_of_one(target: Target, width: int) -> None:
    """Two annotators are two logits, a grid of 2 x 2 cells four."""
    byproduct = np.zeros((1, 1, width), np.float32)
    predictions = Predictions(np.zeros((1, 3), np.float32), byproduct, [truth(click=(0.5, 0.5))], target)
    with pytest.raises(DataError, match=f"predicts {target.value}, which is not scored"):
        byproduct_error(predictions)


@pytest.mark.parametrize("target", [Target.CLICK_LAST, Target.BOX_CENTRE, Target.RANDOM, None])
def test_points_are_scored_whatever_they_were_trained_on(target: Target | None) -> None:
    predictions = random_points(0)
    known = Predictions(predictions.logits, predictions.byproduct, predictions.truths, target)
    assert byproduct_error(known) == byproduct_error(predictions)


@pytest.mark.parametrize(
    ("byproduct", "told"), [(None, "no byproduct head"), (np.zeros((1, 2, 2), np.float32), r"\(2, 2\) are no single")]
)
def test_a_head_that_gives_no_point_is_refused(byproduct: np.ndarray | None, told: str) -> None:
    with pytest.raises(DataError, match=told):
        byproduct_error(Predictions(np.zeros((1, 3), np.float32), byproduct, [truth(click=(0.5, 0.5))]))
