"""Classes are taken out of images by their masks; V_min and V_avg are what the definitions say."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from luab_jax.byproducts.records import Box, ImageRecord
from luab_jax.data import features
from luab_jax.data.dataset import open_split
from luab_jax.data.features import Example
from luab_jax.data.transforms import Preprocessing
from luab_jax.errors import DataError
from luab_jax.evaluation.procedures.object_removal import INPAINTERS, Removal, Skips, all_edits, edits_of, grow
from luab_jax.evaluation.scores import intervals
from luab_jax.evaluation.scores.context import context_violations
from tests.tiny import prepare_split

SIDE = 48
SEEN = Preprocessing(image_size=SIDE, resize_side=SIDE)
RED, GREEN, BLUE = 0, 1, 2
COLOURS = np.asarray([[230, 20, 20], [20, 230, 20], [20, 20, 230]], np.uint8)


def square(label: int, left: int, top: int, side: int, *, mask: bool = True) -> Box:
    right, bottom = left + side, top + side
    outline = json.dumps([[left, top, right, top, right, bottom, left, bottom]]) if mask else ""
    return Box(x_min=left / SIDE, y_min=top / SIDE, x_max=right / SIDE, y_max=bottom / SIDE, label=label, mask=outline)


def example(*boxes: Box, width: int = SIDE, labels: tuple[int, ...] | None = None) -> Example:
    """Squares of the colour of their class on grey."""
    pixels = np.full((SIDE, width, 3), 128, np.uint8)
    for box in boxes:
        rows = slice(round(box.y_min * SIDE), round(box.y_max * SIDE))
        pixels[rows, round(box.x_min * SIDE) : round(box.x_max * SIDE)] = COLOURS[box.label]
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    present = tuple(sorted({box.label for box in boxes})) if labels is None else labels
    record = ImageRecord(
        file_name="a.png", image=buffer.getvalue(), height=SIDE, width=width, labels=present, boxes=boxes
    )
    return Example(features.encode(record))


def shows(pixels: np.ndarray, label: int) -> bool:
    return bool(np.any(np.all(np.abs(pixels.astype(int) - COLOURS[label]) < 60, axis=-1)))


@pytest.mark.parametrize("inpainter", INPAINTERS)
def test_a_removed_class_is_gone_and_the_others_stay(inpainter: str) -> None:
    boxes = square(RED, 4, 4, 8), square(RED, 30, 4, 6), square(GREEN, 18, 30, 10)
    edits, skips = edits_of(example(*boxes), 7, SEEN, Removal(inpainter=inpainter, dilation=2))
    assert skips == Skips()
    assert [(edit.removed, edit.index, edit.file_name) for edit in edits] == [(RED, 7, "a.png"), (GREEN, 7, "a.png")]
    for edit in edits:
        assert [shows(edit.pixels, label) for label in (RED, GREEN)] == [edit.removed != RED, edit.removed != GREEN]


def test_only_what_is_near_the_mask_changes() -> None:
    picture = example(square(RED, 4, 4, 8), square(GREEN, 30, 30, 8))
    edits, _ = edits_of(picture, 0, SEEN, Removal(dilation=3))
    original = np.asarray(Image.open(io.BytesIO(picture.image)))
    changed = np.any(edits[0].pixels != original, axis=-1)
    rows, columns = np.nonzero(changed)
    assert changed.any()
    assert max(rows.max(), columns.max()) <= 12 + 3


def test_an_image_of_one_class_has_no_context() -> None:
    assert edits_of(example(square(RED, 4, 4, 8)), 0, SEEN, Removal()) == ([], Skips())


def test_what_is_not_removed_is_counted() -> None:
    boxes = square(RED, 0, 0, 30), square(GREEN, 32, 32, 8), square(BLUE, 40, 4, 6, mask=False)
    edits, skips = edits_of(example(*boxes), 0, SEEN, Removal(largest_share=0.3))
    assert [edit.removed for edit in edits] == [GREEN]
    assert skips == Skips(without_mask=1, too_large=1)


def test_an_object_beside_the_centre_crop_is_not_in_view() -> None:
    wide = example(square(RED, 4, 4, 8), square(GREEN, 150, 4, 8), width=4 * SIDE)
    _, skips = edits_of(wide, 0, SEEN, Removal())
    assert skips == Skips(not_in_view=2)


def test_growing_reaches_as_far_as_told() -> None:
    dot = np.zeros((15, 15), bool)
    dot[7, 7] = True
    y, x = np.nonzero(grow(dot, 4))
    assert (y.min(), y.max(), x.min(), x.max()) == (3, 11, 3, 11)
    np.testing.assert_array_equal(grow(dot, 0), dot)


def test_every_record_is_seen_once_and_in_order(tmp_path: Path) -> None:
    split = open_split(prepare_split(tmp_path, "val", 5), "val")
    assert list(all_edits(split, SEEN, Removal(), threads=2)) == [([], Skips())] * 5
    assert len(list(all_edits(split, SEEN, Removal(), threads=2, start=3))) == 2


def by_definition(images: list[int], removed: list[int], scores: np.ndarray) -> dict[str, list[list[float]]]:
    """Per class, the values of its pairs."""
    found: dict[str, list[list[float]]] = {name: [] for name in ("v_min", "v_avg", "v_avg_of_scores")}
    for label in sorted(set(removed)):
        of_class: dict[str, list[float]] = {name: [] for name in found}
        for image in sorted(set(images)):
            without = {
                r: scores[i][label] for i, (im, r) in enumerate(zip(images, removed, strict=True)) if im == image
            }
            if label not in without or len(without) < 2:
                continue
            own = without.pop(label)
            values = list(without.values())
            of_class["v_min"].append(float(min(values) < own))
            of_class["v_avg"].append(sum(v < own for v in values) / len(values))
            of_class["v_avg_of_scores"].append(float(sum(values) / len(values) < own))
        if of_class["v_min"]:
            for name, values in of_class.items():
                found[name].append(values)
    return found


@settings(max_examples=15, deadline=None)
@given(st.sets(st.tuples(st.integers(0, 4), st.integers(0, 3)), min_size=1, max_size=12), st.integers(0, 99))
def test_violations_are_those_of_the_definition(pairs: set[tuple[int, int]], seed: int) -> None:
    images, removed = map(list, zip(*sorted(pairs), strict=True))
    scores = np.random.default_rng(seed).integers(0, 4, (len(pairs), 4)).astype(np.float32)
    expected = by_definition(images, removed, scores)
    if not expected["v_min"]:
        with pytest.raises(DataError, match="no context"):
            context_violations(np.asarray(images), np.asarray(removed), scores)
        return
    found = context_violations(np.asarray(images), np.asarray(removed), scores)
    for name in intervals.names_of(found):
        low, high = found[name].interval
        assert 0 <= low <= found[name] <= high <= 1, name
    for name, by_class in expected.items():
        assert found[name] == pytest.approx(np.mean(np.concatenate(by_class)))
        assert found[f"{name}_by_class"] == pytest.approx(np.mean([np.mean(values) for values in by_class]))
    assert found["v_avg"] <= found["v_min"]
    assert found["v_avg_of_scores"] <= found["v_min"]


def test_a_model_that_looks_at_the_object_only_is_never_violated() -> None:
    """Without itself the class scores 0, without any other 1; one that looks at the context only always is."""
    images, removed = np.asarray([0, 0, 0]), np.asarray([0, 1, 2])
    looks_at_object = 1 - np.eye(3, dtype=np.float32)
    assert context_violations(images, removed, looks_at_object)["v_min"] == 0
    assert context_violations(images, removed, 1 - looks_at_object)["v_avg"] == 1
