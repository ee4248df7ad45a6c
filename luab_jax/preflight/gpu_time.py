"""From the kernels of a step compiled for GPUs to the time that it takes: a sum, since one stream runs them in turn.

A product takes its operations over the peak or its arrays over the memory's bandwidth, whichever is longer; a pass
takes its arrays over the bandwidth; a collective what a ring needs over NVLink, and over InfiniBand between machines.
The peak is that of the operands' type: bfloat16's, in which the recipes multiply, or TF32's for float32, as jax
multiplies it by default.
"""

from __future__ import annotations

from collections import Counter
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
and ViT-B's attention (0.31); that float32 products run in TF32, at the same share of its peak; that every kernel reads
its operands from memory, of which a cache may save a part; that no two kernels overlap; and that nothing waits, for its
launch or for input. cuDNN and cuBLAS choose their algorithms on a GPU only, so their workspace is not in the memory.
Steps that were measured on one H100 took longer by the factors in docs/devices.md."""
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


def gpu_time(text: ProgramText, cluster: GpuCluster, shares: Shares) -> GpuTime:
    seconds = {
        kind: _seconds((each for each in text.kernels if each.kind is kind), cluster.gpu, shares) for kind in Kind
    }
    return GpuTime(
        products_s=seconds[Kind.PRODUCT],
        passes_s=seconds[Kind.PASS],
        attention_s=seconds[Kind.ATTENTION],
        links_s=sum((each.count * _links_s(each, cluster) for each in text.collectives), start=0.0),
    )


def _seconds(kernels: Iterable[GpuKernel], gpu: Gpu, shares: Shares) -> float:
    total = 0.0
    for each in kernels:
        peak, bandwidth = shares.products, shares.memory
        if each.kind is Kind.ATTENTION:
            peak = bandwidth = shares.attention
        flops_s = each.flops / (peak * gpu.peak_of(each.dtype))
        total += each.times * max(flops_s, each.num_bytes / (bandwidth * gpu.memory_bytes_per_s))
    return total


def _links_s(collective: Collective, cluster: GpuCluster) -> float:
    """Of the slowest group."""
    return max((_group_s(collective, group, cluster) for group in collective.groups), default=0.0)


def _group_s(collective: Collective, group: tuple[int, ...], cluster: GpuCluster) -> float:
    """The ring bound within each machine, then among machines, where the adapter of every GPU carries a part."""
    size = len(group)
    if size <= 1:
        return 0.0
    machines = Counter(number // cluster.per_node for number in group).values()
    most, fewest, between = max(machines), min(machines), len(machines)
    if collective.kind.endswith("all-to-all"):  # nothing of it is the same for two devices of another machine
        of_machine = collective.num_bytes * (most - 1) / size / cluster.gpu.links_bytes_per_s
        return of_machine + collective.num_bytes * (size - fewest) / size / cluster.gpu.network_bytes_per_s
    # Twice for an all-reduce, once for its halves; what is permuted is sent once.
    sent_per_share = collective.sent_bytes * size / (size - 1)
    of_machine = sent_per_share * (most - 1) / most / cluster.gpu.links_bytes_per_s
    return of_machine + sent_per_share / fewest * (between - 1) / between / cluster.gpu.network_bytes_per_s
