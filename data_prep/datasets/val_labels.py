"""Labels of ILSVRC2012's validation images, which lie in one folder without classes.

    ILSVRC2012_val_00000001.JPEG ... ILSVRC2012_val_00050000.JPEG

By default from the list that TFDS ships: wnids in the order of file numbers, 50 of each class. A file given by
`--val_labels` holds lines `name wnid`, or one wnid a line in the order of file numbers. The development kit's
`ILSVRC2012_validation_ground_truth.txt` is refused: its numbers are ids of the kit's own order of classes, not
positions among sorted wnids, and read as such they give wrong labels without a sign of it.
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from data_prep.sources import File, Source
from luab_jax.data import storage
from luab_jax.errors import DataError, UserError

NUM_VAL = 50_000
_HASH = "2707a43f27dc"
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

    def by_class(self, source: Source, label_of: dict[str, int], counts: Counter[str]) -> list[tuple[str, list[File]]]:
        """Files by class, in the order of names; a file without a label is counted and left out."""
        classes: dict[str, list[File]] = {}
        for file in source.files():
            class_id = self.of(file.name)
            if class_id is None:
                counts["files_without_label_ignored"] += 1
            elif class_id not in label_of:
                raise DataError(
                    f"{source.place}/{file.name}: its class {class_id!r} is not in the class list (--classes)"
                )
            else:
                classes.setdefault(class_id, []).append(file)
        return sorted(classes.items())


def lies_flat(source: Source, folder: str) -> bool:
    """Whether this folder holds ILSVRC's validation images without classes."""
    return any(number_of(file.name) for file in source.files(folder))


def read_val_labels(path: str | None) -> ValLabels:
    """The built-in list, or the file of `--val_labels`; raises `DataError`."""
    if path is None:
        return ValLabels(_built_in())
    try:
        lines = [line.split() for line in storage.read_all(path).decode().splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as e:
        raise DataError(f"--val_labels={path}: cannot be read ({e})") from e
    if lines and all(len(line) == 1 and line[0].isdigit() for line in lines):
        raise DataError(
            f"--val_labels={path}: numbers, as in ILSVRC2012_validation_ground_truth.txt, are ids of the development"
            " kit's own order of classes, not labels; leave --val_labels out (the right labels are built in), or give"
            " lines `name wnid`"
        )
    if lines and all(len(line) == 2 for line in lines):
        return ValLabels(by_name={re.sub(r"\.jpe?g$", "", name, flags=re.I): c for name, c in lines}, place=path)
    if len(lines) == NUM_VAL and all(len(line) == 1 for line in lines):
        return ValLabels(tuple(line[0] for line in lines), place=path)
    raise DataError(
        f"--val_labels={path}: {len(lines)} lines, of which the first is {' '.join(lines[0]) if lines else ''!r};"
        f" expected lines `name wnid`, or {NUM_VAL:,} lines with one wnid each"
    )


def _built_in() -> tuple[str, ...]:
    spec = importlib.util.find_spec("tensorflow_datasets")
    if spec is None or spec.origin is None:
        raise UserError("the validation labels come with tensorflow-datasets: pip install tensorflow-datasets")
    path = Path(spec.origin).parent / "datasets" / "imagenet2012" / "validation_labels.txt"
    labels = tuple(path.read_text().split())
    if hashlib.sha256("\n".join(labels).encode()).hexdigest()[:12] != _HASH:
        raise UserError(f"{path}: not the validation labels that this version expects; reinstall the package")
    return labels
