"""From the kernels of a step compiled for GPUs to the time that it takes: a sum, since one stream runs them in turn.

A product takes its operations over the peak or its arrays over the memory's bandwidth, whichever is longer; a pass
takes its arrays over the bandwidth; a collective what a ring needs over NVLink, and over InfiniBand between machines.
The peak is that of bfloat16, in which the recipes multiply.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from luab_jax.preflight.gpu_kernels import GpuKernel, Kind
from luab_jax.preflight.gpus import Gpu, GpuCluster
from luab_jax.preflight.hlo import Collective, ProgramText


class Shares(NamedTuple):
    """What is reached of the published figures."""

    products: float
    """Of the peak."""
    memory: float
    """Of the bandwidth."""
    attention: float
    """Of what cuDNN's kernels would be by the other two figures as published."""


PUBLISHED = Shares(1.0, 1.0, 1.0)
REACHED = Shares(0.79, 0.89, 0.31)
"""On one H100 (benchmarks/README.md, "One visit to a GPU"): a large bf16 product 774 to 785 TFLOP/s, a pass over memory
2,975 to 2,992 GB/s, cuDNN's attention of ViT-B 21.4 ms, where its arrays need 6.7 ms. Assumed of other GPUs."""

TRUST = """\
Compiled for these GPUs, not run. Computed from the compiled program: memory, operations, bytes, collectives. Assumed:
the shares of the published figures that one H100 reached in a large product (0.79 of peak), a pass over memory (0.89)
and ViT-B's attention (0.31); that no two kernels overlap; and that nothing waits, for its launch or for input. cuDNN
and cuBLAS choose their algorithms on a GPU only, so their workspace is not in the memory. Steps that were measured on
one H100 took longer by the factors in docs/devices.md."""
"""How far to trust the figures; for whoever reads them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuTime:
    """Seconds of a step on each GPU."""

    products_s: float
    passes_s: float
    attention_s: float
    links_s: float

    @property
    def step_s(self) -> float:
        return self.products_s + self.passes_s + self.attention_s + self.links_s


def gpu_time(text: ProgramText, cluster: GpuCluster, shares: Shares, *, fsdp: int) -> GpuTime:
    seconds = {
        kind: _seconds((each for each in text.kernels if each.kind is kind), cluster.gpu, shares) for kind in Kind
    }
    return GpuTime(
        products_s=seconds[Kind.PRODUCT],
        passes_s=seconds[Kind.PASS],
        attention_s=seconds[Kind.ATTENTION],
        links_s=sum(each.count * _links_s(each, cluster, fsdp) for each in text.collectives),
    )


def _seconds(kernels: Iterable[GpuKernel], gpu: Gpu, shares: Shares) -> float:
    total = 0.0
    for each in kernels:
        peak, bandwidth = gpu.peak_flops * shares.products, gpu.memory_bytes_per_s * shares.memory
        if each.kind is Kind.ATTENTION:
            peak, bandwidth = gpu.peak_flops * shares.attention, gpu.memory_bytes_per_s * shares.attention
        total += each.times * max(each.flops / peak, each.num_bytes / bandwidth)
    return total


def _links_s(collective: Collective, cluster: GpuCluster, fsdp: int) -> float:
    """The ring bound within each machine, then among machines, where every GPU's adapter carries a part."""
    size = collective.group_size
    if size <= 1:
        return 0.0
    within = min(size, cluster.per_node)
    if cluster.num_nodes > 1 and size == cluster.num_devices // fsdp:  # one of each group that shares a state
        within = max(1, cluster.per_node // fsdp)
    between = size // within
    # Twice for an all-reduce, once for its halves; what is permuted is sent once, whatever the size.
    sent_per_share = collective.sent_bytes * size / (size - 1)
    of_machine = sent_per_share * (within - 1) / within / cluster.gpu.links_bytes_per_s
    return of_machine + sent_per_share / within * (between - 1) / between / cluster.gpu.network_bytes_per_s
