"""Devices to compile for: a TPU slice or GPUs that are not there, by their name, or the devices at hand."""

from __future__ import annotations

import contextlib
import difflib
import importlib.util
import math
import os
import re
from dataclasses import dataclass
from typing import Any

from luab_jax.errors import UserError
from luab_jax.io.wording import how_to_install
from luab_jax.preflight.chips import CHIPS, Chip, of_device_kind
from luab_jax.preflight.gpus import GPUS, GpuCluster, parse_gpus, target_config

LOCAL = "local"


@dataclass(frozen=True, slots=True)
class Topology:
    """Devices, in the order in which a run would count them, and what is known of them."""

    name: str
    devices: list[Any]
    chip: Chip | None
    memory_bytes: int | None
    """Per device; `None` where nobody says, as on a CPU."""

    num_slices: int = 1
    gpus: GpuCluster | None = None
    """Where they are GPUs that are not there."""

    def as_target(self) -> contextlib.AbstractContextManager[None]:
        """Within it, programs are made as on these devices, also where they differ by more than the platform."""
        from luab_jax.models import gpu  # loads jax

        return contextlib.nullcontext() if self.gpus is None else gpu.as_target()

    @property
    def num_hosts(self) -> int:
        return len({device.process_index for device in self.devices})

    @property
    def num_chips(self) -> int:
        return len(self.devices) // (self.chip.devices_per_chip if self.chip else 1)


def split_slices(name: str) -> tuple[int, str]:
    """Number and name of the slices of `2*v5e:16x16` (Multislice); 1 without a number. Raises `UserError`."""
    number, times, rest = name.rpartition("*")
    if not times:
        return 1, name
    if not number.isdigit() or int(number) < 1:
        raise UserError(f"--topology={name}: {number!r} is no number of slices; 2*v5e:16x16 are two")
    return int(number), rest


def parse(name: str) -> tuple[Chip, tuple[int, ...]] | None:
    """Chip and shape of a name like `v5e:16x16` or `2*v5e:16x16`; `None` for `local`. Raises `UserError`.

    Needs no jax, so that a wrong name is answered at once.
    """
    _, name = split_slices(name)
    if name == LOCAL:
        return None
    found = re.fullmatch(r"(\w+):(\d+(?:x\d+)+)", name)
    kind = name.partition(":")[0]
    if kind not in CHIPS:
        near = difflib.get_close_matches(kind, CHIPS, n=1, cutoff=0.0)[0]
        raise UserError(
            f"--topology={name}: {kind!r} is none of {', '.join(CHIPS)}, {', '.join(GPUS)}, {LOCAL}; did you mean"
            f" {near}:{CHIPS[near].topologies[-1]}?"
        )
    chip = CHIPS[kind]
    shape = tuple(int(n) for n in found[2].split("x")) if found else ()
    if len(shape) != chip.topologies[0].count("x") + 1 or not math.prod(shape):
        raise UserError(f"--topology={name}: {_names(chip)}")
    return chip, shape


def find(name: str) -> Topology:
    """The devices of a topology. Raises `UserError` if its compiler is missing, or does not know the shape."""
    cluster = parse_gpus(name)
    if cluster is not None:
        return _absent_gpus(cluster)
    parsed = parse(name)
    if parsed is None:
        return _local()
    chip, shape = parsed
    _prepare_environment()
    from jax.errors import JaxRuntimeError
    from jax.experimental import topologies

    num_slices, slice_name = split_slices(name)
    options: dict[str, Any] = dict(chip.topology_options) | ({"num_slices": num_slices} if num_slices > 1 else {})
    if math.prod(shape) == 1:
        options["chips_per_host_bounds"] = (1,) * 3
    try:
        devices = list(topologies.get_topology_desc(slice_name, platform="tpu", **options).devices)
    except JaxRuntimeError as e:
        raise UserError(f"--topology={name}: the TPU compiler refuses it ({_first_line(e)}); {_names(chip)}") from e
    return Topology(name, devices, chip, chip.memory_bytes, num_slices)


def _prepare_environment() -> None:
    """Must come before jax loads libtpu; raises `UserError` where that is not installed."""
    if importlib.util.find_spec("libtpu") is None:
        raise UserError(
            f"compiling for a TPU that is not here needs the TPU compiler: {how_to_install('preflight')};"
            " --topology=local needs nothing"
        )
    os.environ.update(
        JAX_PLATFORMS="cpu",  # a compilation needs no device, and would only hold one back from others
        ALLOW_MULTIPLE_LIBTPU_LOAD="true",  # several at once, and after one that was killed
        TPU_SKIP_MDS_QUERY="1",  # do not wait for Cloud's metadata server
    )
    os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")  # or libtpu complains that it has none
    os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v5litepod-4")
    os.environ.setdefault("TPU_STDERR_LOG_LEVEL", "3")


def can_compile_for_gpus() -> bool:
    """Whether jax's CUDA plugin is installed, which compiles for GPUs that are not there."""
    return importlib.util.find_spec("jax_cuda13_plugin") is not None


def _absent_gpus(cluster: GpuCluster) -> Topology:
    os.environ["JAX_PLATFORMS"] = "cpu"  # a compilation needs no device, and would only hold one back from others
    from jax.experimental import topologies

    gpu, shape = cluster.gpu, f"{cluster.num_nodes}x1x{cluster.per_node}"
    try:
        found = topologies.get_topology_desc(
            gpu.device_kind, platform="cuda", target_config=target_config(gpu), topology=shape
        )
    except RuntimeError as e:
        raise UserError(
            f"--topology={cluster.name}: the GPU compiler fails ({_first_line(e)}); --what=roofline needs none"
        ) from e
    return Topology(cluster.name, list(found.devices), None, gpu.memory_bytes, gpus=cluster)


def _local() -> Topology:
    import jax

    devices = jax.devices()
    chip = of_device_kind(devices[0].device_kind)
    stats = devices[0].memory_stats() or {}
    return Topology(LOCAL, devices, chip, stats.get("bytes_limit", chip.memory_bytes if chip else None))


def _names(chip: Chip) -> str:
    return f"{chip.name} comes as " + ", ".join(f"{chip.name}:{shape}" for shape in chip.topologies)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0].removeprefix("INVALID_ARGUMENT: ")
