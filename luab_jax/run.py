"""Everything fixed about a run before its first step: data, model, mesh, compiled functions, its workdir."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from etils import epath
from jax.sharding import Mesh

from luab_jax import checkpoint as checkpoint_lib
from luab_jax import config as config_lib
from luab_jax import optim, sharding
from luab_jax.byproducts.kinds import TargetSettings
from luab_jax.byproducts.responses import SampleWeight
from luab_jax.byproducts.statistics import STATISTICS_KEY
from luab_jax.byproducts.targets import head_shape, target_shape
from luab_jax.config import Config, Task, label_set_size
from luab_jax.data.batch import Batch
from luab_jax.data.dataset import PreparedSplit, open_split
from luab_jax.data.features import Example
from luab_jax.errors import ConfigError, DataError, UserError
from luab_jax.log import say
from luab_jax.metrics import Means
from luab_jax.models.functional import Model, create_model
from luab_jax.run_statistics import training_statistics
from luab_jax.step import TrainState, init_state, make_eval_step, make_label_set_eval_step, make_train_step


@dataclass(frozen=True, slots=True)
class Run:
    """Everything fixed about a run before its first step."""

    config: Config
    workdir: epath.Path
    mesh: Mesh
    model: Model
    train_split: PreparedSplit
    eval_split: PreparedSplit
    target_settings: TargetSettings
    total_steps: int
    train_step: Any
    """The jitted (state, batch, key) -> (state, means)."""
    eval_step: Callable[[Any, Any, Batch], Any]
    """The jitted (params, batch_stats, batch) -> means, with the rows of mAP for sets of labels."""
    init: Callable[[jax.Array], TrainState]
    abstract_state: TrainState
    init_key: jax.Array
    step_key: jax.Array

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
            "versions": checkpoint_lib.versions(),
            **_statistics_entry(self),
        }


def set_up(config: Config, workdir: epath.PathLike) -> Run:
    """Opens the data, builds the model, and prepares the compiled functions (compiled at their first call)."""
    if not config.data.root:
        raise ConfigError("config.data.root is empty: --config.data.root=DIR names the prepared data")
    train_split = open_split(config.data.root, config.data.train_split)
    eval_split = open_split(config.data.root, config.data.eval_split)
    num_classes = _num_classes(config, train_split, eval_split)
    for split in (train_split, eval_split):
        _check_task(config, split)
    num_examples = len(train_split.records)
    if not num_examples:
        raise DataError(f"{config.data.root}: the split {config.data.train_split!r} holds no record to train on")
    mesh = sharding.make_mesh(config.mesh)
    sharding.check_batch_size("batch_size", config.batch_size, mesh)
    sharding.check_batch_size("eval.batch_size", config.eval.batch_size or config.batch_size, mesh)
    settings = TargetSettings(
        heat_map_side=config.byproduct.heat_map_side,
        statistics=training_statistics(config, train_split, epath.Path(workdir), label_set_size(config, num_classes)),
    )
    try:
        model = create_model(
            config.model,
            num_classes=num_classes,
            image_size=config.data.preprocessing.image_size,
            byproduct_shape=head_shape(config.byproduct.target, label_set_size(config, num_classes), settings),
        )
    except ValueError as e:
        raise ConfigError(str(e)) from e
    steps = config_lib.total_steps(config, num_examples)
    schedule = optim.make_schedule(
        config.optim, total_steps=steps, warmup_steps=config_lib.warmup_steps(config, num_examples)
    )
    optimizer = optim.make_optimizer(config.optim, schedule)

    def keys() -> tuple[jax.Array, jax.Array]:
        """For the initial parameters, and for the randomness of the steps."""
        root = jax.random.key(config.seed)
        return jax.random.fold_in(root, 0), jax.random.fold_in(root, 1)

    def init(key: jax.Array) -> TrainState:
        return init_state(model, optimizer, key)

    batches, whole = sharding.batch_sharding(mesh), sharding.replicated(mesh)
    init_key, step_key = jax.jit(keys, out_shardings=whole)()
    shapes = jax.eval_shape(init, init_key)
    shardings = sharding.state_shardings(mesh, shapes)
    return Run(
        config=config,
        workdir=epath.Path(workdir),
        mesh=mesh,
        model=model,
        train_split=train_split,
        eval_split=eval_split,
        target_settings=settings,
        total_steps=steps,
        train_step=jax.jit(
            make_train_step(config, model, optimizer, schedule),
            donate_argnums=0,
            in_shardings=(shardings, batches, whole),
            out_shardings=(shardings, whole),
        ),
        eval_step=jax.jit(
            (make_label_set_eval_step if config.task is Task.MULTI_LABEL else make_eval_step)(config, model),
            in_shardings=(shardings.params, shardings.batch_stats, batches),
            out_shardings=whole,
        ),
        init=jax.jit(init, out_shardings=shardings),
        abstract_state=jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, shardings),
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


def use_compilation_cache(config: Config) -> None:
    """Keeps compiled programs between runs."""
    if config.compilation_cache:
        jax.config.update("jax_compilation_cache_dir", str(epath.Path(config.compilation_cache).expanduser()))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)


def claim(run: Run) -> None:
    """Makes the workdir this run's: writes config.json and data.json into a new one.

    Raises `UserError` if it belongs to a run of another config or other data, showing the difference, or if the hosts
    of the run do not all see the same.
    """
    config, data = config_lib.to_dict(run.config), _data_identity(run)
    files = {run.workdir / "config.json": config, run.workdir / "data.json": data}
    found = {path.name: _read_json(path) for path in files if path.exists()}
    changed: dict[str, tuple[Any, Any]] = {}
    if "config.json" in found:
        changed |= config_lib.differences(found["config.json"], config)
    if "data.json" in found:
        old, new = config_lib.flatten(found["data.json"]), config_lib.flatten(data)
        changed |= {f"data {k}": (old.get(k), new.get(k)) for k in old | new if old.get(k) != new.get(k)}
    if changed:
        lines = "\n".join(f"  {name}: {a!r} there, {b!r} here" for name, (a, b) in changed.items())
        raise UserError(
            f"{run.workdir}: holds a run of another config or other data; choose another --workdir. They differ in\n"
            f"{lines}"
        )
    facts = {"workdir": str(run.workdir), "config": config_lib.config_hash(run.config), "data": json.dumps(data)}
    sharding.agree(facts)
    if run.is_first_process:
        run.workdir.mkdir(parents=True, exist_ok=True)
        for path, values in files.items():
            part = path.with_name(path.name + ".tmp")
            part.write_text(json.dumps(values, indent=1) + "\n")
            part.replace(path)
    sharding.agree({"barrier": 0})
    sharding.agree({"config.json": (run.workdir / "config.json").exists()})


def _data_identity(run: Run) -> dict[str, Any]:
    """What a resumed run must find again, wherever the data have moved to."""
    splits = {"train": run.train_split.manifest, "eval": run.eval_split.manifest}
    return _statistics_entry(run) | {
        name: {
            "dataset": manifest.dataset,
            "split": manifest.split,
            "num_records": manifest.num_records,
            "class_list_hash": manifest.classes.hash,
            "fingerprint": manifest.fingerprint,
        }
        for name, manifest in splits.items()
    }


def _statistics_entry(run: Run) -> dict[str, Any]:
    """The statistics of the training split, where the experiment needs any."""
    statistics = run.target_settings.statistics
    return {STATISTICS_KEY: statistics.to_json()} if statistics else {}


def _read_json(path: epath.Path) -> Any:
    try:
        return json.loads(path.read_text())
    except ValueError as e:
        raise UserError(f"{path}: not written by a run ({e}); choose another --workdir") from e


def compile_step(run: Run) -> Callable[[TrainState, Batch, jax.Array], tuple[TrainState, Means]]:
    """The step compiled ahead of the first batch, so that no log line's rate holds the compilation."""
    start = time.monotonic()
    size, side = run.config.batch_size, run.config.data.preprocessing.image_size
    num_classes = label_set_size(run.config, run.model.num_classes)
    k, d = target_shape(run.config.byproduct.target, num_classes, run.target_settings) or (0, 0)
    weighted = run.config.byproduct.sample_weight is not SampleWeight.NONE
    shapes = Batch(
        images=jax.ShapeDtypeStruct((size, side, side, 3), np.uint8),
        labels=_label_shape(run, size),
        targets=jax.ShapeDtypeStruct((size, k, d), np.float32),
        valid=jax.ShapeDtypeStruct((size, k), np.bool_),
        mask=jax.ShapeDtypeStruct((size,), np.bool_),
        index=jax.ShapeDtypeStruct((size,), np.int32),
        weights=jax.ShapeDtypeStruct((size,), np.float32) if weighted else None,
    )
    compiled = run.train_step.lower(run.abstract_state, shapes, run.step_key).compile()
    say(f"compiled the training step in {time.monotonic() - start:.1f} s", active=run.is_first_process)
    return compiled


def _label_shape(run: Run, size: int) -> jax.ShapeDtypeStruct:
    if run.config.task is Task.SINGLE_LABEL:
        return jax.ShapeDtypeStruct((size,), np.int32)
    return jax.ShapeDtypeStruct((size, run.model.num_classes), np.bool_)
