"""Everything fixed about a run before its first step: data, model, mesh, compiled functions, its workdir."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
from etils import epath

from luab_jax import config as config_lib
from luab_jax.byproducts.statistics import STATISTICS_KEY
from luab_jax.checkpoints import store as checkpoint_lib
from luab_jax.config import Config, Task, label_set_size
from luab_jax.config.byproduct import settings_of
from luab_jax.config.versions import updated
from luab_jax.data.batch import Batch
from luab_jax.data.class_lists import ClassList, imagenet
from luab_jax.data.dataset import PreparedSplit, open_split
from luab_jax.data.features import Example
from luab_jax.data.transforms import input_of_file
from luab_jax.distributed import sharding
from luab_jax.errors import ConfigError, DataError, option
from luab_jax.io.atomic import write_text
from luab_jax.io.cache import cache_folder
from luab_jax.io.console import compiling
from luab_jax.metrics.means import Means
from luab_jax.models.config import BatchNorm
from luab_jax.models.families import FAMILIES
from luab_jax.training.gpu_decoding import check_decoder
from luab_jax.training.host_data import HostData
from luab_jax.training.program import Program, lower_train_step, make_checked_mesh, make_program, trace_train_step
from luab_jax.training.resumption import LENGTHS, REPLICAS, read_json, refuse_another, same_replicas
from luab_jax.training.step import TrainState
from luab_jax.training.target_check import check_targets
from luab_jax.training.target_statistics import training_statistics

INITIAL_WEIGHTS = "initial_weights"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run(Program):
    """Everything fixed about a run before its first step."""

    workdir: epath.Path
    train_split: PreparedSplit
    eval_split: PreparedSplit
    host_data: HostData
    init_key: jax.Array
    step_key: jax.Array
    initial_weights: dict[str, Any] = field(default_factory=dict)
    """What was taken from `config.init_from` before the first step; empty without it."""

    @property
    def is_first_process(self) -> bool:
        return jax.process_index() == 0

    def description(self) -> dict[str, Any]:
        """What makes a checkpoint understandable without this run."""
        classes = self.train_split.manifest.classes
        return {
            "config": config_lib.to_dict(self.config),
            "dataset": self.train_split.manifest.dataset,
            "num_classes": len(classes),
            "class_list_hash": classes.hash,
            **classes_entry(classes),
            "versions": checkpoint_lib.versions(),
            **({INITIAL_WEIGHTS: self.initial_weights} if self.initial_weights else {}),
            **_statistics_entry(self),
        }


def classes_entry(classes: ClassList) -> dict[str, Any]:
    """Ids and names of the classes in label order; ImageNet's own are known by their hash."""
    return (
        {} if classes.hash == imagenet().hash else {"classes": {"ids": list(classes.ids), "names": list(classes.names)}}
    )


def set_up(config: Config, workdir: epath.PathLike) -> Run:
    """Opens the data, builds the model, and prepares the compiled functions (compiled at their first call)."""
    if not config.data.root:
        raise ConfigError(f"config.data.root is empty: {option('config.data.root')}=DIR names the prepared data")
    train_split = open_split(config.data.root, config.data.train_split)
    eval_split = open_split(config.data.root, config.data.eval_split)
    host_data = HostData(config, train_split, eval_split, active=jax.process_index() == 0)
    train_split, eval_split = host_data.train_split, host_data.eval_split
    num_classes = _num_classes(config, train_split, eval_split)
    for split in (train_split, eval_split):
        _check_task(config, split)
    _check_evaluable(config, eval_split)
    num_examples = len(train_split.records)
    if not num_examples:
        raise DataError(f"{config.data.root}: the split {config.data.train_split!r} holds no record to train on")
    check_decoder(config, train_split)
    mesh = make_checked_mesh(config)
    settings = settings_of(
        config.byproduct,
        statistics=training_statistics(config, train_split, epath.Path(workdir), label_set_size(config, num_classes)),
    )
    check_targets(config, train_split, eval_split, label_set_size(config, num_classes), settings)
    program = make_program(config, mesh, num_classes=num_classes, num_examples=num_examples, target_settings=settings)
    if config.loss:
        trace_train_step(program)  # refuses a loss of one's own before the workdir is claimed

    def keys() -> tuple[jax.Array, jax.Array]:
        """For the initial parameters, and for the randomness of the steps."""
        root = jax.random.key(config.seed)
        return jax.random.fold_in(root, 0), jax.random.fold_in(root, 1)

    init_key, step_key = jax.jit(keys, out_shardings=sharding.replicated(mesh))()
    return Run(
        **{field.name: getattr(program, field.name) for field in dataclasses.fields(Program)},
        workdir=epath.Path(workdir),
        train_split=train_split,
        eval_split=eval_split,
        host_data=host_data,
        init_key=init_key,
        step_key=step_key,
    )


def _num_classes(config: Config, train_split: PreparedSplit, eval_split: PreparedSplit) -> int:
    classes, others = train_split.manifest.classes, eval_split.manifest.classes
    if classes.hash != others.hash:
        raise DataError(
            f"{config.data.root}: the splits {config.data.train_split!r} and {config.data.eval_split!r} were prepared"
            f" with different class lists ({len(classes)} and {len(others)} classes); prepare both with one list"
        )
    if config.data.num_classes not in (None, len(classes)):
        raise ConfigError(
            f"config.data.num_classes={config.data.num_classes}, but {config.data.root} has {len(classes)} classes"
        )
    return len(classes)


def _check_task(config: Config, split: PreparedSplit) -> None:
    """Whether images have one label or sets of them is a property of a whole split, so its first record tells."""
    if not len(split.records):
        return
    found = Task.SINGLE_LABEL if Example(split.records[0]).label >= 0 else Task.MULTI_LABEL
    if found is not config.task:
        kind = "one label" if found is Task.SINGLE_LABEL else "a set of labels"
        raise ConfigError(
            f"config.task={config.task.value}, but every image of {split.directory}, split {split.manifest.split!r},"
            f" has {kind}: set config.task={found.value}"
        )


def _check_evaluable(config: Config, split: PreparedSplit) -> None:
    """Raises `DataError` if the first image cannot be evaluated by the config's preprocessing: before the training."""
    if not len(split.records):
        return
    example = Example(split.records[0])
    try:
        input_of_file(example.image, example.file_name, config.data.preprocessing)
    except DataError as e:
        raise DataError(f"{split.directory}, split {split.manifest.split!r}, {e}") from e


SHORTEST_COMPILATION_S = 0.1
"""What takes less to compile is not kept. A start compiles some ten programs of 0.1 to 1 s beside the step."""


def use_compilation_cache(config: Config) -> None:
    """Keeps compiled programs between runs."""
    folder = cache_folder(config.compilation_cache, active=jax.process_index() == 0)
    if folder is not None:
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", SHORTEST_COMPILATION_S)


def claim(run: Run, *, extends: bool = False) -> None:
    """Makes the workdir this run's: writes config.json and data.json into a new one.

    extends: The config is that of an extension of the run that is there, checked before.
    Raises `UserError` if it belongs to a run of another config or other data, showing the difference, or if the hosts
    of the run do not all see the same.
    """
    config, data = config_lib.to_dict(run.config), _data_identity(run)
    files = {run.workdir / "config.json": config, run.workdir / "data.json": data}
    found = {path.name: read_json(path) for path in files if path.exists()}
    changed: dict[str, tuple[Any, Any]] = {}
    stored = updated(found.get("config.json", {}))
    if "config.json" in found:
        changed |= config_lib.differences(stored, config)
    if extends:
        changed = {name: values for name, values in changed.items() if name not in (*LENGTHS, "extended_at")}
    if "data.json" in found:
        same_replicas(found["data.json"], data.get(REPLICAS))
        old, new = config_lib.flatten(found["data.json"]), config_lib.flatten(data)
        # Older versions stated none of what TFDS prepared.
        unknown = {k for k, value in old.items() if k.endswith(".fingerprint") and not value}
        names = sorted((old.keys() | new.keys()) - {REPLICAS} - unknown)
        changed |= {f"data {k}": (old.get(k), new.get(k)) for k in names if old.get(k) != new.get(k)}
    refuse_another(run.workdir, changed, stored)
    facts = {"workdir": str(run.workdir), "config": config_lib.config_hash(run.config), "data": json.dumps(data)}
    sharding.agree(facts)
    if run.is_first_process:
        for path, values in files.items():
            write_text(path, json.dumps(values, indent=1) + "\n", make_folder=True)
    sharding.agree({"barrier": 0})
    sharding.agree({"config.json": (run.workdir / "config.json").exists()})


def _data_identity(run: Run) -> dict[str, Any]:
    """What a resumed run must find again, wherever the data have moved to."""
    splits = {"train": run.train_split.manifest, "eval": run.eval_split.manifest}
    per_replica = run.config.model.batch_norm is BatchNorm.PER_REPLICA and FAMILIES[run.model.family].has_batch_norm
    replicas = {REPLICAS: run.mesh.size} if per_replica else {}
    return (
        _statistics_entry(run)
        | replicas
        | {
            name: {
                "dataset": manifest.dataset,
                "split": manifest.split,
                "num_records": manifest.num_records,
                "class_list_hash": manifest.classes.hash,
                "fingerprint": manifest.fingerprint,
            }
            for name, manifest in splits.items()
        }
    )


def _statistics_entry(run: Run) -> dict[str, Any]:
    """The statistics of the training split, where the experiment needs any."""
    statistics = run.target_settings.statistics
    return {STATISTICS_KEY: statistics.to_json()} if statistics else {}


def compile_step(run: Run) -> Callable[[TrainState, Batch, jax.Array], tuple[TrainState, Means]]:
    """The step compiled ahead of the first batch, so that no log line's rate holds the compilation."""
    with compiling("the training step", active=run.is_first_process):
        return lower_train_step(run).compile()
