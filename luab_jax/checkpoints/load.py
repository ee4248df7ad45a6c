"""A trained model, of a workdir or of timm, ready to predict anywhere, with what it was trained to see."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from etils import epath
from jax.sharding import Mesh

from luab_jax import config as config_lib
from luab_jax.byproducts.targets import Target
from luab_jax.checkpoints import store as checkpoint_lib
from luab_jax.checkpoints.description import describe_run
from luab_jax.checkpoints.loaded import LoadedModel, create
from luab_jax.checkpoints.timm_file import TIMM, load_timm_file
from luab_jax.config import Task
from luab_jax.config.byproduct import head_specs
from luab_jax.data.class_lists import imagenet
from luab_jax.data.transforms import Preprocessing, ResizeFilter
from luab_jax.distributed import sharding
from luab_jax.errors import CheckpointError, UserError, option
from luab_jax.io import storage
from luab_jax.io.console import say
from luab_jax.models.config import ByproductPool, Dtype
from luab_jax.models.timm_models import TimmSize
from luab_jax.models.transfer import fit_backbone

_TORCH_ENDINGS = (".pth", ".pt", ".ckpt", ".bin", ".pth.tar", ".pkl", ".pickle")


def load(
    checkpoint: epath.PathLike,
    which: str,
    mesh: Mesh,
    changes: Mapping[str, Any] | None = None,
    weights: str | None = None,
    *,
    timm_size: TimmSize | None = None,
    dtype: Dtype = Dtype.FLOAT32,
) -> LoadedModel:
    """Loads a checkpoint onto every device of `mesh`.

    Args:
        checkpoint: The workdir of a run, or `timm:NAME:FILE.safetensors`.
        which: The step of a run: `best`, `latest` or a number.
        changes: Fields of `Preprocessing` that replace what the checkpoint states. They become part of its identity.
        weights: `raw` (and `None`), or `ema` for the moving average of a run that keeps one, which becomes part of the
            identity.
        timm_size: Of timm's weights, the size that is evaluated; `None` takes the test size. Part of the identity where
            timm states two.
        dtype: Type of activations and products, whatever the run was trained in. Part of the identity.
    """
    changes = changes or {}
    if timm_size is not None and not str(checkpoint).startswith(TIMM):
        raise UserError(
            f"{option('timm_size', timm_size.value)}: {option('checkpoint', checkpoint)} is no file of timm's"
        )
    stored = load_stored(checkpoint, which, mesh, weights, timm_size=timm_size or TimmSize.TEST)
    if str(checkpoint).startswith(TIMM) and stored.class_list_hash != imagenet().hash:
        found = f"{stored.num_classes} classes" if "classifier" in stored.params else "nothing"
        path = str(checkpoint).split(":", 2)[2]
        raise CheckpointError(
            f"{path}, read as {stored.name}: classifies {found}; only weights for ImageNet's 1,000 can be evaluated"
        )
    preprocessing = _changed(stored.preprocessing, changes)
    as_asked = dataclasses.replace(stored, config=dataclasses.replace(stored.config, compute_dtype=dtype))
    sides = frozenset({preprocessing.image_size} | (set() if "image_size" in changes else stored.sides))
    return dataclasses.replace(
        _at(as_asked, preprocessing.image_size, mesh),
        preprocessing=preprocessing,
        sides=sides,
        identity=stored.identity | {"dtype": dtype.value} | _override(changes),
    )


def load_stored(
    checkpoint: epath.PathLike,
    which: str,
    mesh: Mesh,
    weights: str | None = None,
    *,
    timm_size: TimmSize = TimmSize.TRAIN,
    called: str = "",
) -> LoadedModel:
    """The same at the image size and in the type that the weights are for, and of any number of classes.

    Weights of timm that do not classify ImageNet's classes have an empty class list hash, those without a classifier
    none among their `params`. `called` is what messages call the option, if not `checkpoint`.
    """
    called = f"{called}={checkpoint}" if called else option("checkpoint", checkpoint)
    if str(checkpoint).startswith(TIMM):
        if weights == "ema":
            raise UserError(f"{called} has one set of weights only, no moving average (ema)")
        return load_timm_file(str(checkpoint), mesh, timm_size, called)
    if str(checkpoint).endswith(".safetensors"):
        raise UserError(f"{called}: a file does not say which network it is for; write timm:NAME:FILE")
    if str(checkpoint).endswith(_TORCH_ENDINGS):
        raise UserError(
            f"{called}: a file of torch.save is not read, for unpickling it can run any code. Convert it"
            " where you trust it (safetensors.torch.save_file of its state dict), and write timm:NAME:FILE.safetensors"
        )
    return _stored_run(checkpoint, which, mesh, weights, called)


def _at(loaded: LoadedModel, image_size: int, mesh: Mesh) -> LoadedModel:
    """The same weights in a model of the config's type and for images of another size.

    A ViT's position embeddings are interpolated then, and that is said.
    """
    fixed = [spec for spec in loaded.model.heads if spec.pool is ByproductPool.MAP and not spec.dense]
    if fixed and loaded.model.image_size != image_size:
        raise UserError(
            f"{loaded.name}: its byproduct head for {fixed[0].name} reads every position of the map at"
            f" {loaded.model.image_size} px and cannot be fed images of {image_size} px; leave --image_size out"
        )
    model = create(
        loaded.config,
        num_classes=loaded.num_classes,
        image_size=image_size,
        heads=loaded.model.heads,
    )
    if loaded.model.image_size == image_size:
        return dataclasses.replace(loaded, model=model)
    fitted = fit_backbone(model, loaded.params, loaded.batch_stats)
    if fitted.resampled is None:
        return dataclasses.replace(loaded, model=model)
    old, new = fitted.resampled
    say(f"{loaded.name}: position embeddings interpolated from {old}x{old} to {new}x{new} patches")
    backbone = sharding.put(fitted.params, sharding.replicated(mesh))
    return dataclasses.replace(loaded, model=model, params=loaded.params | {"backbone": backbone})


def _stored_run(workdir: epath.PathLike, which: str, mesh: Mesh, weights: str | None, called: str) -> LoadedModel:
    step = checkpoint_lib.choose_step(workdir, which)
    described = describe_run(workdir, step)
    config, settings = described.config, described.settings
    averaged = config.optim.ema_decay > 0
    if weights == "ema" and not averaged:
        raise UserError(f"{called}: the run keeps no moving average (its config.optim.ema_decay is 0); leave ema out")
    averaged = weights == "ema"
    model = create(
        config.model,
        num_classes=described.num_classes,
        image_size=config.data.preprocessing.image_size,
        heads=head_specs(
            config.byproduct, config.model, config_lib.label_set_size(config, described.num_classes), settings
        ),
    )
    params, batch_stats = model.abstract()
    shapes = {"params": params, "batch_stats": batch_stats}
    abstract = checkpoint_lib.abstract_on(sharding.replicated(mesh), {"ema": shapes} if averaged else shapes)
    state = checkpoint_lib.restore(workdir, step, abstract)
    state = state["ema"] if averaged else state
    return LoadedModel(
        name=epath.Path(workdir).name,
        identity={
            "workdir": str(storage.resolved(workdir)),
            "step": step,
            "chosen": which,
            "dataset": described.dataset,
            "class_list_hash": described.class_list_hash,
            "config_hash": config_lib.config_hash(config),
            "weights_hash": _weights_hash(state["params"], state.get("batch_stats", {})),
            "model": config.model.name,
            "target": "+".join(target.value for target in config.byproduct.targets) or Target.NONE.value,
            "weight": config.byproduct.weight,
            "seed": config.seed,
            "experiment": {k: v for k, v in config_lib.scientific_fields(config).items() if k != "seed"},
            **({"weights": "ema"} if averaged else {}),
        },
        model=model,
        params=state["params"],
        batch_stats=state.get("batch_stats", {}),
        preprocessing=config.data.preprocessing,
        class_list_hash=described.class_list_hash,
        label_sets=config.task is Task.MULTI_LABEL,
        target=config.byproduct.target,
        annotators=settings.statistics.annotators,
        classes=described.classes,
        experiment=config,
        config=config.model,
        sides=frozenset({config.data.preprocessing.image_size}),
    )


def _weights_hash(*trees: Any) -> str:
    """Of names and bytes: a run that was trained anew in the same workdir is another checkpoint."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(trees):
        digest.update(jax.tree_util.keystr(path).encode())
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()[:12]


def _changed(stated: Preprocessing, changes: Mapping[str, Any]) -> Preprocessing:
    """Raises `UserError` for a preprocessing that makes no sense."""
    changed = dataclasses.replace(stated, **changes)
    size = changed.image_size
    if size < 1 or any(s <= 0 for s in changed.std):
        raise UserError(f"{option('image_size')} and {option('std')} must be positive")
    if changed.resize_side is not None and changed.resize_side < size:
        raise UserError(
            f"{option('resize_side', changed.resize_side)} is smaller than the crop of {size} pixels; give both"
            f" {option('image_size')} and {option('resize_side')}"
        )
    return changed


def _override(changes: Mapping[str, Any]) -> dict[str, Any]:
    """An entry of the identity: results by another preprocessing are those of another model."""
    plain = {name: value.value if isinstance(value, ResizeFilter) else value for name, value in changes.items()}
    return {"preprocessing_override": plain} if changes else {}
