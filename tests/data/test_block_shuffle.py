"""The order in blocks of shards: every record once an epoch, within a block, a function of seed and place alone."""

from __future__ import annotations

import itertools
import pickle

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from luab_jax.data.block_shuffle import BlockShuffle

Counts = st.lists(st.integers(1, 9), min_size=1, max_size=12)


@given(Counts, st.integers(1, 5), st.integers(0, 3))
def test_an_epoch_has_every_record_once_and_block_by_block(counts: list[int], size: int, epoch: int) -> None:
    shuffle = BlockShuffle(np.asarray(counts), size, seed=7)
    total = sum(counts)
    records = [shuffle[epoch * total + place] for place in range(total)]
    assert sorted(records) == list(range(total))
    shard_of = np.repeat(np.arange(len(counts)), counts)
    blocks = shuffle.blocks(epoch)
    assert sorted(itertools.chain.from_iterable(blocks)) == list(range(len(counts)))
    first = 0
    for block in blocks:
        length = sum(counts[shard] for shard in block)
        assert set(shard_of[records[first : first + length]]) == set(block)
        first += length


@given(Counts, st.integers(1, 5), st.integers(0, 100))
def test_the_blocks_from_an_element_begin_with_its_own(counts: list[int], size: int, element: int) -> None:
    shuffle = BlockShuffle(np.asarray(counts), size, seed=7)
    shard = int(np.searchsorted(np.cumsum(counts), shuffle[element], side="right"))
    assert shard in next(shuffle.blocks_from(element))


def test_epochs_and_seeds_differ_and_copies_do_not() -> None:
    shuffle = BlockShuffle(np.full(8, 10), 2, seed=1)
    assert shuffle.order(0).tolist() != shuffle.order(1).tolist()
    assert shuffle.order(0).tolist() != BlockShuffle(np.full(8, 10), 2, seed=2).order(0).tolist()
    assert pickle.loads(pickle.dumps(shuffle)).order(0).tolist() == shuffle.order(0).tolist()
