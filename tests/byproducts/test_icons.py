"""Which point stands for a class after an annotator's adds, moves and removes."""

from __future__ import annotations

import numpy as np
import pytest

from luab_jax.byproducts import geometry
from luab_jax.byproducts.columns import ByproductColumns, Points
from luab_jax.byproducts.icons import IconRule, action_columns, class_points
from luab_jax.byproducts.kinds import TargetSettings
from luab_jax.byproducts.points import random_point
from luab_jax.byproducts.records import Action, ActionKind, Point, Showing
from luab_jax.byproducts.responses import Response
from luab_jax.byproducts.statistics import Scale, TargetStatistics
from luab_jax.byproducts.targets import Target, classes_outside, fits, make_target, target_shape

A, B, C = Point(0.125, 0.25), Point(0.5, 0.75), Point(1.0, 0.0)
CAT, DOG, NONE = 1, 2, -1
NUM_CLASSES = 4


def add(label: int, point: Point) -> Action:
    return Action(ActionKind.ADD, "icon", None, point, None, label)


def move(label: int, point: Point) -> Action:
    return Action(ActionKind.MOVE, "icon", A, point, None, label)


def remove(label: int) -> Action:
    return Action(ActionKind.REMOVE, "icon", A, None, None, label)


def points(rule: IconRule, *records: list[Action]) -> dict[int, tuple[float, ...]]:
    showings = [Showing(actions=tuple(actions)) for actions in records]
    found = class_points(rule, action_columns(showings), NUM_CLASSES)
    return {label: tuple(found[label].tolist()) for label in range(NUM_CLASSES) if not np.isnan(found[label, 0])}


@pytest.mark.parametrize(
    ("records", "final", "added"),
    [
        ([], {}, {}),
        ([[]], {}, {}),
        ([[add(CAT, A), add(DOG, B)]], {CAT: A, DOG: B}, {CAT: A, DOG: B}),
        ([[add(CAT, A), move(CAT, B)]], {CAT: B}, {CAT: A}),
        ([[add(CAT, A), remove(CAT)]], {}, {CAT: A}),
        ([[add(CAT, A), remove(CAT), add(CAT, B)]], {CAT: B}, {CAT: B}),
        ([[add(CAT, A), add(CAT, B)]], {CAT: B}, {CAT: B}),
        ([[move(CAT, B)]], {CAT: B}, {}),
        ([[remove(CAT), add(DOG, A)]], {DOG: A}, {DOG: A}),
        ([[add(NONE, A), add(DOG, A)]], {DOG: A}, {DOG: A}),
        ([[add(CAT, A)], [add(CAT, B)]], {CAT: B}, {CAT: B}),
        ([[add(CAT, A)], [add(DOG, B)]], {CAT: A, DOG: B}, {DOG: B}),
        ([[add(CAT, A)], [add(CAT, B), remove(CAT)]], {CAT: A}, {CAT: B}),
    ],
)
def test_replay_and_official_rule(records: list[list[Action]], final: dict, added: dict) -> None:
    assert points(IconRule.FINAL, *records) == final
    assert points(IconRule.ADDED, *records) == added


def columns(*actions: Action, labels: tuple[int, ...] = (CAT, DOG)) -> ByproductColumns:
    none = Points(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 2), np.float32))
    return ByproductColumns(
        file_name="a.jpg",
        selected=np.ones(1, bool),
        clicks=none,
        trace=none,
        boxes=np.array([[0.0, 0.0, 0.5, 0.5], [0.25, 0.25, 0.75, 0.75], [0.5, 0.5, 1.0, 1.0]], np.float32),
        box_labels=np.array([CAT, CAT, DOG]),
        label=-1,
        labels=np.array(labels, np.int64),
        actions=action_columns([Showing(actions=actions)]),
    )


SETTINGS = TargetSettings(statistics=TargetStatistics(scales={Response.NUM_CORRECTIONS: Scale(0.5, 2.0)}))
PER_CLASS = [target for target in Target if fits(target, NUM_CLASSES)]


@pytest.mark.parametrize("target", PER_CLASS)
def test_the_announced_shape_is_the_shape_made(target: Target) -> None:
    for data in (columns(add(CAT, A)), columns(labels=())):
        made = make_target(target, data, geometry.identity(), seed=0, num_classes=NUM_CLASSES, settings=SETTINGS)
        shape = target_shape(target, NUM_CLASSES)
        assert made.values.shape == (shape or (0, 0)) and made.valid.shape == made.values.shape[:1]
        assert made.values.dtype == np.float32 and made.valid.dtype == bool


@pytest.mark.parametrize("target", [target for target in Target if target not in PER_CLASS])
def test_clicks_are_refused_for_sets_of_labels(target: Target) -> None:
    with pytest.raises(ValueError, match=f"target {target.value} does not exist for images with sets of labels"):
        target_shape(target, NUM_CLASSES)


def test_a_class_that_is_absent_has_no_target() -> None:
    made = make_target(
        Target.COCO_FINAL, columns(add(CAT, A), add(3, B)), geometry.identity(), seed=0, num_classes=NUM_CLASSES
    )
    assert made.valid.tolist() == [False, True, False, False]
    np.testing.assert_array_equal(made.values, [(0, 0), A, (0, 0), (0, 0)])


def test_points_move_with_crop_and_flip_and_end_with_them() -> None:
    view = geometry.crop(0.0, 0.0, 0.5, 0.5).then(geometry.flip_horizontal())
    made = make_target(Target.COCO_FINAL, columns(add(CAT, A), add(DOG, C)), view, seed=0, num_classes=NUM_CLASSES)
    assert made.valid.tolist() == [False, True, False, False]
    np.testing.assert_allclose(made.values[CAT], (0.75, 0.5))


def test_every_class_with_an_icon_has_a_random_point_of_its_own() -> None:
    one = make_target(
        Target.RANDOM_IN_IMAGE, columns(add(CAT, A)), geometry.identity(), seed=5, num_classes=NUM_CLASSES
    )
    assert one.valid.tolist() == [False, True, False, False]
    both = columns(add(CAT, A), add(DOG, C))
    made = make_target(Target.RANDOM_IN_IMAGE, both, geometry.identity(), seed=5, num_classes=NUM_CLASSES)
    assert made.valid.tolist() == [False, True, True, False]
    for label in (CAT, DOG):
        np.testing.assert_allclose(made.values[label], random_point("a.jpg", 5, label), rtol=1e-6)
    assert made.values[CAT].tolist() != made.values[DOG].tolist()


def test_the_control_counts_where_each_classs_icon_does() -> None:
    both = columns(add(CAT, A), add(DOG, C))
    for view in (geometry.identity(), geometry.crop(0.0, 0.0, 0.5, 0.5)):
        made = make_target(Target.RANDOM, both, view, seed=5, num_classes=NUM_CLASSES)
        icons = make_target(Target.COCO_FINAL, both, view, seed=5, num_classes=NUM_CLASSES)
        assert made.valid.tolist() == icons.valid.tolist()
        np.testing.assert_array_equal(made.values[:, 2:], icons.values)
        for label in np.flatnonzero(made.valid):
            np.testing.assert_allclose(made.values[label, :2], random_point("a.jpg", 5, int(label)), rtol=1e-6)


def test_boxes_of_a_class_are_united_and_clipped() -> None:
    view = geometry.crop(0.0, 0.0, 0.5, 1.0)
    made = make_target(Target.BOX, columns(), view, seed=0, num_classes=NUM_CLASSES)
    assert made.valid.tolist() == [False, True, False, False]
    np.testing.assert_allclose(made.values[CAT], (0.0, 0.0, 1.0, 0.75))
    centres = make_target(Target.BOX_CENTRE, columns(), geometry.identity(), seed=0, num_classes=NUM_CLASSES)
    np.testing.assert_allclose(centres.values[[CAT, DOG]], [(0.375, 0.375), (0.75, 0.75)])


def test_labels_follow_the_points_of_the_target_in_use() -> None:
    data = columns(add(CAT, B), move(CAT, A))
    left = geometry.crop(0.0, 0.0, 0.4, 1.0)
    assert not classes_outside(Target.COCO_FINAL, data, left, NUM_CLASSES).any()
    assert classes_outside(Target.COCO_ADDED, data, left, NUM_CLASSES).tolist() == [False, True, False, False]
    # without icons of its own a target goes by the final ones; DOG has no icon and keeps its label
    assert not classes_outside(Target.NONE, data, left, NUM_CLASSES).any()
