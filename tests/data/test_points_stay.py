"""Points and boxes sit on the same object before and after crop and flip.

Objects of one colour each are drawn where the annotators clicked; the pixel under a moved point must have that colour,
in every crop that the training pipeline makes, with either decoder and every filter.
"""

from __future__ import annotations

import io
import itertools
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from luab_jax.byproducts.records import Action, ActionKind, Box, ImageRecord, Point, Showing, TimedPoint
from luab_jax.byproducts.targets import Target
from luab_jax.data.batch import Batch
from luab_jax.data.dataset import PreparedSplit
from luab_jax.data.pipeline import Augmentation, LabelSets, Reading, train_batches
from luab_jax.data.transforms import ResizeFilter
from tests.data.test_pipeline import write_split

SIDE, EPOCHS, RADIUS = 64, 30, 9
COLOURS = ((255, 40, 40), (40, 255, 40), (60, 60, 255), (255, 255, 40), (255, 40, 255))
SIZES = ((96, 72), (72, 100), (80, 80), (121, 67))
CENTRES = np.random.default_rng(0).uniform(0.15, 0.85, (len(SIZES), 3, 2))
"""Of three objects of each image, in fractions."""


def encoded(image: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **({"quality": 98, "subsampling": 0} if kind == "JPEG" else {}))
    return buffer.getvalue()


def canvas(size: tuple[int, int], seed: int) -> Image.Image:
    """Dark grey noise, which no object's colour is near to."""
    grey = np.random.default_rng(seed).integers(20, 60, (size[1], size[0], 1), np.uint8)
    return Image.fromarray(np.broadcast_to(grey, (size[1], size[0], 3)).copy())


def disc(image: Image.Image, centre: np.ndarray, colour: tuple[int, int, int]) -> None:
    x, y = centre * image.size
    ImageDraw.Draw(image).ellipse((x - RADIUS, y - RADIUS, x + RADIUS, y + RADIUS), fill=colour)


def corners(index: int) -> tuple[float, float, float, float]:
    """The rectangle between two objects' centres, on whole pixels."""
    width, height = SIZES[index]
    (x0, y0), (x1, y1) = np.sort(CENTRES[index, :2], axis=0)
    left, top = int(x0 * width), int(y0 * height)
    right, bottom = max(int(x1 * width), left + 12), max(int(y1 * height), top + 12)
    return left / width, top / height, min(right / width, 1), min(bottom / height, 1)


def clicked(index: int, kind: str) -> ImageRecord:
    """An image of one class, with one disc where it was clicked last."""
    image = canvas(SIZES[index], index)
    disc(image, CENTRES[index, 0], COLOURS[index])
    x, y = CENTRES[index, 0].tolist()
    clicks = (TimedPoint(0.01, 0.01, 1), TimedPoint(x, y, 2))
    showings = (Showing(selected=True, clicks=clicks),)
    return record(index, image, kind, label=index, showings=showings)


def boxed(index: int, kind: str) -> ImageRecord:
    """An image of one class that fills its box."""
    image = canvas(SIZES[index], index)
    box = Box(**dict(zip(("x_min", "y_min", "x_max", "y_max"), corners(index), strict=True)), label=index)
    edges = np.round(np.asarray(corners(index)) * (SIZES[index] * 2)).astype(int).tolist()
    ImageDraw.Draw(image).rectangle((edges[0], edges[1], edges[2] - 1, edges[3] - 1), fill=COLOURS[index])
    return record(index, image, kind, label=index, boxes=(box,))


def with_icons(index: int, kind: str) -> ImageRecord:
    """Three classes with icons, one of which was moved to where it lies."""
    image = canvas(SIZES[index], index)
    labels = (0, 2, 4)
    actions = [Action(ActionKind.ADD, "", None, Point(0.02, 0.02), 0, labels[0])]
    for label, centre in zip(labels, CENTRES[index], strict=True):
        disc(image, centre, COLOURS[label])
        add = ActionKind.MOVE if label == labels[0] else ActionKind.ADD
        actions.append(Action(add, "", None, Point(*centre.tolist()), 1, label))
    showings = (Showing(selected=True, actions=tuple(actions)),)
    return record(index, image, kind, labels=labels, showings=showings)


def record(index: int, image: Image.Image, kind: str, **fields: object) -> ImageRecord:
    size = {"height": image.height, "width": image.width}
    return ImageRecord(file_name=f"{index}.{kind}", image=encoded(image, kind), **(size | fields))  # type: ignore[arg-type]


def crops(
    split: PreparedSplit, target: Target, label_sets: LabelSets | None = None, **augmentation: object
) -> list[Batch]:
    """Every epoch is one batch."""
    endless = train_batches(
        split,
        augmentation=Augmentation(image_size=SIDE, **augmentation),  # type: ignore[arg-type]
        target=target,
        seed=3,
        label_sets=label_sets,
        batch_size=len(SIZES),
        reading=Reading(num_threads=1),
    )
    return list(itertools.islice(endless, EPOCHS))


def is_colour(pixels: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return np.abs(pixels.astype(int) - colour).max(axis=-1) < 70


def under(image: np.ndarray, point: np.ndarray) -> np.ndarray:
    column, row = np.minimum((point * SIDE).astype(int), SIDE - 1)
    return image[row, column]


KINDS = pytest.mark.parametrize("kind", ["JPEG", "PNG"])


@KINDS
@pytest.mark.parametrize("filter", list(ResizeFilter))
def test_a_click_stays_on_what_was_clicked(kind: str, filter: ResizeFilter, tmp_path: Path) -> None:
    split = write_split(tmp_path, [clicked(i, kind) for i in range(len(SIZES))])
    seen = lost = 0
    for batch in crops(split, Target.CLICK_LAST, filter=filter):
        for image, target, valid, index in zip(batch.images, batch.targets, batch.valid, batch.index, strict=True):
            if valid[0]:
                assert is_colour(under(image, target[0]), COLOURS[index])
            else:
                middle = is_colour(image[8:-8, 8:-8], COLOURS[index])
                assert middle.mean() < 0.5  # its centre is outside, so it cannot fill the crop
            seen, lost = seen + valid[0], lost + (not valid[0])
    assert seen > 60 and lost > 10


@KINDS
def test_a_box_holds_its_object_and_nothing_else(kind: str, tmp_path: Path) -> None:
    split = write_split(tmp_path, [boxed(i, kind) for i in range(len(SIZES))])
    across, down = np.meshgrid((np.arange(SIDE) + 0.5) / SIDE, (np.arange(SIDE) + 0.5) / SIDE)
    seen = 0
    for batch in crops(split, Target.BOX, crop_scale=(0.3, 1.0)):
        for image, target, valid, index in zip(batch.images, batch.targets, batch.valid, batch.index, strict=True):
            colour = is_colour(image, COLOURS[index])
            if not valid[0]:
                assert not colour.any()
                continue
            x_min, y_min, x_max, y_max = target[0]
            # What lies on the edge is mixed: two pixels of the crop to either side, and of JPEG's ringing.
            reach = np.minimum(np.minimum(across - x_min, x_max - across), np.minimum(down - y_min, y_max - down))
            cut = np.asarray([x_min <= 0, y_min <= 0, x_max >= 1, y_max >= 1])
            distances = np.stack([across - x_min, down - y_min, x_max - across, y_max - down])
            inside = np.all((distances > 2.5 / SIDE) | cut[:, None, None], axis=0)
            assert colour[inside].all() and not colour[reach < -2.5 / SIDE].any()
            seen += 1
    assert seen > 80


@KINDS
def test_every_icon_stays_on_its_class(kind: str, tmp_path: Path) -> None:
    split = write_split(tmp_path, [with_icons(i, kind) for i in range(len(SIZES))])
    seen = 0
    for batch in crops(split, Target.COCO_FINAL, LabelSets(num_classes=5)):
        assert not batch.valid[:, [1, 3]].any()
        for image, targets, valid, index in zip(batch.images, batch.targets, batch.valid, batch.index, strict=True):
            for label in np.flatnonzero(valid):
                near = CENTRES[index] * SIZES[index]
                own = near[(0, 2, 4).index(label)]
                drawn_over = [n for n in near[(0, 2, 4).index(label) + 1 :] if np.hypot(*(n - own)) < 2 * RADIUS]
                if not drawn_over:
                    assert is_colour(under(image, targets[label]), COLOURS[label])
                    seen += 1
    assert seen > 100


def test_a_flip_mirrors_pixels_and_points_alike(tmp_path: Path) -> None:
    """The same crops with and without it: about half differ, and those are mirrored."""
    split = write_split(tmp_path, [clicked(i, "PNG") for i in range(len(SIZES))])
    flipped = 0
    plain, mirrored = (crops(split, Target.CLICK_LAST, flip=flip) for flip in (False, True))
    for one, other in zip(plain, mirrored, strict=True):
        for row in range(len(SIZES)):
            if np.array_equal(one.images[row], other.images[row]):
                np.testing.assert_array_equal(one.targets[row], other.targets[row])
                continue
            flipped += 1
            np.testing.assert_array_equal(one.images[row][:, ::-1], other.images[row])
            assert one.valid[row, 0] == other.valid[row, 0]
            if one.valid[row, 0]:
                (x, y), (x2, y2) = one.targets[row, 0], other.targets[row, 0]
                assert x + x2 == pytest.approx(1, abs=1e-6) and y == pytest.approx(y2, abs=1e-6)
    assert 0.35 < flipped / (EPOCHS * len(SIZES)) < 0.65
