"""What is wrong with one record beyond its CRC: columns, sizes, labels, places, masks, and the image as a whole."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import numpy as np

from data_prep.annotations.numbers import MAX_OVERSHOOT
from data_prep.images import BadImage, check_image
from luab_jax.byproducts.columns import ACTION_KINDS
from luab_jax.byproducts.records import ImageRecord, Size
from luab_jax.data import example_proto, features
from luab_jax.data.decoding import decode_mask
from luab_jax.data.masks import rasterise
from luab_jax.errors import DataError

_ROUNDING = 1e-6
"""Coordinates are stored as float32."""


def record_problem(data: bytes, num_classes: int, *, of_tfds: bool, decode: bool) -> str:
    """What is wrong with the bytes of one record, or nothing."""
    try:
        if not of_tfds and (mismatch := _mismatch(data)):
            return mismatch
        example = features.Example(data)
        record = example.record()
    except DataError as e:
        return str(e)
    except (KeyError, IndexError, ValueError, TypeError) as e:
        return f"does not fit the schema ({type(e).__name__}: {e})"
    try:
        size = check_image(record.image, decode=decode).size
        if (record.width, record.height) != size:
            raise DataError(f"width and height {record.width} x {record.height}, the image has {size}")
        _check_labels(record, num_classes)
        if not of_tfds:
            _check_places(example)
        _check_boxes(record, num_classes, of_tfds=of_tfds)
        _check_masks(record, size)
    except BadImage as e:
        return f"{record.file_name}: {e}"
    except DataError as e:
        return f"{record.file_name}: {e}"
    return ""


@functools.cache
def _schema() -> Mapping[str, str]:
    """Every column of a record and its kind of list."""
    record = example_proto.Example.FromString(features.encode(features.NO_RECORD))
    return {name: feature.WhichOneof("kind") for name, feature in record.features.feature.items()}


def _mismatch(data: bytes) -> str:
    """Columns that are not those of the schema. A list of another kind would read as an empty one."""
    try:
        found = example_proto.Example.FromString(data).features.feature
    except Exception as e:  # protobuf's DecodeError has no stable import path across its implementations
        return f"not a tf.train.Example: {e}"
    schema = _schema()
    if strangers := sorted(schema.keys() ^ set(found)):
        return f"columns {', '.join(strangers[:5])} are missing or unknown ({len(strangers)} in all)"
    for name, kind in schema.items():
        if found[name].WhichOneof("kind") != kind:
            return f"column {name} is a {found[name].WhichOneof('kind')}, a {kind} is expected"
    return ""


def _check_labels(record: ImageRecord, num_classes: int) -> None:
    if not -1 <= record.label < num_classes:
        raise DataError(f"label {record.label}, but there are {num_classes} classes")
    if any(not 0 <= label < num_classes for label in record.labels):
        raise DataError(f"labels {record.labels}, but there are {num_classes} classes")


def _check_places(example: features.Example) -> None:
    """Clicks and traces lie on the image or just beside it, and every row belongs to a showing that is there."""
    num_showings = len(example.column("showings", "selected"))
    for table in ("clicks", "trace", "hovers", "actions", "category_views"):
        showing = example.column(table, "showing")
        if showing.size and not (showing.min() >= 0 and showing.max() < num_showings):
            raise DataError(f"{table} of showing {showing.max()}, but there are {num_showings} showings")
    for table in ("clicks", "trace"):
        _check_points(table, *(example.column(table, axis) for axis in ("x", "y")))
    kinds = example.column("actions", "kind")
    if kinds.size and not (kinds.min() >= 0 and kinds.max() < len(ACTION_KINDS)):
        raise DataError(f"actions of kind {kinds.max()}, of which there are {len(ACTION_KINDS)}")
    for end in ("from", "to"):
        x, y = (example.column("actions", f"{end}_{axis}") for axis in ("x", "y"))
        known = ~(np.isnan(x) & np.isnan(y))  # a place that was not recorded is twice NaN
        _check_points(f"actions ({end})", x[known], y[known])


def _check_points(table: str, x: np.ndarray, y: np.ndarray) -> None:
    least, most = -MAX_OVERSHOOT - _ROUNDING, 1 + MAX_OVERSHOOT + _ROUNDING
    inside = (least <= x) & (x <= most) & (least <= y) & (y <= most)  # False of NaN
    if not inside.all():
        row = int(np.argmin(inside))
        raise DataError(f"{table}: ({x[row]:g}, {y[row]:g}) is no place in the image, whose sides are 0 to 1")


def _check_boxes(record: ImageRecord, num_classes: int, *, of_tfds: bool) -> None:
    """Boxes inside the image; of a width and a height, unless TFDS took one over that has none."""
    for box in record.boxes:
        edges = (box.x_min, box.y_min, box.x_max, box.y_max)
        inside = all(-_ROUNDING <= edge <= 1 + _ROUNDING for edge in edges)
        ordered = box.x_min < box.x_max and box.y_min < box.y_max
        if not inside or not (ordered or of_tfds):
            raise DataError(
                f"box {', '.join(f'{edge:g}' for edge in edges)} is none in an image whose sides are 0 to 1"
            )
        if not -1 <= box.label < num_classes:
            raise DataError(f"a box of label {box.label}, but there are {num_classes} classes")


def _check_masks(record: ImageRecord, size: Size) -> None:
    for box in record.boxes:
        if box.mask:
            rasterise(box.mask, size)
    for png in record.foreground_masks:
        try:
            decode_mask(png, size)
        except DataError as e:
            raise DataError(f"foreground mask: {e}") from e
