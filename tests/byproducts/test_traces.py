"""Where the pointer was, and that it stays there under crop and flip."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from luab_jax.byproducts import geometry
from luab_jax.byproducts.geometry import Affine
from luab_jax.byproducts.kinds import TargetSettings, TargetValues
from luab_jax.byproducts.records import Showing
from luab_jax.byproducts.targets import Target, make_target
from luab_jax.byproducts.traces import MAX_DWELL_MS, dwell_times
from luab_jax.data.resampling import ResizeFilter
from luab_jax.data.transforms import PixelBox, crop_and_resize
from tests.byproducts.annotated import columns, showing

WHOLE = geometry.identity()
few = settings(max_examples=40, deadline=None)


def target(kind: Target, view: Affine, *showings: Showing, side: int = 7) -> TargetValues:
    return make_target(kind, columns(*showings), view, seed=0, settings=TargetSettings(heat_map_side=side))


def heat(*showings: Showing, view: Affine = WHOLE, side: int = 7) -> np.ndarray:
    made = target(Target.TRACE_HEAT_MAP, view, *showings, side=side)
    assert made.valid.tolist() == [True]
    return made.values.reshape(side, side)


def shares(*showings: Showing) -> list[float]:
    return dwell_times(columns(*showings)).tolist()


def at(*times: int | None) -> list[tuple[float, float, int | None]]:
    """Samples along a line at these times."""
    return [(i / 10, 0.5, time) for i, time in enumerate(times)]


# --- how long a sample lasts


def test_a_sample_lasts_until_the_next_and_the_last_until_the_click() -> None:
    assert shares(showing(trace=at(0, 100, 400), clicks=[1000])) == [0.1, 0.3, 0.6]


def test_without_a_click_after_it_the_last_sample_lasts_as_the_median_of_the_others() -> None:
    assert shares(showing(trace=at(0, 100, 400, 1000))) == pytest.approx([0.1 / 1.3, 0.3 / 1.3, 0.6 / 1.3, 0.3 / 1.3])


def test_a_sample_ends_at_a_click_since_tracking_stops_while_the_image_is_selected() -> None:
    assert shares(showing(trace=at(0, 100, 900), clicks=[200, 1000])) == pytest.approx([1 / 3, 1 / 3, 1 / 3])


def test_a_long_pause_counts_as_one_second() -> None:
    assert MAX_DWELL_MS == 1000
    assert shares(showing(trace=at(0, 1000, 90_000), clicks=[92_000])) == pytest.approx([1 / 3, 1 / 3, 1 / 3])


def test_samples_of_one_time_and_times_that_run_backwards_count_one_millisecond() -> None:
    assert shares(showing(trace=at(50, 50, 40), clicks=[42])) == [0.25, 0.25, 0.5]


@pytest.mark.parametrize("times", [(None, None, None, None), (0, 10, None, 400)])
def test_where_a_time_is_missing_all_samples_of_the_showing_last_equally_long(times: tuple[int | None, ...]) -> None:
    assert shares(showing(trace=at(*times), clicks=[500])) == [0.25] * 4


def test_a_single_sample_is_all_there_is() -> None:
    assert shares(showing(trace=at(5))) == [1.0]


def test_showings_count_equally_and_only_the_selected() -> None:
    slow, quick = showing(trace=at(0, 900), clicks=[1000]), showing(trace=at(0, 1), clicks=[2])
    assert shares(slow, showing(trace=at(0, 10), selected=False), quick) == pytest.approx([0.9, 0.1, 0, 0, 0.5, 0.5])


# --- the heat map


def test_the_cells_go_row_by_row_from_the_top_left() -> None:
    trace = [(0.0, 0.0, 0), (0.9, 0.1, 100), (1.0, 1.0, 400)]
    np.testing.assert_allclose(heat(showing(trace=trace, clicks=[1000]), side=2), [[0.1, 0.3], [0.0, 0.6]])


samples = st.lists(
    st.tuples(st.floats(-0.0625, 1.0625, width=32), st.floats(-0.0625, 1.0625, width=32), st.integers(0, 5000)),
    min_size=1,
    max_size=12,
)
views = st.tuples(st.floats(0, 0.6), st.floats(0, 0.6), st.floats(0.2, 1), st.floats(0.2, 1), st.booleans())


def view_of(left: float, top: float, width: float, height: float, flip: bool) -> Affine:
    view = geometry.crop(left, top, min(1.0, left + width), min(1.0, top + height))
    return view.then(geometry.flip_horizontal()) if flip else view


@few
@given(samples, samples, views, st.sampled_from([2, 7]))
def test_the_heat_map_is_its_definition(first: list, second: list, view: tuple, side: int) -> None:
    """By loops over samples and cells; only what lies on the edge of a cell is left to rounding."""
    both = [showing(trace=first, clicks=[6000]), showing(trace=second)]
    expected, on_an_edge = [[0.0] * side for _ in range(side)], False
    moved = view_of(*view).points(np.array([s[:2] for s in first + second], np.float32)).tolist()
    for (x, y), share in zip(moved, shares(*both), strict=True):
        on_an_edge |= any(abs(v * side - round(v * side)) < 1e-4 for v in (x, y))
        if 0 <= x <= 1 and 0 <= y <= 1:
            expected[min(int(y * side), side - 1)][min(int(x * side), side - 1)] += share
    total = sum(map(sum, expected))
    made = target(Target.TRACE_HEAT_MAP, view_of(*view), *both, side=side)
    assert made.values.shape == (1, side * side) and made.valid.tolist() == [total > 0]
    if total and not on_an_edge:
        np.testing.assert_allclose(made.values[0], np.ravel(expected) / total, atol=1e-6)


@few
@given(samples, views)
def test_a_heat_map_sums_to_one_or_is_not_valid(trace: list, view: tuple) -> None:
    made = target(Target.TRACE_HEAT_MAP, view_of(*view), showing(trace=trace))
    assert made.values.sum() == pytest.approx(1 if made.valid[0] else 0, abs=1e-6)
    assert made.values.min() >= 0


inner_samples = st.lists(
    # Away from the edges of the cells, on which a mirrored point falls into the neighbour.
    st.tuples(*[st.integers(0, 6).flatmap(lambda i: st.floats(i / 7 + 0.01, i / 7 + 0.13))] * 2, st.integers(0, 5000)),
    min_size=1,
    max_size=8,
)


@few
@given(inner_samples)
def test_a_flip_mirrors_the_heat_map_and_two_flips_restore_it(trace: list) -> None:
    flip = geometry.flip_horizontal()
    plain = heat(showing(trace=trace))
    np.testing.assert_allclose(heat(showing(trace=trace), view=flip), plain[:, ::-1])
    np.testing.assert_allclose(heat(showing(trace=trace), view=flip.then(flip)), plain)


def test_samples_outside_of_the_crop_drop_out_and_the_rest_is_renormalised() -> None:
    seen = showing(trace=[(0.1, 0.5, 0), (0.6, 0.1, 500), (0.9, 0.9, 700)], clicks=[1000])
    right = heat(seen, view=geometry.crop(0.5, 0.0, 1.0, 1.0), side=2)
    np.testing.assert_allclose(right, [[0.4, 0.0], [0.0, 0.6]], rtol=1e-6)
    below = target(Target.TRACE_HEAT_MAP, geometry.crop(0.2, 0.2, 0.5, 0.8), seen)
    assert not below.valid.any() and not below.values.any()


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("box", [PixelBox(0, 0, 56, 42), PixelBox(9, 5, 35, 28), PixelBox(14, 10, 21, 30)])
def test_heat_stays_on_its_pixels(box: PixelBox, flip: bool) -> None:
    """A bright spot is drawn where the pointer was; in every crop the brightest cell is the one with the heat."""
    rng, checked = np.random.default_rng(0), 0
    for _ in range(30):
        x, y = int(rng.integers(box.left, box.left + box.width)), int(rng.integers(box.top, box.top + box.height))
        pixels = np.zeros((42, 56, 3), np.uint8)
        pixels[y, x] = 255
        image = Image.fromarray(pixels)
        crop, view = crop_and_resize(image, box, 28, ResizeFilter.BILINEAR, flip=flip)
        cells = crop[..., 0].astype(float).reshape(7, 4, 7, 4).sum(axis=(1, 3))
        if cells.max() > 0.9 * cells.sum():  # else the spot lies across an edge
            made = heat(showing(trace=[((x + 0.5) / 56, (y + 0.5) / 42, 0)]), view=view)
            assert made.argmax() == cells.argmax() and made.max() == 1
            checked += 1
    assert checked > 5


@pytest.mark.parametrize(
    "showings", [[], [showing()], [showing(trace=at(0, 5), selected=False)]], ids=["none", "no trace", "not selected"]
)
@pytest.mark.parametrize("kind", [Target.TRACE_BOX, Target.TRACE_HEAT_MAP])
def test_without_a_trace_of_a_selected_showing_there_is_no_target(kind: Target, showings: list[Showing]) -> None:
    made = target(kind, WHOLE, *showings)
    assert not made.valid.any() and not made.values.any()


# --- the box of the trace


def test_the_box_holds_the_whole_trace_and_is_averaged_over_selected_showings() -> None:
    one = showing(trace=[(0.25, 0.5, 0), (0.75, 0.125, 1), (0.5, 0.25, 2)])
    two = showing(trace=[(0.5, 0.5, 0), (1.0, 1.0, 1)])
    hidden = showing(trace=[(0.0, 0.0, 0), (1.0, 1.0, 1)], selected=False)
    np.testing.assert_allclose(target(Target.TRACE_BOX, WHOLE, one).values, [[0.25, 0.125, 0.75, 0.5]])
    np.testing.assert_allclose(target(Target.TRACE_BOX, WHOLE, one, hidden, two).values, [[0.375, 0.3125, 0.875, 0.75]])


def test_a_trace_of_one_point_has_no_box() -> None:
    assert not target(Target.TRACE_BOX, WHOLE, showing(trace=at(0))).valid.any()


@few
@given(samples.filter(lambda trace: len(trace) > 1), views)
def test_the_box_is_moved_and_clipped_as_any_box(trace: list, view: tuple) -> None:
    xs, ys = [s[0] for s in trace], [s[1] for s in trace]
    corners = np.array([[min(xs), min(ys), max(xs), max(ys)]], np.float32)
    expected, visible = geometry.clip_boxes(view_of(*view).boxes(corners))
    made = target(Target.TRACE_BOX, view_of(*view), showing(trace=trace))
    assert made.valid.tolist() == visible.tolist()
    np.testing.assert_allclose(made.values, np.where(visible[:, None], expected, 0))


@few
@given(samples)
def test_two_flips_restore_the_box_and_one_mirrors_it(trace: list) -> None:
    flip = geometry.flip_horizontal()
    plain = target(Target.TRACE_BOX, WHOLE, showing(trace=trace))
    mirrored = target(Target.TRACE_BOX, flip, showing(trace=trace))
    again = target(Target.TRACE_BOX, flip.then(flip), showing(trace=trace))
    np.testing.assert_allclose(again.values, plain.values, atol=1e-6)
    if plain.valid[0] and mirrored.valid[0]:
        np.testing.assert_allclose(mirrored.values[:, [2, 0]], 1 - plain.values[:, [0, 2]], atol=1e-6)
        np.testing.assert_allclose(mirrored.values[:, [1, 3]], plain.values[:, [1, 3]], atol=1e-6)
