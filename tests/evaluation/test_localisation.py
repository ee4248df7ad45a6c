"""MaxBoxAccV2 against loops over drawn boxes, and where its value is known beforehand."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luab_jax.errors import DataError
from luab_jax.evaluation.scores.localisation import (
    THRESHOLDS,
    Located,
    as_levels,
    best_ious,
    boxes_above,
    max_box_acc_v2,
)

SIDE = 40


def image_of(scores: np.ndarray, *boxes: Sequence[int] | np.ndarray) -> Located:
    return Located("a.JPEG", scores.astype(np.float32), np.asarray(boxes, np.float32).reshape(-1, 4) / SIDE)


def blocks(*rectangles: tuple[int, int, int, int, float]) -> np.ndarray:
    """Rectangles (left, top, right, bottom, height) that do not touch."""
    scores = np.zeros((SIDE, SIDE), np.float32)
    for left, top, right, bottom, height in rectangles:
        scores[top:bottom, left:right] = height
    return scores


def by_loops(scores: np.ndarray, rectangles: list[tuple[int, int, int, int, float]], truth: list[tuple]) -> list[float]:
    """The definition for maps of separate rectangles, pixel by pixel."""

    def pixels(box: tuple) -> set[tuple[int, int]]:
        return {(x, y) for x in range(box[0], box[2] + 1) for y in range(box[1], box[3] + 1)}

    found = []
    for threshold in THRESHOLDS:
        cut = int(threshold * 255)
        boxes = [
            (left, top, min(right, SIDE - 1), min(bottom, SIDE - 1))
            for left, top, right, bottom, height in rectangles
            if int(height / scores.max() * 255) > cut
        ]
        ious = [len(pixels(a) & pixels(b)) / len(pixels(a) | pixels(b)) for a in boxes or [(0, 0, 0, 0)] for b in truth]
        found.append(max(ious))
    return found


def drawn_and_looped(seed: int) -> tuple[np.ndarray, list[float]]:
    """Of a map of four rectangles and two objects: the IoU at every threshold, and by loops."""
    rng = np.random.default_rng(seed)
    rectangles = []
    for left in (1, 21):
        for top in (1, 21):
            right, bottom = left + rng.integers(2, 19), top + rng.integers(2, 19)
            rectangles.append((left, top, int(right), int(bottom), float(rng.uniform(0.1, 1))))
    truth = [tuple(sorted(rng.integers(0, SIDE, 2).tolist()) for _ in range(2)) for _ in range(2)]
    boxes = [(x[0], y[0], x[1], y[1]) for x, y in truth]
    scores = blocks(*rectangles)
    return best_ious(image_of(scores, *boxes)), by_loops(scores, rectangles, boxes)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000))
def test_it_is_the_definition_on_drawn_rectangles(seed: int) -> None:
    np.testing.assert_allclose(*drawn_and_looped(seed), atol=1e-12)


def by_thresholds(scores: np.ndarray, truth: np.ndarray) -> list[float]:
    """As the official evaluation goes about it: every threshold by itself, its outlines with their hierarchy."""
    levels = ((scores - scores.min()) / (scores.max() - scores.min()) * 255).astype(np.uint8)
    found = []
    for threshold in THRESHOLDS:
        cut = cv2.threshold(levels, int(threshold * levels.max()), 255, cv2.THRESH_BINARY)[1]
        outlines = cv2.findContours(cut, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)[-2]
        rectangles = [cv2.boundingRect(outline) for outline in outlines] or [(0, 0, 0, 0)]
        corners = [(x, y, min(x + w, SIDE - 1), min(y + h, SIDE - 1)) for x, y, w, h in rectangles]
        found.append(max(iou(a, b) for a in corners for b in truth))
    return found


def iou(a: Sequence[int] | np.ndarray, b: Sequence[int] | np.ndarray) -> float:
    width, height = (max(min(a[i + 2], b[i + 2]) - max(a[i], b[i]) + 1, 0) for i in (0, 1))
    areas = [(box[2] - box[0] + 1) * (box[3] - box[1] + 1) for box in (a, b)]
    return width * height / (sum(areas) - width * height)


@settings(max_examples=4, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([3, 8, SIDE]))
def test_maps_with_holes_and_islands_score_as_by_the_official_steps(seed: int, cells: int) -> None:
    rng = np.random.default_rng(seed)
    scores = cv2.resize(rng.normal(size=(cells, cells)).astype(np.float32), (SIDE, SIDE))
    truth = np.sort(rng.integers(0, SIDE, (2, 2, 2)), axis=1).reshape(2, 4)
    np.testing.assert_allclose(best_ious(image_of(scores, *truth)), by_thresholds(scores, truth), atol=1e-12)


def test_thresholds_are_chosen_over_the_set_and_for_each_iou() -> None:
    """One map needs a low threshold and the other a high one: no single threshold is right for both."""
    low = image_of(blocks((10, 10, 30, 30, 1.0), (12, 32, 14, 34, 0.5))[:, ::-1], (0, 0, 1, 1))
    good = image_of(blocks((10, 10, 30, 30, 1.0)), (10, 10, 30, 30))
    scores = max_box_acc_v2([low, good])
    assert scores["box_acc_70"] == 0.5
    assert scores["n"] == 2
    wide, tall = blocks((0, 0, 40, 40, 0.4)), blocks((0, 0, 40, 40, 0.8))
    for map_ in (wide, tall):
        map_[15:25, 15:25] = 1.0
    both = max_box_acc_v2([image_of(wide, (0, 0, 39, 39)), image_of(tall, (15, 15, 25, 25))])
    assert both["box_acc_50"] == 0.5, "above 0.4 the first is lost, below 0.8 the second"


def test_several_objects_count_by_the_best() -> None:
    image = image_of(blocks((4, 4, 12, 12, 1.0)), (30, 30, 38, 38), (4, 4, 12, 12))
    assert best_ious(image).max() == 1.0


def test_a_flat_map_finds_nothing() -> None:
    assert as_levels(np.full((3, 3), 0.7, np.float32)).max() == 0
    assert boxes_above(np.zeros((SIDE, SIDE), np.uint8), 0) == [(0, 0, 0, 0)]
    assert max_box_acc_v2([image_of(np.full((SIDE, SIDE), 0.7), (5, 5, 20, 20))])["max_box_acc_v2"] == 0


def test_the_scale_of_a_map_does_not_matter() -> None:
    scores = np.random.default_rng(0).random((SIDE, SIDE)).astype(np.float32).round(2)
    first, second = (best_ious(image_of(s, (3, 5, 20, 30))) for s in (scores, 64 * scores - 32))
    np.testing.assert_array_equal(first, second)


def test_no_image_and_no_number_are_refused() -> None:
    with pytest.raises(DataError, match="no image"):
        max_box_acc_v2([])
    with pytest.raises(DataError, match=r"a\.JPEG.*not finite"):
        max_box_acc_v2([image_of(np.full((4, 4), np.nan), (0, 0, 1, 1))])
