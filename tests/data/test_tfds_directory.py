"""Directories in TFDS's own layout and schema, as `tfds build` leaves them, read in place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds
from etils import epath
from tensorflow_datasets.core import naming
from tensorflow_datasets.core.example_serializer import ExampleSerializer

from luab_jax.data.class_lists import imagenet
from luab_jax.data.dataset import has_split, open_split
from luab_jax.data.features import Example
from luab_jax.data.tfrecord import frame
from luab_jax.errors import DataError
from tests.data_prep.conftest import image_bytes

LABEL = tfds.features.ClassLabel(names=list(imagenet().ids))
SCHEMAS: dict[str, dict[str, Any]] = {
    "imagenet2012": {"image": tfds.features.Image(), "label": LABEL, "file_name": tfds.features.Text()},
    "imagenet2012_real": {
        "image": tfds.features.Image(),
        "original_label": LABEL,
        "real_label": tfds.features.Sequence(LABEL),
        "file_name": tfds.features.Text(),
    },
    "siscore": {
        "image_id": tfds.features.Scalar(np.int64),
        "image": tfds.features.Image(),
        "label": tfds.features.ClassLabel(num_classes=1000),
        "dataset_label": tfds.features.ClassLabel(num_classes=61),
    },
}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "luab_jax"


def write(directory: Path, name: str, split: str, rows: list[dict[str, Any]]) -> Path:
    """Two shards, metadata by TFDS itself."""
    directory.mkdir(parents=True)
    features = tfds.features.FeaturesDict(SCHEMAS[name])
    serializer = ExampleSerializer(features.get_serialized_info())
    template = naming.ShardedFileTemplate(
        data_dir=epath.Path(directory), dataset_name=name, filetype_suffix="tfrecord", split=split
    )
    halves = [rows[: len(rows) // 2], rows[len(rows) // 2 :]]
    for index, half in enumerate(halves):
        data = b"".join(frame(serializer.serialize_example(features.encode_example(row))) for row in half)
        (directory / f"{name}-{split}.tfrecord-{index:05d}-of-00002").write_bytes(data)
    tfds.folder_dataset.write_metadata(
        data_dir=directory,
        features=features,
        split_infos=[
            tfds.core.SplitInfo(
                name=split, shard_lengths=[len(half) for half in halves], num_bytes=0, filename_template=template
            )
        ],
        filename_template=template,
        check_data=False,
    )
    return directory


def image(directory: Path, seed: int) -> str:
    directory.mkdir(exist_ok=True)
    (directory / f"{seed}.jpg").write_bytes(image_bytes(seed))
    return str(directory / f"{seed}.jpg")


def read(directory: Path, split: str) -> list[Example]:
    records = open_split(directory, split).records
    return [Example(records[i]) for i in range(len(records))]


def test_imagenet_validation(tmp_path: Path, own_cache: Path) -> None:
    rows = [
        {"image": image(tmp_path / "raw", k), "label": k, "file_name": f"ILSVRC2012_val_{k:08d}.JPEG"} for k in range(5)
    ]
    write(tmp_path / "imagenet2012" / "5.1.0", "imagenet2012", "validation", rows)
    for split in ("val", "validation"):
        found = read(tmp_path / "imagenet2012", split)
        assert [(e.label, e.file_name) for e in found] == [(k, f"ILSVRC2012_val_{k:08d}.JPEG") for k in range(5)]
        assert found[3].image == image_bytes(3) and found[3].group == "" and found[3].labels.size == 0
    opened = open_split(tmp_path / "imagenet2012", "val")
    assert (opened.manifest.num_records, opened.manifest.partial) == (5, False)
    assert opened.manifest.classes.hash == imagenet().hash
    assert len(list(own_cache.glob("*.npz"))) == 1
    assert found[0].byproducts().clicks.xy.shape == (0, 2)
    assert not has_split(tmp_path / "imagenet2012", "train")


def test_real_labels(tmp_path: Path) -> None:
    rows = [
        {"image": image(tmp_path / "raw", 1), "original_label": 65, "real_label": [65, 60], "file_name": "a.JPEG"},
        {"image": image(tmp_path / "raw", 2), "original_label": 970, "real_label": [], "file_name": "b.JPEG"},
    ]
    write(tmp_path / "imagenet2012_real" / "1.0.0", "imagenet2012_real", "validation", rows)
    found = read(tmp_path / "imagenet2012_real", "val")
    assert [(e.label, e.labels.tolist()) for e in found] == [(65, [65, 60]), (970, [])]


def test_config_as_a_split(tmp_path: Path) -> None:
    rows = [{"image": image(tmp_path / "raw", k), "image_id": k, "label": 21, "dataset_label": 20} for k in (7, 8)]
    write(tmp_path / "siscore" / "rotation" / "1.0.0", "siscore", "test", rows)
    found = read(tmp_path / "siscore", "rotation")
    assert [(e.file_name, e.label) for e in found] == [("7", 21), ("8", 21)]
    assert open_split(tmp_path / "siscore", "rotation").manifest.classes.hash == imagenet().hash
    assert not has_split(tmp_path / "siscore", "size")


def test_damage_is_named(tmp_path: Path) -> None:
    rows = [{"image": image(tmp_path / "raw", k), "label": k, "file_name": f"{k}.JPEG"} for k in range(4)]
    directory = write(tmp_path / "x" / "5.1.0", "imagenet2012", "train", rows)
    shard = directory / "imagenet2012-train.tfrecord-00001-of-00002"
    shard.write_bytes(shard.read_bytes()[:-20])
    with pytest.raises(DataError, match="cut off"):
        open_split(tmp_path / "x", "train")
    shard.unlink()
    with pytest.raises(DataError, match="a shard is missing"):
        open_split(tmp_path / "x", "train")
    with pytest.raises(DataError, match="no prepared split 'val'"):
        open_split(tmp_path / "x", "val")


@pytest.mark.parametrize(
    "info",
    [
        "[" * 100_000,
        "[]",
        '{"splits": []}',
        '{"name": "a", "splits": {"test": 1}}',
        '{"name": "a", "splits": [{"shardLengths": ["1"]}]}',
        '{"name": "a", "splits": [{"name": "test", "shardLengths": ["many"]}]}',
        '{"name": "a", "splits": [{"name": "test", "shardLengths": ["-1"]}]}',
        '{"name": "a", "splits": [{"name": "test", "shardLengths": [1e999]}]}',
        '{"name": "a\\u0000", "splits": [{"name": "test", "shardLengths": ["1"]}]}',
    ],
)
def test_a_description_that_is_none_is_refused_by_name(tmp_path: Path, info: str) -> None:
    (tmp_path / "dataset_info.json").write_text(info)
    with pytest.raises(DataError, match=str(tmp_path)):
        open_split(tmp_path, "test")


def test_names_of_labels_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "dataset_info.json").write_text('{"name": "a", "splits": [{"name": "test", "shardLengths": ["1"]}]}')
    (tmp_path / "a-test.tfrecord-00000-of-00001").write_bytes(frame(b"x"))
    (tmp_path / "label.labels.txt").write_bytes(b"caf\xe9")
    with pytest.raises(DataError, match=r"label\.labels\.txt: cannot be read"):
        open_split(tmp_path, "test")


def test_the_kept_index_of_a_shard_does_not_hide_that_its_count_changed(tmp_path: Path) -> None:
    (tmp_path / "a-test.tfrecord-00000-of-00001").write_bytes(frame(b"x"))
    (tmp_path / "label.labels.txt").write_text("cat\n")
    info = '{"name": "a", "splits": [{"name": "test", "shardLengths": ["%d"]}]}'
    (tmp_path / "dataset_info.json").write_text(info % 1)
    assert len(open_split(tmp_path, "test").records) == 1
    (tmp_path / "dataset_info.json").write_text(info % 2)
    with pytest.raises(DataError, match=r"1 records, dataset_info\.json says 2"):
        open_split(tmp_path, "test")
