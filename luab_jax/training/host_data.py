"""The splits of a run as this host reads them: from its cache of shards where it has one, and watched in their bucket.

A bucket is looked at once a minute, by one listing: a shard that was replaced there while the training runs ends it,
since what was read before and what will be read after would be two data sets.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from luab_jax.config import Config
from luab_jax.data.batch import Batch
from luab_jax.data.block_shuffle import BlockShuffle
from luab_jax.data.copies import from_copies
from luab_jax.data.dataset import PreparedSplit
from luab_jax.data.pipeline import block_shuffle, num_cores
from luab_jax.errors import DataError, StorageError
from luab_jax.io import storage
from luab_jax.io.console import say
from luab_jax.io.host_cache import HostCache, parse

LOOK_EVERY_S = 60.0
_PROBES = 4
"""Records that are read to time a request."""


class HostData:
    """Both splits of a run. `start` begins to fetch and to watch, `close` ends it."""

    def __init__(self, config: Config, train_split: PreparedSplit, eval_split: PreparedSplit, *, active: bool = True):
        """Raises `ConfigError` for a cache that cannot be. active: Whether this process tells of what it does."""
        self._active, self._config = active, config
        self.cache: HostCache | None = None
        self._split = train_split
        self._shuffle: BlockShuffle | None = block_shuffle(train_split, config.seed, config.data.shuffle_shards)
        self.train_split, self.eval_split = train_split, eval_split
        if config.data.cache:
            folder, limit = parse(config.data.cache)
            self.cache = HostCache(folder, limit, active=active)
            self.train_split = from_copies(train_split, self.cache)
            self.eval_split = from_copies(eval_split, self.cache)
        self._watch = _Watch(train_split) if storage.is_remote(train_split.directory) else None

    def start(self, start_step: int) -> None:
        """For a training that goes on behind this step."""
        if self._watch is not None:
            self._watch.start()
        if self.cache is not None:
            element = start_step * self._config.batch_size // self._config.augmentation.crops_in_a_row
            self.cache.start(None if self._shuffle is None else self._shuffle.blocks_from(element))
        elif storage.is_remote(self._split.directory) and self._active:
            say(_without_cache(self._split, self._config.data.num_threads or num_cores()))

    def watched(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """The same batches; raises `DataError` at the one before which a shard was found to be another."""
        for batch in batches:
            self.check()
            if self.cache is not None:
                self.cache.saw(self._split.records.shards_of(np.asarray(batch.index)).tolist())
            yield batch

    def check(self) -> None:
        """Raises `DataError` if a shard is not what it was."""
        if self.cache is not None:
            self.cache.check()
        if self._watch is not None:
            self._watch.check()

    def close(self) -> None:
        if self.cache is not None:
            self.cache.close()
        if self._watch is not None:
            self._watch.close()


def _without_cache(split: PreparedSplit, num_threads: int) -> str:
    """What reading will cost, by a few requests."""
    records, start = split.records, time.monotonic()
    places = np.linspace(0, len(records) - 1, _PROBES).astype(int)
    with ThreadPoolExecutor(1) as pool:
        list(pool.map(records.__getitem__, places.tolist()))
    each_s = (time.monotonic() - start) / _PROBES
    return (
        f"{split.directory}: no cache, so a request an image, {1e3 * each_s:.0f} ms each: expected no more than"
        f" {num_threads / each_s:,.0f} images/s with {num_threads} thread(s) on this host. config.data.cache=DIR[:SIZE]"
        " keeps whole shards on its disk"
    )


class _Watch:
    """Looks at a folder of a bucket in the background."""

    def __init__(self, split: PreparedSplit):
        self._directory = split.directory
        self._names = {shard.file_name for shard in split.manifest.shards}
        self._first: dict[str, str] = {}
        self._error: DataError | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep_looking, daemon=True, name="bucket-watch")

    def start(self) -> None:
        self._first = self._versions()
        self._thread.start()

    def _versions(self) -> dict[str, str]:
        listed = storage.listing(self._directory)
        return {name: f"{listed[name].version} {listed[name].size}" for name in self._names & listed.keys()}

    def _keep_looking(self) -> None:
        while not self._ended.wait(LOOK_EVERY_S) and self._error is None:
            try:
                self.look()
            except StorageError:
                continue  # the next look, or a reader, tells of a bucket that is out of reach

    def look(self) -> None:
        """Once, now."""
        now = self._versions()
        other = sorted(name for name, version in self._first.items() if now.get(name) != version)
        if other:
            gone = other[0] not in now
            self._error = DataError(
                f"{self._directory / other[0]}: {'is gone from' if gone else 'was replaced in'} its bucket while the"
                f" training read it ({len(other)} of {len(self._first)} shards are not what they were). Put back the"
                " shards that the run began with, then the same command resumes; or train in another --workdir"
            )

    def check(self) -> None:
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        self._ended.set()
