"""Batches out of rows that threads or worker processes make, in order and some ahead."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int

from luab_jax.data.input_speed import Meter
from luab_jax.data.reading import MAX_CHUNK, Reading
from luab_jax.data.slots import Column, Layout, Slots
from luab_jax.data.worker_pool import WorkerPool


@runtime_checkable
class RowMaker(Protocol):
    """What can make rows of a batch; picklable, and safe in threads."""

    def columns(self) -> dict[str, Column]:
        """What a row has."""
        ...

    def fill(self, places: Int[np.ndarray, "n 2"], rows: Mapping[str, np.ndarray], tell: Callable[[], None]) -> Any:
        """Makes the rows of `places`; returns what is known of them beside. Calls `tell` at least after each image."""
        ...


class _Chunk(NamedTuple):
    """Some rows of a batch that are being made."""

    batch: _BatchToBe
    made: Future[Any]


class _BatchToBe(NamedTuple):
    rows: dict[str, np.ndarray]
    num_chunks: int


@runtime_checkable
class Makers(Protocol):
    """Threads or processes that make rows."""

    def submit(self, slot: int, rows: dict[str, np.ndarray], first: int, places: np.ndarray) -> Future[Any]:
        """Has the rows from `first` on made in a slot of which `rows` are the columns."""
        ...

    def close(self) -> None: ...


class Threads:
    """Threads of this process."""

    def __init__(self, maker: RowMaker, count: int, meter: Meter):
        self._maker, self._meter = maker, meter
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="decode")

    def submit(self, slot: int, rows: dict[str, np.ndarray], first: int, places: np.ndarray) -> Future[Any]:
        part = {name: column[first : first + len(places)] for name, column in rows.items()}
        return self._pool.submit(self._fill, places, part)

    def _fill(self, places: np.ndarray, part: dict[str, np.ndarray]) -> Any:
        start = time.perf_counter()
        made = self._maker.fill(places, part, _nothing)
        self._meter.count(len(places), time.perf_counter() - start)
        return made

    def close(self) -> None:
        """Waits for what is being made; what is not begun is dropped."""
        self._pool.shutdown(wait=True, cancel_futures=True)


def _nothing() -> None:
    return None


def batches_of_rows(
    maker: RowMaker,
    places: Iterable[Int[np.ndarray, "b 2"]],
    batch_size: int,
    reading: Reading,
    what: str,
    meter: Meter | None = None,
) -> Generator[tuple[dict[str, np.ndarray], list[Any]], None, None]:
    """For each batch of places its columns, and what `fill` returned of each of its chunks.

    An error is raised where its batch would come. `what` is read: a name for messages of a lost worker.
    """
    layout = Layout(maker.columns(), batch_size)
    slots = Slots(layout)
    meter = meter or Meter()
    makers: Makers
    if reading.num_workers:
        makers = WorkerPool(maker, layout, slots.descriptor, reading, what, meter)
    else:
        makers = Threads(maker, reading.parallel, meter)
    with contextlib.closing(slots), contextlib.closing(makers):
        num_chunks = -(-batch_size // MAX_CHUNK)
        ahead = reading.chunks_ahead(-(-batch_size // num_chunks))
        todo = _submitted(makers, slots, places, num_chunks)
        waiting: deque[_Chunk] = deque()
        while True:
            batch, found = None, []
            for _ in range(num_chunks):
                while len(waiting) < ahead and (chunk := next(todo, None)) is not None:
                    waiting.append(chunk)
                if not waiting:
                    return
                batch, made = waiting.popleft()
                found.append(made.result())
            assert batch is not None
            yield batch.rows, found


def _submitted(
    makers: Makers, slots: Slots, places: Iterable[Int[np.ndarray, "b 2"]], num_chunks: int
) -> Iterator[_Chunk]:
    """Chunk after chunk, each given to the makers when it is asked for."""
    for of_batch in places:
        number, rows = slots.take()
        batch, first = _BatchToBe(rows, num_chunks), 0
        for part in np.array_split(of_batch, num_chunks):
            yield _Chunk(batch, makers.submit(number, rows, first, part))
            first += len(part)
