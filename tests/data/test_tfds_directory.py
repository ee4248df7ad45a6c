"""Directories as `tfds build` leaves them, with the features and the writer of TFDS's own builders, read in place."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds
from etils import epath
from tensorflow_datasets.core import naming
from tensorflow_datasets.core.example_serializer import ExampleSerializer

from data_prep.__main__ import main
from luab_jax.data import label_tables
from luab_jax.data.class_lists import imagenet
from luab_jax.data.coco_classes import CATEGORY_IDS, coco
from luab_jax.data.copies import from_copies
from luab_jax.data.dataset import has_split, open_split, readable_splits
from luab_jax.data.features import Example
from luab_jax.data.pipeline import Reading, eval_batches
from luab_jax.data.tfrecord import frame
from luab_jax.data.transforms import Preprocessing
from luab_jax.errors import DataError, ExitCode
from luab_jax.io.host_cache import HostCache
from tests.data_prep.conftest import image_bytes
from tests.emulators import emulated

Row = dict[str, Any]
IDS = imagenet().ids


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "luab_jax"


def write(root: Path, name: str, split: str, rows: list[Row]) -> Path:
    """Two shards in `root/<data set>[/<config>]/<version>`, by the builder `name`; returns the data set's folder."""
    builder = tfds.builder(name, data_dir=root)
    if builder.name == "coco":  # its builder sets the names when it reads the instances file
        builder.info.features["objects"]["label"].names = list(CATEGORY_IDS)
    directory, features = epath.Path(builder.data_dir), builder.info.features
    directory.mkdir(parents=True, exist_ok=True)
    serializer = ExampleSerializer(features.get_serialized_info())
    halves = [rows[: len(rows) // 2], rows[len(rows) // 2 :]]
    for index, half in enumerate(halves):
        data = b"".join(frame(serializer.serialize_example(features.encode_example(row))) for row in half)
        (directory / f"{builder.name}-{split}.tfrecord-{index:05d}-of-00002").write_bytes(data)
    template = naming.ShardedFileTemplate(
        data_dir=directory, dataset_name=builder.name, filetype_suffix="tfrecord", split=split
    )
    lengths = [len(half) for half in halves]
    info = tfds.core.SplitInfo(name=split, shard_lengths=lengths, num_bytes=0, filename_template=template)
    builder.info.set_splits(tfds.core.SplitDict([info]))
    builder.info.write_to_directory(directory)
    return root / builder.name


def served(server: Any, name: str, directory: Path, labels: list[int]) -> str:
    """ImageNet's validation images with these labels in a bucket; shards of other labels keep their sizes."""
    rows = [{"image": image(directory, k), "label": IDS[n], "file_name": f"{k}.JPEG"} for k, n in enumerate(labels)]
    for path in write(directory, "imagenet2012", "validation", rows).rglob("*"):
        if path.is_file():
            server.put(name, f"tfds/{path.relative_to(directory)}", path.read_bytes())
    return f"gs://{name}/tfds/imagenet2012"


@pytest.fixture
def coco_builder(monkeypatch: pytest.MonkeyPatch) -> None:
    """TFDS's builder of COCO imports TensorFlow for the name of one type."""
    from tensorflow_datasets.object_detection import coco as module

    monkeypatch.setattr(module, "tf", SimpleNamespace(int64=np.int64))


def image(directory: Path, seed: int) -> str:
    directory.mkdir(exist_ok=True)
    (directory / f"{seed}.jpg").write_bytes(image_bytes(seed))
    return str(directory / f"{seed}.jpg")


def read(directory: Path, split: str) -> list[Example]:
    records = open_split(directory, split).records
    return [Example(records[i]) for i in range(len(records))]


def test_imagenet_validation(tmp_path: Path, own_cache: Path) -> None:
    rows = [
        {"image": image(tmp_path / "raw", k), "label": IDS[k], "file_name": f"ILSVRC2012_val_{k:08d}.JPEG"}
        for k in range(5)
    ]
    directory = write(tmp_path, "imagenet2012", "validation", rows)
    for split in ("val", "validation"):
        found = read(directory, split)
        assert [(e.label, e.file_name) for e in found] == [(k, f"ILSVRC2012_val_{k:08d}.JPEG") for k in range(5)]
        assert found[3].image == image_bytes(3) and found[3].group == "" and found[3].labels.size == 0
    opened = open_split(directory, "val")
    assert opened.manifest.num_records == 5 and opened.manifest.classes.hash == imagenet().hash
    assert len(list(own_cache.glob("*.npz"))) == 1
    assert found[0].byproducts().clicks.xy.shape == (0, 2)
    record = found[0].record()
    assert (record.width, record.height, record.showings, record.boxes) == (8, 6, (), ())
    assert readable_splits(directory) == ["validation"] and not has_split(directory, "train")


def test_a_cache_of_shards_follows_the_bucket(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with emulated("gs") as (server, name):
        for labels in ([1, 2, 3, 4], [9, 8, 7, 6]):
            split = open_split(served(server, name, tmp_path / f"raw{labels[0]}", labels), "val")
            with contextlib.closing(HostCache(tmp_path / "copies")) as cache:
                cached = from_copies(split, cache)
                cache.start()
                cache.wait(60.0)
                assert cache.num_whole() == 2
            assert [Example(cached.records[i]).label for i in range(4)] == labels
    said = capsys.readouterr().err
    assert "all shards are here (2, 0.00 GB)" in said and "CRC" not in said


def test_a_shard_that_was_replaced_since_the_index_was_made_is_not_kept(tmp_path: Path) -> None:
    with emulated("gs") as (server, name):
        split = open_split(served(server, name, tmp_path / "raw1", [1, 2, 3, 4]), "val")
        served(server, name, tmp_path / "raw9", [1, 2, 3, 9])
        with contextlib.closing(HostCache(tmp_path / "copies")) as cache:
            cached = from_copies(split, cache)
            cache.start()
            cache.wait(60.0)
            with pytest.raises(DataError, match="00001-of-00002: has other records than the index"):
                cache.check()
        assert cached.records._copies[1] not in map(str, (tmp_path / "copies").iterdir())


def test_other_images_have_another_fingerprint(tmp_path: Path) -> None:
    """Of equal names, numbers and sizes; a copy elsewhere has the same, read from the cache or anew."""

    def fingerprint(place: str, seeds: tuple[int, ...]) -> str:
        encoded = (image_bytes(seed).ljust(1000, b"\0") for seed in seeds)
        rows = [{"image": io.BytesIO(e), "label": IDS[k], "file_name": f"{k}.JPEG"} for k, e in enumerate(encoded)]
        directory = write(tmp_path / place, "imagenet2012", "validation", rows)
        found = {open_split(directory, "val").manifest.fingerprint for _ in range(2)}
        assert len(found) == 1
        return found.pop()

    first = fingerprint("a", (1, 2, 3, 4))
    assert first and first == fingerprint("b", (1, 2, 3, 4))
    assert len({first, fingerprint("c", (1, 2, 4, 3)), fingerprint("d", (1, 2, 3))}) == 3


@pytest.mark.parametrize("name, label", [("imagenet_a", 6), ("imagenet_r", 1), ("imagenet_sketch", 999)])
def test_wnid_sets_have_the_labels_of_all_1000_classes(name: str, label: int, tmp_path: Path) -> None:
    """Not those of their 200: the subset's first class would be 0."""
    rows = [
        {"image": image(tmp_path / "raw", k), "label": wnid, "file_name": f"{k}.jpg"}
        for k, wnid in enumerate((IDS[label], "n02951585"))
    ]
    directory = write(tmp_path, name, "test", rows)
    assert [e.label for e in read(directory, "test")] == [label, IDS.index("n02951585")]
    if name != "imagenet_sketch":
        assert label == {"imagenet_a": label_tables.IMAGENET_A, "imagenet_r": label_tables.IMAGENET_R}[name][0]


def test_real_labels(tmp_path: Path) -> None:
    rows = [
        {
            "image": image(tmp_path / "raw", 1),
            "original_label": "n01751748",
            "real_label": ["n01751748", IDS[60]],
            "file_name": "ILSVRC2012_val_00000001.JPEG",
        },
        {"image": image(tmp_path / "raw", 2), "original_label": 970, "real_label": [], "file_name": "b.JPEG"},
    ]
    found = read(write(tmp_path, "imagenet2012_real", "validation", rows), "val")
    assert [(e.label, e.labels.tolist()) for e in found] == [(65, [65, 60]), (970, [])]


@pytest.mark.parametrize(
    "config, split",
    [("matched-frequency", "matched_frequency"), ("threshold-0.7", "threshold_0_7"), ("topimages", "top_images")],
)
def test_imagenet_v2_variants_are_splits(config: str, split: str, tmp_path: Path) -> None:
    rows = [{"image": image(tmp_path / "raw", k), "label": k, "file_name": f"{k}/{k}.jpeg"} for k in (2, 10, 999)]
    directory = write(tmp_path, f"imagenet_v2/{config}", "test", rows)
    assert [(e.label, e.file_name) for e in read(directory, split)] == [
        (2, "2/2.jpeg"),
        (10, "10/10.jpeg"),
        (999, "999/999.jpeg"),
    ]
    assert open_split(directory, split).manifest.expected_records == 10_000
    assert readable_splits(directory) == [config] and has_split(directory, config)


@pytest.mark.parametrize("config, published", [("size", 92_884), ("location", 541_548), ("rotation", 39_540)])
def test_siscore(config: str, published: int, tmp_path: Path) -> None:
    """`label` is an index among the 1,000 classes; `dataset_label`, among 61, is not read."""
    labels = label_tables.SI_SCORE
    rows = [
        {"image": image(tmp_path / "raw", k), "image_id": k, "label": labels[name], "dataset_label": place}
        for k, (name, place) in enumerate((("kite", 30), ("zucchini", 60)))
    ]
    directory = write(tmp_path, f"siscore/{config}", "test", rows)
    found = read(directory, config)
    assert [(e.file_name, e.label) for e in found] == [("0", 21), ("1", 939)]
    manifest = open_split(directory, config).manifest
    assert manifest.classes.hash == imagenet().hash
    assert (manifest.expected_records, manifest.partial) == (published, True)
    others = {"size", "location", "rotation"} - {config}
    assert not any(has_split(directory, other) for other in others)


def instance(name: str, bbox: tuple[float, float, float, float], *, is_crowd: bool = False) -> Row:
    """As TFDS's builder makes it: fractions in the order ymin, xmin, ymax, xmax, and the class by name."""
    y_min, x_min, y_max, x_max = bbox
    box = tfds.features.BBox(ymin=y_min, xmin=x_min, ymax=y_max, xmax=x_max)
    return {"id": 1, "area": 9, "bbox": box, "label": name, "is_crowd": is_crowd}


@pytest.fixture
def coco_2014(tmp_path: Path, coco_builder: None) -> Path:
    objects = [
        [
            instance("toothbrush", (0.0, 0.25, 0.5, 1.0)),
            instance("person", (0.1, 0.2, 0.3, 0.4), is_crowd=True),
            instance("person", (0.5, 0.5, 0.75, 0.625)),
        ],
        [],
    ]
    rows = [
        {
            "image": image(tmp_path / "raw", k),
            "image/filename": f"COCO_val2014_{k:012d}.jpg",
            "image/id": k,
            "objects": of_image,
        }
        for k, of_image in enumerate(objects)
    ]
    return write(tmp_path, "coco/2014", "validation", rows)


def test_coco_is_sets_of_labels_and_boxes(coco_2014: Path) -> None:
    for directory in (coco_2014, coco_2014 / "2014", coco_2014 / "2014" / "1.1.0"):
        first, without_objects = read(directory, "val")
        assert (first.file_name, first.label, first.labels.tolist()) == ("COCO_val2014_000000000000.jpg", -1, [0, 79])
        boxes = [(b.x_min, b.y_min, b.x_max, b.y_max, b.label, b.is_crowd) for b in first.record().boxes]
        np.testing.assert_allclose(
            boxes,
            [(0.25, 0, 1, 0.5, 79, False), (0.2, 0.1, 0.4, 0.3, 0, True), (0.5, 0.5, 0.625, 0.75, 0, False)],
            rtol=1e-6,
        )
        assert (without_objects.label, without_objects.labels.tolist()) == (-1, [])
        assert without_objects.record().boxes == ()
    manifest = open_split(coco_2014, "val").manifest
    assert manifest.classes.hash == coco().hash and manifest.expected_records == 40_504


def test_coco_of_tfds_is_evaluated_like_a_prepared_one(coco_2014: Path) -> None:
    batches = eval_batches(
        open_split(coco_2014, "val"),
        preprocessing=Preprocessing(image_size=4, resize_side=4),
        batch_size=2,
        num_classes=80,
        reading=Reading(num_threads=1),
    )
    ((batch, truths),) = batches
    assert np.flatnonzero(batch.labels[0]).tolist() == [0, 79] and not batch.labels[1].any()
    assert batch.targets.shape == (2, 80, 2) and not batch.valid.any() and len(truths) == 2


def test_two_configs_with_the_same_split_are_not_guessed(coco_2014: Path, tmp_path: Path) -> None:
    row = {"image": image(tmp_path / "raw", 5), "image/filename": "5.jpg", "image/id": 5, "objects": []}
    write(tmp_path, "coco/2017", "validation", [row, row])
    assert not has_split(coco_2014, "val") and has_split(coco_2014 / "2017", "val")
    assert open_split(coco_2014 / "2017", "val").manifest.expected_records == 5000


def test_another_data_set_below_is_not_taken_for_a_config(coco_2014: Path, tmp_path: Path) -> None:
    """As where all that TFDS prepared lies in one folder, or several prepared directories."""
    row = {"image": image(tmp_path / "raw", 5), "label": 5, "file_name": "5.JPEG"}
    write(tmp_path, "imagenet2012", "validation", [row, row])
    assert not has_split(tmp_path, "val") and readable_splits(tmp_path) == []
    assert readable_splits(coco_2014) == ["validation"]


def test_labels_in_another_order_are_refused(coco_2014: Path) -> None:
    names = coco_2014 / "2014" / "1.1.0" / "objects-label.labels.txt"
    names.write_text("\n".join(sorted(CATEGORY_IDS)))
    with pytest.raises(DataError, match="label 0 is 'airplane'; coco has 80, label 0 is 'person'"):
        open_split(coco_2014, "val")


def test_damage_is_named(tmp_path: Path) -> None:
    rows = [{"image": image(tmp_path / "raw", k), "label": k, "file_name": f"{k}.JPEG"} for k in range(4)]
    directory = write(tmp_path, "imagenet2012", "train", rows)
    (shard,) = directory.glob("*/imagenet2012-train.tfrecord-00001-of-00002")
    shard.write_bytes(shard.read_bytes()[:-20])
    with pytest.raises(DataError, match="cut off"):
        open_split(directory, "train")
    shard.unlink()
    with pytest.raises(DataError, match="a shard is missing"):
        open_split(directory, "train")
    with pytest.raises(DataError, match="no prepared split 'val'"):
        open_split(directory, "val")


def test_a_record_whose_columns_do_not_go_together_is_refused() -> None:
    features = tfds.features.FeaturesDict(
        {"image/filename": tfds.features.Text(), "image": tfds.features.Text(), "objects/label": np.int64}
    )
    data = ExampleSerializer(features.get_serialized_info()).serialize_example(
        features.encode_example({"image/filename": "a", "image": "b", "objects/label": 3})
    )
    with pytest.raises(DataError, match="siscore or coco"):
        Example(data)


def test_inspect_and_verify_read_them_too(coco_2014: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(coco_2014), "--workers=1", f"--html={coco_2014.parent / 'page.html'}"]) == 0
    printed = capsys.readouterr().out
    assert "validation of coco: 2 images in 2 shards, PARTIAL: 40,504 are published" in printed
    assert "1 images, 3 boxes" in printed and "person" in (coco_2014.parent / "page.html").read_text()
    assert main(["verify", str(coco_2014), "--workers=1"]) == 0
    shard = next(coco_2014.rglob("*-00000-of-00002"))
    data = bytearray(shard.read_bytes())
    data[-9] ^= 1
    shard.write_bytes(data)
    assert main(["verify", str(coco_2014), "--workers=1"]) == ExitCode.FAILED
    assert "1 of 2 records, in 1 of 2 shards fail" in capsys.readouterr().err


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
