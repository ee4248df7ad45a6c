"""Reads every record again: CRC, schema, image, labels, places, masks, and the shard against index and manifest.

In a directory of TFDS, which has no manifest and another schema, the rest is checked.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import IO

import google_crc32c
import numpy as np

from data_prep.inspect.directory import open_splits
from data_prep.record_check import record_problem
from data_prep.writing.anywhere import run_anywhere
from luab_jax.data import dataset
from luab_jax.data.dataset import PreparedSplit, Shard
from luab_jax.data.tfrecord import FOOTER_BYTES, HEADER_BYTES, frame
from luab_jax.io import storage
from luab_jax.io.console import Progress
from luab_jax.io.storage import Place
from luab_jax.io.wording import counted

MAX_SHOWN = 20
"""Failures of one shard that are listed; all are counted."""


@dataclass(frozen=True, slots=True)
class _Task:
    path: Place
    shard: Shard
    offsets: np.ndarray
    lengths: np.ndarray
    num_classes: int
    of_tfds: bool
    decode: bool

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
        amount = f"{counted(self.records, 'record')} in {counted(self.shards, 'shard')}, {megabytes:,.1f} MB"
        return f"{amount}, read in {self.seconds:,.1f} s ({rate})"

    def failures(self) -> str:
        """How much of it fails; empty if nothing does."""
        if not self.bad_shards:
            return ""
        records = f"{self.bad_records:,} of {self.records:,} records"
        return f"{records}, in {self.bad_shards:,} of {self.shards:,} shards"


def verify(
    directory: Place, *, workers: int, decode: bool = True, beam_options: Sequence[str] | None = None
) -> Checked:
    """Checks all splits of a directory, and decodes every image unless told otherwise.

    By processes of this machine, or with `beam_options` by Beam's runner. Raises `DataError` if there are none.
    """
    start = time.monotonic()
    checked = Checked()
    for split in open_splits(directory):
        tasks = _tasks(split, decode)
        name = split.manifest.split
        with Progress(f"verify {name}", split.manifest.num_records, unit="records") as progress:
            for part in run_anywhere(_verify_shard, tasks, split.directory, workers, beam_options):
                checked.merge(part)
                progress.advance(part.records)
    checked.lines.sort()
    checked.seconds = time.monotonic() - start
    return checked


def _tasks(split: PreparedSplit, decode: bool) -> list[_Task]:
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
            decode,
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
        if problem := problem or record_problem(data, task.num_classes, of_tfds=task.of_tfds, decode=task.decode):
            checked.lines.append(f"{where}: {problem}")
            checked.bad_records += 1
    as_written = checked.num_bytes == task.shard.num_bytes and (task.of_tfds or crc == task.shard.crc32c)
    if not checked.lines and (file.read(1) or not as_written):
        checked.lines.append(
            f"{task.path}: length or CRC of the file is not that of the manifest; prepare this shard again"
        )
