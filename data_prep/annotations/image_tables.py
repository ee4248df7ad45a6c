"""A table of images of one's own: labels, groups, boxes and masks by file name; CSV with a header, or JSON lines.

    image,y,place,x_min,y_min,x_max,y_max,mask          {"image": …, "labels": ["cat", "dog"], "boxes": [[…], …], …}

Which columns hold what is said by `Columns`, so that tables of published sets (Waterbirds, CelebA) need no rewriting.
Box edges are pixels of the stored image, the right and lower ones behind the last pixel.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from data_prep.annotations.numbers import number
from data_prep.annotations.tables import text_of
from data_prep.datasets.boxes import PixelBox
from luab_jax.data.texts import read_text
from luab_jax.errors import DataError, reason_of
from luab_jax.io.storage import Place

EDGES = ("x_min", "y_min", "x_max", "y_max")


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """What the columns of a table mean."""

    file_name: str = "file_name"
    label: str | None = None
    """Folders name the class if None. A list in JSON lines, or text with `|` between, is a set of labels."""
    groups: tuple[str, ...] = ()
    """Their values together name the group of an image."""
    where: tuple[tuple[str, str], ...] = ()
    """Only rows with these values, such as those of one split."""


class Row(NamedTuple):
    """What the table says of one image."""

    labels: tuple[str, ...] | None
    group: str
    boxes: tuple[PixelBox, ...]
    mask: str
    """Path below the folder of images; empty where there is none."""


def read_image_table(path: Place, columns: Columns) -> dict[str, Row]:
    """Rows by file name. Raises `DataError` that names file, line and column of what cannot be read."""
    rows: dict[str, Row] = {}
    for where, values in _lines(path, columns):
        if any(_text(values.get(name)) != value for name, value in columns.where):
            continue
        name = _text(values.get(columns.file_name)).replace("\\", "/").lstrip("/")
        if not name:
            raise DataError(f"{where}: has no {columns.file_name}")
        if name in rows:
            raise DataError(f"{where}: {name} is there twice")
        rows[name] = Row(
            _labels(values, columns, where), _group(values, columns, where), _boxes(values, where),
            _text(values.get("mask")),
        )  # fmt: skip
    if not rows:
        wanted = "".join(f" with {name}={value}" for name, value in columns.where)
        raise DataError(f"{path}: holds no row{wanted}")
    return rows


def _lines(path: Place, columns: Columns) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if path.suffix.lower() == ".json":
        raise DataError(
            f"{path}: an instances file of COCO goes with `python -m data_prep coco_ab --instances={path}"
            " --classes=...`; here a CSV or JSON lines are read"
        )
    try:
        text = read_text(path)
    except FileNotFoundError as e:
        raise DataError(f"--annotations={path}: no such file") from e
    except (OSError, ValueError) as e:
        raise DataError(f"{path}: cannot be read as a table of images ({reason_of(e)})") from e
    wanted = (columns.file_name, *filter(None, (columns.label,)), *columns.groups, *(name for name, _ in columns.where))
    if path.suffix.lower() == ".csv":
        reader = csv.DictReader(io.StringIO(text))
        try:
            header = reader.fieldnames or ()
            if missing := [name for name in wanted if name not in header]:
                raise DataError(f"{path}:1: has no column {missing[0]!r}, but {', '.join(header)[:200]}")
            for row in reader:
                yield f"{path}:{reader.line_num}", row
        except csv.Error as e:
            line = reader.reader.line_num
            raise DataError(f"{path}:{line}: cannot be read as CSV ({e}); save the table again") from e
        return
    for line_number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as e:
            raise DataError(f"{path}:{line_number}: not JSON ({e})") from e
        if not isinstance(row, dict):
            raise DataError(f"{path}:{line_number}: {line[:60]!r} is no object")
        if missing := [name for name in wanted if name not in row]:
            raise DataError(f"{path}:{line_number}: has no {missing[0]!r}, but {', '.join(row)[:200]}")
        yield f"{path}:{line_number}", row


def _text(value: Any) -> str:
    return text_of(value).strip()


def _labels(values: Mapping[str, Any], columns: Columns, where: str) -> tuple[str, ...] | None:
    if columns.label is None:
        return None
    value = values[columns.label]
    labels = [_text(v) for v in value] if isinstance(value, list) else _text(value).split("|")
    if "" in labels:
        of_several = " in part" if len(labels) > 1 else ""
        raise DataError(f"{where}: its {columns.label} is empty{of_several}")
    return tuple(labels)


def _group(values: Mapping[str, Any], columns: Columns, where: str) -> str:
    parts = []
    for name in columns.groups:
        value = _text(values[name])
        if not value or "," in value or "=" in value:
            raise DataError(f"{where}: {name} is {value!r}; a group needs a value without `,` and `=`")
        parts.append(f"{name}={value}")
    return ",".join(parts)


def _boxes(values: Mapping[str, Any], where: str) -> tuple[PixelBox, ...]:
    found = values.get("boxes")
    if found is None:
        edges = [values.get(name) for name in EDGES]
        if all(_text(edge) == "" for edge in edges):
            return ()
        found = [edges]
    if not isinstance(found, list):
        raise DataError(f"{where}: boxes are {_text(found)[:60]!r}, expected a list of [x_min, y_min, x_max, y_max]")
    boxes = []
    for edges in found:
        numbers = [number(_text(edge)) for edge in edges] if isinstance(edges, list) else []
        if len(numbers) != 4 or any(edge is None for edge in numbers):
            raise DataError(f"{where}: {str(edges)[:60]} is no box, expected x_min, y_min, x_max, y_max in pixels")
        x0, y0, x1, y1 = (edge for edge in numbers if edge is not None)
        boxes.append(PixelBox("", x0, y0, x1 - 1, y1 - 1))
    return tuple(boxes)
