"""The statistics of the training split that a run needs: computed at its start, by all hosts, or found in its workdir.

They stand in the workdir's data.json and in every checkpoint. A resumed run reads them back, so that a class of the
byproduct head stays the same annotator, and saves the pass over the data.
"""

from __future__ import annotations

import json

import jax
from etils import epath

from luab_jax import sharding
from luab_jax.byproducts.responses import Response
from luab_jax.byproducts.statistics import STATISTICS_KEY, Sums, TargetStatistics
from luab_jax.byproducts.targets import Target
from luab_jax.config import Config, needed_responses
from luab_jax.data.dataset import PreparedSplit
from luab_jax.data.pipeline import num_cores
from luab_jax.data.split_statistics import sum_split
from luab_jax.errors import DataError


def training_statistics(
    config: Config, split: PreparedSplit, workdir: epath.Path, num_classes: int | None
) -> TargetStatistics:
    """Those that target and sample weight need; raises `DataError` where the split has nothing to make them of.

    `num_classes` is given for sets of labels. Reads every record of the split once, where it reads any.
    """
    responses = needed_responses(config)
    count_annotators = config.byproduct.target is Target.ANNOTATOR
    if not responses and not count_annotators:
        return TargetStatistics()
    found = _of_workdir(workdir)
    # Before they sum together: a host that has them already would not take part, and the others would wait for it.
    there = "none" if found is None else json.dumps(found.to_json())
    sharding.agree({f"{STATISTICS_KEY} in data.json": there, "workdir": str(workdir)})
    if found is not None and set(responses) <= found.scales.keys() and bool(found.annotators) >= count_annotators:
        return found  # `claim` refuses the workdir if it is another experiment's
    sums = sum_split(
        split,
        responses=responses,
        count_annotators=count_annotators,
        num_classes=num_classes,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        num_threads=config.data.num_threads or num_cores(),
        show_progress=jax.process_index() == 0,
    )
    total = Sums()
    for text in sharding.gather(sums.to_text()):
        total.merge(Sums.from_text(text))
    return _statistics(config, split, total, responses, count_annotators=count_annotators)


def _of_workdir(workdir: epath.Path) -> TargetStatistics | None:
    try:
        return TargetStatistics.from_json(json.loads((workdir / "data.json").read_text())[STATISTICS_KEY])
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
        if not scale.std and config.byproduct.target.value == response.value:
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
