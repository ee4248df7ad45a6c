"""Points and boxes under affine maps: the laws that augmentation relies on."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from luab_jax.byproducts import geometry
from luab_jax.byproducts.geometry import Affine, clip_boxes, inside

laws = settings(max_examples=60, deadline=None)
coordinates = st.floats(-0.5, 1.5)
points = npst.arrays(np.float64, st.tuples(st.integers(0, 5), st.just(2)), elements=coordinates)


@st.composite
def intervals(draw: st.DrawFn) -> tuple[float, float]:
    low = draw(st.floats(0.0, 0.875))
    return low, draw(st.floats(low + 0.125, 1.0))


@st.composite
def crop_edges(draw: st.DrawFn) -> tuple[float, float, float, float]:
    (x_min, x_max), (y_min, y_max) = draw(intervals()), draw(intervals())
    return x_min, y_min, x_max, y_max


@st.composite
def boxes(draw: st.DrawFn) -> np.ndarray:
    corners = draw(npst.arrays(np.float64, st.tuples(st.integers(0, 4), st.just(2), st.just(2)), elements=coordinates))
    return np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=-1)


steps = st.one_of(
    st.builds(geometry.identity),
    st.builds(geometry.flip_horizontal),
    crop_edges().map(lambda edges: geometry.crop(*edges)),
)
maps = st.lists(steps, min_size=1, max_size=3).map(lambda chain: functools.reduce(Affine.then, chain))


def assert_close(actual: np.ndarray, expected: np.ndarray) -> None:
    """Equal up to float32, of numbers as large as a crop of a crop of a crop can make them."""
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-4)


@laws
@given(points)
def test_the_identity_moves_nothing(xy: np.ndarray) -> None:
    np.testing.assert_array_equal(geometry.identity().points(xy), xy.astype(np.float32))


@laws
@given(points)
def test_a_flip_mirrors_x_and_keeps_y(xy: np.ndarray) -> None:
    flipped = geometry.flip_horizontal().points(xy)
    assert_close(flipped[:, 0], 1 - xy[:, 0])
    np.testing.assert_array_equal(flipped[:, 1], xy[:, 1].astype(np.float32))


@laws
@given(points, boxes())
def test_flipping_twice_restores_points_and_boxes(xy: np.ndarray, rectangles: np.ndarray) -> None:
    twice = geometry.flip_horizontal().then(geometry.flip_horizontal())
    np.testing.assert_array_equal(twice.points(xy), xy.astype(np.float32))
    np.testing.assert_array_equal(twice.boxes(rectangles), rectangles.astype(np.float32))


@laws
@given(maps, maps, points)
def test_then_is_one_map_after_the_other(first: Affine, second: Affine, xy: np.ndarray) -> None:
    in_two_steps = first.points(xy).astype(np.float64) @ second.matrix.T + second.offset
    np.testing.assert_allclose(first.then(second).points(xy), in_two_steps, rtol=1e-5, atol=1e-2)


@laws
@given(maps, maps, maps)
def test_then_does_not_care_how_it_is_bracketed(a: Affine, b: Affine, c: Affine) -> None:
    left, right = a.then(b).then(c), a.then(b.then(c))
    np.testing.assert_allclose(left.matrix, right.matrix, rtol=1e-9)
    np.testing.assert_allclose(left.offset, right.offset, rtol=1e-9, atol=1e-6)


@laws
@given(maps, points)
def test_the_inverse_leads_back_from_either_side(view: Affine, xy: np.ndarray) -> None:
    for round_trip in (view.then(view.inverse()), view.inverse().then(view)):
        assert_close(round_trip.points(xy), xy)


@laws
@given(crop_edges())
def test_a_crop_maps_its_corners_to_the_corners_of_the_image(edges: tuple[float, float, float, float]) -> None:
    x_min, y_min, x_max, y_max = edges
    corners = np.array([[x_min, y_min], [x_max, y_min], [x_min, y_max], [x_max, y_max]])
    assert_close(geometry.crop(*edges).points(corners), np.array([[0, 0], [1, 0], [0, 1], [1, 1]]))


def test_a_crop_of_known_numbers() -> None:
    view = geometry.crop(0.2, 0.5, 0.6, 1.0)
    assert_close(view.points(np.array([[0.3, 0.6], [0.7, 0.4]])), np.array([[0.25, 0.2], [1.25, -0.2]]))


@laws
@given(crop_edges(), st.booleans(), boxes())
def test_a_moved_box_is_the_box_of_its_moved_corners(
    edges: tuple[float, float, float, float], flip: bool, rectangles: np.ndarray
) -> None:
    view = geometry.crop(*edges)
    view = view.then(geometry.flip_horizontal()) if flip else view
    for (x_min, y_min, x_max, y_max), moved in zip(rectangles, view.boxes(rectangles), strict=True):
        corners = view.points(np.array([[x_min, y_min], [x_max, y_min], [x_min, y_max], [x_max, y_max]]))
        assert_close(moved, np.concatenate([corners.min(axis=0), corners.max(axis=0)]))
        assert moved[0] <= moved[2] and moved[1] <= moved[3]


@pytest.mark.parametrize(
    ("point", "is_inside"),
    [
        ((0.0, 0.0), True),
        ((1.0, 1.0), True),
        ((0.5, 1.0), True),
        ((-1e-6, 0.5), False),
        ((0.5, 1.000001), False),
        ((np.nan, 0.5), False),
        ((0.5, np.nan), False),
        ((np.inf, 0.5), False),
    ],
)
def test_borders_are_inside_and_nan_is_not(point: tuple[float, float], is_inside: bool) -> None:
    assert inside(np.array([point])).tolist() == [is_inside]


@laws
@given(boxes())
def test_clipping_leaves_the_intersection_with_the_image(rectangles: np.ndarray) -> None:
    clipped, visible = clip_boxes(rectangles)
    for box, cut, shown in zip(rectangles, clipped, visible, strict=True):
        width = min(box[2], 1) - max(box[0], 0)
        height = min(box[3], 1) - max(box[1], 0)
        assert shown == (width > 0 and height > 0)
        if shown:
            np.testing.assert_allclose([cut[2] - cut[0], cut[3] - cut[1]], [width, height])
            assert cut.min() >= 0 and cut.max() <= 1


def test_a_box_with_nan_is_not_visible() -> None:
    _, visible = clip_boxes(np.array([[np.nan, 0.1, 0.5, 0.5], [0.1, 0.1, 0.5, np.nan]]))
    assert visible.tolist() == [False, False]
