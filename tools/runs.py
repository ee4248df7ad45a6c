"""A run's workdir made of given weights, without training."""

from __future__ import annotations

from pathlib import Path

from luab_jax import config as config_lib
from luab_jax.byproducts.targets import Target
from luab_jax.checkpoints import store
from luab_jax.config import ByproductConfig, Config, Task
from luab_jax.data.class_lists import imagenet
from luab_jax.data.coco_classes import coco
from luab_jax.data.transforms import Preprocessing
from luab_jax.models.config import ModelConfig
from luab_jax.models.functional import BatchStats, Params


def save_run(
    workdir: Path,
    model: ModelConfig,
    preprocessing: Preprocessing,
    params: Params,
    batch_stats: BatchStats,
    task: Task = Task.SINGLE_LABEL,
) -> Path:
    """A checkpoint as the loop saves it, of step 1: of ImageNet's classes, or of sets of COCO's."""
    classes = coco() if task is Task.MULTI_LABEL else imagenet()
    config = Config(model=model, task=task, byproduct=ByproductConfig(target=Target.NONE))
    config.data.preprocessing = preprocessing
    description = {
        "config": config_lib.to_dict(config),
        "dataset": "coco" if task is Task.MULTI_LABEL else "imagenet",
        "num_classes": len(classes),
        "class_list_hash": classes.hash,
        "versions": store.versions(),
    }
    checkpoints = store.Checkpoints(workdir)
    checkpoints.save(1, {"params": params, "batch_stats": batch_stats}, metrics={}, description=description)
    checkpoints.close()
    return workdir
