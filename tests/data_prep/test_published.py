"""A part of ImageNet or COCO is marked as one, by the published number of images; a set of one's own never is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from data_prep.__main__ import main
from data_prep.datasets.published import published_coco, published_imagenet
from luab_jax.data.class_lists import ClassList, imagenet
from luab_jax.data.coco_classes import coco
from luab_jax.data.dataset import read_manifest
from tests.data_prep.conftest import RawData, image_bytes
from tests.data_prep.test_coco_files import Coco

Capture = pytest.CaptureFixture[str]
OWN = ClassList(("a", "b"), ("a", "b"))


@pytest.mark.parametrize(("split", "published"), [("val", 50_000), ("train", 1_281_167), ("minival", None)])
def test_a_few_classes_of_imagenet_are_partial(
    split: str, published: int | None, tmp_path: Path, capsys: Capture
) -> None:
    for wnid in imagenet().ids[:2]:
        (tmp_path / "images" / wnid).mkdir(parents=True)
        (tmp_path / "images" / wnid / f"{wnid}_1.JPEG").write_bytes(image_bytes())
    flags = [f"--images={tmp_path / 'images'}", f"--out={tmp_path / 'out'}", f"--split={split}", "--workers=1"]
    assert main(["imagenet_ab", *flags]) == 0
    manifest = read_manifest(tmp_path / "out", split)
    assert (manifest.partial, manifest.expected_records) == (published is not None, published)
    told = capsys.readouterr().out
    assert ("PARTIAL SET" in told) == manifest.partial
    assert "byproducts                 none given" in told


def test_classes_of_ones_own_are_never_partial(tmp_path: Path) -> None:
    assert main(RawData(tmp_path, 4).arguments(tmp_path / "out", "--split=val")) == 0
    assert not read_manifest(tmp_path / "out", "val").partial


@pytest.mark.parametrize(
    ("name", "split", "published"),
    [
        ("{:012d}.jpg", "val", 5_000),
        ("{:012d}.jpg", "train", 118_287),
        ("COCO_val2014_{:012d}.jpg", "val", 40_504),
        ("COCO_train2014_{:012d}.jpg", "train", 82_783),
        ("COCO_train2014_{:012d}.jpg", "val", None),  # held out of the training images
        ("picture {}.jpg", "val", None),
    ],
)
def test_names_tell_of_which_coco_the_images_are_a_part(
    name: str, split: str, published: int | None, tmp_path: Path
) -> None:
    made = Coco(tmp_path)
    for k, entry in enumerate(made.instances["images"], 1):
        (made.images / entry["file_name"]).rename(made.images / name.format(k))
        entry["file_name"] = name.format(k)
    assert made.prepare(f"--split={split}") == 0
    manifest = read_manifest(tmp_path / "out", split)
    assert (manifest.partial, manifest.expected_records) == (published is not None, published)
    assert json.loads((tmp_path / "out" / f"{split}.manifest.json").read_text())["partial"] is manifest.partial


def test_more_images_than_were_published_are_another_set() -> None:
    assert published_imagenet("val", imagenet(), 50_000) == 50_000
    assert published_imagenet("val", imagenet(), 50_001) is None
    assert published_coco("val", coco(), [f"{k:012d}.jpg" for k in range(5_001)]) is None


def test_other_classes_are_another_set() -> None:
    assert published_imagenet("val", OWN, 10) is None
    assert published_coco("val", OWN, ["000000000001.jpg"]) is None
