"""What is fed: each reader with valid input to start from, the damage that fits its format, and one call of it.

A call ends well (the input is accepted), with the package's own `UserError` (refused), or in any other way, which is a
bug. What is accepted must also be fit for a shard: the record is encoded, and the problems must be writable as text.
"""

from __future__ import annotations

import dataclasses
import gzip
import io
import json
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
from etils import epath

from data_prep.annotations import imagenet_ab, json_stream, tables
from data_prep.annotations.coco_ab import read_record
from data_prep.datasets.boxes import open_boxes
from data_prep.datasets.coco_instances import read_instances, read_object
from data_prep.datasets.val_labels import read_val_labels
from data_prep.images import BadImage, check_image, check_length, mask_from_npy
from data_prep.packed import open_source
from data_prep.problems import Problems
from data_prep.sources import walk
from luab_jax.byproducts.columns import ByproductColumns
from luab_jax.byproducts.records import Action, ActionKind, Box, ImageRecord, Point, Showing, Size, TimedPoint
from luab_jax.data import dataset, features, tfds_directory, tfrecord
from luab_jax.data.class_lists import ClassList, read_class_list
from luab_jax.data.coco_classes import CATEGORY_IDS, coco
from luab_jax.data.dataset import Manifest, Shard, Skipped
from luab_jax.errors import DataError
from tests.data_prep.conftest import CLASSES, annotation_xml, image_bytes, metadata_xml, record_xml
from tests.fuzz import formats
from tests.fuzz import mutations as m
from tests.fuzz.mutations import Mutation

_CLASSES = ClassList(CLASSES, CLASSES)
_COCO = coco()


@dataclass(frozen=True, slots=True)
class Reader:
    """A reader that is set up in a scratch folder of its own."""

    seeds: Sequence[bytes]
    mutations: Sequence[Mutation]
    read: Callable[[bytes], object]
    """Raises `UserError` for what it refuses."""

    def input(self, rng: Random) -> bytes:
        return m.mutated(self.seeds, self.mutations, rng)


def _fits_a_shard(problems: Problems, **fields: object) -> None:
    """Whatever was taken from outside can be written."""
    features.encode(ImageRecord(file_name="a.JPEG", image=b"", height=1, width=1, **fields))  # type: ignore[arg-type]
    for skipped in problems.listed("a"):
        skipped.detail.encode()


def xml(scratch: Path) -> Reader:
    """`read_annotation`: ImageNet-AB's files, and ILSVRC's boxes in them."""
    box = "<object><name>cat</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>4</xmax><ymax>3</ymax></bndbox></object>"
    size = "<size><width>8</width><height>6</height></size>"
    trace = "".join(record_xml("mouseTracking", k / 9, 0.5, 1641244077060 + k) for k in range(9))
    hover = "<hoveredRecord><action>enter</action><time>1641244077060</time></hoveredRecord>"
    plain = metadata_xml("n01/n01_1")
    seeds = [
        annotation_xml(plain),
        annotation_xml(size, box, metadata_xml("n01/n01_1", trace=trace, extra=hover), plain),
        b'<?xml version="1.0" encoding="utf-8"?>\n' + annotation_xml(size, box, box, root="x"),
    ]
    tokens = [
        b'<!DOCTYPE a [<!ENTITY b "bbbb">]>',
        b'<!ENTITY x SYSTEM "file:///etc/passwd">',
        *(b"&b;", b"&#0;", b"&#xD800;", b"<![CDATA[", b"]]>", b"<!--", b"<?xml ", b"</", b'encoding="utf-7"', b"\0"),
    ]

    def read(data: bytes) -> None:
        problems = Problems()
        found = imagenet_ab.read_annotation(data, "n01/n01_1", problems)
        boxes = tuple(Box(x_min=b.x_min, y_min=b.y_min, x_max=b.x_max, y_max=b.y_max, label=0) for b in found.boxes)
        for showing in found.showings:
            points = (*showing.clicks, *showing.trace)
            assert all(-0.1 <= p.x <= 1.1 and -0.1 <= p.y <= 1.1 for p in points), points
        _fits_a_shard(problems, showings=found.showings, boxes=boxes)

    return Reader(seeds, (*m.of_text(seeds, tokens), m.odd_xml, m.odd_xml, m.odd_xml), read)


_RECORD = {
    "image_id": 7,
    "actionHistories": [
        {"actionType": "add", "iconType": "cat", "pointTo": {"x": 0.25, "y": 0.5}, "timeAt": 10, "pointFrom": None},
        {"actionType": "move", "iconType": "cat", "pointTo": {"x": 0.3, "y": 0.5}, "pointFrom": {"x": 0.25, "y": 0.5}},
        {"actionType": "remove", "iconType": "cat", "pointFrom": {"x": 0.3, "y": 0.5}, "timeAt": 12},
    ],
    "categoryHistories": [{"categoryIndex": 1, "categoryName": "animal", "timeAt": 5, "usingKeyboard": False}],
    "mouseTracking": [{"x": 0.1, "y": 0.2, "timeAt": 3}],
    "timeSpent": 22000,
    "worker_id": "W",
    "page_id": 2,
    "imageWidth": 200,
    "imageHeight": 200,
}
_JSON_TOKENS = (
    b"NaN",
    b"-Infinity",
    b"null",
    b'"\\ud800"',
    b"\\u0000",
    b"[[[[",
    b"{",
    b"]",
    b"}",
    b",",
    b'"',
    b"\xff",
    b"1e",
)


def coco_records(scratch: Path) -> Reader:
    """The stream of COCO-AB's records, and each of them."""
    seeds = [json.dumps([_RECORD, _RECORD]).encode(), json.dumps([_RECORD], indent=1).encode(), b"[]"]
    path, labels = scratch / "records.json", _COCO.label_of()

    def read(data: bytes) -> None:
        path.write_bytes(data)
        for element in json_stream.list_elements(path, "a list of records"):
            assert data[element.offset :][: len(element.raw)] == element.raw
            problems = Problems()
            try:
                showing = read_record(json_stream.parse(element.raw), labels, problems)
            except DataError:
                continue  # as preparation does: the record is counted
            _fits_a_shard(problems, showings=(showing,) if showing else ())

    return Reader(seeds, (*m.of_text(seeds, _JSON_TOKENS), m.odd_json, m.odd_json, m.odd_json), read)


def coco_instances(scratch: Path) -> Reader:
    """The instances file: entries, categories, objects with boxes and masks."""
    polygon = {
        "image_id": 1,
        "category_id": 17,
        "bbox": [1, 1, 3, 2],
        "segmentation": [[1, 1, 4, 1, 4, 3]],
        "iscrowd": 0,
    }
    runs = polygon | {"segmentation": {"size": [6, 8], "counts": [0, 48]}, "iscrowd": 1}
    content = {
        "info": {"year": 2014},
        "images": [{"id": 1, "file_name": "a.jpg", "width": 8, "height": 6}],
        "annotations": [polygon, runs],
        "categories": [{"id": CATEGORY_IDS[name], "name": name} for name in ("cat", "dog")],
    }
    seeds = [json.dumps(content).encode()]
    path = scratch / "instances.json"
    label_of = {CATEGORY_IDS[name]: label for name, label in _COCO.label_of().items()}

    def read(data: bytes) -> None:
        path.write_bytes(data)
        found = read_instances(path, _COCO)
        for entry in found.entries.values():
            entry.file_name.encode()
        for element in json_stream.object_elements(path, "an instances file"):
            if element.key == "annotations":
                problems = Problems()
                _, box = read_object(element.raw, Size(8, 6), label_of, problems)
                _fits_a_shard(problems, boxes=(box,) if box else ())

    return Reader(seeds, (*m.of_text(seeds, _JSON_TOKENS), m.odd_json, m.odd_json, m.odd_json), read)


def click_tables(scratch: Path) -> Reader:
    """Clicks of the user's own, as CSV and as JSON lines."""
    rows = [{"file_name": f"cat/{k}.jpg", "x": 0.5, "y": k / 4, "time_ms": 7, "worker_id": "W"} for k in range(4)]
    csv_rows = "".join(f"cat/{k}.jpg,0.5,{k / 4},7,W\n" for k in range(4))
    seeds = [
        f"file_name,x,y,time_ms,worker_id\n{csv_rows}".encode(),
        "".join(json.dumps(row) + "\n" for row in rows).encode(),
        json.dumps(rows[0]).encode(),
    ]
    paths = scratch / "clicks.csv", scratch / "clicks.jsonl"

    def read(data: bytes) -> None:
        path = paths[data.lstrip().startswith(b"{")]
        path.write_bytes(data)
        for name, points in tables.read_table(path).items():
            name.encode()
            problems = Problems()
            _fits_a_shard(problems, showings=tables.showings(points, problems))

    tokens = (*_JSON_TOKENS, b'"', b'""', b"\r", b"\n", b"\0", b",,,", b"\xef\xbb\xbf")
    return Reader(seeds, (*m.of_text(seeds, tokens), m.odd_json, m.odd_json), read)


def box_lists(scratch: Path) -> Reader:
    """Text boxes (`--boxes`)."""
    seeds = [b"a.JPEG\t0\t0\t3\t5\nb.JPEG\t1\t1\t2\t2\n", b"a.JPEG\tcat\t0\t0\t3\t5\n"]
    path = scratch / "boxes.txt"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        for boxes in open_boxes(str(path), _CLASSES, scratch=scratch).text.values():
            for box in boxes:
                imagenet_ab.fractions(box.edges(), Size(8, 6))

    return Reader(seeds, m.of_text(seeds, (b"\t", b"\n", b"\r", b"\x0b", b"\xe2\x80\xa8", b"nan")), read)


def class_lists(scratch: Path) -> Reader:
    """Class lists and labels of validation images."""
    seeds = [b"cat\tthe cat\ndog\tthe dog\n", b"ILSVRC2012_val_00000001 n01440764\n"]
    path = scratch / "classes.txt"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        for name in read_class_list(path).label_of():
            name.encode()
        read_val_labels(str(path))

    return Reader(seeds, m.of_text(seeds, (b"\t", b"\n", b"\xe2\x80\xa8", b"\0")), read)


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
    shard = Shard(file_name="a-train.tfrecord-00000-of-00001", num_records=2, num_bytes=96, crc32c=1)
    skipped = Skipped(file="cat/b.JPEG", reason="image file is empty")
    whole = Manifest(
        dataset="a", split="train", classes=_CLASSES, shards=(shard,), counts={"images": 2}, skipped=(skipped,)
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

    return Reader(seeds, (*m.of_text(seeds[:1], _JSON_TOKENS), odd, odd, odd), read)


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
            assert len(found.offsets) == sum(found.counts)

    def odd(data: bytes, rng: Random) -> bytes:
        return (m.odd_json if data.startswith(b"{") else formats.record_with_good_crc)(data, rng)

    return Reader(seeds, (*m.of_text(seeds, _JSON_TOKENS), odd, odd), read)


def images(scratch: Path) -> Reader:
    """Headers and completeness of JPEG and PNG, and masks in `.npy`."""
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
            header = check_image(data)
            assert 1 <= header.orientation <= 8 and min(header.size) >= 1

    def odd(data: bytes, rng: Random) -> bytes:
        return (formats.png_with_good_crc if data.startswith(b"\x89PNG") else m.flip)(data, rng)

    return Reader(seeds, (*m.of_bytes(seeds), m.odd_number, odd, odd), read)


def _members() -> dict[str, bytes]:
    return {"cat/a.JPEG": b"abc" * 300, "cat/" + "long" * 40 + ".JPEG": b"", "dog/é.xml": b"<a/>"}


def _read_archive(path: Path, scratch: Path) -> None:
    source = open_source(str(path), "--images", scratch=scratch)
    try:
        for folder, files in walk(source):
            for name, span in files:
                try:
                    check_length(span.size)
                    source.reader(f"{folder}/{name}", span)
                except (OSError, BadImage):  # what preparation counts
                    continue
        for skipped in source.problems:
            skipped.file.encode()
    finally:
        source.discard(listing=True)


def _tar(mode: str, form: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode, format=form) as archive:  # type: ignore[call-overload]
        for name, data in _members().items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()[: 512 * 14]


def tars(scratch: Path) -> Reader:
    """Tars, tars in a tar, and compressed tars."""
    plain = [_tar("w", tarfile.GNU_FORMAT), _tar("w", tarfile.PAX_FORMAT)]
    nested = io.BytesIO()
    with tarfile.open(fileobj=nested, mode="w") as archive:
        info = tarfile.TarInfo("cat.tar")
        info.size = len(plain[0])
        archive.addfile(info, io.BytesIO(plain[0]))
    packed = [gzip.compress(plain[0], mtime=0)]
    seeds = [*plain, nested.getvalue()[: len(plain[0]) + 1536], *packed]
    path = scratch / "images.tar"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        try:
            _read_archive(path, scratch)
        finally:
            left = [p.name for p in scratch.iterdir() if p != path]
        assert not left, left

    def inside(data: bytes, rng: Random) -> bytes:
        """What is compressed is altered before it is."""
        if data[:2] == b"\x1f\x8b":
            return gzip.compress(formats.tar_with_good_checksum(plain[0], rng), mtime=0)
        return formats.tar_with_good_checksum(data, rng)

    return Reader(seeds, (*m.of_bytes(seeds), inside, inside, inside), read)


def zips(scratch: Path) -> Reader:
    """Zips, stored and deflated."""
    seeds = []
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", method) as archive:
            for name, data in _members().items():
                archive.writestr(zipfile.ZipInfo(name), data, compress_type=method)
        seeds.append(buffer.getvalue())
    path = scratch / "images.zip"
    magic = (b"PK\1\2", b"PK\3\4", b"PK\5\6", b"PK\6\6", b"PK\6\7")

    def read(data: bytes) -> None:
        path.write_bytes(data)
        _read_archive(path, scratch)

    def odd_field(data: bytes, rng: Random) -> bytes:
        """A field of a header or of the directory."""
        places = [i for sign in magic[:3] for i in range(len(data)) if data.startswith(sign, i)]
        if not places:
            return m.flip(data, rng)
        at = rng.choice(places) + rng.randrange(4, 46)
        value = rng.choice((b"\0\0", b"\1\0", b"\xff\xff\xff\xff", b"\x08\0", b"\x0c\0", b"\xff\x7f\0\0"))
        return data[:at] + value + data[at + len(value) :]

    return Reader(seeds, (*m.of_bytes(seeds), odd_field, odd_field, m.insert_one_of(magic)), read)


READERS: dict[str, Callable[[Path], Reader]] = {
    "xml": xml,
    "boxes": box_lists,
    "json": coco_records,
    "instances": coco_instances,
    "tables": click_tables,
    "lists": class_lists,
    "tfrecord": records,
    "example": examples,
    "manifest": manifests,
    "tfds": tfds_folders,
    "image": images,
    "tar": tars,
    "zip": zips,
}
