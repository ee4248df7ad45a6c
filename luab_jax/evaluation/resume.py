"""What an evaluation that was not finished has computed, beside its results.

OUT.unfinished/<work>-<key>/<from>-<to>.npz   columns that join end to end, of the units (images ...) `from` to `to`

The key is of all that decides the columns: checkpoint, preprocessing, data, versions. A file has its name only once it
is whole, so that work which is killed at any moment goes on from the last one. Finished work is removed; what came
before a record that cannot be read stays, for the day when its shard is whole again.

A folder that cannot be read or written is a `StorageError`. With several hosts the first one, which alone writes, may
be the only one that knows; it goes on, as the others predict together with it, until all of them ask `Work.settle`.

`saved_predictions` says why kept predictions have a store of their own.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import json
import re
import time
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from etils import epath
from jax.experimental import multihost_utils

from luab_jax.data.dataset import PreparedSplit
from luab_jax.errors import CheckpointError, DataError, ShardError, StorageError
from luab_jax.evaluation.columns import Columns, joined
from luab_jax.evaluation.own_storage import agreed, of_any_host
from luab_jax.evaluation.shared_decoding import exchange
from luab_jax.io import storage
from luab_jax.io.atomic import write_bytes
from luab_jax.io.console import say

FLUSH_S = 20.0
"""So often what is new is written: less than a minute of work is lost, also where a batch takes long."""


_VERSION = 2
_SECONDS = "seconds"
_SETTLE_EVERY = 32
"""Calls of `Work.add`: several hosts exchange then whether one of them cannot write."""
_STEPS = itertools.count(1)
_STEP = re.compile(r"\d+-\d+\.npz")


class Step(NamedTuple):
    """Units `start` to `stop`, and what was kept of them."""

    start: int
    stop: int
    columns: Columns


class Work:
    """One piece of work, done unit by unit in an order that never changes. With several hosts the first one writes.

    A context manager: what waits to be written is written on leaving, by Ctrl-C too. Where a shard is broken, the error
    tells of it; where the model or the whole of the data is no good, nothing is kept.
    """

    def __init__(self, folder: epath.Path | None = None, title: str = "", total: int | None = None):
        """Without a folder nothing is kept; `total` is how many units there are, if that is known."""
        self._folder = folder
        self._title = title
        self.total = total
        """Number of units. Procedures whose units are not records set it."""
        self._unit = "images"
        self._waiting: list[Step] = []
        self._reached = 0
        self.seconds = 0.0
        """That the steps of earlier runs took, of those that `done` gave."""
        self._written_at = self._added_at = time.monotonic()
        self.failed: StorageError | None = None
        """That what is kept, or the predictions beside it, could not be read, written or removed."""
        self._num_added = 0

    def expect(self, total: int | None, unit: str) -> None:
        """Number of units and what they are called (in the plural), where they are not the records; None: unknown."""
        self.total, self._unit = total, unit

    def done(self) -> Iterator[Step]:
        """The steps of earlier runs, from unit 0 on without a gap; `add` goes on after the last that was taken.

        Raises `StorageError`, on all hosts.
        """
        if self._folder is None:
            return
        with self._noting(), agreed():
            by_start = _names_by_start(self._folder)
        while True:
            name = by_start.get(str(self._reached))
            with self._noting(), agreed():
                columns = None if name is None else _read(self._folder / name)
            if len(set(exchange(None if columns is None else name))) > 1 or name is None or columns is None:
                break  # what one host cannot read is computed by all
            start, self._reached = self._reached, int(name.removesuffix(".npz").partition("-")[2])
            self.seconds += float(columns.pop(_SECONDS).sum())
            yield Step(start, self._reached, columns)
        self._added_at = time.monotonic()
        if self._reached:
            say(f"{self._title}: going on after {self._reached:,} {self._unit}", active=jax.process_index() == 0)

    def add(self, count: int, columns: Mapping[str, np.ndarray]) -> None:
        """What is kept of the next `count` units. Raises `StorageError`, on all hosts."""
        if self._folder is None:
            return
        if self._waiting and self._waiting[-1].columns.keys() != {*columns, _SECONDS}:
            self.flush()
        start = self._waiting[-1].stop if self._waiting else self._reached
        now = time.monotonic()
        seconds, self._added_at = np.asarray([now - self._added_at]), now
        self._waiting.append(Step(start, start + count, {**columns, _SECONDS: seconds}))
        if now - self._written_at >= FLUSH_S:
            self.flush()
        # Several hosts come here as often; a host that is told to stop stops all of them, after the same step.
        if jax.process_count() > 1 and multihost_utils.reached_preemption_sync_point(next(_STEPS)):
            raise KeyboardInterrupt
        self._num_added += 1
        if self._num_added % _SETTLE_EVERY == 0:
            self.settle()

    def flush(self) -> None:
        """Writes what waits as one file. Raises `StorageError` where there is one host."""
        if not self._waiting:
            return
        start, stop = self._waiting[0].start, self._waiting[-1].stop
        if jax.process_index() == 0:
            with self._setting_aside():
                self._write(f"{start}-{stop}.npz", joined([step.columns for step in self._waiting]))
        self._waiting, self._reached, self._written_at = [], stop, time.monotonic()

    def settle(self) -> None:
        """Raises on all hosts what could not be written or removed on one. To be called on all of them alike."""
        self.failed = of_any_host(self.failed)
        if self.failed is not None:
            raise self.failed

    @contextlib.contextmanager
    def _noting(self) -> Iterator[None]:
        try:
            yield
        except StorageError as e:
            self.failed = e
            raise

    @contextlib.contextmanager
    def _setting_aside(self) -> Iterator[None]:
        """Other hosts cannot know of an error here before `settle`, and would wait for this one."""
        try:
            with self._noting():
                yield
        except StorageError:
            if jax.process_count() == 1:
                raise

    def _write(self, name: str, columns: Columns) -> None:
        assert self._folder is not None
        buffer = io.BytesIO()
        np.savez(buffer, **columns)  # pyright: ignore[reportArgumentType]
        write_bytes(self._folder / name, buffer.getvalue(), make_folder=True)

    def remove(self) -> None:
        """Forgets all: it is in the results, or of no use. Raises `StorageError` where there is one host."""
        self._waiting, self._reached, self.seconds = [], 0, 0.0
        if self._folder is not None and jax.process_index() == 0:
            with self._setting_aside():
                storage.remove_folder(self._folder)

    def __enter__(self) -> Work:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.flush()
        if isinstance(error, CheckpointError) or (isinstance(error, DataError) and self._reached == self.total):
            self.remove()
        elif isinstance(error, ShardError) and self._reached:
            raise ShardError(
                f"{error}. What was computed of the {self._reached:,} {self._unit} before is kept: once the shard is"
                " whole again, the same command goes on after them"
            ) from error


class Unfinished:
    """All work of one results file that was begun."""

    def __init__(self, results: epath.Path | None, facts: Mapping[str, Any]):
        """`facts` are those of the checkpoint. Without a results file nothing is kept."""
        self._folder = None if results is None else results.with_name(f"{results.name}.unfinished")
        self._facts = facts

    def work(self, name: str, splits: Mapping[str, PreparedSplit], **facts: Any) -> Work:
        """On some data; `facts` are what else decides its columns."""
        data = {part: _data_facts(split) for part, split in splits.items()}
        text = json.dumps([_VERSION, self._facts, name, data, facts], sort_keys=True, default=str)
        key = hashlib.sha256(text.encode()).hexdigest()[:12]
        folder = None if self._folder is None else self._folder / f"{name}-{key}"
        return Work(folder, name, sum(len(split.records) for split in splits.values()))

    def tidy(self) -> None:
        """Leaves no empty folder, which buckets have none of. Work that was not finished, of other suites or of broken
        data, stays for its day."""
        if jax.process_index() == 0 and self._folder is not None and not storage.is_remote(self._folder):
            with contextlib.suppress(OSError):  # something is in it, or it is not there
                Path(self._folder).rmdir()


def _data_facts(split: PreparedSplit) -> list[Any]:
    """The shards too: a preparation's fingerprint is of what it read."""
    manifest = split.manifest
    shards = [(shard.file_name, shard.num_records, shard.num_bytes, shard.crc32c) for shard in manifest.shards]
    return [manifest.dataset, manifest.split, manifest.fingerprint, shards]


def _names_by_start(folder: epath.Path) -> dict[str, str]:
    try:
        return {name.partition("-")[0]: name for name in sorted(storage.names(folder)) if _STEP.fullmatch(name)}
    except OSError as e:
        raise StorageError(f"{folder}: cannot be listed ({e.strerror}); what was kept there is needed") from e


def _read(path: epath.Path) -> Columns | None:
    """None, with a line, of a file that a crash of the machine damaged. Raises `StorageError` of a bucket."""
    try:
        with np.load(io.BytesIO(storage.read_all(path))) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as e:
        say(f"{path}: cannot be read ({e}); what it held is computed again")
        return None
