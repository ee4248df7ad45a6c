"""Hosts, the mesh of their devices, and which array is split along which axis."""

from __future__ import annotations

import math
import sys
import zlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from luab_jax.config import DistributedConfig, MeshConfig
from luab_jax.errors import ConfigError, UserError, option

DATA_AXIS = "data"
FSDP_AXIS = "fsdp"
_MIN_SHARDED_SIZE = 2**14
"""Smaller parameters are kept whole: gathering them costs more than the memory they take."""


def init_distributed(
    config: DistributedConfig, *, prefix: str = "config.distributed.", flag: str = "--config.distributed.enabled=true"
) -> None:
    """Joins the hosts of one run; must come before anything that touches a device. Does nothing unless told to.

    `prefix` is what a command's flags have before the names of the fields, `flag` the one that sets `enabled`.

    Raises `ConfigError` if the hosts are described by halves, and `UserError` if they do not meet, or if jax sees
    several hosts that were not joined (each would train alone and write over the others).
    """
    described = (config.num_processes is not None, config.process_id is not None)
    if config.coordinator_address and not all(described):
        raise ConfigError(f"{prefix}coordinator_address={config.coordinator_address} needs num_processes, process_id")
    if any(described) and not config.coordinator_address:
        raise ConfigError(f"{prefix}num_processes and process_id need coordinator_address, the host:port of process 0")
    if config.enabled or config.coordinator_address:
        _join(config)
    elif jax.process_count() > 1:
        raise UserError(f"this is one of {jax.process_count()} hosts, but they were not joined: {flag}")


def _join(config: DistributedConfig) -> None:
    where = config.coordinator_address or "the cluster's coordinator"
    print(f"waiting up to {config.timeout_s} s for all hosts at {where} ...", file=sys.stderr, flush=True)
    try:
        jax.distributed.initialize(
            coordinator_address=config.coordinator_address or None,
            num_processes=config.num_processes,
            process_id=config.process_id,
            initialization_timeout=config.timeout_s,
            # A host that is lost is told by `WatchedHosts`; jax's own watch, which aborts, comes later.
            heartbeat_timeout_seconds=2 * config.heartbeat_timeout_s + 30,
        )
    except (RuntimeError, ValueError) as e:
        raise UserError(
            f"not all hosts came together at {where} within {config.timeout_s} s ({e}). Start the same command on every"
            " host, and see that the coordinator's port is open between them"
        ) from e
    print(f"host {jax.process_index() + 1} of {jax.process_count()} is here", file=sys.stderr, flush=True)


def agree(facts: Mapping[str, str | int]) -> None:
    """Raises `UserError` on every host unless all hosts have the same facts: a run that differs would hang later."""
    if jax.process_count() == 1:
        return
    own = np.asarray([zlib.crc32(str(value).encode()) for value in facts.values()], np.uint32)
    everyones = multihost_utils.process_allgather(own)
    different = [
        name for name, column in zip(facts, np.asarray(everyones).T, strict=True) if len(set(column.tolist())) > 1
    ]
    if different:
        values = ", ".join(f"{name}={facts[name]}" for name in different)
        raise UserError(
            f"the hosts do not agree: host {jax.process_index()} has {values}. Give all of them the same command, and a"
            f" {option('workdir')} and data.root that all of them see (a bucket or a shared disk)"
        )


def gather(text: str) -> list[str]:
    """The text of every host, in the order of hosts."""
    return [message.decode() for message in gather_bytes(text.encode())]


def gather_bytes(message: bytes) -> list[bytes]:
    """The message of every host, in the order of hosts."""
    if jax.process_count() == 1:
        return [message]
    lengths = np.asarray(multihost_utils.process_allgather(np.asarray([len(message)], np.int32))).ravel()
    # Powers of two: every length of its own would be a program of its own.
    padded = np.zeros(1 << max(10, int(lengths.max() - 1).bit_length()), np.uint8)
    padded[: len(message)] = np.frombuffer(message, np.uint8)
    everyones = np.asarray(multihost_utils.process_allgather(padded))
    return [row[:length].tobytes() for row, length in zip(everyones, lengths.tolist(), strict=True)]


def put(tree: Any, sharding: NamedSharding) -> Any:
    """Arrays that every host has as a whole, placed on the devices of all of them."""
    if jax.process_count() == 1:
        return jax.device_put(tree, sharding)
    return jax.tree.map(
        lambda array: jax.make_array_from_callback(np.shape(array), sharding, np.asarray(array).__getitem__), tree
    )


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


def num_processes(mesh: Mesh) -> int:
    """Hosts of the mesh's devices, which need not be there."""
    return len({device.process_index for device in mesh.devices.flat})


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The first axis over all devices."""
    return NamedSharding(mesh, PartitionSpec((DATA_AXIS, FSDP_AXIS)))


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def state_shardings(mesh: Mesh, abstract_state: Any) -> Any:
    """Every large array split along fsdp on its largest axis that divides; everything else on every device."""

    def sharding(leaf: Any) -> NamedSharding:
        axis = _axis_in_parts(leaf.shape, mesh.shape[FSDP_AXIS])
        return replicated(mesh) if axis is None else _on_axis(mesh, leaf, axis, FSDP_AXIS)

    return jax.tree.map(sharding, abstract_state)


def update_shardings(mesh: Mesh, abstract: Any) -> Any:
    """Splits every large array over all devices if one of its axes divides; axes split along fsdp stay split."""

    def sharding(leaf: Any) -> NamedSharding:
        along_fsdp = _axis_in_parts(leaf.shape, mesh.shape[FSDP_AXIS])
        if along_fsdp is not None:
            further = mesh.shape[DATA_AXIS] > 1 and leaf.shape[along_fsdp] % mesh.size == 0
            return _on_axis(mesh, leaf, along_fsdp, (FSDP_AXIS, DATA_AXIS) if further else FSDP_AXIS)
        along_data = _axis_in_parts(leaf.shape, mesh.shape[DATA_AXIS])
        return replicated(mesh) if along_data is None else _on_axis(mesh, leaf, along_data, DATA_AXIS)

    return jax.tree.map(sharding, abstract)


def _axis_in_parts(shape: tuple[int, ...], parts: int) -> int | None:
    """The largest axis that divides; `None` where none does, for a small array, and for one part."""
    axes = [i for i, n in enumerate(shape) if n % parts == 0]
    if parts == 1 or not axes or math.prod(shape) < _MIN_SHARDED_SIZE:
        return None
    return max(axes, key=lambda i: shape[i])


def _on_axis(mesh: Mesh, leaf: Any, axis: int, names: str | tuple[str, ...]) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec(*(names if i == axis else None for i in range(len(leaf.shape)))))


def check_batch_size(name: str, batch_size: int, mesh: Mesh) -> None:
    """Raises `ConfigError` unless the batch divides among the devices."""
    if batch_size % mesh.size:
        below = batch_size // mesh.size * mesh.size
        choices = f"{below} or {below + mesh.size}" if below else f"{mesh.size}"
        raise ConfigError(f"config.{name}={batch_size} does not divide among {mesh.size} devices; take {choices}")


def check_microbatches(batch_size: int, steps: int, mesh: Mesh) -> None:
    """Raises `ConfigError` unless every microbatch divides among the devices, naming the numbers of steps that do."""
    if batch_size % (steps * mesh.size):
        rows = batch_size // mesh.size
        fits = [n for n in range(1, rows + 1) if rows % n == 0]
        nearest = sorted(sorted(fits, key=lambda n: abs(n - steps))[:3])
        raise ConfigError(
            f"config.accumulation_steps={steps}: batch_size={batch_size} gives {mesh.size} device(s) {rows} images"
            f" each, which do not divide into {steps} microbatches; take {' or '.join(map(str, nearest))}"
        )
