"""A shard's records are TFDS's: written by ours or by theirs, read by ours or by theirs, they are the same.

That any record survives our own round trip is shown in tests/data_prep/test_round_trip.py.
"""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image
from tensorflow_datasets.core import example_parser, example_serializer
from tensorflow_datasets.proto import tf_example_pb2

from luab_jax.byproducts.records import (
    Action,
    ActionKind,
    Box,
    CategoryView,
    Hover,
    ImageRecord,
    Point,
    Showing,
    Size,
    TimedPoint,
)
from luab_jax.data.features import Example, encode
from luab_jax.data.schema import example_features
from luab_jax.errors import DataError

CLASS_IDS = ("n01440764", "n01443537", "n02123045")
FEATURES = example_features(CLASS_IDS)


def png() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (4, 5, 3), np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def mask() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.eye(4, 5, dtype=np.uint8) * 255).convert("1").save(buffer, "PNG")
    return buffer.getvalue()


FULL = ImageRecord(
    file_name="n02123045/kätzchen.JPEG",
    image=png(),
    height=4,
    width=5,
    label=2,
    labels=(0, 2),
    group="gaussian_noise,severity=3",
    foreground_masks=(mask(),),
    boxes=(
        Box(x_min=0.125, y_min=0.25, x_max=0.5, y_max=1.0, label=2),
        Box(x_min=0.0, y_min=0.0, x_max=1.0, y_max=1.0, mask="[[0,0,4,0,4,3]]"),
    ),
    showings=(
        Showing(
            selected=True,
            clicks=(TimedPoint(0.25, 0.5, 1_600_000_000_123), TimedPoint(0.5, 0.75, None)),
            trace=(TimedPoint(-0.125, 0.5, 7),),
            hovers=(Hover(True, 6), Hover(False, None)),
            time_spent_ms=2500,
            worker_id="worker-ü",
            page_index=3,
            display_size=Size(150, 120),
        ),
        Showing(
            actions=(Action(ActionKind.MOVE, "cat", Point(0.25, 0.25), None, 9, label=1),),
            category_views=(CategoryView(1, "animals", True, 8),),
            submit_time_s=1_600_000_000,
        ),
    ),
)
BARE = ImageRecord(file_name="a.JPEG", image=png(), height=4, width=5, label=0)


def as_tfds_example(record: ImageRecord) -> dict[str, Any]:
    """The record as a user of TFDS would write it down for these features, column by column."""

    def of(value: int | None) -> int:
        return -1 if value is None else value

    showings = list(enumerate(record.showings))

    def points(name: str) -> dict[str, list[Any]]:
        rows = [(i, of(p.time_ms), p.x, p.y) for i, showing in showings for p in getattr(showing, name)]
        return columns(["showing", "time_ms", "x", "y"], rows)

    def columns(names: list[str], rows: list[tuple[Any, ...]]) -> dict[str, list[Any]]:
        return {name: [row[i] for row in rows] for i, name in enumerate(names)}

    nowhere = Point(math.nan, math.nan)
    kinds = {ActionKind.ADD: 0, ActionKind.MOVE: 1, ActionKind.REMOVE: 2}
    numbers = ["time_spent_ms", "submit_time_s", "selected_count", "hovered_count", "page_index", "image_index"]
    texts = ["worker_id", "assignment_id", "hit_id", "source_hit_id"]
    showing_table = {"selected": [s.selected for _, s in showings]}
    showing_table |= {name: [of(getattr(s, name)) for _, s in showings] for name in numbers}
    showing_table |= {name: [getattr(s, name) for _, s in showings] for name in texts}
    for field, first, second in [
        ("position_on_page", "page_x", "page_y"),
        ("display_size", "display_width", "display_height"),
        ("original_size", "original_width", "original_height"),
    ]:
        pairs = [getattr(s, field) or (-1, -1) for _, s in showings]
        showing_table |= {first: [pair[0] for pair in pairs], second: [pair[1] for pair in pairs]}
    return {
        "file_name": record.file_name,
        "image": io.BytesIO(record.image),
        "height": record.height,
        "width": record.width,
        "label": record.label,
        "labels": list(record.labels),
        "group": record.group,
        "foreground_mask": [io.BytesIO(mask) for mask in record.foreground_masks],
        "boxes": {
            name: [getattr(box, name) for box in record.boxes]
            for name in ("x_min", "y_min", "x_max", "y_max", "label", "is_crowd")
        },
        "showings": showing_table,
        "clicks": points("clicks"),
        "trace": points("trace"),
        "hovers": columns(
            ["showing", "time_ms", "entered"], [(i, of(h.time_ms), h.entered) for i, s in showings for h in s.hovers]
        ),
        "actions": columns(
            ["showing", "time_ms", "kind", "icon", "from_x", "from_y", "to_x", "to_y", "label"],
            [
                (i, of(a.time_ms), kinds[a.kind], a.icon, *(a.point_from or nowhere), *(a.point_to or nowhere), a.label)
                for i, s in showings
                for a in s.actions
            ],
        ),
        "masks": columns(["box", "segmentation"], [(i, b.mask) for i, b in enumerate(record.boxes) if b.mask]),
        "category_views": columns(
            ["showing", "time_ms", "index", "name", "used_keyboard"],
            [(i, of(v.time_ms), v.index, v.name, v.used_keyboard) for i, s in showings for v in s.category_views],
        ),
    }


def written_by_tfds(record: ImageRecord) -> bytes:
    serializer = example_serializer.ExampleSerializer(FEATURES.get_serialized_info())
    return serializer.serialize_example(FEATURES.encode_example(as_tfds_example(record)))


def read_by_tfds(data: bytes) -> dict[str, Any]:
    return FEATURES.decode_example_np(
        example_parser.ExampleParserNp(FEATURES.get_serialized_info()).parse_example(data)
    )


def assert_equal_examples(one: Any, other: Any, where: str = "") -> None:
    if isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for name in one:
            assert_equal_examples(one[name], other[name], f"{where}/{name}")
    else:
        assert np.asarray(one).dtype == np.asarray(other).dtype, where
        np.testing.assert_array_equal(one, other, err_msg=where)


@pytest.mark.parametrize("record", [FULL, BARE], ids=["full", "bare"])
def test_tfds_reads_the_same_from_our_record_as_from_its_own(record: ImageRecord) -> None:
    assert_equal_examples(read_by_tfds(encode(record)), read_by_tfds(written_by_tfds(record)))


@pytest.mark.parametrize("record", [FULL, BARE], ids=["full", "bare"])
def test_we_read_a_record_that_tfds_wrote(record: ImageRecord) -> None:
    assert Example(written_by_tfds(record)).record() == record


def test_tfds_sees_pixels_labels_and_clicks() -> None:
    example = read_by_tfds(encode(FULL))
    np.testing.assert_array_equal(example["image"], np.asarray(Image.open(io.BytesIO(FULL.image))))
    assert FEATURES["label"].int2str(int(example["label"])) == "n02123045"
    assert [int(label) for label in example["labels"]] == [0, 2]
    assert [float(x) for x in example["clicks"]["x"]] == [0.25, 0.5]
    assert example["file_name"].decode() == FULL.file_name


def test_targets_see_when_the_pointer_came_and_who_it_was() -> None:
    byproducts = Example(encode(FULL)).byproducts()
    hovers = [(i, hover) for i, showing in enumerate(FULL.showings) for hover in showing.hovers]
    assert hovers
    assert byproducts.hovers.showing.tolist() == [i for i, _ in hovers]
    assert byproducts.hovers.time_ms.tolist() == [-1 if h.time_ms is None else h.time_ms for _, h in hovers]
    assert byproducts.hovers.entered.tolist() == [hover.entered for _, hover in hovers]
    assert byproducts.worker_ids.tolist() == [showing.worker_id for showing in FULL.showings]


def test_features_survive_their_json_so_that_a_directory_opens_by_itself() -> None:
    copy = tfds.features.FeatureConnector.from_json(FEATURES.to_json())
    assert copy.get_serialized_info() == FEATURES.get_serialized_info()


@pytest.mark.parametrize("data", [b"\xff\xff", b"\x0a"], ids=["no protobuf", "cut off"])
def test_bytes_that_are_no_example_are_refused(data: bytes) -> None:
    with pytest.raises(DataError, match=r"not a tf\.train\.Example"):
        Example(data)


def test_an_example_of_another_schema_is_refused() -> None:
    with pytest.raises(DataError, match="no `file_name` or no `image`"):
        Example(b"")


def altered(name: str, kind: str, values: list[Any] | None) -> bytes:
    """A good record with one column of other values, or without it."""
    example = tf_example_pb2.Example.FromString(encode(ImageRecord(file_name="a", image=png(), height=4, width=5)))  # type: ignore[attr-defined]
    del example.features.feature[name]
    if values is not None:
        getattr(example.features.feature[name], kind).value.extend(values)
    return example.SerializeToString()


@pytest.mark.parametrize(
    ("name", "kind", "values"),
    [
        ("file_name", "bytes_list", [b"\xff"]),
        ("label", "int64_list", []),
        ("label", "int64_list", None),
        ("width", "float_list", [1.0]),
        ("clicks/x", "float_list", [0.5]),
        ("actions/to_y", "float_list", [0.5, 0.5]),
        ("boxes/x_max", "float_list", [0.5]),
        ("showings/worker_id", "bytes_list", [b"\xff"]),
    ],
)
def test_columns_that_do_not_fit_each_other_give_one_error(name: str, kind: str, values: list[Any] | None) -> None:
    example = Example(altered(name, kind, values))
    with pytest.raises(DataError, match="the record does not fit the schema"):
        example.record()


def test_a_target_that_asks_for_a_broken_column_gets_the_same_error() -> None:
    columns = Example(altered("clicks/x", "float_list", [0.5])).byproducts()
    assert len(columns.trace.xy) == 0
    with pytest.raises(DataError, match="the record does not fit the schema"):
        columns.clicks  # noqa: B018
