"""The statistics of the training split that a run needs: computed at its start, by all hosts, or found in its workdir.

They are stored in the workdir's data.json and in every checkpoint. A resumed run reads them back, so that a class of
the byproduct head stays the same annotator, and saves the pass over the data. No image is decoded.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import jax
from etils import epath

from luab_jax.byproducts.responses import Response
from luab_jax.byproducts.statistics import STATISTICS_KEY, Sums, TargetStatistics
from luab_jax.byproducts.targets import Target, responses_of
from luab_jax.config import Config, needed_responses
from luab_jax.data.dataset import PreparedSplit
from luab_jax.data.features import Example
from luab_jax.data.pipeline import num_cores
from luab_jax.distributed import sharding
from luab_jax.errors import DataError
from luab_jax.io.console import Progress

_CHUNK = 256
_MIN_SHOWN = 20_000
"""Smaller splits are read before anyone wonders."""


def training_statistics(
    config: Config, split: PreparedSplit, workdir: epath.Path, num_classes: int | None
) -> TargetStatistics:
    """Those that target and sample weight need; raises `DataError` where the split has nothing to make them of.

    `num_classes` is given for sets of labels. Reads every record of the split once, where it reads any.
    """
    responses = needed_responses(config)
    count_annotators = Target.ANNOTATOR in config.byproduct.targets
    if not responses and not count_annotators:
        return TargetStatistics()
    found = _of_workdir(workdir)
    # Before they sum together: a host that has them already would not take part, and the others would wait for it.
    there = "none" if found is None else json.dumps(found.to_json())
    sharding.agree({f"{STATISTICS_KEY} in data.json": there, "workdir": str(workdir)})
    if found is not None and set(responses) <= found.scales.keys() and bool(found.annotators) >= count_annotators:
        return found  # `claim` refuses the workdir if it is another experiment's
    sums = _sums_of_this_host(
        split, Sums(responses, count_annotators), num_classes, config.data.num_threads or num_cores()
    )
    total = Sums()
    for text in sharding.gather(sums.to_text()):
        total.merge(Sums.from_text(text))
    return _statistics(config, split, total, responses, count_annotators=count_annotators)


def _sums_of_this_host(split: PreparedSplit, total: Sums, num_classes: int | None, num_threads: int) -> Sums:
    """`total`, empty at first, with this host's share of the records; the shares of all hosts add up to the split's."""
    host, hosts = jax.process_index(), jax.process_count()
    cuts = [len(split.records) * number // hosts for number in (host, host + 1)]
    mine = range(*cuts)
    chunks = [mine[start : start + _CHUNK] for start in range(0, len(mine), _CHUNK)]

    def of_chunk(indices: Sequence[int]) -> Sums:
        sums = Sums(total.responses, total.count_annotators)
        for index in indices:
            sums.add(Example(split.records[index]).byproducts(), num_classes)
        return sums

    title = f"byproducts of {split.manifest.split}"
    with (
        Progress(title, len(mine) if host == 0 and len(mine) >= _MIN_SHOWN else None) as progress,
        ThreadPoolExecutor(num_threads) as pool,
    ):
        for indices, sums in zip(chunks, pool.map(of_chunk, chunks), strict=True):
            total.merge(sums)
            progress.advance(len(indices))
    return total


def _of_workdir(workdir: epath.Path) -> TargetStatistics | None:
    try:
        return TargetStatistics.from_json(
            json.loads((workdir / "data.json").read_text(encoding="utf-8"))[STATISTICS_KEY]
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None  # a new run, or one that `claim` will refuse


def _statistics(
    config: Config, split: PreparedSplit, sums: Sums, responses: tuple[Response, ...], *, count_annotators: bool
) -> TargetStatistics:
    where = f"{split.directory}, split {split.manifest.split!r}"
    scales = {}
    for response in responses:
        scale = sums.scale(response)
        if scale is None:
            raise DataError(
                f"{where}: no image has a {response.value}; choose another byproduct.target or sample_weight"
            )
        if not scale.std and any(response in responses_of(target) for target in config.byproduct.targets):
            raise DataError(f"{where}: {response.value} is the same for all images; choose another byproduct.target")
        scales[response] = scale
    annotators = sums.vocabulary(config.byproduct.min_annotator_images, config.byproduct.max_annotators)
    if count_annotators and len(annotators) < 2:
        most = max(sums.images.values(), default=0)
        raise DataError(
            f"{where}: {len(annotators)} of {len(sums.images)} annotators selected"
            f" config.byproduct.min_annotator_images={config.byproduct.min_annotator_images} images or more (the most"
            f" selected {most}), and two are needed; lower it or choose another byproduct.target"
        )
    return TargetStatistics(scales=scales, annotators=annotators)
