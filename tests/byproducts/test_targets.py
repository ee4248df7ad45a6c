"""What each target makes of the byproducts of an image, and what it makes of an image without them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luab_jax.byproducts import geometry
from luab_jax.byproducts import targets as targets_module
from luab_jax.byproducts.columns import ByproductColumns, Points
from luab_jax.byproducts.geometry import Affine
from luab_jax.byproducts.kinds import RandomPoint, TargetKind, TargetSettings, TargetValues
from luab_jax.byproducts.points import random_point
from luab_jax.byproducts.responses import Response
from luab_jax.byproducts.statistics import Scale, TargetStatistics
from luab_jax.byproducts.targets import Target, fits, head_shape, make_target, responses_of, target_shape

Click = tuple[float, float]
WHOLE = geometry.identity()
TARGETS_WITH_A_HEAD = [target for target in Target if target is not Target.NONE]


CLICKED = (True, [(0.5, 0.5)])


def points(rows: Sequence[tuple[int, Click]]) -> Points:
    return Points(
        np.array([showing for showing, _ in rows], np.int64),
        np.arange(len(rows)),
        np.array([xy for _, xy in rows], np.float32).reshape(-1, 2),
    )


def byproducts(
    showings: Sequence[tuple[bool, Sequence[Click]]] = (),
    *,
    boxes: Sequence[tuple[int, tuple[float, float, float, float]]] = (),
    label: int = 3,
    file_name: str = "n01440764/a.JPEG",
) -> ByproductColumns:
    """An image with (selected, clicks) of every showing and (label, corners) of every box."""
    clicks = [(index, xy) for index, (_, of_showing) in enumerate(showings) for xy in of_showing]
    return ByproductColumns(
        file_name=file_name,
        selected=np.array([selected for selected, _ in showings], bool),
        clicks=points(clicks),
        trace=points([]),
        boxes=np.array([corners for _, corners in boxes], np.float32).reshape(-1, 4),
        box_labels=np.array([of_box for of_box, _ in boxes], np.int64),
        label=label,
    )


SETTINGS = TargetSettings(
    statistics=TargetStatistics(
        scales={Response.TIME_TO_CLICK: Scale(6.0, 0.5), Response.NUM_CORRECTIONS: Scale(0.5, 2.0)},
        annotators=("anna", "otto", "hans"),
    )
)


def target(kind: Target, columns: ByproductColumns, view: Affine = WHOLE, seed: int = 0) -> TargetValues:
    return make_target(kind, columns, view, seed=seed, settings=SETTINGS)


def assert_point(made: TargetValues, x: float, y: float) -> None:
    assert made.valid.tolist() == [True]
    np.testing.assert_allclose(made.values, [[x, y]], rtol=1e-6)


def assert_invalid(made: TargetValues) -> None:
    """Not valid, and zeros rather than whatever was there."""
    assert made.valid.tolist() == [False]
    np.testing.assert_array_equal(made.values, np.zeros_like(made.values))


@pytest.mark.parametrize("kind", [kind for kind in Target if fits(kind, None)])
def test_the_announced_shape_is_the_shape_made(kind: Target) -> None:
    columns = byproducts([(True, [(0.5, 0.5)])], boxes=[(3, (0.1, 0.1, 0.9, 0.9))])
    for made in (target(kind, columns), target(kind, byproducts())):
        assert made.values.dtype == np.float32
        assert made.valid.dtype == bool
        if kind is Target.NONE:
            assert target_shape(kind) is None
            assert made.values.shape[0] == 0 and made.valid.shape == (0,)
        else:
            assert made.values.shape == target_shape(kind)
            assert made.valid.shape == made.values.shape[:1]


TOGGLED = [(0.125, 0.25), (0.5, 0.5), (0.75, 0.0)]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (Target.CLICK_FIRST, (0.125, 0.25)),
        (Target.CLICK_LAST, (0.75, 0.0)),
        (Target.CLICK_MEAN, (0.458333333, 0.25)),
    ],
)
def test_which_click_of_an_annotator_who_toggled(kind: Target, expected: Click) -> None:
    assert_point(target(kind, byproducts([(True, TOGGLED)])), *expected)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        # Of showings with the clicks (0, 0), (1, 1) and (0.5, 0): each showing counts once, however often it toggled.
        (Target.CLICK_FIRST, ((0.0 + 0.5) / 2, 0.0)),
        (Target.CLICK_LAST, ((1.0 + 0.5) / 2, 0.5)),
        (Target.CLICK_MEAN, ((0.5 + 0.5) / 2, 0.25)),
    ],
)
def test_several_showings_are_averaged_with_equal_weight(kind: Target, expected: Click) -> None:
    assert_point(target(kind, byproducts([(True, [(0.0, 0.0), (1.0, 1.0)]), (True, [(0.5, 0.0)])])), *expected)


CLICK_TARGETS = [Target.CLICK_LAST, Target.CLICK_FIRST, Target.CLICK_MEAN]


@pytest.mark.parametrize("kind", CLICK_TARGETS)
def test_showings_that_were_deselected_do_not_count(kind: Target) -> None:
    final = (True, [(0.25, 0.75)])
    alone = byproducts([final])
    among_deselected = byproducts([(False, [(0.0, 0.0), (1.0, 0.0)]), final, (False, [(1.0, 1.0)])])
    assert_point(target(kind, alone), 0.25, 0.75)
    assert_point(target(kind, among_deselected), 0.25, 0.75)


@pytest.mark.parametrize("kind", CLICK_TARGETS)
def test_a_selected_showing_without_a_click_does_not_count(kind: Target) -> None:
    assert_point(target(kind, byproducts([(True, []), (True, [(0.25, 0.75)])])), 0.25, 0.75)


@pytest.mark.parametrize("kind", CLICK_TARGETS)
@pytest.mark.parametrize("showings", [[], [(True, [])], [(False, [(0.5, 0.5)])], [(True, [(np.nan, 0.5)])]])
def test_without_a_click_of_a_selected_showing_there_is_no_target(
    kind: Target, showings: list[tuple[bool, list[Click]]]
) -> None:
    assert_invalid(target(kind, byproducts(showings)))


def test_clicks_in_the_order_recorded_even_if_showings_interleave() -> None:
    columns = byproducts([(True, []), (True, [])])
    interleaved = points([(1, (0.0, 0.0)), (0, (0.25, 0.0)), (1, (0.5, 1.0)), (0, (0.75, 1.0))])
    columns = ByproductColumns(**{f: getattr(columns, f) for f in columns.__slots__} | {"clicks": interleaved})
    assert_point(target(Target.CLICK_LAST, columns), (0.5 + 0.75) / 2, 1.0)
    assert_point(target(Target.CLICK_FIRST, columns), (0.0 + 0.25) / 2, 0.0)


@pytest.mark.parametrize(
    ("boxes", "expected"),
    [
        ([(3, (0.1, 0.2, 0.3, 0.4))], (0.1, 0.2, 0.3, 0.4)),
        ([(3, (0.1, 0.2, 0.3, 0.4)), (3, (0.2, 0.1, 0.6, 0.3))], (0.1, 0.1, 0.6, 0.4)),
        ([(3, (0.1, 0.2, 0.3, 0.4)), (-1, (0.5, 0.5, 0.9, 0.6))], (0.1, 0.2, 0.9, 0.6)),
        ([(3, (0.1, 0.2, 0.3, 0.4)), (7, (0.0, 0.0, 1.0, 1.0))], (0.1, 0.2, 0.3, 0.4)),
    ],
    ids=["one", "union of the class's", "a box without a label counts", "another class's does not"],
)
def test_the_box_of_the_class_and_its_centre(boxes: list, expected: tuple[float, float, float, float]) -> None:
    columns = byproducts(boxes=boxes)
    made = target(Target.BOX, columns)
    assert made.valid.tolist() == [True]
    np.testing.assert_allclose(made.values, [expected], rtol=1e-6)
    x_min, y_min, x_max, y_max = expected
    assert_point(target(Target.BOX_CENTRE, columns), (x_min + x_max) / 2, (y_min + y_max) / 2)


@pytest.mark.parametrize("kind", [Target.BOX, Target.BOX_CENTRE])
@pytest.mark.parametrize("boxes", [[], [(7, (0.1, 0.1, 0.9, 0.9))]])
def test_without_a_box_of_the_class_there_is_no_target(kind: Target, boxes: list) -> None:
    assert_invalid(target(kind, byproducts(boxes=boxes)))


@pytest.mark.parametrize("kind", [*CLICK_TARGETS, Target.BOX_CENTRE, Target.RANDOM_IN_IMAGE])
@settings(max_examples=40, deadline=None)
@given(x=st.floats(0.0, 1.0, width=32), y=st.floats(0.0, 1.0, width=32), data=st.data())
def test_a_point_moves_with_the_crop_and_is_valid_only_inside_it(
    kind: Target, x: float, y: float, data: st.DataObject
) -> None:
    """Any crop and flip; what is expected is worked out by hand, edge by edge."""
    left, top = data.draw(st.floats(0, 0.75)), data.draw(st.floats(0, 0.75))
    right, bottom = data.draw(st.floats(left + 0.125, 1.0)), data.draw(st.floats(top + 0.125, 1.0))
    flip = data.draw(st.booleans())
    columns = byproducts([(True, [(x, y)])], boxes=[(3, (x, y, x, y))])
    if kind is Target.RANDOM_IN_IMAGE:
        x, y = random_point(columns.file_name, 0).tolist()
    view = geometry.crop(left, top, right, bottom)
    made = target(kind, columns, view.then(geometry.flip_horizontal()) if flip else view)
    moved_x, moved_y = (x - left) / (right - left), (y - top) / (bottom - top)
    moved_x = 1 - moved_x if flip else moved_x
    outside = max(-moved_x, moved_x - 1, -moved_y, moved_y - 1)
    if outside > 1e-5:
        assert_invalid(made)
    elif outside < -1e-5:
        assert made.valid.tolist() == [True]
        np.testing.assert_allclose(made.values, [[moved_x, moved_y]], atol=1e-5)


def test_a_box_is_clipped_to_the_crop_and_invalid_outside_it() -> None:
    columns = byproducts(boxes=[(3, (0.25, 0.25, 0.75, 0.75))])
    made = target(Target.BOX, columns, geometry.crop(0.5, 0.0, 1.0, 1.0))
    assert made.valid.tolist() == [True]
    np.testing.assert_allclose(made.values, [[0.0, 0.25, 0.5, 0.75]])
    assert_invalid(target(Target.BOX, columns, geometry.crop(0.75, 0.0, 1.0, 1.0)))


@settings(max_examples=30, deadline=None)
@given(st.text(max_size=12), st.integers(0, 2**31), st.lists(st.integers(0, 9), max_size=3))
def test_a_random_point_depends_on_file_name_and_seed_only(name: str, seed: int, other: list[int]) -> None:
    bare = byproducts([CLICKED], file_name=name)
    rich = byproducts([CLICKED, *((True, [(i / 9, 0.5)]) for i in other)], label=len(other), file_name=name)
    assert_point(target(Target.RANDOM_IN_IMAGE, bare, seed=seed), *random_point(name, seed))
    assert_point(target(Target.RANDOM_IN_IMAGE, rich, seed=seed), *random_point(name, seed))


@pytest.mark.parametrize("showings", [[], [(False, [(0.5, 0.5)])], [(True, [])]])
def test_an_image_without_a_final_click_has_no_random_point_so_that_the_control_is_matched(
    showings: list[tuple[bool, list[Click]]],
) -> None:
    assert not target(Target.RANDOM_IN_IMAGE, byproducts(showings)).valid.any()


def test_a_random_point_stays_on_its_pixel_whatever_the_crop() -> None:
    columns = byproducts([CLICKED])
    for view in (geometry.crop(0.0, 0.0, 1.0, 0.999), geometry.crop(0.0, 0.0, 0.999, 1.0), geometry.flip_horizontal()):
        made = target(Target.RANDOM_IN_IMAGE, columns, view)
        np.testing.assert_allclose(view.inverse().points(made.values)[0], random_point(columns.file_name, 0), rtol=1e-5)


def test_random_points_are_the_same_in_another_process_and_in_another_order() -> None:
    names = [f"n{i:08d}/ä {i}.JPEG" for i in range(20)]
    here = [random_point(name, 5).tolist() for name in names]
    program = (
        "import json\n"
        "from luab_jax.byproducts.points import random_point\n"
        f"print(json.dumps([random_point(name, 5).tolist() for name in reversed({names!r})]))"
    )
    environment = os.environ | {"PYTHONHASHSEED": "12345", "PYTHONUTF8": "1"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == here[::-1]


def test_random_points_are_uniform_and_of_other_seeds_unrelated() -> None:
    names = [f"n01440764/n01440764_{i}.JPEG" for i in range(4000)]
    drawn = np.array([random_point(name, 0) for name in names])
    assert drawn.min() >= 0 and drawn.max() < 1
    counts, _, _ = np.histogram2d(*drawn.T, bins=4, range=[[0, 1], [0, 1]])
    expected = len(names) / 16
    chi_square = ((counts - expected) ** 2 / expected).sum()
    assert chi_square < 37.7  # 99.9 % point of 15 degrees of freedom
    other_seed = np.array([random_point(name, 1) for name in names])
    correlation = np.corrcoef(np.concatenate([drawn, other_seed], axis=1).T) - np.eye(4)
    assert np.abs(correlation).max() < 3.3 / np.sqrt(len(names))


# --- the control that is matched to the clicks


def control(columns: ByproductColumns, view: geometry.Affine, *, seed: int = 0, per_crop: bool = False) -> TargetValues:
    kind = RandomPoint.PER_CROP if per_crop else RandomPoint.PER_IMAGE
    return make_target(Target.RANDOM, columns, view, seed=seed, settings=TargetSettings(random_point=kind))


@settings(max_examples=40, deadline=None)
@given(
    st.floats(0, 1), st.floats(0, 1), st.floats(0, 0.75), st.floats(0, 0.75), st.booleans(), st.booleans(),
)  # fmt: skip
def test_the_control_counts_in_the_crops_in_which_the_click_counts_and_lies_in_all_of_them(
    x: float, y: float, left: float, top: float, flip: bool, per_crop: bool
) -> None:
    columns = byproducts([(True, [(x, y)])])
    view = geometry.crop(left, top, left + 0.25, top + 0.25)
    view = view.then(geometry.flip_horizontal()) if flip else view
    made, click = control(columns, view, per_crop=per_crop), target(Target.CLICK_LAST, columns, view)
    assert made.valid.tolist() == click.valid.tolist()
    if made.valid[0]:
        assert ((made.values[0, :2] >= 0) & (made.values[0, :2] <= 1)).all()
        np.testing.assert_array_equal(made.values[0, 2:], click.values[0])


def test_the_controls_place_in_the_crop_is_the_images_or_the_crops() -> None:
    columns = byproducts([(True, [(0.5, 0.5)])], file_name="a.jpg")
    views = [geometry.crop(0.0, 0.0, 0.5 + i / 100, 0.6) for i in range(8)]
    fixed = {tuple(control(columns, view, seed=3).values[0, :2]) for view in views}
    assert fixed == {tuple(random_point("a.jpg", 3).astype(np.float32))}
    drawn = [control(columns, view, seed=3, per_crop=True).values[0, :2] for view in views]
    assert len({tuple(point) for point in drawn}) == len(views)
    again = [control(columns, view, seed=3, per_crop=True).values[0, :2] for view in views]
    np.testing.assert_array_equal(drawn, again)


@pytest.mark.parametrize("showings", [[], [(False, [(0.5, 0.5)])], [(True, [])]])
def test_an_image_without_a_final_click_has_no_control_either(showings: list[tuple[bool, list[Click]]]) -> None:
    assert not control(byproducts(showings), geometry.identity()).valid.any()


def test_a_head_that_regresses_the_control_predicts_one_point() -> None:
    assert target_shape(Target.RANDOM) == (1, 4) and head_shape(Target.RANDOM) == (1, 2)
    assert head_shape(Target.RANDOM, 80) == (80, 2)


def test_a_new_target_of_kind_number_needs_no_response(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row and a function are enough, as the module says."""
    row = targets_module._Row(TargetKind.NUMBER, lambda columns, _: np.array([float(len(columns.labels))]))
    monkeypatch.setitem(targets_module._TABLE, Target.CLICK_MEAN, row)
    assert responses_of(Target.CLICK_MEAN) == ()
    assert head_shape(Target.CLICK_MEAN) == (1, 1)
    assert target(Target.CLICK_MEAN, byproducts([CLICKED])).valid.tolist() == [True]
    assert responses_of(Target.TIME_TO_CLICK) == (Response.TIME_TO_CLICK,)
