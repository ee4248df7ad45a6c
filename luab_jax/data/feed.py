"""Batches on the device before the step asks for them.

A thread of its own takes host batches and starts their transfer, so that the loop waits only when the host is too slow,
and knows for how long. It hands every host's rows to one global array, which `grain.experimental.device_put` does not.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding

from luab_jax.data.batch import Batch


def to_global(batch: Batch, sharding: NamedSharding) -> Batch:
    """This host's rows as part of the global batch."""
    return jax.tree.map(lambda array: jax.make_array_from_process_local_data(sharding, array), batch)


class Feed:
    """Iterates over (global batch, this host's record indices); an error of the pipeline is raised at its batch."""

    def __init__(self, batches: Iterator[Batch], sharding: NamedSharding, depth: int = 2):
        """`depth` batches wait on the device."""
        self._queue: queue.Queue[Any] = queue.Queue(depth)
        self._stop = threading.Event()
        self._ended: BaseException | None = None
        self.waited_s = 0.0
        """Seconds that the consumer spent waiting, ever."""
        self._thread = threading.Thread(target=self._fill, args=(batches, sharding), daemon=True, name="feed")
        self._thread.start()

    def _fill(self, batches: Iterator[Batch], sharding: NamedSharding) -> None:
        try:
            for batch in batches:
                # A copy: a view of the indices would keep the memory of the whole batch from being used again.
                self._put((to_global(batch, sharding), batch.index.copy()))
                if self._stop.is_set():
                    return
            self._put(StopIteration())
        except BaseException as e:  # the consumer's thread raises it
            self._put(e)

    def _put(self, item: Any) -> None:
        while not self._stop.is_set():
            try:
                return self._queue.put(item, timeout=0.1)
            except queue.Full:
                continue
        return None

    def __iter__(self) -> Feed:
        return self

    def __next__(self) -> tuple[Batch, np.ndarray]:
        if self._ended is not None:
            raise self._ended
        start = time.monotonic()
        item = self._queue.get()
        self.waited_s += time.monotonic() - start
        if isinstance(item, BaseException):
            self._ended = item
            self.close()
            raise item
        return item

    def close(self) -> None:
        """Ends the thread; safe to call twice."""
        self._stop.set()
        if self._thread is not threading.current_thread():
            self._thread.join(timeout=10)
