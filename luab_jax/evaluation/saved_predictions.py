"""Predictions on disk: one `.npz` for each split and view, from which every score can be computed again.

DIR/<split of the data>.<view>.npz   logits (float16, less the row's largest), largest (float32), byproduct (float16;
                                     of heads after the first byproduct.box and so on),
                                     file_names, group (texts), label, labels, num_labels, click, box; about.json

`numpy.load` alone reads them: row i is the image `file_names[i]`, its logits are `logits[i] + largest[i]`, its set of
labels is `numpy.split(labels, numpy.cumsum(num_labels)[:-1])[i]`, and coordinates that are not known are NaN. Version 1
had its texts as one array of UTF-8 bytes, each ended by a zero, and is still read.

Taking the largest away puts the precision where answers are decided: the largest two keep their order down to a
difference of 6e-8, and a softmax is kept to about 1e-3 of itself. Lower ranks and subsets of the outputs may tie where
they did not, so a score computed again may differ by rounding; its checkpoint has the entry `from_saved_predictions`.

`resume` has a store of its own, on purpose. There a step is a file, so that a kill costs no more than the step, with
the columns to which a suite reduces its predictions, and all of it is deleted at the end; here a split is one file that
people keep. Neither is parquet, which numpy cannot read: for 10,240 images of 1,000 classes it took as much space, 70
ms to write for 30, and 19 ms to read for 37 (`python -m benchmarks.prediction_store`); to predict them takes minutes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
from etils import epath

from luab_jax.byproducts.targets import Target
from luab_jax.data.class_lists import ClassList
from luab_jax.data.dataset import PreparedSplit
from luab_jax.data.transforms import ANY_SIZE, Preprocessing, ResizeFilter, Stored
from luab_jax.errors import DataError, UserError, option
from luab_jax.evaluation import columns as columns_lib
from luab_jax.evaluation.accumulator import Evaluated
from luab_jax.evaluation.columns import Columns
from luab_jax.evaluation.predictions import Predictions
from luab_jax.evaluation.suite import Need, View
from luab_jax.io import storage
from luab_jax.io.atomic import atomic_file, write_errors
from luab_jax.results.answers import ANSWERS_ENDING

SAVED = "predictions:"
_VERSION = 2
_READ_VERSIONS = (1, 2)
_TEXTS = ("file_names", "group")
_CHUNK = 4096
"""Images that are read at a time."""


def _path(directory: epath.PathLike, split: PreparedSplit, view: View) -> storage.Place:
    manifest = split.manifest
    name = f"{manifest.dataset}-{manifest.split}-{manifest.fingerprint[:8]}.{view.value}.npz"
    return storage.place(os.fspath(directory)) / name


class PredictionWriter:
    """One file, written as predictions come; it has its name once it is whole."""

    def __init__(self, directory: epath.PathLike, split: PreparedSplit, view: View, about: Mapping[str, Any]):
        self._path = _path(directory, split, view)
        self._about = dict(about) | {"saved_version": _VERSION, "fingerprint": split.manifest.fingerprint}
        self._num_images = len(split.records)
        self._logits: Any = None
        self._columns: list[dict[str, np.ndarray]] = []
        self._opened = ExitStack()
        with self._opened as opened:
            temporary = opened.enter_context(atomic_file(self._path, make_folder=True))
            self._zip = opened.enter_context(zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED))
            self._opened = opened.pop_all()

    def add(self, compact: Mapping[str, np.ndarray]) -> None:
        """Of what `compacted` gave, logits go to disk at once, the small columns at the end."""
        columns = dict(compact)
        shifted = columns.pop("logits")
        self._columns.append(columns)
        with write_errors(self._path):
            if self._logits is None:
                self._logits = self._zip.open("logits.npy", "w", force_zip64=True)
                header = {"descr": "<f2", "fortran_order": False, "shape": (self._num_images, shifted.shape[1])}
                np.lib.format.write_array_header_1_0(self._logits, header)
            self._logits.write(shifted.tobytes())

    def __enter__(self) -> PredictionWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Gives the file its name; after an error, or where images are missing, leaves nothing."""
        whole = kind is None and sum(len(columns["label"]) for columns in self._columns) == self._num_images
        if not whole:
            self._discard()
            return
        with self._opened:
            self._logits.close()
            self._add_columns()

    def _discard(self) -> None:
        with contextlib.suppress(Exception), self._opened:
            if self._logits is not None:
                self._logits.close()
            raise _DiscardedError

    def _add_columns(self) -> None:
        columns = {name: np.concatenate([part[name] for part in self._columns]) for name in self._columns[0]}
        columns |= {name: np.asarray(columns_lib.as_texts(columns[name]), np.str_) for name in _TEXTS}
        for name, values in columns.items():
            entry = zipfile.ZipInfo(f"{name}.npy")
            entry.compress_type = zipfile.ZIP_DEFLATED
            with self._zip.open(entry, "w", force_zip64=True) as file:
                np.save(file, values, allow_pickle=False)
        self._zip.writestr("about.json", json.dumps(self._about))


class _DiscardedError(Exception):
    """Makes `atomic_file` leave nothing."""


def compacted(predictions: Predictions) -> Columns:
    """As the files have it."""
    largest = predictions.logits.max(axis=-1)
    lower = np.maximum(predictions.logits - largest[:, None], np.finfo(np.float16).min)  # what is finite stays it
    columns = {
        "logits": lower.astype(np.float16),
        "largest": largest,
        **columns_lib.of_truths(predictions.truths),
    }
    return columns | {name: values.astype(np.float16) for name, values in columns_lib.of_heads(predictions).items()}


class SavedModel:
    """Stands for a model and for its predictor, by what it predicted."""

    def __init__(self, directory: epath.PathLike):
        """Raises `UserError` if the folder holds no predictions, or those of several models."""
        self._directory = storage.place(os.fspath(directory))
        names = sorted(name for name in storage.names(self._directory) if name.endswith(".npz"))
        # Results may be kept in the same folder, and their answers beside them.
        found = [self._directory / name for name in names if not name.endswith(ANSWERS_ENDING)]
        if not found:
            raise UserError(
                f"{directory}: holds no saved predictions (*.npz); they are written by {option('predictions', 'DIR')}"
            )
        abouts = [_about(path) for path in found]
        others = [p for p, about in zip(found, abouts, strict=True) if about["checkpoint"] != abouts[0]["checkpoint"]]
        if others:
            raise UserError(f"{directory}: {found[0].name} and {others[0].name} are of different checkpoints")
        about = abouts[0]
        self.name: str = about["name"]
        self.identity: dict[str, Any] = about["checkpoint"] | {"from_saved_predictions": True}
        self.class_list_hash: str = about["class_list_hash"]
        self.num_classes: int = about["num_classes"]
        stated_classes = about.get("classes")
        self.classes = None if stated_classes is None else ClassList(*map(tuple, stated_classes))
        self.has_byproduct_head: bool = about["has_byproduct_head"]
        self.label_sets: bool = about["label_sets"]
        self.target = None if about["target"] is None else Target(about["target"])
        stated = about["preprocessing"]
        self.preprocessing = Preprocessing(
            image_size=stated["image_size"],
            resize_side=stated["resize_side"],
            filter=ResizeFilter(stated["filter"]),
            mean=tuple(stated["mean"]),
            std=tuple(stated["std"]),
        )
        self.sides = frozenset(about.get("sides", [self.preprocessing.image_size]))
        self._fonts = {path.name: about["font"] for path, about in zip(found, abouts, strict=True) if "font" in about}
        """Of the watermark in files of `View.WATERMARK`, by its digest."""

    @property
    def gives(self) -> frozenset[Need]:
        found = {Need.BYPRODUCT_HEAD: self.has_byproduct_head, Need.FONT: bool(self._fonts)}
        return frozenset(need for need, given in found.items() if given)

    def side_for(self, stored: Stored) -> int:
        """As of a `LoadedModel`."""
        if stored.side is not None and stored.side in self.sides:
            return stored.side
        return self.preprocessing.image_size

    def check_saved(self, split: PreparedSplit, view: View) -> None:
        """Raises `DataError` for images that were not predicted in this view."""
        path = _path(self._directory, split, view)
        if storage.facts(path) is None:
            raise DataError(f"{path}: no saved predictions of {split.directory} as it is now, seen as {view.value}")

    def font_of(self, split: PreparedSplit) -> str | None:
        """As `HasSaved` has it."""
        return self._fonts.get(_path(self._directory, split, View.WATERMARK).name)

    def stream(
        self, split: PreparedSplit, views: Sequence[View], stored: Stored = ANY_SIZE, start: int = 0
    ) -> Iterator[dict[View, Predictions]]:
        """As `Predictor.stream`; raises `DataError` for data that was not predicted, or a file that is damaged."""
        del stored
        for view in views:
            self.check_saved(split, view)
            _check_whole(_path(self._directory, split, view))
        read = {view: self._read(split, view, start) for view in views}
        for parts in zip(*read.values(), strict=True):
            yield dict(zip(read, parts, strict=True))

    def _read(self, split: PreparedSplit, view: View, first: int) -> Iterator[Predictions]:
        path = _path(self._directory, split, view)
        with storage.open_forwards(path) as file, np.load(file) as archive:
            columns = {name: archive[name] for name in archive.files if name not in ("about.json", "logits")}
        truths = columns_lib.Truths(columns)
        with (
            storage.open_forwards(path) as file,
            zipfile.ZipFile(file) as archive,
            archive.open("logits.npy") as logits,
        ):
            np.lib.format.read_magic(logits)
            (num_images, num_outputs), _, _ = np.lib.format.read_array_header_1_0(logits)
            logits.seek(2 * num_outputs * first, io.SEEK_CUR)
            for start in range(first, num_images, _CHUNK):
                rows = slice(start, min(start + _CHUNK, num_images))
                size = 2 * num_outputs * (rows.stop - start)
                shifted = np.frombuffer(logits.read(size), np.float16).reshape(-1, num_outputs)
                byproduct = columns["byproduct"][rows].astype(np.float32) if "byproduct" in columns else None
                values = shifted.astype(np.float32) + columns["largest"][rows, None]
                more = {
                    name: column[rows].astype(np.float32) for name, column in columns_lib.further_heads(columns).items()
                }
                yield Predictions(values, byproduct, truths[rows], self.target, more)


_DAMAGE = (OSError, ValueError, KeyError, TypeError, RuntimeError, EOFError, zlib.error, zipfile.BadZipFile)
"""What zipfile raises for a file whose bytes changed."""


def _check_whole(path: storage.Place) -> None:
    """Before any of it counts: who reads from the middle on is not told by the checksum at the end."""
    try:
        with storage.open_forwards(path) as file, zipfile.ZipFile(file) as archive:
            damaged = archive.testzip()
    except _DAMAGE as e:
        damaged = f"{type(e).__name__}: {e}"
    if damaged is not None:
        raise DataError(f"{path}: damaged ({damaged}); predict it again with {option('predictions')}")


def _about(path: storage.Place) -> dict[str, Any]:
    try:
        with storage.open_forwards(path) as file, zipfile.ZipFile(file) as archive:
            about = json.loads(archive.read("about.json"))
        if about["saved_version"] not in _READ_VERSIONS:
            raise UserError(f"{path}: version {about['saved_version']}, this version reads 1 to {_VERSION}")
    except _DAMAGE as e:
        raise UserError(f"{path}: not saved predictions of luab_jax.evaluate ({type(e).__name__}: {e})") from e
    return about


def describe(loaded: Evaluated) -> dict[str, Any]:
    """What the files say of the model."""
    return {
        "name": loaded.name,
        "checkpoint": loaded.identity,
        "class_list_hash": loaded.class_list_hash,
        "num_classes": loaded.num_classes,
        "has_byproduct_head": loaded.has_byproduct_head,
        "label_sets": loaded.label_sets,
        "target": None if loaded.target is None else loaded.target.value,
        "preprocessing": preprocessing_json(loaded.preprocessing),
        "sides": sorted(loaded.sides),
        "classes": None if loaded.classes is None else [loaded.classes.ids, loaded.classes.names],
    }


def preprocessing_json(preprocessing: Preprocessing) -> dict[str, Any]:
    """As JSON has it."""
    fields = dataclasses.asdict(preprocessing) | {"filter": preprocessing.filter.value}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}
