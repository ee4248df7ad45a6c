"""How hard a host works at reading; nothing of it has any influence on what the batches hold."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

MAX_CHUNK = 32
"""Examples that a thread or a worker makes at a time: one by one, waking the other side for each costs a tenth of the
time of making it, and what is computed for many at once is computed for so many."""
_ROWS_WORTH_STARTING = 4096
"""Workers take seconds to start, in which threads read as many images as this."""


def num_cores() -> int:
    """Cores that this process may use, which in a job is often fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How hard the host works; has no influence on what the batches hold."""

    num_threads: int = 0
    """Decoding threads; 0 takes one per core. Decoding and resizing hold no interpreter lock, the rest does."""
    prefetch_examples: int = 512
    """Decoded examples in waiting: 150 kB each at 224 px."""
    workers: int = 0
    """Decoding processes in place of the threads; -1 takes one per core, 0 none."""
    on_gpu: bool = False
    """JPEGs are decoded by a GPU, which only threads do."""
    hang_s: float = 50.0
    """A worker that finishes no image for so long hangs, which ends the run."""

    @property
    def num_workers(self) -> int:
        return num_cores() if self.workers < 0 else self.workers

    @property
    def parallel(self) -> int:
        """Chunks that are made at a time."""
        return self.num_workers or self.num_threads or num_cores()

    def chunks_ahead(self, chunk: int) -> int:
        """Chunks of so many examples that may wait or be made; everyone has one to work on and one to go on with."""
        return max(2 * self.parallel, self.prefetch_examples // chunk)

    def for_rows(self, rows: int) -> Reading:
        """For a split of which this host reads so many rows once: without workers where threads would be done first."""
        return replace(self, workers=0) if rows < _ROWS_WORTH_STARTING else self
