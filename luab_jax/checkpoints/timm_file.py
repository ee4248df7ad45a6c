"""Weights of timm as a checkpoint: `timm:NAME:FILE.safetensors`."""

from __future__ import annotations

import hashlib

from etils import epath
from jax.sharding import Mesh

from luab_jax.checkpoints.loaded import LoadedModel
from luab_jax.data.class_lists import imagenet
from luab_jax.data.transforms import Preprocessing, ResizeFilter
from luab_jax.distributed import sharding
from luab_jax.errors import CheckpointError, UserError
from luab_jax.io import storage
from luab_jax.io.console import say
from luab_jax.models.config import Dtype, ModelConfig, Pool, filled_preset
from luab_jax.models.functional import create_model
from luab_jax.models.timm_models import TimmModel, TimmSize, timm_model
from luab_jax.models.timm_weights import (
    WRAPPERS,
    from_timm,
    num_classes,
    patches_per_side,
    pools_mean,
    read_weights,
    without_wrappers,
)
from luab_jax.results.foreign import Foreign

TIMM = "timm:"


def load_timm_file(checkpoint: str, mesh: Mesh, size: TimmSize, called: str) -> LoadedModel:
    """Those that classify 1,000 classes are taken for ImageNet's in the order of their wnids, as all of timm's are."""
    name, _, path = checkpoint.removeprefix(TIMM).partition(":")
    if not name or not path:
        raise UserError(f"{called}: expected timm:NAME:FILE.safetensors, as in timm:resnet50.tv_in1k:FILE")
    try:
        known = timm_model(name)
    except ValueError as e:
        raise UserError(f"{called}: {e}") from e
    classes = imagenet()
    try:
        weights, prefix = without_wrappers(read_weights(path))
        # As timm evaluates by default; half precision would move a published accuracy.
        config = ModelConfig(
            name=known.preset, compute_dtype=Dtype.FLOAT32, pool=Pool.MEAN if pools_mean(weights) else Pool.TOKEN
        )
        found, side = num_classes(weights), patches_per_side(weights)
        patch = getattr(filled_preset(config), "patch_size", None)  # none where a ViT's file is read as a ResNet
        image_size = known.image_size(size) if side is None or patch is None else side * patch
        model = create_model(config, num_classes=found or 1, image_size=image_size, byproduct_shape=None)
        params, batch_stats = from_timm(model, weights, classifier=found is not None)
    except OSError as e:
        raise CheckpointError(f"{path}: cannot be read ({e.strerror or e})") from e
    except ValueError as e:
        raise CheckpointError(f"{path}, read as {known.name}: {e}") from e
    if prefix:
        wrappers = ", ".join(saver for wrapper, saver in WRAPPERS.items() if wrapper in prefix)
        say(f"{path}: names of weights begin with {prefix!r} (of {wrappers}); they are read without it")
    class_list_hash = classes.hash if found == len(classes) else ""
    of_size = {"timm_size": size.value} if known.has_test_size else {}
    place = sharding.replicated(mesh)
    return LoadedModel(
        name=known.name,
        identity={
            "workdir": str(storage.resolved(path)),
            "step": 0,
            "chosen": Foreign.TIMM.value,
            "dataset": "imagenet",
            "class_list_hash": class_list_hash,
            "weights_hash": hashlib.sha256(epath.Path(path).read_bytes()).hexdigest()[:12],
            "model": known.name,
            "target": Foreign.TIMM.value,
            "weight": 0.0,
            "seed": 0,
            "experiment": {"timm": known.name, "file": epath.Path(path).name} | of_size,
            **of_size,
        },
        model=model,
        params=sharding.put(params, place),
        batch_stats=sharding.put(batch_stats, place),
        preprocessing=preprocessing_of(known, size),
        class_list_hash=class_list_hash,
        classes=classes if found == len(classes) else None,
        config=config,
        sides=frozenset(known.image_size(size) for size in TimmSize) if side is None else frozenset(),
    )


def preprocessing_of(known: TimmModel, size: TimmSize) -> Preprocessing:
    """What timm states for a model."""
    mean, std = known.statistics
    return Preprocessing(
        image_size=known.image_size(size),
        resize_side=known.resize_side(size),
        filter=ResizeFilter(known.filter),
        mean=mean,
        std=std,
    )
