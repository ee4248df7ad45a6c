"""What shards and images hold: TFRecord, examples, manifests, directories of TFDS, JPEG and PNG."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path
from random import Random

import numpy as np
from etils import epath

from data_prep.images import BadImage, check_image, mask_from_npy
from luab_jax.byproducts.columns import ByproductColumns
from luab_jax.byproducts.records import Action, ActionKind, Box, ImageRecord, Point, Showing, Size, TimedPoint
from luab_jax.data import dataset, features, tfds_directory, tfrecord
from luab_jax.data.dataset import Manifest, Shard, Skipped
from luab_jax.data.decoding import decode
from luab_jax.data.transforms import EncodedImage, PixelBox
from luab_jax.errors import DataError
from tests.data_prep.conftest import image_bytes
from tools.fuzz import formats
from tools.fuzz import mutations as m
from tools.fuzz.reader import CLASSES_OF_TESTS, JSON_TOKENS, Reader


def _record() -> ImageRecord:
    action = Action(ActionKind.ADD, "cat", None, Point(0.5, 0.5), 3, 0)
    showing = Showing(
        selected=True, clicks=(TimedPoint(0.5, 0.5, 1),), trace=(TimedPoint(0.1, 0.1, None),), actions=(action,)
    )
    box = Box(x_min=0.0, y_min=0.0, x_max=0.5, y_max=0.5, label=0, mask="[[0,0,1,1,1,0]]")
    return ImageRecord(
        file_name="cat/a.JPEG",
        image=image_bytes(),
        height=6,
        width=8,
        label=0,
        labels=(0,),
        showings=(showing,),
        boxes=(box,),
    )


def records(scratch: Path) -> Reader:
    """TFRecord shards, read in sequence and at random."""
    seeds = [tfrecord.frame(b"") + tfrecord.frame(b"abc" * 20), tfrecord.frame(features.encode(_record())), b""]
    path = scratch / "a.tfrecord"
    offsets, lengths = np.asarray([0, 16], np.uint64), np.asarray([0, 60], np.uint32)
    source = tfrecord.RandomAccessTFRecords([epath.Path(path)], offsets, lengths, np.asarray([2]))

    def read(data: bytes) -> None:
        path.write_bytes(data)
        for k in range(2):
            try:
                source[k]
            except DataError:
                continue
        with path.open("rb") as file:
            for _ in tfrecord.scan(file, "a.tfrecord"):
                pass

    return Reader(seeds, (*m.of_bytes(seeds), formats.record_with_good_crc, formats.record_with_good_crc), read)


def examples(scratch: Path) -> Reader:
    """The bytes of a record: everything a training step, an evaluation or `inspect` may ask for."""
    seeds = [features.encode(_record()), features.encode(ImageRecord(file_name="a", image=b"x", height=1, width=1))]

    def read(data: bytes) -> None:
        example = features.Example(data)
        byproducts = example.byproducts()
        for name in ("file_name", "image", "label", "labels", "group", "foreground_masks", "size"):
            getattr(example, name)
        for field in dataclasses.fields(ByproductColumns):
            getattr(byproducts, field.name)
        example.record()

    return Reader(seeds, (*m.of_bytes(seeds), formats.odd_example, formats.odd_example, formats.odd_example), read)


def manifests(scratch: Path) -> Reader:
    """A prepared split's manifest and index."""
    shard = Shard(file_name="a-train.tfrecord-00000-of-00001", num_records=2, num_bytes=92, crc32c=1)
    skipped = Skipped(file="cat/b.JPEG", reason="image file is empty")
    whole = Manifest(
        dataset="a", split="train", classes=CLASSES_OF_TESTS, shards=(shard,), counts={"images": 2}, skipped=(skipped,)
    )
    index = io.BytesIO()
    np.savez(index, offsets=np.asarray([0, 16], np.uint64), lengths=np.asarray([0, 60], np.uint32))
    seeds = [whole.to_json().encode(), index.getvalue()]
    manifest_path, index_path = scratch / "train.manifest.json", scratch / "train.index.npz"

    def read(data: bytes) -> None:
        is_index = data.startswith(b"PK")
        manifest_path.write_bytes(seeds[0] if is_index else data)
        index_path.write_bytes(data if is_index else seeds[1])
        opened = dataset.open_split(scratch, "train")
        assert len(opened.records) == opened.manifest.num_records
        opened.manifest.to_json().encode()
        for k in range(min(len(opened.records), 3)):
            try:
                opened.records[k]
            except DataError:  # there is no shard
                continue

    def odd(data: bytes, rng: Random) -> bytes:
        return (formats.odd_npz if data.startswith(b"PK") else m.odd_json)(data, rng)

    return Reader(seeds, (*m.of_text(seeds[:1], JSON_TOKENS), odd, odd, odd), read)


def tfds_folders(scratch: Path) -> Reader:
    """`dataset_info.json`, the names of labels, and the headers of the shards of a directory that TFDS prepared."""
    info = {"name": "mine", "splits": [{"name": "test", "shardLengths": ["2"]}], "version": "1.0.0"}
    seeds = [json.dumps(info).encode(), tfrecord.frame(b"") + tfrecord.frame(b"abc" * 20), b"cat\ndog\n"]
    names = ("dataset_info.json", "mine-test.tfrecord-00000-of-00001", "label.labels.txt")

    def read(data: bytes) -> None:
        kind = 1 if data[:1] == b"\0" else 2 if data[:1] in b"cd" else 0
        for k, name in enumerate(names):
            (scratch / name).write_bytes(data if k == kind else seeds[k])
        found = tfds_directory.read_split(scratch, "test")
        if found is not None:
            assert len(found.index.offsets) == sum(found.counts)

    def odd(data: bytes, rng: Random) -> bytes:
        return (m.odd_json if data.startswith(b"{") else formats.record_with_good_crc)(data, rng)

    return Reader(seeds, (*m.of_text(seeds, JSON_TOKENS), odd, odd), read)


def _decodes(data: bytes) -> bool:
    """Whether evaluation decodes it all, and training a part."""
    try:
        decode(data, "a")
        image = EncodedImage(data, "a")
        image.region(PixelBox(0, 0, 1, 1))
    except DataError:
        return False
    return True


def images(scratch: Path) -> Reader:
    """JPEG and PNG, by the check and by every decoder, and masks in `.npy`."""
    mask = io.BytesIO()
    np.save(mask, np.ones((6, 8), np.uint8))
    seeds = [
        *(image_bytes(kind=kind) for kind in ("JPEG", "PNG")),
        *(
            image_bytes(progressive=True),
            image_bytes(exif=b"Exif\0\0MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0"),
        ),
        mask.getvalue(),
    ]

    def read(data: bytes) -> None:
        if data.startswith(b"\x93NUMPY"):
            mask_from_npy(data, Size(8, 6))
        else:
            try:
                header = check_image(data)
            except BadImage:
                assert not _decodes(data), "the check refuses what evaluation decodes"
                raise
            assert 1 <= header.orientation <= 8 and min(header.size) >= 1
            assert _decodes(data), "the check accepts what evaluation refuses"

    def odd(data: bytes, rng: Random) -> bytes:
        return (formats.png_with_good_crc if data.startswith(b"\x89PNG") else m.flip)(data, rng)

    return Reader(seeds, (*m.of_bytes(seeds), m.odd_number, odd, odd), read)
