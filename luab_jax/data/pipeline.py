"""Batches from a prepared split; Grain says which records come when.

Training reads an endless list whose position is a function of the step: element i is example `shuffle(i mod n)` of
epoch i div n, augmented by a generator seeded with i. Where every image is repeated r times it is example
`shuffle((i mod n) div r)`: r crops in a row of the first n / r images of each epoch's order. Host p of h takes the
elements p, p + h, ... of it, so the same seed gives the same global batches on any number of hosts, and a resumed run
continues by slicing.

Evaluation reads every record once, in order, padded to whole batches; `mask` tells the padding.

Rows are made by threads or by worker processes (`rows.py`), some at a time, in memory of whole batches. Grain's own
threads hand over one element at a time, each an array of its own that is stacked afterwards.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Generator, Iterator, Sequence

import grain
import numpy as np
from jaxtyping import Int

from luab_jax.byproducts.kinds import DEFAULT_SETTINGS, TargetSettings
from luab_jax.byproducts.responses import SampleWeight
from luab_jax.byproducts.targets import Target
from luab_jax.data.batch import Batch
from luab_jax.data.block_shuffle import BlockShuffle
from luab_jax.data.dataset import PreparedSplit
from luab_jax.data.evaluation_rows import EvaluationRows, Truth
from luab_jax.data.input_speed import Meter
from luab_jax.data.random_elements import ElementGenerators
from luab_jax.data.reading import Reading, num_cores
from luab_jax.data.rows import batches_of_rows
from luab_jax.data.training_rows import Augmentation, LabelSets, TrainingRows
from luab_jax.data.transforms import ANY_SIZE, Preprocessing, Stored
from luab_jax.errors import DataError

__all__ = [
    "Augmentation",
    "LabelSets",
    "Reading",
    "Truth",
    "block_shuffle",
    "derived_seed",
    "eval_batches",
    "num_cores",
    "train_batches",
]


def derived_seed(seed: int, purpose: str) -> int:
    """A 32-bit seed for one purpose, so that neighbouring run seeds share no stream.

    Grain shuffles epoch e with seed + e: with plain seeds, run 1 would begin with the second epoch of run 0.
    """
    return int.from_bytes(hashlib.blake2b(f"{seed}/{purpose}".encode(), digest_size=4).digest(), "little")


def block_shuffle(split: PreparedSplit, seed: int, shuffle_shards: int) -> BlockShuffle | None:
    """The order of a training in blocks of so many shards; None for 0, which shuffles all of them."""
    if not shuffle_shards:
        return None
    return BlockShuffle(split.records.counts, shuffle_shards, derived_seed(seed, "shuffle"))


def train_batches(
    split: PreparedSplit,
    *,
    augmentation: Augmentation,
    target: Target,
    seed: int,
    label_sets: LabelSets | None = None,
    settings: TargetSettings = DEFAULT_SETTINGS,
    weighting: SampleWeight = SampleWeight.NONE,
    target_weighting: SampleWeight = SampleWeight.NONE,
    more: Sequence[tuple[Target, SampleWeight]] = (),
    batch_size: int,
    shuffle_shards: int = 0,
    start_step: int = 0,
    process_index: int = 0,
    process_count: int = 1,
    reading: Reading,
    meter: Meter | None = None,
) -> Generator[Batch, None, None]:
    """Endless training batches of this host, from `start_step` on; `batch_size` is global.

    more: Targets after the first, each with that by which its loss is weighted, as `target_weighting` is of the first.
    shuffle_shards: Shuffles so many shards at a time, as `BlockShuffle` does, instead of all of them; 0 for all.
    """
    local = _local_batch_size(batch_size, process_count)
    if not len(split.records):
        raise DataError(f"{split.directory}: the split {split.manifest.split!r} holds no record to train on")
    rows = TrainingRows(
        records=split.records,
        augmentation=augmentation,
        target=target,
        seed=seed,
        label_sets=label_sets,
        settings=settings,
        weighting=weighting,
        target_weighting=target_weighting,
        more=tuple(more),
        generators=ElementGenerators(derived_seed(seed, "augment")),
    )
    order = block_shuffle(split, seed, shuffle_shards)
    if order is None:
        order = grain.MapDataset.range(len(split.records)).shuffle(seed=derived_seed(seed, "shuffle")).repeat()
    first = start_step * batch_size + process_index
    places = _in_batches(order, len(split.records), augmentation.repeats, first, process_count, local)
    for batch, _ in batches_of_rows(rows, places, local, reading, _name(split), meter):
        yield Batch.of(batch)


def eval_batches(
    split: PreparedSplit,
    *,
    preprocessing: Preprocessing,
    stored: Stored = ANY_SIZE,
    batch_size: int,
    num_classes: int | None = None,
    target: Target = Target.NONE,
    settings: TargetSettings = DEFAULT_SETTINGS,
    more: Sequence[Target] = (),
    start: int = 0,
    process_index: int = 0,
    process_count: int = 1,
    reading: Reading,
) -> Generator[tuple[Batch, list[Truth]], None, None]:
    """Every record from `start` on once; the truths are those of the rows whose `mask` is True, in order.

    With `num_classes` the labels of the batches are sets. The targets are `scored_target(target)`: final clicks, or the
    final icons of each class, but for a head that predicts something else.
    """
    local = _local_batch_size(batch_size, process_count)
    rows = EvaluationRows(
        records=split.records,
        preprocessing=preprocessing,
        stored=stored,
        num_classes=num_classes,
        target=target,
        settings=settings,
        more=tuple(more),
    )
    left = max(0, len(split.records) - start)
    padded = np.full(-(-left // batch_size) * batch_size, -1, np.int64)
    padded[:left] = np.arange(start, start + left)
    mine = padded[process_index::process_count].reshape(-1, local)
    places = np.stack([mine, mine], axis=-1)
    for batch, truths in batches_of_rows(rows, places, local, reading.for_rows(mine.size), _name(split)):
        yield Batch.of(batch), list(itertools.chain.from_iterable(truths))


def _name(split: PreparedSplit) -> str:
    return f"the split {split.manifest.split!r} of {split.directory}"


def _in_batches(
    order: grain.MapDataset | BlockShuffle, length: int, repeats: int, first: int, step: int, batch_size: int
) -> Iterator[Int[np.ndarray, "b 2"]]:
    """Places of the endless list from `first` on, `step` apart, with the records that stand there; endless.

    An image that is repeated comes several times in a row, and an epoch stays as long, so it ends before all were seen.
    """
    for start in itertools.count(first, step * batch_size):
        places = np.arange(start, start + step * batch_size, step)
        epochs, within = np.divmod(places, length)
        records = [order[index] for index in (epochs * length + within // repeats).tolist()]
        yield np.stack([places, np.asarray(records, np.int64)], axis=1)


def _local_batch_size(batch_size: int, process_count: int) -> int:
    if batch_size % process_count:
        raise DataError(f"the batch of {batch_size} does not divide among {process_count} hosts")
    return batch_size // process_count
