"""Every image three times in a row, each in a crop of its own; the same on any number of hosts, after any stop."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest

from luab_jax.byproducts.targets import Target
from luab_jax.data.batch import Batch
from luab_jax.data.dataset import PreparedSplit
from luab_jax.data.pipeline import Reading, train_batches
from tests.data.test_pipeline import AUGMENTATION, NUM_RECORDS, assert_same_batches, record, write_split

REPEATS, BATCH, STEPS = 3, 12, 13
"""Thirteen batches of twelve are twelve epochs of thirteen images."""


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> PreparedSplit:
    return write_split(tmp_path_factory.mktemp("split"), [record(i) for i in range(NUM_RECORDS)])


def batches(split: PreparedSplit, steps: int = STEPS, repeats: int = REPEATS, **where: int) -> list[Batch]:
    endless = train_batches(
        split,
        augmentation=dataclasses.replace(AUGMENTATION, repeats=repeats),
        target=Target.CLICK_LAST,
        seed=3,
        batch_size=BATCH,
        reading=Reading(num_threads=2, prefetch_examples=8),
        **where,
    )
    return [next(endless) for _ in range(steps)]


def test_an_epoch_is_the_first_third_of_its_order_thrice(split: PreparedSplit) -> None:
    """DeiT's sampler repeats every index of the shuffled list and keeps as many as there are images."""
    repeated = np.concatenate([batch.index for batch in batches(split)]).reshape(-1, NUM_RECORDS)
    plain = np.concatenate([batch.index for batch in batches(split, repeats=1)]).reshape(-1, NUM_RECORDS)
    for epoch, order in zip(repeated, plain, strict=True):
        assert epoch.tolist() == np.repeat(order, REPEATS)[:NUM_RECORDS].tolist()
    assert len(np.unique(repeated)) == NUM_RECORDS


def test_every_repetition_is_another_crop(split: PreparedSplit) -> None:
    first = batches(split, 1)[0]
    clicked = first.valid[:3, 0]
    assert len(set(first.index[:3].tolist())) == 1
    if clicked.all():
        assert len({tuple(point) for point in first.targets[:3, 0].tolist()}) == 3


@pytest.mark.parametrize("processes", [2, 3, 4])
def test_hosts_share_the_global_batch(split: PreparedSplit, processes: int) -> None:
    whole = batches(split, 4)
    for host in range(processes):
        mine = batches(split, 4, process_index=host, process_count=processes)
        expected = [jax.tree.map(lambda rows, host=host: rows[host::processes], batch) for batch in whole]
        assert_same_batches(mine, expected)


def test_a_resumed_run_continues_where_it_stopped(split: PreparedSplit) -> None:
    assert_same_batches(batches(split, 3, start_step=5), batches(split)[5:8])
    assert_same_batches(
        batches(split, 1, start_step=6, process_index=1, process_count=2),
        batches(split, 7, process_index=1, process_count=2)[6:],
    )
