"""An order that stays within a few shards at a time, for sets larger than the disk that caches them.

An epoch takes all shards in a new order, in blocks of so many, and all records of a block in an order of its own. Each
record comes once an epoch, and the order is a function of the seed alone, as the global one is: the same on any number
of hosts and after any resume. What is lost is distance: two records of one block are never further apart than a block.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator

import numpy as np
from jaxtyping import Int


class BlockShuffle:
    """Safe in threads, and small enough to be handed to a worker."""

    def __init__(self, counts: Int[np.ndarray, " s"], shards_at_a_time: int, seed: int):
        """counts: Records of every shard."""
        self._counts = np.asarray(counts, np.int64)
        self._starts = np.concatenate([[0], np.cumsum(self._counts)])
        self._size, self._seed = shards_at_a_time, seed

    def blocks(self, epoch: int) -> list[list[int]]:
        """Numbers of the shards of each block."""
        order = np.random.default_rng((self._seed, epoch)).permutation(len(self._counts)).tolist()
        return [order[first : first + self._size] for first in range(0, len(order), self._size)]

    def blocks_from(self, element: int) -> Iterator[list[int]]:
        """Those that are read from this element of the endless list on."""
        total = int(self._starts[-1])
        first, place = divmod(element, total)
        for epoch in itertools.count(first):
            for block in self.blocks(epoch):
                place -= int(self._counts[block].sum())
                if place < 0:
                    yield block

    def order(self, epoch: int) -> Int[np.ndarray, " n"]:
        """Record indices in the order of an epoch."""
        return _order(self, epoch)

    def __getitem__(self, element: int) -> int:
        """The record that is the `element`-th of the endless list."""
        epoch, place = divmod(element, int(self._starts[-1]))
        return int(self.order(epoch)[place])

    def _in_blocks(self, epoch: int) -> Iterator[np.ndarray]:
        for number, block in enumerate(self.blocks(epoch)):
            records = np.concatenate([np.arange(self._starts[s], self._starts[s + 1], dtype=np.int32) for s in block])
            yield np.random.default_rng((self._seed, epoch, number)).permutation(records)

    def identity(self) -> tuple[int, int, bytes]:
        return self._seed, self._size, self._counts.tobytes()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BlockShuffle) and self.identity() == other.identity()

    def __hash__(self) -> int:
        return hash(self.identity())


@functools.lru_cache(maxsize=4)
def _order(shuffle: BlockShuffle, epoch: int) -> np.ndarray:
    """Four bytes a record; readers stand in one epoch, or on the border of two."""
    return np.concatenate(list(shuffle._in_blocks(epoch)))
