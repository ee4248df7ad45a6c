"""Hosts, the mesh of their devices, and which array is split along which axis."""

from __future__ import annotations

import math
import os
import sys
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from luab_jax.config import DistributedConfig, MeshConfig
from luab_jax.errors import ConfigError, UserError

DATA_AXIS = "data"
FSDP_AXIS = "fsdp"
_MIN_SHARDED_SIZE = 2**14
"""Smaller parameters are kept whole: gathering them costs more than the memory they take."""


def init_distributed(config: DistributedConfig) -> None:
    """Joins the hosts of one run; must come before anything that touches a device. Does nothing on a single host."""
    on_pod = len([h for h in os.environ.get("TPU_WORKER_HOSTNAMES", "").split(",") if h]) > 1
    if not config.coordinator_address and not on_pod:
        return
    where = config.coordinator_address or "the pod's coordinator"
    print(f"waiting up to {config.timeout_s} s for all hosts at {where} ...", file=sys.stderr, flush=True)
    try:
        jax.distributed.initialize(
            coordinator_address=config.coordinator_address or None,
            num_processes=config.num_processes,
            process_id=config.process_id,
            initialization_timeout=config.timeout_s,
        )
    except (RuntimeError, ValueError) as e:
        raise UserError(
            f"not all hosts came together at {where} within {config.timeout_s} s ({e}). Start the same command on every"
            " host, and see that the coordinator's port is open between them"
        ) from e
    print(f"host {jax.process_index() + 1} of {jax.process_count()} is here", file=sys.stderr, flush=True)


def make_mesh(config: MeshConfig, devices: list[Any] | None = None) -> Mesh:
    """A mesh with the axes data and fsdp over all devices; raises `ConfigError` that proposes shapes that fit."""
    devices = jax.devices() if devices is None else devices
    count = len(devices)
    fits = [(count // n, n) for n in range(1, count + 1) if count % n == 0]
    data = count // config.fsdp if config.data == -1 and config.fsdp > 0 else config.data
    if (data, config.fsdp) not in fits:
        shapes = ", ".join(f"data={d} fsdp={f}" for d, f in fits[:6])
        raise ConfigError(
            f"config.mesh data={config.data} fsdp={config.fsdp} does not fit {count} device(s); these do: {shapes}"
        )
    return Mesh(np.asarray(devices).reshape(data, config.fsdp), (DATA_AXIS, FSDP_AXIS), axis_types=(AxisType.Auto,) * 2)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The first axis over all devices."""
    return NamedSharding(mesh, PartitionSpec((DATA_AXIS, FSDP_AXIS)))


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def state_shardings(mesh: Mesh, abstract_state: Any) -> Any:
    """Every large array split along fsdp on its largest axis that divides; everything else on every device."""
    fsdp = mesh.shape[FSDP_AXIS]

    def sharding(leaf: Any) -> NamedSharding:
        axes = [i for i, n in enumerate(leaf.shape) if n % fsdp == 0]
        if fsdp == 1 or not axes or math.prod(leaf.shape) < _MIN_SHARDED_SIZE:
            return replicated(mesh)
        split = max(axes, key=lambda i: leaf.shape[i])
        return NamedSharding(mesh, PartitionSpec(*(FSDP_AXIS if i == split else None for i in range(leaf.ndim))))

    return jax.tree.map(sharding, abstract_state)


def check_batch_size(name: str, batch_size: int, mesh: Mesh) -> None:
    """Raises `ConfigError` unless the batch divides among the devices."""
    if batch_size % mesh.size:
        below = batch_size // mesh.size * mesh.size
        choices = f"{below} or {below + mesh.size}" if below else f"{mesh.size}"
        raise ConfigError(f"config.{name}={batch_size} does not divide among {mesh.size} devices; take {choices}")
