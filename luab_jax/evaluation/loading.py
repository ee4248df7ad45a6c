"""A trained model from a workdir, ready to predict anywhere, with what it was trained to see."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from etils import epath
from jax.sharding import Mesh

from luab_jax import checkpoint as checkpoint_lib
from luab_jax import config as config_lib
from luab_jax import sharding
from luab_jax.byproducts.kinds import TargetSettings
from luab_jax.byproducts.statistics import STATISTICS_KEY, TargetStatistics
from luab_jax.byproducts.targets import Target, head_shape
from luab_jax.config import Config, Task
from luab_jax.data.transforms import Preprocessing
from luab_jax.models.functional import Model, create_model


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


def load(workdir: epath.PathLike, which: str, mesh: Mesh) -> LoadedModel:
    """Loads step `which` (`best`, `latest` or a number) of a run onto every device of `mesh`."""
    step = checkpoint_lib.choose_step(workdir, which)
    description = checkpoint_lib.describe(workdir, step)
    config: Config = config_lib.from_dict(Config, description["config"])
    statistics = description.get(STATISTICS_KEY)
    settings = TargetSettings(
        heat_map_side=config.byproduct.heat_map_side,
        statistics=TargetStatistics.from_json(statistics) if statistics else TargetStatistics(),
    )
    model = create_model(
        config.model,
        num_classes=description["num_classes"],
        image_size=config.data.preprocessing.image_size,
        byproduct_shape=head_shape(
            config.byproduct.target, config_lib.label_set_size(config, description["num_classes"]), settings
        ),
    )
    params, batch_stats = model.abstract()
    abstract = checkpoint_lib.abstract_on(sharding.replicated(mesh), {"params": params, "batch_stats": batch_stats})
    state = checkpoint_lib.restore(workdir, step, abstract)
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
        },
        model=model,
        params=state["params"],
        batch_stats=state.get("batch_stats", {}),
        preprocessing=config.data.preprocessing,
        class_list_hash=description["class_list_hash"],
        label_sets=config.task is Task.MULTI_LABEL,
        target=config.byproduct.target,
    )
