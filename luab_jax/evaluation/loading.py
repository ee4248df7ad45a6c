"""A trained model, of a workdir or of timm, ready to predict anywhere, with what it was trained to see."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from etils import epath
from jax.sharding import Mesh

from luab_jax import checkpoint as checkpoint_lib
from luab_jax import config as config_lib
from luab_jax import sharding
from luab_jax.byproducts.kinds import TargetSettings
from luab_jax.byproducts.statistics import STATISTICS_KEY, TargetStatistics
from luab_jax.byproducts.targets import Target, head_shape
from luab_jax.config import Config, Task
from luab_jax.data.class_lists import imagenet
from luab_jax.data.transforms import Preprocessing, ResizeFilter
from luab_jax.errors import CheckpointError, UserError
from luab_jax.log import say
from luab_jax.models.config import Attention, Dtype, ModelConfig, Pool
from luab_jax.models.functional import Model, create_model
from luab_jax.models.timm_models import TimmModel, timm_model
from luab_jax.models.timm_weights import from_timm, num_classes, patches_per_side, pools_mean, read_weights
from luab_jax.models.transfer import fit_backbone

TIMM = "timm:"


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model, its weights on the mesh, and its description."""

    name: str
    identity: dict[str, Any]
    """What tells this checkpoint from any other, for results to be compared and resumed."""
    model: Model
    params: dict[str, Any]
    batch_stats: dict[str, Any]
    preprocessing: Preprocessing
    class_list_hash: str
    label_sets: bool = False
    """Whether it scores sets of labels, by a sigmoid per class."""
    target: Target | None = None
    """What its byproduct head predicts; `None` where that is not known."""
    config: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    """What the model was built from."""

    @property
    def num_classes(self) -> int:
        return self.model.num_classes

    @property
    def has_byproduct_head(self) -> bool:
        return self.model.byproduct_shape is not None


def load(
    checkpoint: epath.PathLike,
    which: str,
    mesh: Mesh,
    changes: Mapping[str, Any] | None = None,
    weights: str | None = None,
) -> LoadedModel:
    """Loads a checkpoint onto every device of `mesh`.

    Args:
        checkpoint: The workdir of a run, or `timm:NAME:FILE.safetensors`.
        which: The step of a run: `best`, `latest` or a number.
        changes: Fields of `Preprocessing` that replace what the checkpoint states. They become part of its identity.
        weights: `raw`, or `ema` for a run's moving average; `None` takes the average where the run keeps one. An
            average becomes part of the identity.
    """
    stored = load_stored(checkpoint, which, mesh, weights)
    if str(checkpoint).startswith(TIMM) and stored.class_list_hash != imagenet().hash:
        found = f"{stored.num_classes} classes" if "classifier" in stored.params else "nothing"
        path = str(checkpoint).split(":", 2)[2]
        raise CheckpointError(
            f"{path}, read as {stored.name}: classifies {found}; only weights for ImageNet's 1,000 can be evaluated"
        )
    preprocessing = _changed(stored.preprocessing, changes or {})
    return dataclasses.replace(
        _at(stored, preprocessing.image_size, mesh),
        preprocessing=preprocessing,
        identity=stored.identity | _override(changes or {}),
    )


def load_stored(
    checkpoint: epath.PathLike, which: str, mesh: Mesh, weights: str | None = None, *, option: str = "--checkpoint"
) -> LoadedModel:
    """The same at the image size that the weights are for, and of any number of classes.

    Weights of timm that do not classify ImageNet's classes have an empty class list hash, those without a classifier
    none among their `params`. `option` is what messages call the checkpoint.
    """
    if str(checkpoint).startswith(TIMM):
        if weights == "ema":
            raise UserError(f"{option}={checkpoint} has one set of weights only, no moving average (ema)")
        return _stored_timm(str(checkpoint), mesh, option)
    if str(checkpoint).endswith(".safetensors"):
        raise UserError(f"{option}={checkpoint}: a file does not say which network it is for; write timm:NAME:FILE")
    return _stored_run(checkpoint, which, mesh, weights, option)


def _at(loaded: LoadedModel, image_size: int, mesh: Mesh) -> LoadedModel:
    """The same weights for images of another size: a ViT's position embeddings are interpolated, and that is said."""
    if loaded.model.image_size == image_size:
        return loaded
    model = _create(
        loaded.config,
        num_classes=loaded.num_classes,
        image_size=image_size,
        byproduct_shape=loaded.model.byproduct_shape,
    )
    fitted = fit_backbone(model, loaded.params, loaded.batch_stats)
    if fitted.resampled is None:
        return dataclasses.replace(loaded, model=model)
    old, new = fitted.resampled
    say(f"{loaded.name}: position embeddings interpolated from {old}x{old} to {new}x{new} patches")
    backbone = sharding.put(fitted.params, sharding.replicated(mesh))
    return dataclasses.replace(loaded, model=model, params=loaded.params | {"backbone": backbone})


def _create(
    config: ModelConfig, *, num_classes: int, image_size: int, byproduct_shape: tuple[int, int] | None
) -> Model:
    try:
        # The kernel that the training machine had need not be here.
        config = dataclasses.replace(config, attention=Attention.AUTO)
        return create_model(config, num_classes=num_classes, image_size=image_size, byproduct_shape=byproduct_shape)
    except ValueError as e:
        raise UserError(str(e)) from e


def _stored_run(workdir: epath.PathLike, which: str, mesh: Mesh, weights: str | None, option: str) -> LoadedModel:
    step = checkpoint_lib.choose_step(workdir, which)
    description = checkpoint_lib.describe(workdir, step)
    config: Config = config_lib.from_dict(Config, description["config"])
    statistics = description.get(STATISTICS_KEY)
    settings = TargetSettings(
        heat_map_side=config.byproduct.heat_map_side,
        statistics=TargetStatistics.from_json(statistics) if statistics else TargetStatistics(),
    )
    averaged = config.optim.ema_decay > 0
    if weights == "ema" and not averaged:
        raise UserError(
            f"{option}={workdir}: the run keeps no moving average (its config.optim.ema_decay is 0); leave ema out"
        )
    averaged = averaged and weights != "raw"
    model = _create(
        config.model,
        num_classes=description["num_classes"],
        image_size=config.data.preprocessing.image_size,
        byproduct_shape=head_shape(
            config.byproduct.target, config_lib.label_set_size(config, description["num_classes"]), settings
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
            "workdir": str(epath.Path(workdir).resolve()),
            "step": step,
            "chosen": which,
            "dataset": description["dataset"],
            "class_list_hash": description["class_list_hash"],
            "config_hash": config_lib.config_hash(config),
            "weights_hash": _weights_hash(state["params"], state.get("batch_stats", {})),
            "model": config.model.name,
            "target": config.byproduct.target.value,
            "weight": config.byproduct.weight,
            "seed": config.seed,
            "experiment": {k: v for k, v in config_lib.scientific_fields(config).items() if k != "seed"},
            **({"weights": "ema"} if averaged else {}),
        },
        model=model,
        params=state["params"],
        batch_stats=state.get("batch_stats", {}),
        preprocessing=config.data.preprocessing,
        class_list_hash=description["class_list_hash"],
        label_sets=config.task is Task.MULTI_LABEL,
        target=config.byproduct.target,
        config=config.model,
    )


def _weights_hash(*trees: Any) -> str:
    """Of names and bytes: a run that was trained anew in the same workdir is another checkpoint."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(trees):
        digest.update(jax.tree_util.keystr(path).encode())
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()[:12]


def _stored_timm(checkpoint: str, mesh: Mesh, option: str) -> LoadedModel:
    """Those that classify 1,000 classes are taken for ImageNet's in the order of their wnids, as all of timm's are."""
    name, _, path = checkpoint.removeprefix(TIMM).partition(":")
    if not name or not path:
        raise UserError(f"{option}={checkpoint}: expected timm:NAME:FILE.safetensors, as in timm:resnet50.tv_in1k:FILE")
    try:
        known = timm_model(name)
    except ValueError as e:
        raise UserError(f"{option}={checkpoint}: {e}") from e
    classes = imagenet()
    try:
        weights = read_weights(path)
        # As timm evaluates by default; half precision would move a published accuracy.
        config = ModelConfig(
            name=known.preset, compute_dtype=Dtype.FLOAT32, pool=Pool.MEAN if pools_mean(weights) else Pool.TOKEN
        )
        found, side = num_classes(weights), patches_per_side(weights)
        image_size = known.image_size if side is None else side * config.patch_size
        model = create_model(config, num_classes=found or 1, image_size=image_size, byproduct_shape=None)
        params, batch_stats = from_timm(model, weights, classifier=found is not None)
    except OSError as e:
        raise CheckpointError(f"{path}: cannot be read ({e.strerror or e})") from e
    except ValueError as e:
        raise CheckpointError(f"{path}, read as {known.name}: {e}") from e
    class_list_hash = classes.hash if found == len(classes) else ""
    place = sharding.replicated(mesh)
    return LoadedModel(
        name=known.name,
        identity={
            "workdir": str(epath.Path(path).resolve()),
            "step": 0,
            "chosen": "timm",
            "dataset": "imagenet",
            "class_list_hash": class_list_hash,
            "weights_hash": hashlib.sha256(epath.Path(path).read_bytes()).hexdigest()[:12],
            "model": known.name,
            "target": "timm",
            "weight": 0.0,
            "seed": 0,
            "experiment": {"timm": known.name, "file": epath.Path(path).name},
        },
        model=model,
        params=sharding.put(params, place),
        batch_stats=sharding.put(batch_stats, place),
        preprocessing=preprocessing_of(known),
        class_list_hash=class_list_hash,
        config=config,
    )


def preprocessing_of(known: TimmModel) -> Preprocessing:
    """What timm states for a model."""
    mean, std = known.statistics
    return Preprocessing(
        image_size=known.image_size,
        resize_side=known.resize_side,
        filter=ResizeFilter(known.filter),
        mean=mean,
        std=std,
    )


def _changed(stated: Preprocessing, changes: Mapping[str, Any]) -> Preprocessing:
    """Raises `UserError` for a preprocessing that makes no sense."""
    changed = dataclasses.replace(stated, **changes)
    size = changed.image_size
    if size < 1 or any(s <= 0 for s in changed.std):
        raise UserError("--image_size and --std must be positive")
    if changed.resize_side is not None and changed.resize_side < size:
        raise UserError(
            f"--resize_side={changed.resize_side} is smaller than the crop of {size} pixels; give both --image_size"
            " and --resize_side"
        )
    return changed


def _override(changes: Mapping[str, Any]) -> dict[str, Any]:
    """An entry of the identity: results by another preprocessing are those of another model."""
    plain = {name: value.value if isinstance(value, ResizeFilter) else value for name, value in changes.items()}
    return {"preprocessing_override": plain} if changes else {}
