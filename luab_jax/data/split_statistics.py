"""One pass over a split for what targets and sample weights need to know of all of it. No image is decoded."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from luab_jax.byproducts.responses import Response
from luab_jax.byproducts.statistics import Sums
from luab_jax.data.dataset import PreparedSplit
from luab_jax.data.features import Example
from luab_jax.progress import Progress

_CHUNK = 256
_MIN_SHOWN = 20_000
"""Smaller splits are read before anyone wonders."""


def sum_split(
    split: PreparedSplit,
    *,
    responses: tuple[Response, ...],
    count_annotators: bool,
    num_classes: int | None,
    process_index: int = 0,
    process_count: int = 1,
    num_threads: int = 1,
    show_progress: bool = False,
) -> Sums:
    """The sums over this host's share of the records, which lie in a row; those of all hosts add up to the split's.

    `num_classes` is given for sets of labels.
    """
    cuts = [len(split.records) * process // process_count for process in (process_index, process_index + 1)]
    mine = range(*cuts)
    chunks = [mine[start : start + _CHUNK] for start in range(0, len(mine), _CHUNK)]

    def of_chunk(indices: Sequence[int]) -> Sums:
        sums = Sums(responses, count_annotators)
        for index in indices:
            sums.add(Example(split.records[index]).byproducts(), num_classes)
        return sums

    total = Sums(responses, count_annotators)
    title = f"byproducts of {split.manifest.split}"
    with (
        Progress(title, len(mine) if show_progress and len(mine) >= _MIN_SHOWN else None) as progress,
        ThreadPoolExecutor(num_threads) as pool,
    ):
        for indices, sums in zip(chunks, pool.map(of_chunk, chunks), strict=True):
            total.merge(sums)
            progress.advance(len(indices))
    return total
