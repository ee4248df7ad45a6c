"""What is compiled for an experiment: made of its config, a mesh, and two facts of the data that is not opened here.

Training and preflight share it, so what preflight compiles for a topology is what training runs there.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from luab_jax import config as config_lib
from luab_jax.byproducts.kinds import TargetSettings
from luab_jax.byproducts.responses import SampleWeight
from luab_jax.byproducts.targets import target_shape
from luab_jax.config import Config, Task, label_set_size
from luab_jax.config.byproduct import Byproduct, head_specs
from luab_jax.data.batch import Batch, Column
from luab_jax.distributed import sharding
from luab_jax.errors import ConfigError
from luab_jax.models import gpu
from luab_jax.models.config import BatchNorm
from luab_jax.models.families import FAMILIES
from luab_jax.models.functional import Model, create_model
from luab_jax.training import optim
from luab_jax.training.step import (
    Parts,
    TrainState,
    init_state,
    make_eval_step,
    make_label_set_eval_step,
    make_train_step,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """The functions of an experiment, compiled at their first call, and what they are made of."""

    config: Config
    mesh: Mesh
    model: Model
    target_settings: TargetSettings
    total_steps: int
    train_step: Any
    """The jitted (state, batch, key) -> (state, means)."""
    compiler_options: dict[str, Any] | None
    """Those of `train_step`."""
    eval_step: Callable[[Any, Any, Batch], Any]
    """The jitted (params, batch_stats, batch) -> means, with the rows of mAP for sets of labels."""
    average: Callable[[Any], Any]
    """Moving average -> the same, laid out as `eval_step` takes its arguments."""
    init: Callable[..., TrainState]
    """The jitted (key, given parts or None) -> state."""
    abstract_state: TrainState


def make_checked_mesh(config: Config, devices: list[Any] | None = None) -> Mesh:
    """The config's mesh over all devices, or over those given; raises `ConfigError` unless the batches divide."""
    mesh = sharding.make_mesh(config.mesh, devices)
    sharding.check_batch_size("batch_size", config.batch_size, mesh)
    sharding.check_microbatches(config.batch_size, config.accumulation_steps, mesh)
    sharding.check_batch_size("eval.batch_size", config.eval.batch_size or config.batch_size, mesh)
    return mesh


def make_program(
    config: Config, mesh: Mesh, *, num_classes: int, num_examples: int, target_settings: TargetSettings
) -> Program:
    """Builds the model and its functions; nothing is computed on a device.

    num_examples: of the training split, on which the number of steps depends.
    """
    label_set = label_set_size(config, num_classes)
    try:
        model = create_model(
            config.model,
            num_classes=num_classes,
            image_size=config.data.preprocessing.image_size,
            heads=head_specs(config.byproduct, config.model, label_set, target_settings),
            num_replicas=_num_replicas(config, mesh),
        )
    except ValueError as e:
        raise ConfigError(str(e)) from e
    steps = config_lib.total_steps(config, num_examples)
    schedule = optim.schedule_of(config, num_examples)
    optimizer = optim.make_optimizer(config.optim, schedule)

    def init(key: jax.Array, given: Parts | None = None) -> TrainState:
        return init_state(model, optimizer, key, given, ema=config.optim.ema_decay > 0)

    batches, whole = sharding.batch_sharding(mesh), sharding.replicated(mesh)
    compiler_options = gpu.compiler_options() if FAMILIES[model.family].is_transformer else None
    shapes = jax.eval_shape(init, jax.eval_shape(lambda: jax.random.key(0)))
    shardings = sharding.state_shardings(mesh, shapes)
    parts = None
    if config.mesh.split_optimizer:
        parts, opt_state, ema = sharding.update_shardings(mesh, (shapes.params, shapes.opt_state, shapes.ema))
        shardings = shardings._replace(opt_state=opt_state, ema=ema)
    whole_average = {"params": shardings.params, "batch_stats": shardings.batch_stats}
    return Program(
        config=config,
        mesh=mesh,
        model=model,
        target_settings=target_settings,
        total_steps=steps,
        train_step=jax.jit(
            make_train_step(
                config,
                model,
                optimizer,
                schedule,
                processes=sharding.num_processes(mesh),
                steps_per_epoch=config_lib.steps_per_epoch(config, num_examples),
                spread=batches,
                parts=parts,
            ),
            donate_argnums=0,
            in_shardings=(shardings, batches, whole),
            out_shardings=(shardings, whole),
            compiler_options=compiler_options,
        ),
        compiler_options=compiler_options,
        eval_step=jax.jit(
            (make_label_set_eval_step if config.task is Task.MULTI_LABEL else make_eval_step)(config, model, batches),
            in_shardings=(shardings.params, shardings.batch_stats, batches),
            out_shardings=whole,
        ),
        average=_itself if parts is None else jax.jit(_itself, out_shardings=whole_average),
        init=jax.jit(init, out_shardings=shardings, compiler_options=compiled_to_run_once(mesh)),
        abstract_state=jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, shardings),
    )


def _itself(tree: Any) -> Any:
    return tree


def compiled_to_run_once(mesh: Mesh) -> dict[str, Any] | None:
    """How a CPU compiles the drawing of the parameters: optimised little, to the same bits.

    Fully optimised it takes about as long as the training step. What the user's XLA_FLAGS say of it holds.
    """
    name = "xla_backend_optimization_level"
    on_cpu = mesh.devices.flat[0].platform == "cpu"
    return {name: 1} if on_cpu and name not in os.environ.get("XLA_FLAGS", "") else None


def _num_replicas(config: Config, mesh: Mesh) -> int:
    """Runs of rows over which BatchNorm takes its statistics apart."""
    if config.model.batch_norm is BatchNorm.PER_REPLICA:
        return mesh.size
    at_once = config.batch_size // config.accumulation_steps
    return max(1, at_once // config.model.batch_norm_images)


def trace_train_step(program: Program) -> Any:
    """The `jax.stages.Traced` of the config's batch, kept by jax for the compilation; a loss that fails fails here."""
    key = jax.eval_shape(lambda: jax.random.key(0))
    return program.train_step.trace(program.abstract_state, abstract_batch(program), key)


def lower_train_step(program: Program, platform: str | None = None) -> jax.stages.Lowered:
    """The training step for the config's batch, ready to be compiled; by default for the program's own devices."""
    traced = trace_train_step(program)
    return traced.lower() if platform is None else traced.lower(lowering_platforms=(platform,))


def count_flops(program: Program) -> float:
    """Of a training step, over all devices, before it is optimised: every addition counts, the optimiser's too.

    Counted in the program for a GPU, whatever the devices here: the body of a loop is counted once, and a CPU's
    convolutions have loops, a TPU's RandAugment too. A cuDNN kernel counts as nothing.
    """
    analysis: Any = lower_train_step(program, "cuda").cost_analysis()
    return float(analysis["flops"])


def abstract_batch(program: Program) -> Batch:
    """Shapes and types of a global training batch."""
    config = program.config
    size, side, num_classes = config.batch_size, config.data.preprocessing.image_size, program.model.num_classes
    one_label = config.task is Task.SINGLE_LABEL
    label_set = label_set_size(config, num_classes)
    weighted = jax.ShapeDtypeStruct((size,), np.float32)

    def column(entry: Byproduct) -> Column:
        k, d = target_shape(entry.target, label_set, program.target_settings) or (0, 0)
        return Column(
            targets=jax.ShapeDtypeStruct((size, k, d), np.float32),
            valid=jax.ShapeDtypeStruct((size, k), np.bool_),
            weights=None if entry.target_sample_weight is SampleWeight.NONE else weighted,
        )

    first = column(config.byproduct)
    return Batch(
        images=jax.ShapeDtypeStruct((size, side, side, 3), np.uint8),
        labels=jax.ShapeDtypeStruct(*(((size,), np.int32) if one_label else ((size, num_classes), np.bool_))),
        targets=first.targets,
        valid=first.valid,
        mask=jax.ShapeDtypeStruct((size,), np.bool_),
        index=jax.ShapeDtypeStruct((size,), np.int32),
        weights=None if config.byproduct.sample_weight is SampleWeight.NONE else weighted,
        target_weights=first.weights,
        more=tuple(map(column, config.byproduct.more)),
    )
