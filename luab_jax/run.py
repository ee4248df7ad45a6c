"""Everything fixed about a run before its first step: data, model, mesh, compiled functions, its workdir."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
from etils import epath

from luab_jax import checkpoint as checkpoint_lib
from luab_jax import config as config_lib
from luab_jax import sharding
from luab_jax.byproducts.kinds import TargetSettings
from luab_jax.byproducts.statistics import STATISTICS_KEY
from luab_jax.config import Config, Task, label_set_size
from luab_jax.data.batch import Batch
from luab_jax.data.dataset import PreparedSplit, open_split
from luab_jax.data.features import Example
from luab_jax.errors import ConfigError, DataError, UserError
from luab_jax.log import say
from luab_jax.metrics import Means
from luab_jax.program import Program, lower_train_step, make_checked_mesh, make_program
from luab_jax.run_statistics import training_statistics
from luab_jax.step import TrainState

INITIAL_WEIGHTS = "initial_weights"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run(Program):
    """Everything fixed about a run before its first step."""

    workdir: epath.Path
    train_split: PreparedSplit
    eval_split: PreparedSplit
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
            "versions": checkpoint_lib.versions(),
            **({INITIAL_WEIGHTS: self.initial_weights} if self.initial_weights else {}),
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
    mesh = make_checked_mesh(config)
    settings = TargetSettings(
        heat_map_side=config.byproduct.heat_map_side,
        statistics=training_statistics(config, train_split, epath.Path(workdir), label_set_size(config, num_classes)),
    )
    program = make_program(config, mesh, num_classes=num_classes, num_examples=num_examples, target_settings=settings)

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
    compiled = lower_train_step(run).compile()
    say(f"compiled the training step in {time.monotonic() - start:.1f} s", active=run.is_first_process)
    return compiled
