"""`python -m luab_jax.preview`: a picture of what a run trains on."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from PIL import Image

from luab_jax.augmentation.config import AugmentationConfig
from luab_jax.byproducts.records import ImageRecord, TimedPoint
from luab_jax.byproducts.responses import SampleWeight
from luab_jax.byproducts.targets import Target
from luab_jax.config import ByproductConfig, Config, DataConfig, Task
from luab_jax.config.byproduct import Byproduct, several
from luab_jax.data.dataset import PreparedSplit
from luab_jax.data.transforms import Preprocessing
from luab_jax.errors import ConfigError, DataError
from luab_jax.preview.grid import _colour, choose, draw_preview, placed
from tests.data.test_pipeline import write_split
from tests.data.test_points_stay import SIZES, boxed, clicked, with_icons


def config(root: Path, target: Target = Target.CLICK_LAST, task: Task = Task.SINGLE_LABEL) -> Config:
    return Config(
        task=task,
        data=DataConfig(root=str(root), preprocessing=Preprocessing(image_size=48, resize_side=48)),
        byproduct=ByproductConfig(target=target),
    )


@pytest.fixture
def split(tmp_path: Path) -> PreparedSplit:
    return write_split(tmp_path, [clicked(i, "JPEG") for i in range(len(SIZES))])


def test_a_row_for_each_image_and_a_column_for_each_epoch(split: PreparedSplit, tmp_path: Path) -> None:
    out = tmp_path / "grid.png"
    size = draw_preview(config(tmp_path), str(out), num_images=3, num_crops=4, cell=64)
    with Image.open(out) as opened:
        picture = np.asarray(opened)
    assert picture.shape == (size.height, size.width, 3) and size.width > 5 * 64 and size.height > 3 * 64
    amber = np.abs(picture.astype(int) - (255, 176, 0)).max(axis=-1) < 12
    for row in range(3):
        assert amber[26 + row * 84 : 26 + row * 84 + 64, :70].any()  # the click on every whole image
    assert amber[:, 90:].any()
    again = tmp_path / "again.png"
    draw_preview(config(tmp_path), str(again), num_images=3, num_crops=4, cell=64)
    assert again.read_bytes() == out.read_bytes()


def test_a_picture_can_go_to_a_bucket(
    split: PreparedSplit, bucket_in_memory: MemoryFileSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    draw_preview(config(tmp_path), "gs://bucket/grid.webp", num_images=1, num_crops=1, cell=64)
    with Image.open(io.BytesIO(bucket_in_memory.cat_file("bucket/grid.webp"))) as opened:
        assert opened.format == "WEBP"
    assert not Path("gs:").exists()


def test_images_are_shown_as_the_step_mixes_them(split: PreparedSplit, tmp_path: Path) -> None:
    """In pairs, of which the rows asked for are drawn; and in both colours where both points are to be seen."""
    mixed = config(tmp_path)
    mixed.augmentation = AugmentationConfig(mixup=1.0, repeats=3)
    out = tmp_path / "mixed.png"
    size = draw_preview(mixed, str(out), num_images=3, num_crops=3, cell=64)
    assert 3 * 64 < size.height < 5 * 64
    with Image.open(out) as opened:
        crops = np.asarray(opened).astype(int)[:, 90:]
    for colour in ((255, 176, 0), (255, 90, 200)):
        assert (np.abs(crops - colour).max(axis=-1) < 12).any()
    mixed.augmentation.enabled = False
    assert draw_preview(mixed, str(out), num_images=3, num_crops=3, cell=64).height == size.height


def test_sets_of_labels_and_boxes(tmp_path: Path) -> None:
    for name, make, target, task in (
        ("icons", with_icons, Target.COCO_FINAL, Task.MULTI_LABEL),
        ("boxes", boxed, Target.BOX, Task.SINGLE_LABEL),
    ):
        (tmp_path / name).mkdir()
        write_split(tmp_path / name, [make(i, "PNG") for i in range(len(SIZES))])
        out = tmp_path / f"{name}.jpg"
        draw_preview(config(tmp_path / name, target, task), str(out), num_images=9, num_crops=1, cell=64)
        with Image.open(out) as picture:
            assert picture.height > len(SIZES) * 64


def clicked_twice(index: int) -> ImageRecord:
    """First in the middle, which most crops keep."""
    image = clicked(index, "JPEG")
    ((showing,), middle) = image.showings, TimedPoint(0.5, 0.5, 1)
    return dataclasses.replace(image, showings=(dataclasses.replace(showing, clicks=(middle, showing.clicks[-1])),))


def test_all_byproducts_with_a_place_are_drawn_each_in_its_colour(tmp_path: Path) -> None:
    write_split(tmp_path, [clicked_twice(i) for i in range(len(SIZES))])
    out = tmp_path / "several.png"
    several_of_them = config(tmp_path)
    first_and_last = [Byproduct(target=target) for target in (Target.CLICK_LAST, Target.CLICK_FIRST)]
    number = Byproduct(target=Target.NUM_CORRECTIONS, target_sample_weight=SampleWeight.TIME_TO_CLICK)
    several_of_them.byproduct = several(number, *first_and_last)
    assert placed(several_of_them).byproduct.targets == (Target.CLICK_LAST, Target.CLICK_FIRST)
    draw_preview(several_of_them, str(out), num_images=3, num_crops=3, cell=64)
    with Image.open(out) as opened:
        crops = np.asarray(opened).astype(int)[:, 90:]
    for colour in (_colour(0), _colour(1)):
        assert (np.abs(crops - colour).max(axis=-1) < 12).any()
    several_of_them.byproduct = several(number)
    with pytest.raises(ConfigError, match="has no place that could be drawn"):
        draw_preview(several_of_them, str(out), num_images=3, num_crops=3, cell=64)


def test_only_images_that_have_the_target_are_drawn(split: PreparedSplit, tmp_path: Path) -> None:
    rows = choose(config(tmp_path), split, 2, None)
    assert len(set(rows)) == 2
    with pytest.raises(DataError, match="none of the 4 images looked at has the target box"):
        choose(config(tmp_path, Target.BOX), split, 2, None)
    assert len(choose(config(tmp_path, Target.NONE), split, 3, None)) == 3


@pytest.mark.parametrize("name", ["grid.gif", "nowhere/grid.png", "grid"])
def test_where_it_cannot_be_written(name: str, split: PreparedSplit, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="out="):
        draw_preview(config(tmp_path), str(tmp_path / name), num_images=2, num_crops=1, cell=64)
