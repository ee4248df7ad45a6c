"""A trained model, of a workdir or of timm, ready to predict anywhere, with what it was trained to see."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
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
from luab_jax.models.config import Attention, Dtype, ModelConfig
from luab_jax.models.functional import Model, create_model
from luab_jax.models.timm_models import TimmModel, timm_model
from luab_jax.models.timm_weights import from_timm, num_classes, read_weights

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
    if str(checkpoint).startswith(TIMM):
        if weights == "ema":
            raise UserError(f"--weights=ema: {checkpoint} has one set of weights only; leave --weights out")
        return _load_timm(str(checkpoint), mesh, changes or {})
    return _load_run(checkpoint, which, mesh, changes or {}, weights)


def _load_run(
    workdir: epath.PathLike, which: str, mesh: Mesh, changes: Mapping[str, Any], weights: str | None
) -> LoadedModel:
    step = checkpoint_lib.choose_step(workdir, which)
    description = checkpoint_lib.describe(workdir, step)
    config: Config = config_lib.from_dict(Config, description["config"])
    preprocessing = _changed(config.data.preprocessing, changes, config.model)
    statistics = description.get(STATISTICS_KEY)
    settings = TargetSettings(
        heat_map_side=config.byproduct.heat_map_side,
        statistics=TargetStatistics.from_json(statistics) if statistics else TargetStatistics(),
    )
    averaged = config.optim.ema_decay is not None
    if weights == "ema" and not averaged:
        raise UserError(
            f"--weights=ema: the run {workdir} keeps no moving average (its config.optim.ema_decay is None); leave"
            " --weights out"
        )
    averaged = averaged and weights != "raw"
    model = create_model(
        # The kernel that the training machine had need not be here.
        dataclasses.replace(config.model, attention=Attention.AUTO),
        num_classes=description["num_classes"],
        image_size=preprocessing.image_size,
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
            "model": config.model.name,
            "target": config.byproduct.target.value,
            "weight": config.byproduct.weight,
            "seed": config.seed,
            "experiment": {k: v for k, v in config_lib.scientific_fields(config).items() if k != "seed"},
            **({"weights": "ema"} if averaged else {}),
            **_override(changes),
        },
        model=model,
        params=state["params"],
        batch_stats=state.get("batch_stats", {}),
        preprocessing=preprocessing,
        class_list_hash=description["class_list_hash"],
        label_sets=config.task is Task.MULTI_LABEL,
        target=config.byproduct.target,
    )


def _load_timm(checkpoint: str, mesh: Mesh, changes: Mapping[str, Any]) -> LoadedModel:
    """Weights that classify ImageNet's 1,000 classes in the order of their wnids, as all of timm's do."""
    name, _, path = checkpoint.removeprefix(TIMM).partition(":")
    if not name or not path:
        raise UserError(
            f"--checkpoint={checkpoint}: expected timm:NAME:FILE.safetensors, as in timm:resnet50.tv_in1k:FILE"
        )
    try:
        known = timm_model(name)
    except ValueError as e:
        raise UserError(f"--checkpoint={checkpoint}: {e}") from e
    classes = imagenet()
    # As timm evaluates by default; half precision would move a published accuracy.
    config = ModelConfig(name=known.preset, compute_dtype=Dtype.FLOAT32)
    preprocessing = _changed(preprocessing_of(known), changes, config)
    try:
        weights = read_weights(path)
        if (found := num_classes(weights)) not in (None, len(classes)):
            raise ValueError(f"classifies {found} classes; only weights for ImageNet's 1,000 can be evaluated")
        model = create_model(
            config, num_classes=len(classes), image_size=preprocessing.image_size, byproduct_shape=None
        )
        params, batch_stats = from_timm(model, weights)
    except OSError as e:
        raise CheckpointError(f"{path}: cannot be read ({e.strerror or e})") from e
    except ValueError as e:
        raise CheckpointError(f"{path}, read as {known.name}: {e}") from e
    place = sharding.replicated(mesh)
    return LoadedModel(
        name=known.name,
        identity={
            "workdir": str(epath.Path(path).resolve()),
            "step": 0,
            "chosen": "timm",
            "dataset": "imagenet",
            "class_list_hash": classes.hash,
            "weights_hash": hashlib.sha256(epath.Path(path).read_bytes()).hexdigest()[:12],
            "model": known.name,
            "target": "timm",
            "weight": 0.0,
            "seed": 0,
            "experiment": {"timm": known.name, "file": epath.Path(path).name},
            **_override(changes),
        },
        model=model,
        params=jax.device_put(params, place),
        batch_stats=jax.device_put(batch_stats, place),
        preprocessing=preprocessing,
        class_list_hash=classes.hash,
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


def _changed(stated: Preprocessing, changes: Mapping[str, Any], model: ModelConfig) -> Preprocessing:
    """Raises `UserError` for a preprocessing that makes no sense for the model."""
    changed = dataclasses.replace(stated, **changes)
    size = changed.image_size
    if size != stated.image_size and model.name.startswith("vit"):
        raise UserError(
            f"--image_size={size}: a ViT's position embeddings are for the size that it was trained at,"
            f" {stated.image_size} pixels"
        )
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
