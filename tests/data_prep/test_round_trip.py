"""Any record survives the way into a shard and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luab_jax.byproducts.columns import ACTION_KINDS
from luab_jax.byproducts.records import (
    Action,
    ActionKind,
    Box,
    CategoryView,
    Hover,
    ImageRecord,
    PagePosition,
    Point,
    Showing,
    Size,
    TimedPoint,
)
from luab_jax.data.features import Example, encode

# The type checks of the test run draw random numbers inside of `builds`, to which hypothesis objects.
pytestmark = pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisDeprecationWarning")

# Coordinates are float32 on disk, and -1 means "missing" there.
coordinates = st.floats(-0.125, 1.125, width=32)
counts = st.none() | st.integers(0, 2**53)
sizes = st.none() | st.builds(Size, st.integers(0, 10**6), st.integers(0, 10**6))
positions = st.none() | st.builds(PagePosition, st.integers(0, 10**6), st.integers(0, 10**6))
words = st.text(st.characters(codec="utf-8"), max_size=8)
timed_points = st.lists(st.builds(TimedPoint, coordinates, coordinates, counts), max_size=3).map(tuple)
labels = st.integers(-1, 999)
points = st.none() | st.builds(Point, coordinates, coordinates)
showings = st.builds(
    Showing,
    selected=st.booleans(),
    clicks=timed_points,
    trace=timed_points,
    hovers=st.lists(st.builds(Hover, st.booleans(), counts), max_size=2).map(tuple),
    actions=st.lists(
        st.builds(Action, st.sampled_from(ActionKind), words, points, points, counts, label=labels), max_size=2
    ).map(tuple),
    category_views=st.lists(st.builds(CategoryView, st.integers(0, 11), words, st.booleans(), counts), max_size=2).map(
        tuple
    ),
    time_spent_ms=counts,
    submit_time_s=counts,
    selected_count=counts,
    hovered_count=counts,
    worker_id=words,
    assignment_id=words,
    hit_id=words,
    source_hit_id=words,
    page_index=counts,
    image_index=counts,
    position_on_page=positions,
    display_size=sizes,
    original_size=sizes,
)
boxes = st.builds(
    Box,
    x_min=coordinates,
    y_min=coordinates,
    x_max=coordinates,
    y_max=coordinates,
    label=st.integers(-1, 999),
    is_crowd=st.booleans(),
    mask=words,
)
records = st.builds(
    ImageRecord,
    file_name=words,
    image=st.binary(max_size=20),
    height=st.integers(1, 10**5),
    width=st.integers(1, 10**5),
    label=st.integers(-1, 999),
    labels=st.lists(st.integers(0, 999), max_size=3).map(tuple),
    group=words,
    boxes=st.lists(boxes, max_size=2).map(tuple),
    showings=st.lists(showings, max_size=2).map(tuple),
    foreground_masks=st.lists(st.binary(max_size=9), max_size=2).map(tuple),
)


@settings(max_examples=100, deadline=None)
@given(records)
def test_round_trip(record: ImageRecord) -> None:
    data = encode(record)
    assert Example(data).record() == record
    assert encode(record) == data


@settings(max_examples=50, deadline=None)
@given(records)
def test_columns_are_those_of_the_showings(record: ImageRecord) -> None:
    columns = Example(encode(record)).byproducts()
    assert columns.selected.tolist() == [showing.selected for showing in record.showings]
    clicks = [(i, click) for i, showing in enumerate(record.showings) for click in showing.clicks]
    assert columns.clicks.showing.tolist() == [i for i, _ in clicks]
    assert columns.clicks.xy.tolist() == [list(click[:2]) for _, click in clicks]
    np.testing.assert_array_equal(columns.boxes.shape, (len(record.boxes), 4))
    actions = [(i, action) for i, showing in enumerate(record.showings) for action in showing.actions]
    assert columns.actions.showing.tolist() == [i for i, _ in actions]
    assert columns.actions.label.tolist() == [action.label for _, action in actions]
    assert [ACTION_KINDS[kind] for kind in columns.actions.kind] == [action.kind for _, action in actions]
    assert columns.labels.tolist() == list(record.labels)
