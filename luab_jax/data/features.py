"""One record of a shard: `ImageRecord` to the bytes of a `tf.train.Example` and back.

TFDS's parser is not used, because it builds every column of every record (nearly all unused in a training step).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from luab_jax.byproducts.columns import ACTION_KINDS, Actions, ByproductColumns, Hovers, Points
from luab_jax.byproducts.records import (
    Action,
    Box,
    CategoryView,
    Hover,
    ImageRecord,
    PagePosition,
    Point,
    Showing,
    Size,
    TimedPoint,
)
from luab_jax.data import example_proto, tfds_examples
from luab_jax.data.schema import MISSING_INT, TABLES
from luab_jax.data.transforms import EncodedImage
from luab_jax.errors import DataError


def encode(record: ImageRecord) -> bytes:
    """Serialises a record as TFDS's `ExampleSerializer` does; equal records give equal bytes.

    The protobuf is filled directly: TFDS converts every single value to an array first, several times slower for a
    long mouse trace, and its output is not ordered.
    """
    example = example_proto.Example()
    example.CopyFrom(_without_rows())
    features = example.features.feature
    features["file_name"].bytes_list.value.append(record.file_name.encode())
    features["image"].bytes_list.value.append(record.image)
    features["height"].int64_list.value.append(record.height)
    features["width"].int64_list.value.append(record.width)
    features["label"].int64_list.value.append(record.label)
    _fill(features["labels"], np.int64, record.labels)
    features["group"].bytes_list.value.append(record.group.encode())
    features["foreground_mask"].bytes_list.value.extend(record.foreground_masks)
    features["foreground_mask"].bytes_list.SetInParent()
    rows: dict[str, list[tuple[Any, ...]]] = {table: [] for table in TABLES}
    rows["boxes"] = [(b.x_min, b.y_min, b.x_max, b.y_max, b.label, b.is_crowd) for b in record.boxes]
    rows["masks"] = [(index, box.mask) for index, box in enumerate(record.boxes) if box.mask]
    for index, showing in enumerate(record.showings):
        _add_showing(rows, index, showing)
    for table, columns in TABLES.items():
        # Tables without rows are there already; most records have rows in few of them.
        for (name, dtype), values in zip(columns.items(), zip(*rows[table], strict=True), strict=bool(rows[table])):
            _fill(features[f"{table}/{name}"], dtype, values)
    return example.SerializeToString(deterministic=True)


@functools.cache
def _without_rows() -> Any:
    """Every column of every table, empty."""
    example = example_proto.Example()
    for table, columns in TABLES.items():
        for name, dtype in columns.items():
            _fill(example.features.feature[f"{table}/{name}"], dtype, ())
    return example


def _fill(feature: Any, dtype: Any, values: Sequence[Any]) -> None:
    if dtype is np.object_:
        feature.bytes_list.value.extend([value.encode() for value in values])
        kind = feature.bytes_list
    elif dtype is np.float32:
        feature.float_list.value.extend(values)
        kind = feature.float_list
    else:
        feature.int64_list.value.extend(map(int, values))
        kind = feature.int64_list
    kind.SetInParent()  # an empty list is written too, so that every record has every column


def _add_showing(rows: dict[str, list[tuple[Any, ...]]], index: int, showing: Showing) -> None:
    """Appends one showing's rows to every table, in the order of `TABLES`' columns."""
    rows["showings"].append(
        (
            showing.selected,
            _or_missing(showing.time_spent_ms),
            _or_missing(showing.submit_time_s),
            _or_missing(showing.selected_count),
            _or_missing(showing.hovered_count),
            showing.worker_id,
            showing.assignment_id,
            showing.hit_id,
            showing.source_hit_id,
            _or_missing(showing.page_index),
            _or_missing(showing.image_index),
            *(showing.position_on_page or (MISSING_INT, MISSING_INT)),
            *(showing.display_size or (MISSING_INT, MISSING_INT)),
            *(showing.original_size or (MISSING_INT, MISSING_INT)),
        )
    )
    for table, points in (("clicks", showing.clicks), ("trace", showing.trace)):
        rows[table].extend((index, _or_missing(p.time_ms), p.x, p.y) for p in points)
    rows["hovers"].extend((index, _or_missing(h.time_ms), h.entered) for h in showing.hovers)
    nowhere = Point(math.nan, math.nan)
    rows["actions"].extend(
        (
            index,
            _or_missing(action.time_ms),
            ACTION_KINDS.index(action.kind),
            action.icon,
            *(action.point_from or nowhere),
            *(action.point_to or nowhere),
            action.label,
        )
        for action in showing.actions
    )
    rows["category_views"].extend(
        (index, _or_missing(v.time_ms), v.index, v.name, v.used_keyboard) for v in showing.category_views
    )


NO_RECORD = ImageRecord(file_name="", image=b"", height=0, width=0)
"""Encoded, it has every column and nothing in them."""


def _or_missing(value: int | None) -> int:
    return MISSING_INT if value is None else value


def _of_schema(read: Callable[..., Any]) -> Any:
    """Makes a `DataError` of what a column that is missing, or longer than its neighbours, brings about."""

    @functools.wraps(read)
    def checked(self: Example, *names: str) -> Any:
        try:
            return read(self, *names)
        except (IndexError, ValueError, KeyError, TypeError) as e:
            raise DataError(
                f"the record does not fit the schema ({type(e).__name__}: {e}); `python -m data_prep verify` lists such"
            ) from e

    return checked


class Example:
    """A record read back from a shard; every field is decoded when it is asked for, and only then.

    Asking for one that does not fit the schema raises `DataError`.
    """

    __slots__ = ("_features",)

    def __init__(self, serialized: bytes):
        """Parses the protobuf; raises `DataError` if it is not one of ours."""
        try:
            self._features = example_proto.Example.FromString(serialized).features.feature
        except Exception as e:  # protobuf's DecodeError has no stable import path across its implementations
            raise DataError(f"not a tf.train.Example: {e}") from e
        if "showings/selected" not in self._features:
            tfds_examples.adopt(self._features)
        if "image" not in self._features or "file_name" not in self._features:
            raise DataError(
                "the record has no `file_name` or no `image`: it was not written by this version of data_prep"
            )

    @property
    @_of_schema
    def file_name(self) -> str:
        return self._features["file_name"].bytes_list.value[0].decode()

    @property
    @_of_schema
    def image(self) -> bytes:
        """The encoded image, as it came."""
        return self._features["image"].bytes_list.value[0]

    @property
    @_of_schema
    def label(self) -> int:
        return self._features["label"].int64_list.value[0]

    @property
    @_of_schema
    def labels(self) -> np.ndarray:
        """All correct labels, `[n]`; empty where only `label` is known."""
        return np.asarray(self._features["labels"].int64_list.value, np.int64)

    @property
    @_of_schema
    def group(self) -> str:
        values = self._features["group"].bytes_list.value
        return values[0].decode() if values else ""

    @property
    @_of_schema
    def foreground_masks(self) -> tuple[bytes, ...]:
        """PNG images of one bit a pixel."""
        return tuple(self._features["foreground_mask"].bytes_list.value)

    @property
    @_of_schema
    def size(self) -> Size:
        """Of the image; by its header where TFDS wrote the record."""
        if "width" not in self._features:
            return EncodedImage(self.image, self.file_name).size
        return Size(self._features["width"].int64_list.value[0], self._features["height"].int64_list.value[0])

    @_of_schema
    def column(self, table: str, name: str) -> np.ndarray:
        """One column of a table, `[rows]`, in the type that `schema.TABLES` states."""
        feature = self._features[f"{table}/{name}"]
        dtype = TABLES[table][name]
        if dtype is np.object_:
            return np.asarray([v.decode() for v in feature.bytes_list.value], np.object_)
        values = feature.float_list.value if dtype is np.float32 else feature.int64_list.value
        return np.asarray(values, dtype)

    @_of_schema
    def _table(self, table: str) -> list[dict[str, Any]]:
        columns = {name: self.column(table, name).tolist() for name in TABLES[table]}
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    @_of_schema
    def _points(self, table: str) -> Points:
        xy = np.stack([self.column(table, "x"), self.column(table, "y")], axis=-1)
        return Points(self.column(table, "showing"), self.column(table, "time_ms"), xy)

    def byproducts(self) -> ByproductColumns:
        """The columns that targets are made of."""
        return ByproductColumns.read_by(
            file_name=lambda: self.file_name,
            selected=lambda: self.column("showings", "selected"),
            clicks=lambda: self._points("clicks"),
            trace=lambda: self._points("trace"),
            boxes=self._corners,
            box_labels=lambda: self.column("boxes", "label"),
            label=lambda: self.label,
            labels=lambda: self.labels,
            actions=self._actions,
            hovers=lambda: Hovers(*(self.column("hovers", name) for name in ("showing", "time_ms", "entered"))),
            worker_ids=lambda: self.column("showings", "worker_id"),
        )

    @_of_schema
    def _actions(self) -> Actions:
        return Actions(
            showing=self.column("actions", "showing"),
            kind=self.column("actions", "kind"),
            label=self.column("actions", "label"),
            to_xy=np.stack([self.column("actions", "to_x"), self.column("actions", "to_y")], axis=-1),
        )

    @_of_schema
    def _corners(self) -> np.ndarray:
        return np.stack([self.column("boxes", name) for name in ("x_min", "y_min", "x_max", "y_max")], axis=-1)

    @_of_schema
    def record(self) -> ImageRecord:
        """Everything, as objects: for inspection and tests, not for training."""
        return ImageRecord(
            file_name=self.file_name,
            image=self.image,
            height=self.size.height,
            width=self.size.width,
            label=self.label,
            labels=tuple(self.labels.tolist()),
            group=self.group,
            foreground_masks=self.foreground_masks,
            boxes=self._boxes(),
            showings=self._showings(),
        )

    def _boxes(self) -> tuple[Box, ...]:
        masks = {row["box"]: row["segmentation"] for row in self._table("masks")}
        return tuple(Box(mask=masks.get(i, ""), **row) for i, row in enumerate(self._table("boxes")))

    def _showings(self) -> tuple[Showing, ...]:
        rows: dict[str, dict[int, list[dict[str, Any]]]] = {}
        for table in ("clicks", "trace", "hovers", "actions", "category_views"):
            rows[table] = {}
            for row in self._table(table):
                row["time_ms"] = _known(row["time_ms"])
                rows[table].setdefault(row.pop("showing"), []).append(row)
        return tuple(
            Showing(
                clicks=tuple(TimedPoint(**row) for row in rows["clicks"].get(index, ())),
                trace=tuple(TimedPoint(**row) for row in rows["trace"].get(index, ())),
                hovers=tuple(Hover(**row) for row in rows["hovers"].get(index, ())),
                actions=tuple(_action(row) for row in rows["actions"].get(index, ())),
                category_views=tuple(CategoryView(**row) for row in rows["category_views"].get(index, ())),
                **_showing_fields(row),
            )
            for index, row in enumerate(self._table("showings"))
        )


def _known(value: Any) -> Any:
    return None if value == MISSING_INT and not isinstance(value, bool) else value


def _showing_fields(row: dict[str, Any]) -> dict[str, Any]:
    """One row of the table `showings` as the keyword arguments of `Showing`."""
    fields = {name: _known(value) for name, value in row.items()}
    pairs = {
        "position_on_page": (PagePosition, "page_x", "page_y"),
        "display_size": (Size, "display_width", "display_height"),
        "original_size": (Size, "original_width", "original_height"),
    }
    for name, (pair, first, second) in pairs.items():
        a, b = fields.pop(first), fields.pop(second)
        fields[name] = None if a is None or b is None else pair(a, b)
    return fields


def _action(row: dict[str, Any]) -> Action:
    def point(x: float, y: float) -> Point | None:
        return None if math.isnan(x) or math.isnan(y) else Point(x, y)

    return Action(
        kind=ACTION_KINDS[row["kind"]],
        icon=row["icon"],
        point_from=point(row["from_x"], row["from_y"]),
        point_to=point(row["to_x"], row["to_y"]),
        time_ms=row["time_ms"],
        label=row["label"],
    )
