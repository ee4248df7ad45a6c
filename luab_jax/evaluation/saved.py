"""Predictions on disk: one `.npz` for each split and view, from which every score can be computed again.

DIR/<split of the data>.<view>.npz   logits (float16, less the row's largest), largest (float32), byproduct (float16),
                                     file_names, label, labels, group, click, box, and `about`, a text of JSON

Taking the largest away puts the precision where answers are decided: the largest two keep their order down to a
difference of 6e-8, and a softmax is kept to about 1e-3 of itself. Lower ranks and subsets of the outputs may tie where
they did not, so a score computed again may differ by rounding; its checkpoint has the entry `from_saved_predictions`.
"""

from __future__ import annotations

import dataclasses
import io
import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from etils import epath

from luab_jax.byproducts.targets import Target
from luab_jax.data.dataset import PreparedSplit
from luab_jax.data.transforms import ANY_SIZE, Preprocessing, ResizeFilter, Stored
from luab_jax.errors import DataError, UserError
from luab_jax.evaluation import columns as columns_lib
from luab_jax.evaluation.columns import Columns
from luab_jax.evaluation.predictions import Predictions
from luab_jax.evaluation.suite import View
from luab_jax.evaluation.suite_run import Evaluated

SAVED = "predictions:"
_VERSION = 1
_CHUNK = 4096
"""Images that are read at a time."""


def _path(directory: epath.PathLike, split: PreparedSplit, view: View) -> Path:
    manifest = split.manifest
    return (
        Path(directory) / f"{manifest.dataset}-{manifest.split}-{manifest.fingerprint[:8] or 'tfds'}.{view.value}.npz"
    )


class PredictionWriter:
    """One file, written as predictions come; it has its name once it is whole."""

    def __init__(self, directory: epath.PathLike, split: PreparedSplit, view: View, about: Mapping[str, Any]):
        self._path = _path(directory, split, view)
        self._about = dict(about) | {"saved_version": _VERSION, "fingerprint": split.manifest.fingerprint}
        self._temporary = self._path.with_suffix(".tmp")
        self._num_images = len(split.records)
        self._logits: Any = None
        self._columns: list[dict[str, np.ndarray]] = []
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._zip = zipfile.ZipFile(self._temporary, "w", zipfile.ZIP_STORED)
        except OSError as e:
            raise UserError(f"--predictions: {self._path} cannot be written ({e.strerror or e})") from e

    def add(self, compact: Mapping[str, np.ndarray]) -> None:
        """Of what `compacted` gave, logits go to disk at once, the small columns at the end."""
        columns = dict(compact)
        shifted = columns.pop("logits")
        self._columns.append(columns)
        try:
            if self._logits is None:
                self._logits = self._zip.open("logits.npy", "w", force_zip64=True)
                header = {"descr": "<f2", "fortran_order": False, "shape": (self._num_images, shifted.shape[1])}
                np.lib.format.write_array_header_1_0(self._logits, header)
            self._logits.write(shifted.tobytes())
        except OSError as e:
            raise UserError(f"--predictions: {self._path} cannot be written ({e.strerror or e})") from e

    def __enter__(self) -> PredictionWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Gives the file its name; after an error, or where images are missing, leaves nothing."""
        whole = kind is None and sum(len(columns["label"]) for columns in self._columns) == self._num_images
        try:
            if self._logits is not None:
                self._logits.close()
            if whole:
                self._add_columns()
            self._zip.close()
            if whole:
                self._temporary.replace(self._path)
                return
        except OSError as e:
            if kind is None:
                self._temporary.unlink(missing_ok=True)
                raise UserError(f"--predictions: {self._path} cannot be written ({e.strerror or e})") from e
        self._temporary.unlink(missing_ok=True)

    def _add_columns(self) -> None:
        columns = {name: np.concatenate([part[name] for part in self._columns]) for name in self._columns[0]}
        for name, values in columns.items():
            buffer = io.BytesIO()
            np.save(buffer, values, allow_pickle=False)
            self._zip.writestr(f"{name}.npy", buffer.getvalue(), zipfile.ZIP_DEFLATED)
        self._zip.writestr("about.json", json.dumps(self._about))


def compacted(predictions: Predictions) -> Columns:
    """As the files have it."""
    largest = predictions.logits.max(axis=-1)
    lower = np.maximum(predictions.logits - largest[:, None], np.finfo(np.float16).min)  # what is finite stays it
    columns = {
        "logits": lower.astype(np.float16),
        "largest": largest,
        **columns_lib.of_truths(predictions.truths),
    }
    if predictions.byproduct is not None:
        columns["byproduct"] = predictions.byproduct.astype(np.float16)
    return columns


class SavedModel:
    """Stands for a model and for its predictor, by what it predicted."""

    def __init__(self, directory: epath.PathLike):
        """Raises `UserError` if the folder holds no predictions, or those of several models."""
        self._directory = Path(directory)
        found = sorted(self._directory.glob("*.npz"))
        if not found:
            raise UserError(f"{directory}: holds no saved predictions (*.npz); they are written by --predictions=DIR")
        abouts = [_about(path) for path in found]
        others = [p for p, about in zip(found, abouts, strict=True) if about["checkpoint"] != abouts[0]["checkpoint"]]
        if others:
            raise UserError(f"{directory}: {found[0].name} and {others[0].name} are of different checkpoints")
        about = abouts[0]
        self.name: str = about["name"]
        self.identity: dict[str, Any] = about["checkpoint"] | {"from_saved_predictions": True}
        self.class_list_hash: str = about["class_list_hash"]
        self.num_classes: int = about["num_classes"]
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

    def stream(
        self, split: PreparedSplit, views: Sequence[View], stored: Stored = ANY_SIZE, start: int = 0
    ) -> Iterator[dict[View, Predictions]]:
        """As `Predictor.stream`; raises `DataError` for data that was not predicted, or a file that is damaged."""
        del stored
        for view in views:
            _check_whole(_path(self._directory, split, view), split, view)
        read = {view: self._read(split, view, start) for view in views}
        for parts in zip(*read.values(), strict=True):
            yield dict(zip(read, parts, strict=True))

    def _read(self, split: PreparedSplit, view: View, first: int) -> Iterator[Predictions]:
        path = _path(self._directory, split, view)
        with np.load(path) as archive:
            columns = {name: archive[name] for name in archive.files if name not in ("about.json", "logits")}
        truths = columns_lib.Truths(columns)
        with zipfile.ZipFile(path) as archive, archive.open("logits.npy") as logits:
            np.lib.format.read_magic(logits)
            (num_images, num_outputs), _, _ = np.lib.format.read_array_header_1_0(logits)
            logits.seek(2 * num_outputs * first, io.SEEK_CUR)
            for start in range(first, num_images, _CHUNK):
                rows = slice(start, min(start + _CHUNK, num_images))
                size = 2 * num_outputs * (rows.stop - start)
                shifted = np.frombuffer(logits.read(size), np.float16).reshape(-1, num_outputs)
                byproduct = columns["byproduct"][rows].astype(np.float32) if "byproduct" in columns else None
                values = shifted.astype(np.float32) + columns["largest"][rows, None]
                yield Predictions(values, byproduct, truths[rows], self.target)


_DAMAGE = (OSError, ValueError, KeyError, RuntimeError, EOFError, zlib.error, zipfile.BadZipFile)
"""What zipfile raises for a file whose bytes changed."""


def _check_whole(path: Path, split: PreparedSplit, view: View) -> None:
    """Before any of it counts: who reads from the middle on is not told by the checksum at the end."""
    if not path.exists():
        raise DataError(f"{path}: no saved predictions of {split.directory} as it is now, seen as {view.value}")
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except _DAMAGE as e:
        damaged = f"{type(e).__name__}: {e}"
    if damaged is not None:
        raise DataError(f"{path}: damaged ({damaged}); predict it again with --predictions")


def _about(path: Path) -> dict[str, Any]:
    try:
        with zipfile.ZipFile(path) as archive:
            about = json.loads(archive.read("about.json"))
        if about["saved_version"] != _VERSION:
            raise UserError(f"{path}: version {about['saved_version']}, this version reads {_VERSION}")
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
    }


def preprocessing_json(preprocessing: Preprocessing) -> dict[str, Any]:
    """As JSON has it."""
    fields = dataclasses.asdict(preprocessing) | {"filter": preprocessing.filter.value}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}
