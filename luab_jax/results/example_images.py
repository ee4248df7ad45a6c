"""Example images beside a results file: what a model was shown, what it answered, and where it looked.

RESULTS.examples.jsonl   the first line tells of which checkpoint and data they are, every other line is one image

A report has no model and no data, so an evaluation leaves here what the report draws. Which images is a function of the
number of records alone: all evaluations on the same data keep the same.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from luab_jax.errors import UserError
from luab_jax.io import storage
from luab_jax.io.atomic import write_text

_VERSION = 1
_PICTURES = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg"}
_MAX_CELLS = 256
"""Along each side of a map."""

Numbers = tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExampleImage:
    """One image. Places are fractions of the picture, (x, y)."""

    file_name: str
    picture: bytes
    """The model's input, as PNG or JPEG."""
    labels: tuple[str, ...]
    """Names of what is on it."""
    shown: str
    """The label that the map and the points are of."""
    right: bool
    """Whether the best answer is among the labels."""
    answers: tuple[tuple[str, float], ...]
    """The best classes and their probabilities, best first, and at last `shown` if it is not among them."""
    map: tuple[Numbers, ...] | None
    """Rows from the top, scaled to [0, 1]; None where it is the same everywhere or not finite."""
    click: Numbers | None = None
    """The recorded point, where it lies inside."""
    box: Numbers | None = None
    point: Numbers | None = None
    """What the byproduct head predicts."""

    @property
    def media_type(self) -> str:
        return next(kind for start, kind in _PICTURES.items() if self.picture.startswith(start))


@dataclass(frozen=True, slots=True, kw_only=True)
class Examples:
    """Those of one checkpoint on one split, in an order that the data decides."""

    checkpoint: Mapping[str, Any]
    """As in the results."""
    dataset: str
    fingerprint: str
    """Of the data."""
    num_images: int
    """That the split has."""
    num_asked: int
    """Images without a label are left out of them."""
    map: str
    """The kind of map; see `models.maps.MAPS`."""
    images: tuple[ExampleImage, ...]


def examples_path(results: str | os.PathLike[str]) -> storage.Place:
    """`runs/results.examples.jsonl` of `runs/results.json`; any other ending is part of the name."""
    path = storage.place(os.fspath(results))
    return path.with_name(f"{path.name.removesuffix('.json')}.examples.jsonl")


def write_examples(path: storage.Place, examples: Examples) -> None:
    """Raises `WriteError`."""
    head = {field.name: getattr(examples, field.name) for field in dataclasses.fields(examples)}
    lines = [{"examples_version": _VERSION} | head | {"images": len(examples.images)}]
    for image in examples.images:
        fields = dataclasses.asdict(image)
        lines.append(fields | {"picture": base64.b64encode(image.picture).decode()})
    write_text(path, "".join(json.dumps(line) + "\n" for line in lines), make_folder=True)


def read_examples(path: storage.Place) -> Examples:
    """Raises `UserError` if there are none, or none of this version; what a page draws is checked."""
    try:
        head, *lines = (json.loads(line) for line in storage.read_all(path).decode().splitlines())
        version = head.pop("examples_version")
        if version == _VERSION:
            images = tuple(_image(line) for line in lines)
            if head.pop("images") != len(images):
                raise ValueError("it ends too early")
            return Examples(**{**_checked_head(head), "images": images})
    except OSError as e:
        raise UserError(f"{os.fspath(path)}: cannot be read ({e.strerror or e})") from e
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
        raise UserError(
            f"{os.fspath(path)}: no example images of luab_jax.evaluate ({e}); remove it, and evaluate again if you"
            " want them in the report"
        ) from e
    raise UserError(f"{os.fspath(path)}: examples version {version}, this version reads {_VERSION}; remove it")


def _checked_head(head: Mapping[str, Any]) -> Mapping[str, Any]:
    kinds = {"checkpoint": dict, "dataset": str, "fingerprint": str, "num_images": int, "num_asked": int, "map": str}
    for name, kind in kinds.items():
        if not isinstance(head[name], kind):
            raise TypeError(f"{name} is {head[name]!r:.60}")
    return head


def _image(line: Mapping[str, Any]) -> ExampleImage:
    picture = base64.b64decode(line["picture"], validate=True)
    if not picture.startswith(tuple(_PICTURES)):
        raise ValueError("a picture is neither PNG nor JPEG")
    answers = tuple((str(name), float(probability)) for name, probability in line["answers"])
    return ExampleImage(
        file_name=str(line["file_name"]),
        picture=picture,
        labels=tuple(map(str, line["labels"])),
        shown=str(line["shown"]),
        right=bool(line["right"]),
        answers=answers,
        map=_map(line["map"]),
        click=_numbers(line["click"], 2),
        box=_numbers(line["box"], 4),
        point=_numbers(line["point"], 2),
    )


def _numbers(values: Any, count: int) -> Numbers | None:
    if values is None:
        return None
    numbers = tuple(map(float, values))
    if len(numbers) != count or not all(math.isfinite(number) for number in numbers):
        raise ValueError(f"{values!r:.60} is no place")
    return numbers


def _map(rows: Any) -> tuple[Numbers, ...] | None:
    if rows is None:
        return None
    cells = tuple(tuple(map(float, row)) for row in rows)
    sides = (len(cells), *{len(row) for row in cells})
    if len(sides) != 2 or not all(0 < side <= _MAX_CELLS for side in sides):
        raise ValueError("a map is no grid")
    if not all(0 <= value <= 1 for row in cells for value in row):
        raise ValueError("a map has values outside of [0, 1]")
    return cells
