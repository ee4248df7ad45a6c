"""One experiment on GPUs that need not be there: its state, and the roofline of its step. Nothing is compiled."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from luab_jax.config import Config, MeshConfig
from luab_jax.errors import ConfigError
from luab_jax.models.config import Dtype
from luab_jax.models.functional import Model
from luab_jax.preflight.estimate import Work
from luab_jax.preflight.experiment import Data, data_of, state_bytes, work_of
from luab_jax.preflight.gpus import Demand, GpuCluster, Roofline, roofline
from luab_jax.preflight.macs import count_bytes
from luab_jax.training.program import Program, make_checked_mesh, make_program


@dataclass(frozen=True, slots=True)
class _Gpu:
    """Stands for a device that is not there, in a mesh that runs nothing."""

    number: int
    process_index: int
    device_kind: str
    platform: str = "gpu"


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuPreflight:
    """What can be said of an experiment on GPUs."""

    name: str
    config: Config
    cluster: GpuCluster
    data: Data
    work: Work
    state_bytes: dict[str, int]
    """Per GPU."""
    demand: Demand
    roofline: Roofline
    with_time: bool

    @property
    def images_per_s(self) -> float:
        """At most."""
        return self.work.batch_size / self.roofline.step_s

    @property
    def evaluation_hours(self) -> float:
        return self.work.evaluation_s(self.images_per_s) / 3600

    @property
    def hours(self) -> float:
        """At least: steps and evaluations."""
        return self.work.total_steps * self.roofline.step_s / 3600 + self.evaluation_hours

    @property
    def fits(self) -> bool | None:
        """Only what does not fit is known: the state alone may be too large."""
        return False if sum(self.state_bytes.values()) > self.cluster.gpu.memory_bytes else None


def examine_on_gpus(
    config: Config,
    cluster: GpuCluster,
    *,
    name: str,
    num_classes: int | None = None,
    num_examples: int | None = None,
    with_time: bool = True,
) -> GpuPreflight:
    """Raises `ConfigError` where the batch or the mesh does not divide among the GPUs."""
    config.validate()
    count = cluster.num_devices
    if config.batch_size % (count * config.accumulation_steps):
        unit = count * config.accumulation_steps
        below = config.batch_size // unit * unit
        raise ConfigError(
            f"config.batch_size={config.batch_size} does not divide among {count} GPUs"
            f" x {config.accumulation_steps} microbatches; take {f'{below} or ' if below else ''}{below + unit}"
        )
    data = data_of(config, num_classes, num_examples)

    def program_on(mesh: Mesh) -> Program:
        return make_program(
            config, mesh, num_classes=data.num_classes, num_examples=data.num_examples, target_settings=data.settings
        )

    there = make_checked_mesh(
        config, [_Gpu(number, number // cluster.per_node, cluster.gpu.device_kind) for number in range(count)]
    )
    program = program_on(make_checked_mesh(_on_one_device(config), jax.devices()[:1]))
    work = work_of(config, data, program, count, count, cluster.num_nodes)
    state = state_bytes(program_on(there).abstract_state)
    parameters = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(program.abstract_state.params))
    rows = config.batch_size // count
    demand = Demand(
        flops=work.flops_per_step / count,
        dtype="f32" if config.model.compute_dtype is Dtype.FLOAT32 else "bf16",
        # Forward, and the slopes of both operands: three products over the same arrays. The state is read and written.
        memory_bytes=3.0 * _forward_bytes(program.model, rows // config.accumulation_steps) * config.accumulation_steps
        + 2.0 * sum(state.values()),
        gradient_bytes=4.0 * parameters,
    )
    return GpuPreflight(
        name=name,
        config=config,
        cluster=cluster,
        data=data,
        work=work,
        state_bytes=state,
        demand=demand,
        roofline=roofline(demand, cluster),
        with_time=with_time,
    )


def _on_one_device(config: Config) -> Config:
    return dataclasses.replace(config, mesh=MeshConfig())


def _forward_bytes(model: Model, rows: int) -> int:
    params, batch_stats = model.abstract()
    images = jax.ShapeDtypeStruct((rows, model.image_size, model.image_size, 3), np.float32)

    def forward(params: Any, batch_stats: Any, images: Any) -> Any:
        return model.apply(params, batch_stats, images, train=False)

    return count_bytes(forward, params, batch_stats, images)
