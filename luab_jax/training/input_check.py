"""Whether the input or the step is the slower, told once early in a run; and what a loader gives by itself."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

from luab_jax.byproducts.responses import SampleWeight
from luab_jax.byproducts.targets import Target
from luab_jax.config import Config
from luab_jax.data.copies import shards_of
from luab_jax.data.dataset import PreparedSplit
from luab_jax.data.input_speed import InputSpeed, Meter
from luab_jax.errors import StorageError
from luab_jax.io import storage
from luab_jax.io.host_cache import HostCache
from luab_jax.training.batches import reading, training_batches

_BATCH_SIZE = 64
_FIRST, _TIMED = 2, 4
"""The first step that is timed, counted from where the run begins, and how many are."""
_WORTH_TELLING = 50
"""Steps: a shorter run ends before anything could be done about it."""


def probe(config: Config, split: PreparedSplit, seconds: float) -> float:
    """Images/s that this machine's loader gives, measured for so long after its first batch.

    Without targets and weights, whose statistics a first run would have to compute; they cost next to nothing. With
    `config.data.cache` before a bucket it is what a full cache gives, by a copy of one shard.
    """
    none = {"sample_weight": SampleWeight.NONE, "target_sample_weight": SampleWeight.NONE}
    plain = dataclasses.replace(config.byproduct, target=Target.NONE, more=(), **none)
    data = dataclasses.replace(config.data, shuffle_shards=0)
    alone = dataclasses.replace(config, batch_size=_BATCH_SIZE, byproduct=plain, data=data)
    with contextlib.ExitStack() as stack:
        if config.data.cache and storage.is_remote(split.directory):
            split = stack.enter_context(_first_shard_on_disk(split))
        found = training_batches(alone, split, num_classes=len(split.manifest.classes))
        batches = stack.enter_context(contextlib.closing(found))
        next(batches)
        start, count = time.monotonic(), 0
        while (passed := time.monotonic() - start) < seconds or not count:
            next(batches)
            count += _BATCH_SIZE
    return count / passed if passed else 0.0


@contextlib.contextmanager
def _first_shard_on_disk(split: PreparedSplit) -> Iterator[PreparedSplit]:
    """The records of the first shard that has any, and while it is entered a copy of them in a temporary folder.

    Raises `StorageError` where the shard cannot be copied as a whole: read from the bucket, it would not tell what a
    full cache gives. Raises `DataError` if it is not the manifest's.
    """
    number = next((n for n, shard in enumerate(split.manifest.shards) if shard.num_records), 0)
    first = sum(shard.num_records for shard in split.manifest.shards[:number])
    records = split.records.take(range(first, first + split.manifest.shards[number].num_records))
    with tempfile.TemporaryDirectory() as folder, contextlib.closing(HostCache(Path(folder), active=False)) as cache:
        (copy,) = cache.add([shards_of(split)[number]])
        cache.start()
        cache.wait()
        cache.check()
        if not cache.num_whole():
            raise StorageError(
                f"{folder}: a shard of {split.directory} could not be copied there; free some space, or set TMPDIR"
            )
        yield dataclasses.replace(split, records=records.with_copies([copy] * len(records)))


def root_of(config: Config) -> str:
    """Where images are read from; nothing where a cache stands before it."""
    return "" if config.data.cache else config.data.root


class InputCheck:
    """Waits for a few early steps to know how long one takes, then says whether the loader keeps up."""

    def __init__(self, config: Config, meter: Meter, *, start_step: int, total_steps: int):
        self._config, self._meter = config, meter
        self._active = config.log.input_check and total_steps - start_step >= _WORTH_TELLING
        self._start = start_step
        self._seconds: list[float] = []
        self._dispatched = 0.0

    def before(self) -> None:
        """The batch is there; the step is about to be dispatched."""
        self._dispatched = time.monotonic()

    def after(self, step: int, outputs: Any) -> InputSpeed | None:
        """`step` was dispatched. What was found, once."""
        number = step - self._start
        if not self._active or number >= _FIRST + _TIMED:
            return None
        jax.block_until_ready(outputs)
        if number >= _FIRST:
            self._seconds.append(time.monotonic() - self._dispatched)
        if number < _FIRST + _TIMED - 1:
            return None
        how = reading(self._config)
        given = self._meter.images_per_s(how.parallel)
        if given is None:
            return None
        needed = self._config.batch_size / jax.process_count() / min(self._seconds)
        return InputSpeed(needed=needed, given=given, reading=how, root=root_of(self._config))
