"""Ground-truth boxes that come beside the images (`--boxes`), in one of five layouts, the first two as an archive too.

    DIR/<class>/<stem>.xml    ILSVRC's XML: edges in pixels of its own <size>; read later, with the image
    DIR/<stem>.xml            the same for its validation images, as in ILSVRC2012_bbox_val_v3.tgz
    DIR/<class>.txt           name TAB x0 TAB y0 TAB x1 TAB y1, one box a line, of the images of one class
    FILE.txt                  the same, or name TAB class TAB x0 TAB y0 TAB x1 TAB y1
    localization.txt          folder/name,x0,y0,x1,y1 (clovaai/wsolevaluation, metadata/ILSVRC: `test` is ILSVRC's
                              validation set, `val` that of ImageNet-V2, threshold-0.7)

Boxes are pixels of the stored file. Between TABs the last pixel belongs to the box: x_max = (x1 + 1) / width. Between
commas stand the numbers of ILSVRC's XML, and they are read as those: x_max = x1 / width.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from data_prep.annotations.numbers import number
from data_prep.sources.archive_tree import open_source
from data_prep.sources.scratch_tar import Scratch
from data_prep.sources.tree import Source
from luab_jax.data.class_lists import ClassList
from luab_jax.data.texts import read_text
from luab_jax.errors import DataError, reason_of
from luab_jax.io import storage
from luab_jax.io.storage import Place


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


@dataclass(slots=True)
class BoxSource:
    """Where an image's boxes are."""

    place: str | None = None
    """For messages."""
    xml: Source | None = None
    """Root of ILSVRC's XML."""
    flat: bool = False
    """Whether its XML lies in one folder, without classes."""
    text: dict[str, tuple[PixelBox, ...]] = field(default_factory=dict)
    """By the name of the image as the text writes it, with the folders before it, or with its class."""


def xml_path(flat: bool, key: str) -> str:
    """Where the XML of `<class>/<stem>` lies below the root."""
    return f"{key.rpartition('/')[2] if flat else key}.xml"


def open_boxes(path: str | None, classes: ClassList, *, scratch: Place | Scratch) -> BoxSource:
    """Reads text boxes into memory (about 250 bytes each), finds the root of XML boxes."""
    if path is None:
        return BoxSource()
    whole = storage.place(path)
    facts = storage.facts(whole)
    if facts is not None and not facts.is_folder and whole.suffix.lower() == ".txt":
        return BoxSource(path, text=_gather(_read_text(whole, "")))
    names = storage.names(whole) if facts is not None and facts.is_folder else {}
    texts = sorted(whole / name for name in names if name.endswith(".txt") and not name.startswith("."))
    if texts:
        return BoxSource(path, text=_gather(pair for text in texts for pair in _read_text(text, text.stem)))
    source = open_source(path, "--boxes", scratch=scratch)
    label_of = classes.label_of()
    level = [""]
    while level:
        for folder in level:
            if any(name in label_of for name in source.folders(folder)):
                return BoxSource(path, xml=source.below(folder))
            if any(file.name.endswith(".xml") for file in source.files(folder)):
                return BoxSource(path, xml=source.below(folder), flat=True)
        level = [f"{folder}/{name}" if folder else name for folder in level for name in source.folders(folder)]
    raise DataError(f"{path}: holds neither <class>/<image>.xml nor <image>.xml nor <class>.txt (--boxes)")


def _gather(pairs: Iterator[tuple[str, PixelBox]]) -> dict[str, tuple[PixelBox, ...]]:
    boxes: dict[str, list[PixelBox]] = {}
    for key, box in pairs:
        boxes.setdefault(key, []).append(box)
    return {key: tuple(of_image) for key, of_image in boxes.items()}


def _read_text(path: Place, file_class: str) -> Iterator[tuple[str, PixelBox]]:
    try:
        lines = read_text(path).splitlines()
    except (OSError, ValueError) as e:
        raise DataError(f"{path}: cannot be read as a list of boxes ({reason_of(e)})") from e
    for line_number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        in_pixels = "\t" in line
        fields = line.split("\t" if in_pixels else ",")
        values = [value for value in map(number, fields[-4:]) if value is not None]
        if len(fields) not in ((5, 6) if in_pixels else (5,)) or len(values) != 4:
            raise DataError(
                f"{path}:{line_number}: {line[:80]!r} is no box; expected name, x0, y0, x1, y1"
                " (or name, class, x0, y0, x1, y1) with TAB, or folder/name,x0,y0,x1,y1"
            )
        if not in_pixels:
            x0, y0, x1, y1 = values
            yield fields[0].strip("/"), PixelBox("", x0, y0, x1 - 1, y1 - 1)
            continue
        class_id = fields[1] if len(fields) == 6 else file_class
        has_folder = not class_id or "/" in fields[0]
        yield fields[0] if has_folder else f"{class_id}/{fields[0]}", PixelBox(class_id, *values)
