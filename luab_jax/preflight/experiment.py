"""One experiment on one topology: what is assumed of its data, the step of it, and everything preflight has to say."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from luab_jax import config as config_lib
from luab_jax.byproducts.kinds import TargetSettings
from luab_jax.byproducts.statistics import TargetStatistics
from luab_jax.byproducts.targets import Target
from luab_jax.config import Config, Task
from luab_jax.data.dataset import open_split
from luab_jax.errors import ConfigError
from luab_jax.io.cache import cache_folder
from luab_jax.models import gpu
from luab_jax.models.choices import Attention
from luab_jax.models.functional import Model
from luab_jax.preflight.estimate import Estimate, Work, estimate
from luab_jax.preflight.facts import Compiler, Facts, facts_of
from luab_jax.preflight.hints import hints
from luab_jax.preflight.macs import count_macs
from luab_jax.preflight.topology import Topology
from luab_jax.training.program import Program, abstract_batch, lower_train_step, make_checked_mesh, make_program
from luab_jax.training.step import TrainState

_PUBLISHED = {
    Task.SINGLE_LABEL: ("ImageNet-1k", 1000, 1_281_167, 50_000),
    Task.MULTI_LABEL: ("COCO 2014", 80, 82_783, 40_504),
}
"""Name, classes, training and validation images where no data is at hand (Russakovsky et al. 2015; Lin et al. 2014)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """What a step's shapes and a run's length depend on."""

    num_classes: int
    num_examples: int
    eval_examples: int
    settings: TargetSettings
    assumptions: tuple[str, ...]
    """What was not looked up, in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preflight:
    """All that is known of an experiment before it starts."""

    name: str
    config: Config
    topology: Topology
    data: Data
    work: Work
    state_bytes: dict[str, int]
    """Per device, without padding: parameters, optimiser state and whatever else a run keeps."""
    saved_bytes: int
    """Of the whole state."""
    batch_bytes: int
    facts: Facts
    cached: bool
    with_time: bool = True
    """False for `--what=memory`."""
    estimate: Estimate
    hints: tuple[str, ...]


def examine(
    config: Config,
    topology: Topology,
    *,
    name: str,
    num_classes: int | None = None,
    num_examples: int | None = None,
    price_per_chip_hour: float | None = None,
    with_time: bool = True,
    compiler: Compiler | None = None,
) -> Preflight:
    """Compiles the training step of a config for a topology, or finds it compiled. Raises `ConfigError`.

    compiler: What compiles, if not this process; it may raise `CompilerError`.
    """
    data, program, lowered = lowered_for(config, topology, num_classes, num_examples)
    with topology.as_target():
        is_for_cuda = gpu.has_cuda()
    counted = _without_cudnn(program, data) if is_for_cuda else program
    work = work_of(config, data, counted, len(topology.devices), topology.num_chips, topology.num_hosts)
    facts, cached = facts_of(
        lowered,
        topology=_identity(topology),
        cache=cache_folder(config.compilation_cache),
        title=f"{name} for {topology.name}",
        compiler=compiler,
    )
    estimated = estimate(
        facts,
        work,
        topology.chip,
        memory_bytes=topology.memory_bytes,
        price_per_chip_hour=price_per_chip_hour,
        gpus=topology.gpus,
    )
    state = state_bytes(program.abstract_state)
    return Preflight(
        name=name,
        config=config,
        topology=topology,
        data=data,
        work=work,
        state_bytes=state,
        saved_bytes=sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(program.abstract_state)),
        batch_bytes=sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(abstract_batch(program)))
        // len(topology.devices),
        facts=facts,
        cached=cached,
        with_time=with_time,
        estimate=estimated,
        hints=() if estimated.fits is not False else hints(config, topology, facts, state),
    )


def lowered_for(
    config: Config, topology: Topology, num_classes: int | None, num_examples: int | None
) -> tuple[Data, Program, jax.stages.Lowered]:
    """The training step on the devices of a topology. Raises `ConfigError`."""
    config.validate()
    mesh = make_checked_mesh(config, topology.devices)
    data = data_of(config, num_classes, num_examples)
    with topology.as_target():
        program = _program(config, mesh, data)
        return data, program, lower_train_step(program)


def _program(config: Config, mesh: Mesh, data: Data) -> Program:
    return make_program(
        config, mesh, num_classes=data.num_classes, num_examples=data.num_examples, target_settings=data.settings
    )


def _without_cudnn(program: Program, data: Data) -> Program:
    """The same program with XLA's attention, whose products can be counted."""
    config = program.config
    model = dataclasses.replace(config.model, attention=Attention.XLA)
    return _program(dataclasses.replace(config, model=model), program.mesh, data)


def work_of(config: Config, data: Data, program: Program, num_devices: int, num_chips: int, num_hosts: int) -> Work:
    steps = program.total_steps

    def times(every_epochs: float) -> int:
        """At multiples, and at the end."""
        return -(-steps // config_lib.every_steps(every_epochs, config, data.num_examples))

    return Work(
        batch_size=config.batch_size,
        forward_macs=forward_macs(program.model),
        total_steps=steps,
        num_devices=num_devices,
        num_chips=num_chips,
        num_hosts=num_hosts,
        num_evaluations=times(config.eval.every_epochs),
        eval_examples=data.eval_examples,
        models_evaluated=2 if config.optim.ema_decay > 0 else 1,
        num_saves=times(config.checkpoint.every_epochs),
        minutes_per_save=config.checkpoint.every_minutes,
    )


def _identity(topology: Topology) -> str:
    """Of a topology for the hash: devices at hand by their kind and number."""
    return f"{topology.name} {topology.devices[0].device_kind} {len(topology.devices)}"


def data_of(config: Config, num_classes: int | None, num_examples: int | None) -> Data:
    """The data's own facts where a folder is named, else what was told, else what is published."""
    published, classes, examples, eval_examples = _PUBLISHED[config.task]
    assumptions = []
    if config.data.root:
        split = open_split(config.data.root, config.data.train_split)
        classes, examples = len(split.manifest.classes), len(split.records)
        eval_examples = len(open_split(config.data.root, config.data.eval_split).records)
    else:
        num_classes = num_classes or config.data.num_classes
        assumed = [f"{classes:,} classes"] if num_classes is None else []
        assumed += [f"{examples:,} training images"] if num_examples is None else []
        assumptions += [f"{' and '.join(assumed)}, as {published} has"] if assumed else []
    if Target.ANNOTATOR in config.byproduct.targets:
        count = config.byproduct.max_annotators
        assumptions.append(f"{count:,} annotators, the most that config.byproduct.max_annotators admits")
    else:
        count = 0
    return Data(
        num_classes=num_classes or classes,
        num_examples=num_examples or examples,
        eval_examples=eval_examples,
        settings=TargetSettings(
            heat_map_side=config.byproduct.heat_map_side,
            statistics=TargetStatistics(annotators=tuple(str(index) for index in range(count))),
        ),
        assumptions=tuple(assumptions),
    )


def forward_macs(model: Model) -> int:
    params, batch_stats = model.abstract()
    image = jax.ShapeDtypeStruct((1, model.image_size, model.image_size, 3), np.float32)
    return count_macs(lambda p, s, x: model.apply(p, s, x, train=False), params, batch_stats, image)


_NAMES = {
    "params": "parameters",
    "opt_state": "optimiser state",
    "batch_stats": "batch statistics",
    "ema": "moving average",
}


def state_bytes(abstract_state: TrainState) -> dict[str, int]:
    """Of each part of the state, as its sharding lays it on one device."""

    def bytes_of(leaf: Any) -> int:
        return math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize

    parts = {
        _NAMES.get(name, name): sum(bytes_of(leaf) for leaf in jax.tree.leaves(part))
        for name, part in abstract_state._asdict().items()
    }
    return {name: num_bytes for name, num_bytes in parts.items() if num_bytes > 4}  # not the number of the step


def check_counts(num_classes: int | None, num_examples: int | None) -> None:
    for name, value in (("num_classes", num_classes), ("num_examples", num_examples)):
        if value is not None and value < 1:
            raise ConfigError(f"--{name}={value} must be 1 or more")
