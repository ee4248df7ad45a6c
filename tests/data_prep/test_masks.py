"""COCO's masks: run lengths in both spellings, polygons, and which pixels are on them."""

from __future__ import annotations

import itertools
import json

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep import masks
from luab_jax.byproducts.records import Size

pixels = st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32 - 1)).map(
    lambda facts: np.random.default_rng(facts[2]).random(facts[:2]) < 0.5
)


def counts(mask: np.ndarray) -> list[int]:
    """Runs down the columns, the first one off."""
    values = [False, *mask.T.ravel().tolist()]
    lengths = [len(list(run)) for _, run in itertools.groupby(values)]
    return [lengths[0] - 1, *lengths[1:]]


def compressed(lengths: list[int]) -> str:
    """As pycocotools writes them (maskApi.c, `rleToString`)."""
    text = ""
    for index, length in enumerate(lengths):
        value = length - (lengths[index - 2] if index > 2 else 0)
        while True:
            bits, value = value & 0x1F, value >> 5
            more = value != -1 if bits & 0x10 else value != 0
            text += chr((bits | (0x20 if more else 0)) + 48)
            if not more:
                break
    return text


@given(pixels)
def test_run_lengths_in_either_spelling(mask: np.ndarray) -> None:
    height, width = mask.shape
    for spelling in (counts(mask), compressed(counts(mask))):
        text = json.dumps({"counts": spelling, "size": [height, width]})
        np.testing.assert_array_equal(masks.runs(text, Size(width, height)), mask)
        found = [
            [masks.contains(text, Size(width, height), (x + 0.5) / width, (y + 0.5) / height) for x in range(width)]
            for y in range(height)
        ]
        np.testing.assert_array_equal(found, mask)
        assert masks.polygons(text) == []


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=30))
def test_long_runs(lengths: list[int]) -> None:
    assert masks.run_lengths(compressed(lengths)).tolist() == lengths


@settings(max_examples=50)
@given(st.integers(0, 5), st.integers(0, 5), st.integers(1, 5), st.integers(1, 5))
def test_a_rectangle_as_polygon_holds_its_pixels(x: int, y: int, width: int, height: int) -> None:
    right, bottom = x + width, y + height
    text = json.dumps([[x, y, right, y, right, bottom, x, bottom]])
    size = Size(12, 12)
    for column, row in itertools.product(range(12), range(12)):
        inside = x <= column < right and y <= row < bottom
        assert masks.contains(text, size, (column + 0.5) / 12, (row + 0.5) / 12) == inside
    (corners,) = masks.polygons(text)
    assert corners.tolist() == [[x, y], [right, y], [right, bottom], [x, bottom]]
    assert masks.runs(text, size) is None
