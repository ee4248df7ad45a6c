"""Reads every record again: CRC, schema, image header, labels, and the shard against its manifest.

In a directory of TFDS, which has no manifest and another schema, the rest is checked.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import IO, Any

import google_crc32c
import numpy as np
from tensorflow_datasets.proto import tf_example_pb2

from data_prep.images import check_image
from data_prep.inspect import open_splits
from data_prep.parallel import run_tasks
from luab_jax.data import dataset, features, storage
from luab_jax.data.dataset import PreparedSplit, Shard
from luab_jax.data.storage import Place
from luab_jax.data.tfrecord import FOOTER_BYTES, HEADER_BYTES, frame
from luab_jax.errors import DataError
from luab_jax.progress import Progress

MAX_SHOWN = 20
"""Failures of one shard that are listed; all are counted."""
_proto: Any = tf_example_pb2
"""Its classes are made at run time, out of a type checker's sight."""


@dataclass(frozen=True, slots=True)
class _Task:
    path: Place
    shard: Shard
    offsets: np.ndarray
    lengths: np.ndarray
    num_classes: int
    of_tfds: bool

    @property
    def name(self) -> str:
        return self.shard.file_name


@dataclass(slots=True)
class Checked:
    """What was read, and what of it fails; that of several shards adds up."""

    records: int = 0
    num_bytes: int = 0
    shards: int = 0
    bad_records: int = 0
    bad_shards: int = 0
    """With a bad record, or not as in the manifest as a whole."""
    lines: list[str] = field(default_factory=list)
    """One for each failure that is listed: shard, record and offset."""
    seconds: float = 0.0

    def merge(self, other: Checked) -> None:
        self.records += other.records
        self.num_bytes += other.num_bytes
        self.shards += other.shards
        self.bad_records += other.bad_records
        self.bad_shards += other.bad_shards
        self.lines += other.lines

    def __str__(self) -> str:
        """How much was read, and how fast."""
        seconds, megabytes = max(self.seconds, 1e-3), self.num_bytes / 1e6
        rate = f"{self.records / seconds:,.0f} records/s, {megabytes / seconds:,.1f} MB/s"
        amount = f"{self.records:,} records in {self.shards:,} shard(s), {megabytes:,.1f} MB"
        return f"{amount}, read in {self.seconds:,.1f} s ({rate})"

    def failures(self) -> str:
        """How much of it fails; empty if nothing does."""
        if not self.bad_shards:
            return ""
        records = f"{self.bad_records:,} of {self.records:,} records"
        return f"{records}, in {self.bad_shards:,} of {self.shards:,} shards"


def verify(directory: Place, *, workers: int) -> Checked:
    """Checks all splits of a directory. Raises `DataError` if there are none."""
    start = time.monotonic()
    checked = Checked()
    for split in open_splits(directory):
        tasks = _tasks(split)
        name = split.manifest.split
        with Progress(f"verify {name}", split.manifest.num_records, unit="records") as progress:
            for part in run_tasks(_verify_shard, tasks, workers=workers, name_of=lambda task: task.name):
                checked.merge(part)
                progress.advance(part.records)
    checked.lines.sort()
    checked.seconds = time.monotonic() - start
    return checked


def _tasks(split: PreparedSplit) -> list[_Task]:
    manifest = split.manifest
    offsets, lengths = split.records.places
    ends = np.cumsum([shard.num_records for shard in manifest.shards])
    return [
        _Task(
            split.directory / shard.file_name,
            shard,
            offsets[end - shard.num_records : end],
            lengths[end - shard.num_records : end],
            len(manifest.classes),
            dataset.is_of_tfds(manifest),
        )
        for shard, end in zip(manifest.shards, ends, strict=True)
    ]


def _verify_shard(task: _Task) -> Checked:
    checked = Checked(records=task.shard.num_records, shards=1)
    try:
        with storage.open_forwards(task.path) as file:
            _check_records(task, file, checked)
    except OSError as e:
        checked.bad_records = checked.records
        checked.lines = [f"{task.path}: cannot be read ({e.strerror or e})"]
    checked.bad_shards = int(bool(checked.lines))
    if (hidden := len(checked.lines) - MAX_SHOWN) > 0:
        checked.lines[MAX_SHOWN:] = [f"{task.path}: ... and {hidden:,} more"]
    return checked


def _check_records(task: _Task, file: IO[bytes], checked: Checked) -> None:
    crc = 0
    for index, (offset, length) in enumerate(zip(task.offsets.tolist(), task.lengths.tolist(), strict=True)):
        where = f"{task.path}: record {index} at byte {offset}"
        if offset != checked.num_bytes:
            checked.lines.append(
                f"{where}: the index says so, but the record before it ends at byte {checked.num_bytes}"
            )
            checked.bad_records += task.shard.num_records - index  # where they are is not known
            break
        framed = file.read(HEADER_BYTES + length + FOOTER_BYTES)
        checked.num_bytes += len(framed)
        crc = google_crc32c.extend(crc, framed)
        data = framed[HEADER_BYTES:-FOOTER_BYTES]
        problem = "fails its CRC, the bytes changed after they were written" if framed != frame(data) else ""
        if problem := problem or _problem(data, task):
            checked.lines.append(f"{where}: {problem}")
            checked.bad_records += 1
    as_written = checked.num_bytes == task.shard.num_bytes and (task.of_tfds or crc == task.shard.crc32c)
    if not checked.lines and (file.read(1) or not as_written):
        checked.lines.append(
            f"{task.path}: length or CRC of the file is not that of the manifest; prepare this shard again"
        )


@functools.cache
def _schema() -> Mapping[str, str]:
    """Every column of a record and its kind of list."""
    record = _proto.Example.FromString(features.encode(features.NO_RECORD))
    return {name: feature.WhichOneof("kind") for name, feature in record.features.feature.items()}


def _problem(data: bytes, task: _Task) -> str:
    """What is wrong with one record, or nothing."""
    try:
        if not task.of_tfds and (mismatch := _mismatch(data)):
            return mismatch
        record = features.Example(data).record()
        size = check_image(record.image).size
    except DataError as e:
        return str(e)
    except (KeyError, IndexError, ValueError, TypeError) as e:
        return f"does not fit the schema ({type(e).__name__}: {e})"
    if (record.width, record.height) != size:
        return f"{record.file_name}: width and height {record.width} x {record.height}, the image has {size}"
    if not -1 <= record.label < task.num_classes:
        return f"{record.file_name}: label {record.label}, but there are {task.num_classes} classes"
    if any(not 0 <= label < task.num_classes for label in record.labels):
        return f"{record.file_name}: labels {record.labels}, but there are {task.num_classes} classes"
    return ""


def _mismatch(data: bytes) -> str:
    """Columns that are not those of the schema. A list of another kind would read as an empty one."""
    try:
        found = _proto.Example.FromString(data).features.feature
    except Exception as e:  # protobuf's DecodeError has no stable import path across its implementations
        return f"not a tf.train.Example: {e}"
    schema = _schema()
    if strangers := sorted(schema.keys() ^ set(found)):
        return f"columns {', '.join(strangers[:5])} are missing or unknown ({len(strangers)} in all)"
    for name, kind in schema.items():
        if found[name].WhichOneof("kind") != kind:
            return f"column {name} is a {found[name].WhichOneof('kind')}, a {kind} is expected"
    return ""
