"""Labels of ILSVRC2012's validation images, which lie in one folder without classes.

    ILSVRC2012_val_00000001.JPEG ... ILSVRC2012_val_00050000.JPEG

By default from the list that TFDS ships: wnids in the order of file numbers, 50 of each class. A file given by
`--val_labels` holds lines `name wnid`, one wnid a line in the order of file numbers, or Kaggle's table. The
development kit's `ILSVRC2012_validation_ground_truth.txt` is refused: its numbers are ids of the kit's own order of
classes, not positions among sorted wnids, and read as such they give wrong labels without a sign of it.
"""

from __future__ import annotations

import csv
import hashlib
import importlib.util
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from data_prep.sources.tree import File, Source
from luab_jax.data.texts import read_text
from luab_jax.errors import DataError, UserError, reason_of

NUM_VAL = 50_000
_HASH = "2707a43f27dc"
_IMAGE_COLUMNS = ("imageid", "image", "filename", "file", "name")
_CLASS_COLUMNS = ("predictionstring", "class", "classid", "wnid", "synset", "label")
_NAME = re.compile(r"ILSVRC2012_val_(\d{8})\.jpe?g", re.IGNORECASE)


def number_of(name: str) -> int | None:
    """The number in the name of a validation image, 1 to 50,000."""
    match = _NAME.fullmatch(name)
    number = int(match[1]) if match else 0
    return number if 1 <= number <= NUM_VAL else None


@dataclass(frozen=True, slots=True)
class ValLabels:
    """The class of every validation image."""

    in_order: tuple[str, ...] = ()
    by_name: dict[str, str] | None = None
    """By file name without suffix."""
    place: str = "built in"
    """For messages."""

    def of(self, name: str) -> str | None:
        if self.by_name is not None:
            return self.by_name.get(name.rpartition(".")[0])
        number = number_of(name)
        return None if number is None else self.in_order[number - 1]

    def by_class(self, source: Source, label_of: dict[str, int]) -> tuple[list[tuple[str, list[File]]], list[str]]:
        """Files by class, in the order of names; and the names of those without a label."""
        classes: dict[str, list[File]] = {}
        without: list[str] = []
        for file in source.files():
            class_id = self.of(file.name)
            if class_id is None:
                without.append(file.name)
            elif class_id not in label_of:
                raise DataError(
                    f"{source.place}/{file.name}: its class {class_id!r} is not in the class list (--classes)"
                )
            else:
                classes.setdefault(class_id, []).append(file)
        return sorted(classes.items()), without

    def without_image(self, names: Iterable[str]) -> list[str]:
        """Names of the list that are not among the names of images; a list that is built in has none to spare."""
        if self.by_name is None:
            return []
        there = {name.rpartition(".")[0] for name in names}
        return [name for name in self.by_name if name not in there]

    def lies_flat(self, source: Source, folder: str) -> bool:
        """Whether this folder itself holds an image that has a label."""
        return any(
            self.of(file.name) is not None and file.name.lower().endswith((".jpg", ".jpeg", ".png"))
            for file in source.files(folder)
        )


def read_val_labels(path: str | None) -> ValLabels:
    """The built-in list, or the file of `--val_labels`; raises `DataError`.

    A file holds lines `name wnid`, one wnid a line in the order of file numbers, or a table with commas whose header
    names image and class, as Kaggle's `LOC_val_solution.csv` (of `wnid x y x y` the wnid).
    """
    if path is None:
        return ValLabels(_built_in())
    try:
        lines = [line.strip() for line in read_text(path).splitlines() if line.strip()]
    except (OSError, ValueError) as e:
        raise DataError(f"--val_labels={path}: cannot be read ({reason_of(e)})") from e
    rows = _table(lines, path) if lines and "," in lines[0] else [line.split() for line in lines]
    if rows and all(len(row) == 1 and row[0].isdigit() for row in rows):
        raise DataError(
            f"--val_labels={path}: numbers, as in ILSVRC2012_validation_ground_truth.txt, are ids of the development"
            " kit's own order of classes, not labels; leave --val_labels out (the right labels are built in), or give"
            " lines `name wnid`"
        )
    if rows and all(len(row) == 2 for row in rows):
        return ValLabels(by_name=_by_name(rows, path), place=path)
    if len(rows) == NUM_VAL and all(len(row) == 1 for row in rows):
        return ValLabels(tuple(row[0] for row in rows), place=path)
    odd = next((line for line, row in zip(lines, rows, strict=False) if len(row) != 2), lines[0] if lines else "")
    raise DataError(
        f"--val_labels={path}: {len(lines)} lines, of which one is {odd[:80]!r}; expected lines `name wnid`,"
        f" {NUM_VAL:,} lines with one wnid each, or a table such as LOC_val_solution.csv"
    )


def _table(lines: list[str], path: str) -> list[list[str]]:
    """Image and class of a table with a header; of a cell with boxes behind the class, the class."""
    try:
        header, *rows = csv.reader(lines)
    except csv.Error as e:
        raise DataError(f"--val_labels={path}: cannot be read as CSV ({e})") from e
    names = [name.strip().lower().replace("_", "") for name in header]
    image = next((i for i, name in enumerate(names) if name in _IMAGE_COLUMNS), None)
    label = next((i for i, name in enumerate(names) if name in _CLASS_COLUMNS), None)
    if image is None or label is None:
        if len(header) == 2 and "." in header[0]:  # no header: `name,wnid`
            return [[cell.strip() for cell in row] for row in (header, *rows)]
        raise DataError(
            f"--val_labels={path}: a table without a column of images and one of classes; its header is"
            f" {lines[0][:80]!r}, expected such as ImageId,PredictionString"
        )
    found = []
    for number, row in enumerate(rows, 2):
        cells = row[label].split() if len(row) > max(image, label) else []
        if not cells or not row[image].strip():
            raise DataError(f"--val_labels={path}:{number}: no image and class in {','.join(row)[:80]!r}")
        if len({*cells[::5]}) > 1:
            raise DataError(
                f"--val_labels={path}:{number}: {row[image]} has boxes of several classes, of which none is its own"
            )
        found.append([row[image].strip(), cells[0]])
    return found


def _by_name(rows: list[list[str]], path: str) -> dict[str, str]:
    """By name without folder and suffix; raises `DataError` for two classes of one name."""
    classes: dict[str, str] = {}
    for name, class_id in rows:
        stem = re.sub(r"\.(jpe?g|png)$", "", name.rpartition("/")[2], flags=re.IGNORECASE)
        if classes.setdefault(stem, class_id) != class_id:
            raise DataError(f"--val_labels={path}: {name} stands twice, as {classes[stem]} and as {class_id}")
    return classes


def _built_in() -> tuple[str, ...]:
    spec = importlib.util.find_spec("tensorflow_datasets")
    if spec is None or spec.origin is None:
        raise UserError("the validation labels come with tensorflow-datasets: pip install tensorflow-datasets")
    path = Path(spec.origin).parent / "datasets" / "imagenet2012" / "validation_labels.txt"
    labels = tuple(path.read_text(encoding="utf-8").split())
    if hashlib.sha256("\n".join(labels).encode()).hexdigest()[:12] != _HASH:
        raise UserError(f"{path}: not the validation labels that this version expects; reinstall the package")
    return labels
