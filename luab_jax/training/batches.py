"""The training batches of an experiment: the one place where a config becomes arguments of the pipeline."""

from __future__ import annotations

from collections.abc import Generator

from luab_jax.byproducts.kinds import DEFAULT_SETTINGS, TargetSettings
from luab_jax.config import Config, Task
from luab_jax.data.batch import Batch
from luab_jax.data.dataset import PreparedSplit
from luab_jax.data.gpu_jpeg import JpegDecoder
from luab_jax.data.input_speed import Meter
from luab_jax.data.pipeline import Augmentation, LabelSets, Reading, train_batches
from luab_jax.training.gpu_decoding import gpu_jpegs


def reading(config: Config) -> Reading:
    data = config.data
    return Reading(
        num_threads=data.num_threads,
        prefetch_examples=data.prefetch_examples,
        workers=data.workers,
        on_gpu=data.decoder is JpegDecoder.NVJPEG,
    )


def training_batches(
    config: Config,
    split: PreparedSplit,
    *,
    num_classes: int,
    settings: TargetSettings = DEFAULT_SETTINGS,
    start_step: int = 0,
    process_index: int = 0,
    process_count: int = 1,
    meter: Meter | None = None,
) -> Generator[Batch, None, None]:
    """Endless batches of `config.batch_size` images over all processes; this process's rows of them.

    `meter` is told of all images that are made. Raises `ConfigError` for a decoder that this host does not have.
    """
    label_sets = None
    if config.task is Task.MULTI_LABEL:
        label_sets = LabelSets(num_classes=num_classes, follow_points=config.byproduct.label_follows_point)
    return train_batches(
        split,
        augmentation=Augmentation(
            image_size=config.data.preprocessing.image_size,
            crop_scale=config.data.crop_scale,
            flip=config.data.flip,
            filter=config.data.crop_filter,
            gpu=gpu_jpegs(config),
            repeats=config.augmentation.crops_in_a_row,
        ),
        target=config.byproduct.target,
        seed=config.seed,
        label_sets=label_sets,
        settings=settings,
        weighting=config.byproduct.sample_weight,
        target_weighting=config.byproduct.target_sample_weight,
        more=[(entry.target, entry.target_sample_weight) for entry in config.byproduct.more],
        batch_size=config.batch_size,
        shuffle_shards=config.data.shuffle_shards,
        start_step=start_step,
        process_index=process_index,
        process_count=process_count,
        reading=reading(config),
        meter=meter,
    )
