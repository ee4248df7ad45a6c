"""What is published of GPUs: for their compiler, and for a roofline, which needs no compiler."""

from __future__ import annotations

import re
from dataclasses import dataclass

from luab_jax.errors import UserError


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """Published figures of one GPU, as it is in a machine of eight."""

    name: str
    peak_flops: float
    """Operations per second in bfloat16, without sparsity."""
    tf32_flops: float
    """Of float32 products, which jax multiplies in TF32 by default; without sparsity."""
    memory_bytes: int
    memory_bytes_per_s: float
    links_bytes_per_s: float
    """NVLink, one way: half of what is stated for both."""
    network_bytes_per_s: float
    """InfiniBand: one adapter for each GPU, one way."""
    device_kind: str
    """As jax names it."""
    compute_capability: int
    """The major number."""
    num_cores: int
    """Streaming multiprocessors."""
    l2_bytes: int
    clock_hz: float
    """Cores, cache and clock decide how a program is fused, and enter no estimate."""
    source: str

    def peak_of(self, dtype: str) -> float:
        """Operations per second in products of a type, by its name in HLO."""
        return self.tf32_flops if dtype == "f32" else self.peak_flops


# Cores and cache: NVIDIA H100 Tensor Core GPU Architecture (H100 and H200 are the same chip), and the Blackwell tuning
# guide; clocks and B200's cores: as drivers report them (openxla/xla, xla/backends/gpu/target_config/specs).
_NVIDIA = "https://www.nvidia.com/en-us/data-center"
GPUS: dict[str, Gpu] = {
    gpu.name: gpu
    for gpu in (
        Gpu(
            name="h100",
            peak_flops=989e12,
            tf32_flops=494.5e12,
            memory_bytes=80 * 10**9,
            memory_bytes_per_s=3.35e12,
            links_bytes_per_s=900e9 / 2,
            network_bytes_per_s=400e9 / 8,
            device_kind="NVIDIA H100 80GB HBM3",
            compute_capability=9,
            num_cores=132,
            l2_bytes=50 * 2**20,
            clock_hz=1.98e9,
            source=f"{_NVIDIA}/h100 (SXM; peaks halved: stated with sparsity); DGX H100: 400 Gbit/s for each GPU",
        ),
        Gpu(
            name="h200",
            peak_flops=989e12,
            tf32_flops=494.5e12,
            memory_bytes=141 * 10**9,
            memory_bytes_per_s=4.8e12,
            links_bytes_per_s=900e9 / 2,
            network_bytes_per_s=400e9 / 8,
            device_kind="NVIDIA H200",
            compute_capability=9,
            num_cores=132,
            l2_bytes=50 * 2**20,
            clock_hz=1.98e9,
            source=f"{_NVIDIA}/h200 (SXM; peaks halved: stated with sparsity); DGX H200: 400 Gbit/s for each GPU",
        ),
        Gpu(
            name="b200",
            peak_flops=2.25e15,
            tf32_flops=1.1e15,
            memory_bytes=180 * 10**9,
            memory_bytes_per_s=8e12,
            links_bytes_per_s=1.8e12 / 2,
            network_bytes_per_s=400e9 / 8,
            device_kind="NVIDIA B200",
            compute_capability=10,
            num_cores=148,
            l2_bytes=126 * 2**20,
            clock_hz=1.965e9,
            source=f"{_NVIDIA}/dgx-b200 (an eighth of a DGX B200; dense); TF32: HGX B200's data sheet,"
            " halved; 400 Gbit/s for each GPU",
        ),
    )
}


def target_config(gpu: Gpu) -> str:
    """What XLA's compiler must be told of a GPU that is not there, as text of its `GpuTargetConfigProto`.

    Limits of threads, registers and shared memory are those of compute capabilities 9.0 and 10.0 in the CUDA C++
    Programming Guide (technical specifications per compute capability), which are the same. The version of cuDNN is
    that of the steps measured in benchmarks/README.md.
    """
    return f"""\
gpu_device_info {{
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: {48 * 2**10}
  shared_memory_per_core: {228 * 2**10}
  shared_memory_per_block_optin: {227 * 2**10}
  threads_per_core_limit: 2048
  core_count: {gpu.num_cores}
  fpus_per_core: 128
  block_dim_limit_x: {2**31 - 1}
  block_dim_limit_y: {2**16 - 1}
  block_dim_limit_z: {2**16 - 1}
  registers_per_core_limit: {2**16}
  registers_per_block_limit: {2**16}
  memory_bandwidth: {gpu.memory_bytes_per_s:.0f}
  l2_cache_size: {gpu.l2_bytes}
  clock_rate_ghz: {gpu.clock_hz / 1e9}
  device_memory_size: {gpu.memory_bytes}
  cuda_compute_capability {{ major: {gpu.compute_capability} feature_extension: ACCELERATED_FEATURES }}
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 19 }}
device_description_str: "{gpu.device_kind}"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuCluster:
    """Machines with GPUs of one kind."""

    name: str
    gpu: Gpu
    num_nodes: int
    per_node: int

    @property
    def num_devices(self) -> int:
        return self.num_nodes * self.per_node


def parse_gpus(name: str) -> GpuCluster | None:
    """`h100:8` is a machine with eight, `h100:4x8` are four such machines; `None` if the name is of no GPU.

    Raises `UserError` for a GPU with a shape that is none.
    """
    kind, _, shape = name.partition(":")
    if kind not in GPUS:
        return None
    found = re.fullmatch(r"(?:([1-9]\d{0,4})x)?([1-9]\d?)", shape)
    if not found or int(found[2]) > 16:
        raise UserError(
            f"--topology={name}: write {kind}:8 for a machine with eight, {kind}:4x8 for four such machines"
        )
    return GpuCluster(name=name, gpu=GPUS[kind], num_nodes=int(found[1] or 1), per_node=int(found[2]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What a step asks of one GPU."""

    flops: float
    dtype: str = "bf16"
    """Of its products, by its name in HLO."""
    memory_bytes: float
    """Moved to and from its memory."""
    gradient_bytes: float
    """Summed over all GPUs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Roofline:
    """Lower bounds, in seconds."""

    flops_s: float
    memory_s: float
    links_s: float

    @property
    def step_s(self) -> float:
        """Products and memory overlap at best; the exchange of gradients is added, as for TPUs."""
        return max(self.flops_s, self.memory_s) + self.links_s


def roofline(demand: Demand, cluster: GpuCluster) -> Roofline:
    """By the ring bound a GPU sends 2 (n - 1) / n of the gradient.

    Within a machine over NVLink, between machines over its own adapter, which carries its GPU's part.
    """
    within, between = cluster.per_node, cluster.num_nodes
    links_s = 2 * (within - 1) / within * demand.gradient_bytes / cluster.gpu.links_bytes_per_s
    part = demand.gradient_bytes / within
    links_s += 2 * (between - 1) / between * part / cluster.gpu.network_bytes_per_s
    return Roofline(
        flops_s=demand.flops / cluster.gpu.peak_of(demand.dtype),
        memory_s=demand.memory_bytes / cluster.gpu.memory_bytes_per_s,
        links_s=links_s,
    )
