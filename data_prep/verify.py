"""Reads every record of a prepared directory again: CRC, schema, image header, and the shard against its manifest."""

from __future__ import annotations

import functools
import io
from dataclasses import dataclass
from typing import IO

import google_crc32c
import numpy as np
from tensorflow_datasets.proto import tf_example_pb2

from data_prep.images import check_image
from data_prep.parallel import run_tasks
from luab_jax.data import dataset, features, storage
from luab_jax.data.dataset import Shard
from luab_jax.data.storage import Place
from luab_jax.data.tfrecord import FOOTER_BYTES, HEADER_BYTES, frame
from luab_jax.errors import DataError
from luab_jax.progress import Progress

MAX_SHOWN = 20
"""Failures of one shard that are reported."""


@dataclass(frozen=True, slots=True)
class _Task:
    path: Place
    shard: Shard
    offsets: np.ndarray
    lengths: np.ndarray
    num_classes: int

    @property
    def name(self) -> str:
        return self.shard.file_name


def verify(directory: Place, *, workers: int) -> list[str]:
    """Checks all splits of a directory; returns one line per failure, naming shard, record and offset."""
    names = dataset.splits(directory)
    if not names:
        raise DataError(f"{directory}: no prepared split here (no <split>.manifest.json)")
    failures: list[str] = []
    for split in names:
        tasks = _tasks(directory, split)
        total = sum(task.shard.num_records for task in tasks)
        sizes = {task.name: task.shard.num_records for task in tasks}
        with Progress(f"verify {split}", total, unit="records") as progress:
            for name, found in run_tasks(_verify_shard, tasks, workers=workers, name_of=lambda task: task.name):
                failures.extend(found)
                progress.advance(sizes[name])
    return sorted(failures)


def _tasks(directory: Place, split: str) -> list[_Task]:
    manifest = dataset.open_split(directory, split).manifest
    with np.load(io.BytesIO(storage.read_all(dataset.index_path(directory, split)))) as index:
        offsets, lengths = index["offsets"], index["lengths"]
    ends = np.cumsum([shard.num_records for shard in manifest.shards])
    return [
        _Task(
            directory / shard.file_name,
            shard,
            offsets[end - shard.num_records : end],
            lengths[end - shard.num_records : end],
            len(manifest.classes),
        )
        for shard, end in zip(manifest.shards, ends, strict=True)
    ]


def _verify_shard(task: _Task) -> tuple[str, list[str]]:
    try:
        with storage.open_forwards(task.path) as file:
            return task.name, _failures(task, file)
    except OSError as e:
        return task.name, [f"{task.path}: cannot be read ({e.strerror or e})"]


def _failures(task: _Task, file: IO[bytes]) -> list[str]:
    found: list[str] = []
    crc, position = 0, 0
    for index, (offset, length) in enumerate(zip(task.offsets.tolist(), task.lengths.tolist(), strict=True)):
        where = f"{task.path}: record {index} at byte {offset}"
        if offset != position:
            found.append(f"{where}: the index says so, but the record before it ends at byte {position}")
            break
        framed = file.read(HEADER_BYTES + length + FOOTER_BYTES)
        position += len(framed)
        crc = google_crc32c.extend(crc, framed)
        data = framed[HEADER_BYTES:-FOOTER_BYTES]
        if framed != frame(data):
            found.append(f"{where}: fails its CRC, the bytes changed after they were written")
        elif problem := _problem(data, task.num_classes):
            found.append(f"{where}: {problem}")
    rest = len(file.read(1))
    if not found and (rest or position != task.shard.num_bytes or crc != task.shard.crc32c):
        found.append(f"{task.path}: length or CRC of the file is not that of the manifest; prepare this shard again")
    hidden = len(found) - MAX_SHOWN
    return found if hidden <= 0 else [*found[:MAX_SHOWN], f"{task.path}: ... and {hidden} more"]


@functools.cache
def _feature_names() -> frozenset[str]:
    names = set()
    for name, info in features.example_features(["_"]).get_serialized_info().items():
        names |= {f"{name}/{column}" for column in info} if isinstance(info, dict) else {name}
    return frozenset(names)


def _problem(data: bytes, num_classes: int) -> str:
    """What is wrong with one record, or nothing."""
    try:
        record = features.Example(data).record()
        # pyright cannot see into generated code
        names = set(tf_example_pb2.Example.FromString(data).features.feature)  # pyright: ignore[reportAttributeAccessIssue]
        if names != _feature_names():
            return f"fields {sorted(names ^ _feature_names())} are missing or unknown"
        size = check_image(record.image).size
    except DataError as e:
        return str(e)
    except (KeyError, IndexError, ValueError, TypeError) as e:
        return f"does not fit the schema ({type(e).__name__}: {e})"
    if (record.width, record.height) != size:
        return f"{record.file_name}: width and height {record.width} x {record.height}, the image has {size}"
    if not -1 <= record.label < num_classes:
        return f"{record.file_name}: label {record.label}, but there are {num_classes} classes"
    if any(not 0 <= label < num_classes for label in record.labels):
        return f"{record.file_name}: labels {record.labels}, but there are {num_classes} classes"
    return ""
