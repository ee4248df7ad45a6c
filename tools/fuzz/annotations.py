"""What annotators and publishers left: XML, JSON, tables, lists."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

from data_prep.annotations import imagenet_ab, json_stream, tables
from data_prep.annotations.coco_ab import read_record
from data_prep.datasets.boxes import open_boxes
from data_prep.datasets.coco_instances import read_instances, read_object
from data_prep.datasets.val_labels import read_val_labels
from data_prep.problems import Problems
from luab_jax.byproducts.records import Box, Size
from luab_jax.data.class_lists import read_class_list
from luab_jax.data.coco_classes import CATEGORY_IDS, coco
from luab_jax.errors import DataError
from tests.data_prep.conftest import annotation_xml, metadata_xml, record_xml
from tools.fuzz import mutations as m
from tools.fuzz.reader import CLASSES_OF_TESTS, JSON_TOKENS, Reader, fits_a_shard

_COCO = coco()


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
        fits_a_shard(problems, showings=found.showings, boxes=boxes)

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
            fits_a_shard(problems, showings=(showing,) if showing else ())

    return Reader(seeds, (*m.of_text(seeds, JSON_TOKENS), m.odd_json, m.odd_json, m.odd_json), read)


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
                fits_a_shard(problems, boxes=(box,) if box else ())

    return Reader(seeds, (*m.of_text(seeds, JSON_TOKENS), m.odd_json, m.odd_json, m.odd_json), read)


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
        with contextlib.redirect_stderr(io.StringIO()):  # it says what is left out
            found = tables.read_table(path)
        for name, points in found.items():
            name.encode()
            problems = Problems()
            fits_a_shard(problems, showings=tables.showings(points, problems))

    tokens = (*JSON_TOKENS, b'"', b'""', b"\r", b"\n", b"\0", b",,,", b"\xef\xbb\xbf")
    return Reader(seeds, (*m.of_text(seeds, tokens), m.odd_json, m.odd_json), read)


def box_lists(scratch: Path) -> Reader:
    """Text boxes (`--boxes`)."""
    seeds = [b"a.JPEG\t0\t0\t3\t5\nb.JPEG\t1\t1\t2\t2\n", b"a.JPEG\tcat\t0\t0\t3\t5\n"]
    path = scratch / "boxes.txt"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        for boxes in open_boxes(str(path), CLASSES_OF_TESTS, scratch=scratch).text.values():
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
