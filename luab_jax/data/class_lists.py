"""Which class a label number means, and a hash by which two parties can tell that they mean the same."""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path

from etils import epath

from luab_jax.data import label_tables
from luab_jax.data.texts import read_text
from luab_jax.errors import DataError, UserError, reason_of

_IMAGENET_HASH = "385e02404994"
_WNID = re.compile(r"n\d{8} ")
_MAX_BYTES = 64 << 20
"""Of a class list; the 21,841 classes of ImageNet take 0.7 MB with their names."""


@dataclass(frozen=True, slots=True)
class ClassList:
    """Class ids (wnids, folder names) and readable names in label order."""

    ids: tuple[str, ...]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def hash(self) -> str:
        """First 12 hex digits of the SHA-256 of the ids, one a line. Readable names do not count."""
        return hashlib.sha256("\n".join(self.ids).encode()).hexdigest()[:12]

    def label_of(self) -> dict[str, int]:
        return {class_id: label for label, class_id in enumerate(self.ids)}


def imagenet() -> ClassList:
    """The 1,000 classes of ILSVRC2012: wnids in sorted order, the label order of every suite.

    Read from the list that TFDS ships for `imagenet2012`, and checked, so that a changed file cannot change labels.
    """
    path = _in_tfds("imagenet2012", "labels.txt")
    ids = tuple(path.read_text(encoding="utf-8").split())
    classes = ClassList(ids, ids)
    if classes.hash != _IMAGENET_HASH:
        raise UserError(f"{path}: not the list of ILSVRC2012 wnids that this version expects; reinstall the package")
    return classes


def _in_tfds(dataset: str, file_name: str) -> Path:
    """Without an import, which would load the package's datasets."""
    spec = importlib.util.find_spec("tensorflow_datasets")
    if spec is None or spec.origin is None:
        raise UserError("the ImageNet class list comes with tensorflow-datasets: pip install tensorflow-datasets")
    return Path(spec.origin).parent / "datasets" / dataset / file_name


@functools.cache
def readable_names(classes: ClassList) -> tuple[str, ...]:
    """The names for people: those that TFDS ships with SI-Score where ImageNet's list has wnids only.

    Of several for one class the first, unless another class has that too.
    """
    path = _in_tfds("siscore", "labels.py")
    if classes.names != classes.ids or classes.hash != _IMAGENET_HASH or not path.exists():
        return classes.names
    assigned = (node.value for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.Assign))
    lists = (ast.literal_eval(value) for value in assigned if isinstance(value, ast.List))
    of_class = [names for names in lists if len(names) == len(classes)]
    if len(of_class) != 1:
        return classes.names
    first = [names.partition(",")[0] for names in of_class[0]]
    return tuple(short if first.count(short) == 1 else whole for short, whole in zip(first, of_class[0], strict=True))


def in9() -> ClassList:
    """The nine classes of the Backgrounds Challenge, by their folders."""
    return ClassList(tuple(label_tables.IN9), tuple(name[3:] for name in label_tables.IN9))


def sixteen() -> ClassList:
    """The 16 categories of the cue-conflict images."""
    return ClassList(tuple(label_tables.SIXTEEN), tuple(label_tables.SIXTEEN))


def read_class_list(path: epath.PathLike) -> ClassList:
    """Reads `id` or `id TAB name`, one class a line, in label order; `imagenet` names the built-in list.

    A wnid may have a space behind it instead, as in ILSVRC's `LOC_synset_mapping.txt`.
    """
    if str(path) == "imagenet":
        return imagenet()
    path = epath.Path(path)
    try:
        lines = [line for line in read_text(path, limit=_MAX_BYTES).splitlines() if line.strip()]
    except FileNotFoundError as e:
        raise DataError(f"{path}: no such file; expected a class list, lines `id TAB name`") from e
    except (OSError, ValueError) as e:
        raise DataError(f"{path}: cannot be read as a class list ({reason_of(e)}); expected lines `id TAB name`") from e
    pairs = [line.partition("\t" if "\t" in line or not _WNID.match(line) else " ") for line in lines]
    ids = tuple(first.strip() for first, _, _ in pairs)
    if not ids:
        raise DataError(f"{path}: holds no class; expected lines `id TAB name`, in label order")
    if len(set(ids)) < len(ids):
        twice = next(i for i in ids if ids.count(i) > 1)
        raise DataError(f"{path}: class id {twice!r} stands twice; every id is one label")
    return ClassList(ids, tuple(name.strip() or class_id for class_id, (_, _, name) in zip(ids, pairs, strict=True)))
