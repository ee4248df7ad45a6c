"""Ground-truth boxes that come beside the images (`--boxes`), in one of three layouts.

    DIR/<class>/<stem>.xml    ILSVRC's XML: edges in pixels of its own <size>; read later, with the image
    DIR/<class>.txt           name TAB x0 TAB y0 TAB x1 TAB y1, one box a line, of the images of one class
    FILE.txt                  the same, or name TAB class TAB x0 TAB y0 TAB x1 TAB y1

Text boxes are pixels of the stored file, and the last pixel belongs to the box: x_max = (x1 + 1) / width.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from data_prep.annotations.numbers import number
from luab_jax.errors import DataError


class PixelBox(NamedTuple):
    """First and last pixel on each axis; the class id is empty where the image's own class is meant."""

    class_id: str
    x0: float
    y0: float
    x1: float
    y1: float

    def edges(self) -> list[float]:
        """As edges between pixels: x_min, y_min, x_max, y_max."""
        return [self.x0, self.y0, self.x1 + 1, self.y1 + 1]


@dataclass(frozen=True, slots=True)
class BoxSource:
    """Where an image's boxes are."""

    xml: Path | None = None
    """Root of ILSVRC's XML."""
    text: dict[str, tuple[PixelBox, ...]] = field(default_factory=dict)
    """By `<class>/<file name>` where the class is known, else by file name."""

    def of(self, class_id: str, name: str) -> tuple[PixelBox, ...]:
        return self.text.get(f"{class_id}/{name}") or self.text.get(name, ())


def open_boxes(path: Path | None) -> BoxSource:
    """Reads text boxes into memory (about 250 bytes each), finds the root of XML boxes."""
    if path is None:
        return BoxSource()
    if path.is_file():
        return BoxSource(text=_gather(_read_text(path, "")))
    if not path.is_dir():
        raise DataError(f"{path}: no such folder or file of boxes (--boxes)")
    texts = sorted(p for p in path.glob("*.txt") if not p.name.startswith("."))
    if texts:
        return BoxSource(text=_gather(pair for text in texts for pair in _read_text(text, text.stem)))
    if any(p.is_dir() for p in path.iterdir()):
        return BoxSource(xml=path)
    raise DataError(f"{path}: holds neither <class>/<image>.xml nor <class>.txt (--boxes)")


def _gather(pairs: Iterator[tuple[str, PixelBox]]) -> dict[str, tuple[PixelBox, ...]]:
    boxes: dict[str, tuple[PixelBox, ...]] = {}
    for key, box in pairs:
        boxes[key] = (*boxes.get(key, ()), box)
    return boxes


def _read_text(path: Path, file_class: str) -> Iterator[tuple[str, PixelBox]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as e:
        raise DataError(f"{path}: cannot be read as a list of boxes ({e})") from e
    for line_number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        fields = line.split("\t")
        values = [value for value in map(number, fields[-4:]) if value is not None]
        if len(fields) not in (5, 6) or len(values) != 4:
            raise DataError(
                f"{path}:{line_number}: {line[:80]!r} is no box; expected name, x0, y0, x1, y1"
                " (or name, class, x0, y0, x1, y1) with TAB between them"
            )
        class_id = fields[1] if len(fields) == 6 else file_class
        yield f"{class_id}/{fields[0]}" if class_id else fields[0], PixelBox(class_id, *values)
